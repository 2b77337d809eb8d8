//! The cluster, and our programs in it.

mod given;
mod hands;
mod node;
mod programs;
mod relay;

use crate::support::{free_address, kpa, wait_for};
use apiserver::controllers::{Cluster, ClusterOptions, ProcessOptions, Processes};
use apiserver::{Options, Server};
use given::Given;
use hands::Hands;
use http::{Method, StatusCode};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use relay::Way;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) use programs::Program;

/// Our own namespace.
const OURS: &str = "kpa-system";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SCALED_WORKLOADS: &str = "/apis/kpa.dev/v1alpha1/namespaces/default/scaledworkloads";
/// Objects of a kind that a failed test shows.
const SHOWN_MAX: usize = 10;

/// How many, or how much: with `KPA_LONG=1` what is promised, else what is enough to see that it works.
pub(crate) fn count(long: usize, short: usize) -> usize {
    if std::env::var_os("KPA_LONG").is_some() { long } else { short }
}

/// The same in seconds.
pub(crate) fn seconds(long: usize, short: usize) -> Duration {
    Duration::from_secs(count(long, short) as u64)
}

/// A server that any pod can run.
const BACKEND: &str = include_str!("../support/hello.py");

/// Where the cluster is.
enum Place {
    /// In this process, and where its API server is.
    Memory(Cluster, SocketAddr),
    Given(Given),
}

pub(crate) struct World {
    place: Place,
    hands: Arc<Hands>,
    pub(crate) runtime: Runtime,
    folder: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may fail once more where the cluster is gone.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.show()));
        }
        if let Place::Given(given) = &self.place {
            // A test that failed is to say why, not that it could not be cleaned up after.
            if std::panic::catch_unwind(AssertUnwindSafe(|| given.leave(&self.hands))).is_err() {
                eprintln!("the cluster is not as it was found");
            }
        }
    }
}

impl World {
    /// In memory, or with `KPA_E2E=1` the cluster of `KUBECONFIG`.
    pub(crate) fn new() -> Self {
        if std::env::var_os("KPA_E2E").is_some_and(|asked| asked == "1") {
            let kubeconfig =
                std::env::var_os("KUBECONFIG").expect("KUBECONFIG=FILE says which cluster KPA_E2E=1 means");
            return Self::given(Path::new(&kubeconfig));
        }
        let runtime = runtime();
        let entered = runtime.enter();
        let server = Server::new(Options::real_time());
        let processes = ProcessOptions { network: [127, network()], ..ProcessOptions::default() };
        let options = ClusterOptions { kubelet: Arc::new(Processes::new(processes)), ..ClusterOptions::default() };
        let cluster = Cluster::start(server.clone(), options);
        drop(entered);
        let address = serve(&runtime, &server);
        let hands = Arc::new(Hands::Memory(server));
        let place = Place::Memory(cluster, address);
        let world = Self { place, hands, runtime, folder: tempfile::tempdir().unwrap() };
        world.install();
        world
    }

    /// A cluster that there is, with the rights of its administrator.
    pub(crate) fn given(kubeconfig: &Path) -> Self {
        let runtime = runtime();
        let (given, hands) = Given::take(&runtime, kubeconfig);
        let world = Self { place: Place::Given(given), hands, runtime, folder: tempfile::tempdir().unwrap() };
        world.install();
        wait_for("that our kind is served", || {
            world.request(&Method::GET, SCALED_WORKLOADS, None).0.is_success().then_some(())
        });
        world
    }

    /// The server that notes what it is asked; none of a cluster that was given.
    pub(crate) fn records(&self) -> Option<&Server> {
        match &self.place {
            Place::Memory(cluster, _) => Some(cluster.server()),
            Place::Given(_) => None,
        }
    }

    /// The API server is away for our programs, and there again.
    pub(crate) fn away(&self, is_away: bool) {
        match &self.place {
            Place::Memory(cluster, _) if is_away => cluster.server().faults().refuse(),
            Place::Memory(cluster, _) => cluster.server().faults().accept(),
            Place::Given(given) => given.relay.set(if is_away { Way::Cut } else { Way::Open }),
        }
    }

