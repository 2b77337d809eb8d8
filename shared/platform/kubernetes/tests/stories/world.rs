//! A cluster of one API server, whose pods are written by hand, and both of our platforms on it.

use apiserver::{Options, Server};
use domain::{Change, RevisionId};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::Method;
use kube::Client;
use platform::Platform;
use platform_kubernetes::cluster::ClusterPlatform;
use platform_kubernetes::objects::definition;
use platform_kubernetes::proxy::ProxyPlatform;
use platform_kubernetes::right::Right;
use platform_kubernetes::settings::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Far more than anything here takes, on a clock that is paused.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) settings: Settings,
}

impl World {
    /// A cluster where our kind is known and `kpa-system` exists.
    pub(crate) fn new() -> Self {
        let server = Server::new(Options::default());
        let world = Self { server, settings: Settings::default() };
        world.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition());
        for namespace in ["kpa-system", "prod"] {
            world.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
        }
        world
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.server.clone(), "default")
    }

    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        let (status, answer) = self.server.request(&Method::POST, path, Some(object));
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let (status, answer) = self.server.request(&Method::GET, path, None);
        status.is_success().then_some(answer)
    }

    /// A merge patch.
    pub(crate) fn patch(&self, path: &str, patch: &Value) -> Value {
        let mut object = self.get(path).unwrap_or_else(|| panic!("{path} is not there"));
        merge(&mut object, patch);
        let (status, answer) = self.server.request(&Method::PUT, path, Some(&object));
        assert!(status.is_success(), "PUT {path}: {status} {answer}");
        answer
    }

    pub(crate) fn delete(&self, path: &str) {
        let (status, answer) = self.server.request(&Method::DELETE, path, None);
        assert!(status.is_success(), "DELETE {path}: {status} {answer}");
    }

    /// An annotated Deployment in `prod`; its uid.
    pub(crate) fn deploy(&self, name: &str, replicas: u32, annotations: &Value) -> String {
        let made = self.create(
            "/apis/apps/v1/namespaces/prod/deployments",
            &json!({
                "metadata": {"name": name, "annotations": annotations},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {"containers": [{
                            "name": "main", "image": "model", "ports": [{"containerPort": 8080}],
                        }]},
                    },
                },
            }),
        );
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A pod of a Deployment, running at an address; its uid.
    pub(crate) fn pod(&self, app: &str, number: u8, ready: bool) -> String {
        let name = format!("{app}-{number}");
        let made = self.create(
            "/api/v1/namespaces/prod/pods",
            &json!({
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"containers": [{"name": "main", "image": "model"}]},
            }),
        );
        let status = json!({"status": {
            "phase": "Running",
            "podIP": format!("10.0.0.{number}"),
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        }});
        self.patch(&format!("/api/v1/namespaces/prod/pods/{name}/status"), &status);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn replicas(&self, name: &str) -> u64 {
        let deployment = self.get(&format!("/apis/apps/v1/namespaces/prod/deployments/{name}")).unwrap();
        deployment["spec"]["replicas"].as_u64().unwrap_or(0)
    }

    pub(crate) fn workload(&self, name: &str) -> Option<Value> {
        self.get(&format!("/apis/kpa.dev/v1alpha1/namespaces/prod/scaledworkloads/{name}"))
    }

    /// The platform of an autoscaler that leads.
    pub(crate) fn cluster(&self) -> (Arc<ClusterPlatform>, View) {
        let (platform, work) = ClusterPlatform::new(self.client(), self.settings.clone(), Right::Always);
        let view = View::of(&*platform, work);
        (platform, view)
    }

    /// The platform of an activator.
    pub(crate) fn proxy(&self) -> View {
        let (platform, work) = ProxyPlatform::new(self.client(), self.settings.clone());
        View::of(&*platform, work)
    }

    /// Lets time pass until `reached`.
    pub(crate) async fn until<T>(&self, what: &str, reached: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = reached() {
                return found;
            }
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

/// What a watcher of a platform has heard. Its platform works as long as it lives.
pub(crate) struct View {
    changes: BoxStream<'static, Change>,
    pub(crate) heard: Vec<Change>,
    work: tokio::task::JoinHandle<()>,
}

impl Drop for View {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl View {
    fn of(platform: &dyn Platform, work: impl Future<Output = ()> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "aborted with the view")]
        let work = tokio::spawn(work);
        Self { changes: platform.watch(), heard: Vec::new(), work }
    }

    /// Hears changes until `reached` finds something in one; all since the last call are looked at.
    pub(crate) async fn until<T>(&mut self, what: &str, mut reached: impl FnMut(&Change) -> Option<T>) -> T {
        loop {
            let change = timeout(PATIENCE, self.changes.next()).await.unwrap_or_else(|_| {
                panic!("{what}: not within {PATIENCE:?}; heard {:#?}", self.heard);
            });
            let change = change.expect("a watch never ends");
            self.heard.push(change.clone());
            if let Some(found) = reached(&change) {
                return found;
            }
        }
    }

    pub(crate) async fn synced(&mut self) {
        self.until("synced", |change| (*change == Change::Synced).then_some(())).await;
    }

    /// Requested, ready and terminating, as soon as they are as expected.
    pub(crate) async fn counts(&mut self, name: &str, expected: (u32, u32, u32)) {
        let id = RevisionId::new("prod", name);
        self.until(&format!("{name}: {expected:?}"), |change| match change {
            Change::Replicas { revision, requested, ready, terminating, .. } if *revision == id => {
                ((requested.get(), ready.get(), terminating.get()) == expected).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// The addresses and states of endpoints, as soon as there are `count`.
    pub(crate) async fn endpoints(&mut self, name: &str, count: usize) -> Vec<String> {
        let id = RevisionId::new("prod", name);
        self.until(&format!("{name}: {count} endpoints"), |change| match change {
            Change::Endpoints { revision, endpoints, .. } if *revision == id && endpoints.len() == count => {
                Some(endpoints.iter().map(|e| format!("{} {:?}", e.address, e.state)).collect())
            }
            _ => None,
        })
        .await
    }
}
