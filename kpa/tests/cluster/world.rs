//! The cluster, and our programs in it.

use crate::support::{Running, free_address, http_get, kpa, wait_for};
use apiserver::controllers::{Cluster, ClusterOptions, ProcessOptions, Processes};
use apiserver::{Options, Server};
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// Our own namespace.
const OURS: &str = "kpa-system";

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

pub(crate) struct World {
    /// Dropped first: it ends every pod.
    _cluster: Cluster,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

/// One of our programs.
pub(crate) struct Program {
    pub(crate) running: Running,
    pub(crate) name: String,
    /// Where clients or frames come.
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: PathBuf,
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
            http_get(self.admin, "admin", "/ready").filter(|(head, _)| head.starts_with("HTTP/1.1 200"))
        });
        self
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let server = Server::new(Options::real_time());
        let kubelet = Arc::new(Processes::new(ProcessOptions { network: network(), ..ProcessOptions::default() }));
        let cluster = Cluster::start(server.clone(), ClusterOptions { kubelet, ..ClusterOptions::default() });
        let address = free_address();
        let serving = server.clone();
        drop(runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            serving.serve(listener).await.unwrap();
        }));
        drop(_entered);
        let world = Self { _cluster: cluster, runtime, server, address, folder: tempfile::tempdir().unwrap() };
        world.install();
        world
    }

    /// What is installed, of deploy/base: our kind, accounts and their rights.
    fn install(&self) {
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": OURS}}));
        for file in ["base/crd.yaml", "base/rbac.yaml", "release/rbac.yaml"] {
            self.install_file(file);
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
            self.create(&path, &document);
        }
    }

    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        let (status, answer) = self.server.request(&Method::POST, path, Some(object));
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.server.request(&Method::GET, path, None).1
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
        self.create(
            "/apis/apps/v1/namespaces/default/deployments",
            &json!({
                "metadata": {"name": name, "annotations": annotations},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {"terminationGracePeriodSeconds": 5, "containers": [main]},
                    },
                },
            }),
        );
    }

    /// A Deployment gets these annotations in place of those it has.
    pub(crate) fn annotate(&self, name: &str, annotations: &Value) {
        let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
        let mut deployment = self.get(&path);
        deployment["metadata"]["annotations"] = annotations.clone();
        let (status, answer) = self.server.request(&Method::PUT, &path, Some(&deployment));
        assert!(status.is_success(), "{answer}");
    }

    pub(crate) fn replicas(&self, name: &str) -> u64 {
        let deployment = self.get(&format!("/apis/apps/v1/namespaces/default/deployments/{name}"));
        deployment["spec"]["replicas"].as_u64().unwrap_or(0)
    }

    /// Its ready replicas, as the Deployment says.
    pub(crate) fn ready(&self, name: &str) -> u64 {
        let deployment = self.get(&format!("/apis/apps/v1/namespaces/default/deployments/{name}"));
        deployment["status"]["readyReplicas"].as_u64().unwrap_or(0)
    }

    pub(crate) fn workload(&self, name: &str) -> Value {
        self.get(&format!("/apis/kpa.dev/v1alpha1/namespaces/default/scaledworkloads/{name}"))
    }

    /// Starts an activator that leaves at once when it is told to.
    pub(crate) fn activator(&self, number: u8) -> Program {
        self.activator_with(number, "--drain-delay=0s")
    }

    /// Starts an activator with a further argument.
    pub(crate) fn activator_with(&self, number: u8, flag: &str) -> Program {
        let (listen, admin) = (free_address(), free_address());
        let flags = [format!("--listen={listen}"), format!("--admin={admin}"), flag.into()];
        let token = self.server.account(OURS, "kpa-activator").unwrap();
        self.start("activator", number, &token, (listen, admin), &flags)
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
        let listen = free_address();
        let token = self.server.account(OURS, account).unwrap();
        let own = format!("--listen={listen}");
        let flags: Vec<String> = [own.as_str()].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        self.start("autoscaler", number, &token, (listen, listen), &flags)
    }

    fn start(
        &self,
        kind: &str,
        number: u8,
        token: &str,
        (address, admin): (SocketAddr, SocketAddr),
        flags: &[String],
    ) -> Program {
        let account = format!("kpa-{kind}");
        // Its frames are shown by the account of its kind, whoever asks the API server.
        self.server.account(OURS, &account).unwrap();
        let name = format!("{account}-{number}");
        let file = |what: &str| self.folder.path().join(format!("{name}.{what}"));
        let kubeconfig = self.kubeconfig(&name, token);
        let pod = self.own_pod(&name, &account);
        let bound = json!({"spec": {
            "audiences": ["kpa"],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]},
        }});
        let path = format!("/api/v1/namespaces/{OURS}/serviceaccounts/{account}/token");
        let shown = self.create(&path, &bound)["status"]["token"].as_str().unwrap().to_owned();
        std::fs::write(file("token"), shown).unwrap();
        let log = file("log");
        let child = Command::new(program(kind))
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
        self.list(&name, &account, address, &pod);
        Program { running: Running(child), name, address, admin, log }
    }

    /// The way to the API server with the rights of whoever has `token`.
    fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
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
        let token = self.server.account(OURS, account).unwrap();
        let output =
            kpa(self.folder.path(), args).env("KUBECONFIG", self.kubeconfig(account, &token)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The pod that a program of ours is, as far as the API server knows.
    fn own_pod(&self, name: &str, account: &str) -> Value {
        let (_, before) = self.server.request(&Method::DELETE, &format!("/api/v1/namespaces/{OURS}/pods/{name}"), None);
        drop(before);
        self.create(
            &format!("/api/v1/namespaces/{OURS}/pods"),
            &json!({
                "metadata": {"name": name},
                "spec": {"serviceAccountName": account, "nodeName": "elsewhere", "containers": [{"name": "main", "image": "kpa"}]},
            }),
        )
    }

    /// Lists a program behind its Service.
    fn list(&self, name: &str, service: &str, address: SocketAddr, pod: &Value) {
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
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "targetRef": {"kind": "Pod", "name": name, "namespace": OURS, "uid": pod["metadata"]["uid"]},
                }],
            }),
        );
    }

    /// A program was told to leave: its Service sends nothing new to it, as for a pod that is deleted.
    pub(crate) fn terminating(&self, name: &str) {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{OURS}/endpointslices/{name}");
        let mut slice = self.get(&path);
        slice["endpoints"][0]["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
        let (status, answer) = self.server.request(&Method::PUT, &path, Some(&slice));
        assert!(status.is_success(), "{answer}");
    }

    /// A program is gone: it is behind its Service no longer.
    pub(crate) fn unlist(&self, name: &str) {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{OURS}/endpointslices/{name}");
        // One that is not there is what is wanted.
        let _ = self.server.request(&Method::DELETE, &path, None);
    }
}

/// Addresses of its own for each cluster of this process: pods of two must not meet on one.
fn network() -> u8 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    u8::try_from(number % 254 + 1).unwrap()
}

/// The built program, as new as its source.
fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
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
    });
    folder.join(name)
}
