//! The built activator and autoscaler, each as the pod that the cluster takes it for.

use crate::support::{Running, http_get, wait_for};
use http::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::hands::Hands;
use super::{OURS, World};

/// How often a program that has just been started is asked whether it is ready.
const PROBE: Duration = Duration::from_millis(20);
/// Lines of a log that a failed test shows.
const SHOWN: usize = 60;

/// One of our programs.
pub(crate) struct Program {
    pub(crate) running: Running,
    pub(crate) name: String,
    /// Where clients or frames come.
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: PathBuf,
    _probe: Probe,
}

impl Drop for Program {
    /// A test that failed shows what its programs said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.split_at(lines.len().saturating_sub(SHOWN)).1.join("\n");
            eprintln!("the end of the log of {}:\n{shown}", self.name);
        }
    }
}

impl Program {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What its metrics say of a service.
    pub(crate) fn metric(&self, name: &str, service: &str) -> Option<String> {
        let start = format!("{name}{{namespace=\"default\",revision=\"{service}\"}} ");
        let (_, text) = http_get(self.admin, "admin", "/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    }

    /// Waits until this activator has a route to a service: it hears of one a moment after the API server does.
    pub(crate) fn has_route(&self, service: &str) {
        wait_for("a route", || self.metric("activator_replicas_usable", service));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.running.0.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(mut self) -> Self {
        wait_for("ready", || {
            assert!(self.running.0.try_wait().unwrap().is_none(), "{}", self.log());
            is_ready(self.admin).then_some(())
        });
        self
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    http_get(admin, "admin", "/ready").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"))
}

/// Lists a program as ready once it is, as its kubelet and the endpoints' controller do; ended with this value.
struct Probe {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    fn start(hands: Arc<Hands>, slice: String, admin: SocketAddr) -> Self {
        let over = Arc::<AtomicBool>::default();
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let is_listed = || is_ready(admin) && lists(&hands, &slice);
            while !told.load(Ordering::Relaxed) && !is_listed() {
                std::thread::sleep(PROBE);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// Whether nothing is left to do.
fn lists(hands: &Hands, slice: &str) -> bool {
    let (status, mut found) = hands.request(&Method::GET, slice, None);
    let conditions = &mut found["endpoints"][0]["conditions"];
    if status == StatusCode::NOT_FOUND || conditions["terminating"] == true {
        return true;
    }
    *conditions = json!({"ready": true, "serving": true, "terminating": false});
    hands.request(&Method::PUT, slice, Some(&found)).0.is_success()
}

impl World {
    /// Starts an activator that leaves at once when it is told to.
    pub(crate) fn activator(&self, number: u8) -> Program {
        self.activator_with(number, "--drain-delay=0s")
    }

    /// Starts an activator with a further argument.
    pub(crate) fn activator_with(&self, number: u8, flag: &str) -> Program {
        let (listen, admin) = (self.free_address(), self.free_address());
        let flags = [format!("--listen={listen}"), format!("--admin={admin}"), flag.into()];
        self.start("activator", number, "kpa-activator", (listen, admin), &flags)
    }

    /// Starts an autoscaler.
    pub(crate) fn autoscaler(&self, number: u8) -> Program {
        self.autoscaler_with(number, &[])
    }

    /// The same with further arguments.
    pub(crate) fn autoscaler_with(&self, number: u8, flags: &[&str]) -> Program {
        self.start_autoscaler(number, "kpa-autoscaler", flags)
    }

    /// The same with the rights of another account, so that its calls can be told apart.
    pub(crate) fn autoscaler_as(&self, number: u8, account: &str) -> Program {
        self.start_autoscaler(number, account, &[])
    }

    fn start_autoscaler(&self, number: u8, account: &str, flags: &[&str]) -> Program {
        let listen = self.free_address();
        let own = format!("--listen={listen}");
        let flags: Vec<String> = [own.as_str()].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        self.start("autoscaler", number, account, (listen, listen), &flags)
    }

    fn start(
        &self,
        kind: &str,
        number: u8,
        rights_of: &str,
        (address, admin): (SocketAddr, SocketAddr),
        flags: &[String],
    ) -> Program {
        // Its frames are shown by the account of its kind, with whatever rights it asks the API server.
        let account = format!("kpa-{kind}");
        self.hands.account(&account);
        let token = self.hands.account(rights_of);
        let name = format!("{account}-{number}");
        let file = |what: &str| self.folder.path().join(format!("{name}.{what}"));
        let kubeconfig = self.kubeconfig(&name, &token);
        let pod = self.own_pod(&name, &account);
        let bound = json!({"spec": {
            "audiences": ["kpa"],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]},
        }});
        let path = format!("/api/v1/namespaces/{OURS}/serviceaccounts/{account}/token");
        let shown = self.create(&path, &bound)["status"]["token"].as_str().unwrap().to_owned();
        std::fs::write(file("token"), shown).unwrap();
        let slice = self.list(&name, &account, address, &pod);
        let log = file("log");
        let child = Command::new(built().join(kind))
            .args(flags)
            .args(["--namespace", OURS, "--pod-name", &name, "--token-file"])
            .arg(file("token"))
            .env("KUBECONFIG", kubeconfig)
            .env_remove("KPA_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        let probe = Probe::start(Arc::clone(&self.hands), slice, admin);
        Program { running: Running(child), name, address, admin, log, _probe: probe }
    }

    /// The pod that a program of ours is, as far as the API server knows.
    fn own_pod(&self, name: &str, account: &str) -> Value {
        let now = json!({"gracePeriodSeconds": 0});
        // One that is not there is what is wanted.
        let _ = self.request(&Method::DELETE, &format!("/api/v1/namespaces/{OURS}/pods/{name}"), Some(&now));
        let main = json!({"name": "main", "image": "kpa"});
        self.create(
            &format!("/api/v1/namespaces/{OURS}/pods"),
            &json!({
                "metadata": {"name": name},
                "spec": {"serviceAccountName": account, "nodeName": self.node(), "containers": [main]},
            }),
        )
    }

    /// Puts a program behind its Service, not yet ready; the path of the object.
    fn list(&self, name: &str, service: &str, address: SocketAddr, pod: &Value) -> String {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{OURS}/endpointslices");
        self.unlist(name);
        self.create(
            &path,
            &json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"name": "main", "port": address.port(), "protocol": "TCP"}],
                "endpoints": [{
                    "addresses": [address.ip()],
                    "conditions": {"ready": false, "serving": false, "terminating": false},
                    "targetRef": {"kind": "Pod", "name": name, "namespace": OURS, "uid": pod["metadata"]["uid"]},
                }],
            }),
        );
        format!("{path}/{name}")
    }

    /// A program was told to leave: its Service sends nothing new to it, as for a pod that is deleted.
    pub(crate) fn terminating(&self, name: &str) {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{OURS}/endpointslices/{name}");
        self.change(&path, |slice| {
            slice["endpoints"][0]["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
        });
    }

    /// A program is gone: it is behind its Service no longer.
    pub(crate) fn unlist(&self, name: &str) {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{OURS}/endpointslices/{name}");
        // One that is not there is what is wanted.
        let _ = self.request(&Method::DELETE, &path, None);
    }
}

/// The folder of the built programs, as new as their source, and built as this test is. The first call takes its time.
pub(super) fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let mut command = Command::new(cargo);
        // What cargo tells a test of its own package would have build scripts run again.
        let told = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        for name in told.filter(|name| own.iter().any(|own| name.starts_with(own))) {
            command.env_remove(name);
        }
        let output = command
            .args(["build", "--offline", "--message-format=json", "-p", "activator", "-p", "autoscaler", "--bins"])
            .args((!cfg!(debug_assertions)).then_some("--release"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "the programs cannot be built");
        let built = String::from_utf8(output.stdout).unwrap();
        let executables = built
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["executable"].as_str().map(PathBuf::from));
        executables.collect::<Vec<_>>()[0].parent().unwrap().to_owned()
    })
}
