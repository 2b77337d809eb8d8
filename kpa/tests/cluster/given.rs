//! A cluster that was given, with nothing of it in this process' hands but a kubeconfig: here a second API server in memory
//! stands for it, so that the way of `KPA_E2E=1` is gone in every run.

use crate::outage::load;
use crate::service::requests;
use crate::support::wait_for;
use crate::world::{World, administrator, serve};
use apiserver::controllers::{Cluster, ClusterOptions};
use apiserver::{Options, Server};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_cluster_that_was_given_is_used_and_left_as_it_was() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Server::new(Options::real_time());
    let entered = runtime.enter();
    // No node: what runs the pods comes with the test.
    let _cluster = Cluster::start(server.clone(), ClusterOptions { nodes: Vec::new(), ..ClusterOptions::default() });
    drop(entered);
    let address = serve(&runtime, &server);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {"token": administrator(&server)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let all = || -> Vec<String> {
        let kinds = [
            ("", "namespaces"),
            ("", "nodes"),
            ("", "pods"),
            ("", "services"),
            ("apps", "deployments"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ];
        let objects = kinds.iter().flat_map(|(group, plural)| server.objects(group, plural));
        objects.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    let before = all();

    let world = World::given(&kubeconfig);
    let annotations = json!({"autoscaling.knative.dev/target": "2", "autoscaling.knative.dev/window": "6s"});
    world.deploy("model", 0, &annotations, &json!({}));
    let (autoscaler, activator) = (world.autoscaler(0).ready(), world.activator(0).ready());
    activator.has_route("model");
    assert_eq!(requests(&activator, "model", 100, 4), 0, "{}\n{}", activator.log(), autoscaler.log());
    for cut in [World::away, World::silent] {
        let (asked, failed) = load(&activator, "model", || {
            cut(&world, true);
            std::thread::sleep(Duration::from_secs(1));
            cut(&world, false);
        });
        assert_eq!(failed, 0, "of {asked}\n{}", activator.log());
    }
    wait_for("asleep", || (world.replicas("model") == 0 && world.ready("model") == 0).then_some(()));
    assert_ne!(all(), before);
    drop((autoscaler, activator));
    drop(world);
    assert_eq!(all(), before);
}
