//! The suite that every platform passes, on a cluster in memory: real watches, controllers with delays, a paused clock.

use apiserver::controllers::{Cluster, ClusterOptions};
use apiserver::{Options, Server};
use domain::RevisionId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use kube::Client;
use platform::Platform;
use platform::contract::{Subject, suite};
use platform_kubernetes::cluster::ClusterPlatform;
use platform_kubernetes::objects::definition;
use platform_kubernetes::right::Right;
use platform_kubernetes::settings::Settings;
use serde_json::json;
use std::sync::Arc;

struct OnCluster {
    platform: Arc<ClusterPlatform>,
    cluster: Cluster,
    work: tokio::task::JoinHandle<()>,
}

impl Drop for OnCluster {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl OnCluster {
    fn new(seed: u64) -> Self {
        let server = Server::new(Options { seed, ..Options::default() });
        let cluster = Cluster::start(server.clone(), ClusterOptions { seed, ..ClusterOptions::default() });
        let deployment = json!({
            "metadata": {"name": "model", "annotations": {"autoscaling.knative.dev/target": "10"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "model"}},
                "template": {
                    "metadata": {"labels": {"app": "model"}},
                    "spec": {"containers": [{"name": "main", "image": "m", "ports": [{"containerPort": 8080}]}]},
                },
            },
        });
        for (path, object) in [
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition()),
            ("/api/v1/namespaces", &json!({"metadata": {"name": "kpa-system"}})),
            ("/apis/apps/v1/namespaces/default/deployments", &deployment),
        ] {
            let (status, answer) = server.request(&Method::POST, path, Some(object));
            assert!(status.is_success(), "{path}: {answer}");
        }
        let client = Client::new(server, "default");
        let (platform, work) = ClusterPlatform::new(client, Settings::default(), Right::Always);
        #[expect(clippy::disallowed_methods, reason = "aborted with the subject")]
        let work = tokio::spawn(work);
        Self { platform, cluster, work }
    }
}

impl Subject for OnCluster {
    fn platform(&self) -> Arc<dyn Platform> {
        self.platform.clone()
    }

    fn revision(&self) -> RevisionId {
        RevisionId::new("default", "model")
    }

    fn remove(&self) -> BoxFuture<'_, ()> {
        async {
            let path = "/apis/apps/v1/namespaces/default/deployments/model";
            let (status, answer) = self.cluster.server().request(&Method::DELETE, path, None);
            assert!(status.is_success(), "{answer}");
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds_whatever_the_delays() {
    for seed in 0..3 {
        suite(async || OnCluster::new(seed)).await;
    }
}
