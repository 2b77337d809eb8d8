//! A local platform in a folder of its own, and what it says.
#![allow(dead_code, reason = "not every test binary needs all of it")]

use domain::{
    ActivatorConfig, Change, Endpoint, EndpointId, EndpointState, Replicas, Revision, RevisionId, ScaleTargetRef,
    Trouble, WallTime,
};
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use platform::{Platform, ScaleError};
use platform_local::{DEFAULT_PORTS, Inputs, LocalPlatform, Options, Output, Shutdown, StartError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Nothing here should take this long; what has not happened by then never will.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The shim, and a supervisor to be killed.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_platform-local-program");
/// Listens on PORT and answers everything.
pub(crate) const SERVER: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 503 if os.path.exists("not-ready") else 200
        self.send_response(status); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A Deployment called `app`.
#[derive(Clone)]
pub(crate) struct Manifest {
    pub(crate) command: Vec<String>,
    pub(crate) annotations: Vec<(&'static str, &'static str)>,
    pub(crate) replicas: u32,
    pub(crate) grace: u32,
    /// More lines of the container, as JSON fields.
    pub(crate) container: &'static str,
}

impl Manifest {
    /// `script` in a shell.
    pub(crate) fn shell(script: &str) -> Self {
        Self {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            annotations: vec![("autoscaling.knative.dev/max-scale", "9")],
            replicas: 1,
            grace: 10,
            container: "",
        }
    }

    /// A server, after `before` in a shell.
    pub(crate) fn server(before: &str) -> Self {
        let mut manifest = Self::shell(&format!("{before} exec python3 server.py"));
        if before.is_empty() {
            manifest.command = ["python3", "server.py"].map(str::to_owned).to_vec();
        }
        manifest
    }

    fn json(&self) -> String {
        let annotations: BTreeMap<_, _> = self.annotations.iter().copied().collect();
        // Two dollar signs are one in a manifest.
        let command: Vec<String> = self.command.iter().map(|word| word.replace("$$", "$$$$")).collect();
        format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"app","annotations":{annotations}}},
            "spec":{{"replicas":{replicas},"selector":{{"matchLabels":{{"app":"app"}}}},
            "template":{{"metadata":{{"labels":{{"app":"app"}}}},"spec":{{"terminationGracePeriodSeconds":{grace},
            "containers":[{{"name":"app","image":"app","command":{command}{container}}}]}}}}}}}}"#,
            annotations = serde_json::to_string(&annotations).unwrap(),
            command = serde_json::to_string(&command).unwrap(),
            replicas = self.replicas,
            grace = self.grace,
            container = self.container,
        )
    }
}

/// Two folders: manifests with a server beside them, and the state.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.manifests()).unwrap();
        std::fs::write(place.file("server.py"), SERVER).unwrap();
        place.write(manifest);
        place
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file in the replicas' working directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.manifests().join(name)
    }

    pub(crate) fn write(&self, manifest: &Manifest) {
        let next = self.file(".next");
        std::fs::write(&next, manifest.json()).unwrap();
        std::fs::rename(next, self.file("app.json")).unwrap();
    }

    /// Waits until a file of the working directory has a whole line, and gives it.
    pub(crate) async fn line(&self, name: &str) -> String {
        let path = self.file(name);
        eventually(&format!("a line in {name}"), || {
            std::fs::read_to_string(&path).ok()?.strip_suffix('\n').map(str::to_owned)
        })
        .await
    }

    pub(crate) async fn start(&self) -> Local {
        self.start_with(DEFAULT_PORTS).await.unwrap()
    }

    /// Another platform on the same folders, as soon as the last task of the earlier one has given back the lock.
    pub(crate) async fn start_again(&self) -> Local {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.start_with(DEFAULT_PORTS).await {
                Ok(local) => return local,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn start_with(&self, ports: RangeInclusive<u16>) -> Result<Local, StartError> {
        let options = Options {
            inputs: Inputs { manifests: vec![self.manifests()], ..Inputs::default() },
            state_dir: self.state(),
            images: BTreeMap::new(),
            shim: vec![PROGRAM.into(), "__exec".into()],
            ports,
            output: Output::None,
            gpus: Some(0),
            autoscalers: Vec::new(),
            activators: Vec::new(),
            wall_clock: unix_time,
        };
        let passed = Arc::<AtomicU32>::default();
        let count = Arc::clone(&passed);
        let on_ready = Arc::new(move |_: &_| {
            count.fetch_add(1, Relaxed);
        });
        #[expect(clippy::disallowed_methods, reason = "the runtime's Tasks belong to the programs")]
        let spawn = Arc::new(|_: &'static str, work| drop(tokio::spawn(work)));
        let platform = LocalPlatform::start(options, spawn, on_ready).await?;
        let changes = platform.watch();
        Ok(Local { platform, changes, view: View::default(), passed })
    }
}

/// What was last told of `default/app`.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) revision: Option<Arc<Revision>>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) requested: Replicas,
    pub(crate) ready: u32,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) deleted: bool,
    pub(crate) activator: Option<Arc<ActivatorConfig>>,
    /// Every replica that was ever ready.
    pub(crate) were_ready: BTreeSet<EndpointId>,
}