    /// Nothing is answered to our programs and nothing is closed, and all is as before.
    pub(crate) fn silent(&self, is_silent: bool) {
        match &self.place {
            Place::Memory(cluster, _) if is_silent => cluster.server().faults().freeze(),
            Place::Memory(cluster, _) => cluster.server().faults().thaw(),
            Place::Given(given) => given.relay.set(if is_silent { Way::Silent } else { Way::Open }),
        }
    }

    /// The node that the pods of our programs name.
    fn node(&self) -> &str {
        match &self.place {
            Place::Memory(..) => "elsewhere",
            Place::Given(given) => &given.node.name,
        }
    }

    /// An address that was free a moment ago, for a program.
    fn free_address(&self) -> SocketAddr {
        match &self.place {
            Place::Memory(..) => free_address(),
            Place::Given(given) => {
                let [first, second] = given.network;
                let own = Ipv4Addr::new(first, second, 255, 255);
                TcpListener::bind((own, 0)).unwrap_or_else(|error| panic!("{own}: {error}")).local_addr().unwrap()
            }
        }
    }

    /// What is installed, of deploy/base: our kind, accounts and their rights.
    fn install(&self) {
        self.install_one("/api/v1/namespaces", &json!({"metadata": {"name": OURS}}));
        for file in ["base/crd.yaml", "base/rbac.yaml", "release/rbac.yaml"] {
            self.install_file(file);
        }
    }

    /// What stands outside of a namespace and goes at the end.
    pub(crate) fn install_one(&self, path: &str, object: &Value) {
        self.create(path, object);
        if let Place::Given(given) = &self.place
            && !path.contains("/namespaces/")
        {
            given.installed.lock().push(format!("{path}/{}", object["metadata"]["name"].as_str().unwrap()));
        }
    }

    /// Everything of a file below `deploy/`, accounts apart.
    pub(crate) fn install_file(&self, file: &str) {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let text = std::fs::read_to_string(deploy.join(file)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for mut document in documents {
            // A second account with the same rights, whose calls can be told apart.
            if let Some(subjects) = document["subjects"].as_array_mut() {
                let mut more = subjects.clone();
                for subject in &mut more {
                    subject["name"] = json!(format!("{}-too", subject["name"].as_str().unwrap()));
                }
                subjects.extend(more);
            }
            let kind = document["kind"].as_str().unwrap();
            if kind == "ServiceAccount" {
                continue;
            }
            let plural = format!("{}s", kind.to_lowercase());
            let version = document["apiVersion"].as_str().unwrap();
            let path = match document["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("/apis/{version}/namespaces/{namespace}/{plural}"),
                None => format!("/apis/{version}/{plural}"),
            };
            self.install_one(&path, &document);
        }
    }

    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        let (status, answer) = self.request(&Method::POST, path, Some(object));
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.request(&Method::GET, path, None).1
    }

    /// A request of the administrator; the body of a PATCH is a merge patch.
    pub(crate) fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.hands.request(method, path, body)
    }

    /// Writes an object anew, however often somebody else was quicker.
    pub(crate) fn change(&self, path: &str, change: impl Fn(&mut Value)) {
        wait_for(path, || {
            let mut object = self.get(path);
            change(&mut object);
            let (status, answer) = self.request(&Method::PUT, path, Some(&object));
            assert!(status.is_success() || status == StatusCode::CONFLICT, "PUT {path}: {status} {answer}");
            status.is_success().then_some(())
        });
    }

    /// What the cluster says of each workload in the end, for a test that failed.
    fn show(&self) {
        for path in [DEPLOYMENTS, SCALED_WORKLOADS] {
            for object in self.get(path)["items"].as_array().into_iter().flatten().take(SHOWN_MAX) {
                let name = &object["metadata"]["name"];
                eprintln!("{path} {name}: {} of {} asked for", object["status"], object["spec"]["replicas"]);
            }
        }
    }

    /// How many objects there are.
    pub(crate) fn amount(&self, path: &str) -> usize {
        let first = self.get(&format!("{path}?limit=1"));
        let rest = first["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        first["items"].as_array().map_or(0, Vec::len) + usize::try_from(rest).unwrap()
    }

    /// A Deployment of [`BACKEND`] in `default`.
    pub(crate) fn deploy(&self, name: &str, replicas: u32, annotations: &Value, container: &Value) {
        let mut main = json!({
            "name": "main", "image": "backend",
            "command": ["python3", "-c", BACKEND],
            "ports": [{"containerPort": 8000}],
            "env": [
                {"name": "PORT", "value": "8000"},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
        });
        for (key, value) in container.as_object().unwrap() {
            match (main.get_mut(key), value) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.clone()),
                _ => main[key] = value.clone(),
            }
        }
        let mut pod = json!({"terminationGracePeriodSeconds": 5, "containers": [main]});
        if let Place::Given(given) = &self.place {
            pod["nodeName"] = json!(given.node.name);
        }
        self.create(
            DEPLOYMENTS,
            &json!({
                "metadata": {"name": name, "annotations": annotations},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
                },
            }),
        );
    }

    /// A Deployment gets these annotations in place of those it has.
    pub(crate) fn annotate(&self, name: &str, annotations: &Value) {
        self.change(&format!("{DEPLOYMENTS}/{name}"), |deployment| {
            deployment["metadata"]["annotations"] = annotations.clone();
        });
    }

    pub(crate) fn replicas(&self, name: &str) -> u64 {
        let deployment = self.get(&format!("{DEPLOYMENTS}/{name}"));
        deployment["spec"]["replicas"].as_u64().unwrap_or(0)
    }

    /// Its ready replicas, as the Deployment says.
    pub(crate) fn ready(&self, name: &str) -> u64 {
        let deployment = self.get(&format!("{DEPLOYMENTS}/{name}"));
        deployment["status"]["readyReplicas"].as_u64().unwrap_or(0)
    }

    pub(crate) fn workload(&self, name: &str) -> Value {
        self.get(&format!("{SCALED_WORKLOADS}/{name}"))
    }

    /// The way to the API server with the rights of whoever has `token`.
    fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let cluster = match &self.place {
            Place::Memory(_, address) => json!({"server": format!("http://{address}")}),
            Place::Given(given) => given.entry.clone(),
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        });
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Runs a command of `kpa` with the rights of an account; what it printed.
    pub(crate) fn kpa(&self, account: &str, args: &[&str]) -> String {
        let (code, printed, said) = self.kpa_ended(account, args);
        assert_eq!(code, 0, "kpa {args:?}: {said}");
        printed
    }

    /// The same, however it ends: its exit code, what it printed and what it remarked.
    pub(crate) fn kpa_ended(&self, account: &str, args: &[&str]) -> (i32, String, String) {
        let kubeconfig = self.kubeconfig(account, &self.hands.account(account));
        let output = kpa(self.folder.path(), args).env("KUBECONFIG", kubeconfig).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// A client that sees what the administrator does.
    pub(crate) fn client(&self) -> Client {
        let server = match &self.place {
            Place::Given(given) => return given.client.clone(),
            Place::Memory(cluster, _) => cluster.server(),
        };
        let path = self.kubeconfig("administrator", &administrator(server));
        let read = Kubeconfig::read_from(path).unwrap();
        self.runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        })
    }
}

/// What a cluster runs in; the programs that come later are built by now.
fn runtime() -> Runtime {
    programs::built();
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Serves on an address of its own for as long as the runtime lives.
pub(crate) fn serve(runtime: &Runtime, server: &Server) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, server) = (listener.local_addr().unwrap(), server.clone());
    drop(runtime.spawn(async move { server.serve(listener).await.unwrap() }));
    address
}

/// A token that may do everything.
pub(crate) fn administrator(server: &Server) -> String {
    let token = server.account("kube-system", "administrator").unwrap();
    let binding = json!({
        "metadata": {"name": "administrator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "administrator", "namespace": "kube-system"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let (status, answer) = server.request(&Method::POST, bindings, Some(&binding));
    assert!(status.is_success() || status == StatusCode::CONFLICT, "{answer}");
    token
}

/// Addresses of its own for each cluster of this process: pods of two must not meet on one.
fn network() -> u8 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    u8::try_from(number % 254 + 1).unwrap()
}