impl View {
    pub(crate) fn ready_ids(&self) -> Vec<EndpointId> {
        self.ids_in(EndpointState::Ready)
    }

    pub(crate) fn draining_ids(&self) -> Vec<EndpointId> {
        self.ids_in(EndpointState::Draining)
    }

    fn ids_in(&self, state: EndpointState) -> Vec<EndpointId> {
        let found = self.endpoints.iter().filter(|endpoint| endpoint.state == state);
        found.map(|endpoint| endpoint.id.clone()).collect()
    }
}

/// A platform that runs.
pub(crate) struct Local {
    pub(crate) platform: LocalPlatform,
    changes: BoxStream<'static, Change>,
    pub(crate) view: View,
    /// How often it was told that a replica had passed its probe.
    pub(crate) passed: Arc<AtomicU32>,
}

impl Local {
    /// Follows the changes until the view is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) {
        let followed = timeout(DEADLINE, async {
            while !wanted(&self.view) {
                let change = self.changes.next().await.expect("a watch never ends");
                self.take(change);
            }
        });
        assert!(followed.await.is_ok(), "never {what}: {:#?}", self.view);
    }

    fn take(&mut self, change: Change) {
        let app = RevisionId::new("default", "app");
        match change {
            Change::Applied(revision) => {
                assert_eq!(revision.id, app);
                self.view.revision = Some(revision);
            }
            Change::Deleted(_) => self.view.deleted = true,
            Change::Endpoints { endpoints, .. } => {
                self.view.endpoints = endpoints.to_vec();
                self.view.were_ready.extend(self.view.ready_ids());
            }
            Change::Replicas { requested, ready, trouble, .. } => {
                (self.view.requested, self.view.ready, self.view.trouble) = (requested, ready.get(), trouble);
            }
            Change::ActivatorConfig(config) => self.view.activator = Some(config),
            Change::Synced | Change::TrafficSeen(_) | Change::Activators(_) | Change::Autoscalers(_) => {}
        }
    }

    pub(crate) async fn ready(&mut self, count: u32) {
        let what = format!("{count} ready");
        self.until(&what, |view| view.ready == count && view.ready_ids().len() == count as usize).await;
    }

    pub(crate) async fn scale(&self, from: u32, to: u32, remove_first: &[EndpointId]) -> Result<(), ScaleError> {
        let target = ScaleTargetRef::deployment("default", "app");
        self.platform.scale(&target, Replicas::new(from), Replicas::new(to), remove_first).await
    }

    /// Ends everything, at most as long as a grace period takes.
    pub(crate) async fn end(self) {
        timeout(DEADLINE, self.platform.shutdown(Shutdown::Kill)).await.expect("every replica ends");
    }
}

#[expect(clippy::disallowed_methods, reason = "the programs' clock belongs to their runtime")]
fn unix_time() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime::from_unix_millis(since.as_millis().try_into().unwrap())
}

/// Looks every few milliseconds until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

pub(crate) async fn gone(pid: i32) {
    eventually(&format!("process {pid} gone"), || (!is_alive(pid)).then_some(())).await;
}
