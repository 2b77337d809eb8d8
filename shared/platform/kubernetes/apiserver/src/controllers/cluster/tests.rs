//! Whole clusters: on a paused clock with pods that are pretended, and with real processes on a real one.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::kubelet::{ProcessOptions, Processes, Script};
use super::super::object::{Object, Resource};
use super::super::pods::{is_active, is_ready};
use super::super::testing;
use super::super::world::Change;
use super::store::Store;
use super::worker::{INBOX_MAX, Worker};
use super::*;
use crate::Options;

/// Longer than anything takes on the paused clock.
const LONG: Duration = Duration::from_secs(3600);

fn start(options: ClusterOptions) -> Cluster {
    Cluster::start(Server::new(Options::default()), options)
}

fn scripted(script: impl Fn(&Pod) -> Script + Send + Sync + 'static) -> ClusterOptions {
    let kubelet = Arc::new(Simulated::scripted(SimulatedOptions::default(), script));
    ClusterOptions { kubelet, ..ClusterOptions::default() }
}

fn manifest(replicas: i32, change: &Value) -> Deployment {
    let mut json = testing::deployment(replicas, &json!({}));
    json["metadata"] = json!({"name": "model"});
    json_patch::merge(&mut json, change);
    serde_json::from_value(json).unwrap()
}

fn ask(cluster: &Cluster, method: &Method, path: &str, body: &Value) -> Value {
    let (status, answer) = cluster.server().request(method, path, (!body.is_null()).then_some(body));
    assert!(status.is_success(), "{method} {path}: {answer}");
    answer
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn create(cluster: &Cluster, deployment: &Deployment) {
    ask(cluster, &Method::POST, DEPLOYMENTS, &serde_json::to_value(deployment).unwrap());
}

fn scale(cluster: &Cluster, replicas: i32) {
    let patch = json!({"spec": {"replicas": replicas}});
    ask(cluster, &Method::PATCH, &format!("{DEPLOYMENTS}/model/scale"), &patch);
}

fn service(cluster: &Cluster) {
    let service = json!({
        "metadata": {"name": "model"},
        "spec": {"clusterIP": "None", "selector": {"app": "model"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    ask(cluster, &Method::POST, "/api/v1/namespaces/default/services", &service);
}

fn pods(server: &Server) -> Vec<Pod> {
    let all = server.objects("", "pods");
    all.iter().map(|json| serde_json::from_value((**json).clone()).unwrap()).collect()
}

fn ready(server: &Server) -> usize {
    pods(server).iter().filter(|pod| is_active(pod) && is_ready(pod)).count()
}

/// Addresses of ready endpoints.
fn endpoints(server: &Server) -> Vec<String> {
    let slices = server.objects("discovery.k8s.io", "endpointslices");
    let all = slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn model(server: &Server) -> Value {
    (*server.object("apps", "deployments", "default", "model").unwrap()).clone()
}

fn is_rolled_out(server: &Server, replicas: u64) -> bool {
    let found = model(server);
    let status = &found["status"];
    let count = |key: &str| status[key].as_u64().unwrap_or(0);
    status["observedGeneration"] == found["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|key| count(key) == replicas)
}

async fn until(cluster: &Cluster, what: &str, is_true: impl FnMut(&Server) -> bool) {
    let done = tokio::time::timeout(LONG, cluster.until(is_true)).await;
    let pods: Vec<String> = cluster
        .server()
        .objects("", "pods")
        .iter()
        .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
        .collect();
    assert!(done.is_ok(), "{what}: {:?}\n{}", cluster.server().objects("apps", "deployments"), pods.join("\n"));
}

fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_lives_its_whole_life() {
    let cluster = start(ClusterOptions::default());
    let client = kube::Client::new(cluster.server().clone(), "default");
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    service(&cluster);
    deployments.create(&PostParams::default(), &manifest(3, &json!({}))).await.unwrap();
    until(&cluster, "up", |server| is_rolled_out(server, 3) && endpoints(server).len() == 3).await;
    assert_eq!(model(cluster.server())["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(condition(&model(cluster.server()), "Available")["status"], "True");

    let five = Patch::Merge(json!({"spec": {"replicas": 5}}));
    deployments.patch_scale("model", &PatchParams::default(), &five).await.unwrap();
    until(&cluster, "more", |server| is_rolled_out(server, 5) && endpoints(server).len() == 5).await;

    let mut before = endpoints(cluster.server());
    let spec = json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "b"}]}}}});
    deployments.patch("model", &PatchParams::default(), &Patch::Strategic(spec)).await.unwrap();
    let (mut least, mut most) = (5, 0);
    until(&cluster, "rolled out", |server| {
        least = least.min(ready(server));
        let sets = server.objects("apps", "replicasets");
        most = most.max(sets.iter().filter_map(|set| set["spec"]["replicas"].as_u64()).sum());
        is_rolled_out(server, 5) && endpoints(server).len() == 5 && pods(server).len() == 5
    })
    .await;
    // 25 % of 5: one may be missing, two may be too many. That counts what is wanted: a pod whose deletion was decided
    // may still stand when its successor comes.
    assert!(least >= 4 && most <= 7, "{least} to {most}");
    before.retain(|address| endpoints(cluster.server()).contains(address));
    assert_eq!(before, Vec::<String>::new(), "every address is new");

    scale(&cluster, 0);
    until(&cluster, "none", |server| is_rolled_out(server, 0) && pods(server).is_empty()).await;
    assert_eq!(endpoints(cluster.server()), Vec::<String>::new());

    scale(&cluster, 2);
    until(&cluster, "again", |server| is_rolled_out(server, 2)).await;
    deployments.delete("model", &DeleteParams::background()).await.unwrap();
    ask(&cluster, &Method::DELETE, "/api/v1/namespaces/default/services/model", &Value::Null);
    until(&cluster, "gone", |server| {
        pods(server).is_empty()
            && server.objects("apps", "replicasets").is_empty()
            && server.objects("discovery.k8s.io", "endpointslices").is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_tells_the_same_story() {
    let mut stories = Vec::new();
    for seed in [1, 1, 2] {
        let cluster = start(ClusterOptions { seed, ..ClusterOptions::default() });
        let origin = tokio::time::Instant::now();
        create(&cluster, &manifest(4, &json!({})));
        until(&cluster, "up", |server| is_rolled_out(server, 4)).await;
        let mut nodes: Vec<String> =
            pods(cluster.server()).into_iter().map(|pod| pod.spec.unwrap().node_name.unwrap()).collect();
        nodes.sort();
        stories.push((origin.elapsed(), nodes, cluster.server().revision()));
    }
    assert_eq!(stories[0], stories[1]);
    assert_ne!(stories[0].0, stories[2].0);
}

#[tokio::test(start_paused = true)]
async fn pods_fail_as_their_scripts_say() {
    let cluster = start(scripted(|pod| match pod.spec.as_ref().unwrap().containers[0].image.as_deref() {
        Some("crash") => Script::CrashLoop { runs_for: Duration::from_secs(1) },
        Some("pull") => Script::ImagePullBackOff,
        Some("nowhere") => Script::Unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.".to_owned()),
        _ => Script::NeverReady,
    }));
    for image in ["crash", "pull", "nowhere", "never"] {
        let change = json!({
            "metadata": {"name": image},
            "spec": {
                "progressDeadlineSeconds": 60,
                "selector": {"matchLabels": {"app": image}},
                "template": {
                    "metadata": {"labels": {"app": image}},
                    "spec": {"containers": [{"name": "c", "image": image}]},
                },
            },
        });
        create(&cluster, &manifest(1, &change));
    }
    let of = |server: &Server, image: &str| -> Option<Value> {
        let pods = server.objects("", "pods");
        pods.iter().find(|pod| pod["spec"]["containers"][0]["image"] == image).map(|pod| (**pod).clone())
    };
    let container = |server: &Server, image: &str| -> Value {
        of(server, image).map(|pod| pod["status"]["containerStatuses"][0].clone()).unwrap_or_default()
    };
    until(&cluster, "crashed twice", |server| {
        let crash = container(server, "crash");
        crash["restartCount"] == 2 && crash["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    assert_eq!(container(cluster.server(), "crash")["lastState"]["terminated"]["exitCode"], 1);
    let pull = container(cluster.server(), "pull");
    assert_eq!(pull["state"]["waiting"]["reason"], "ImagePullBackOff");
    let nowhere = condition(&of(cluster.server(), "nowhere").unwrap(), "PodScheduled");
    assert_eq!((&nowhere["reason"], &nowhere["status"]), (&json!("Unschedulable"), &json!("False")));
    assert_eq!(of(cluster.server(), "never").unwrap()["status"]["phase"], "Running");
    until(&cluster, "deadline", |server| {
        let all = server.objects("apps", "deployments");
        all.iter().all(|deployment| condition(deployment, "Progressing")["reason"] == "ProgressDeadlineExceeded")
    })
    .await;
    assert_eq!(ready(cluster.server()), 0);
}

#[tokio::test(start_paused = true)]
async fn readiness_that_flaps_reaches_the_endpoints() {
    let cluster = start(scripted(|_| Script::Flapping { every: Duration::from_secs(30) }));
    service(&cluster);
    create(&cluster, &manifest(1, &json!({})));
    for _ in 0..2 {
        until(&cluster, "ready", |server| endpoints(server).len() == 1).await;
        until(&cluster, "not ready", |server| endpoints(server).is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_dead_node_are_replaced_and_forced_out() {
    let cluster = start(ClusterOptions::default());
    service(&cluster);
    create(&cluster, &manifest(3, &json!({})));
    until(&cluster, "up", |server| is_rolled_out(server, 3) && endpoints(server).len() == 3).await;
    let began = tokio::time::Instant::now();
    cluster.kill_node("node-1").await;
    until(&cluster, "endpoint gone", |server| endpoints(server).len() == 2).await;
    let silent = began.elapsed();
    assert!(silent >= Duration::from_secs(50) && silent < Duration::from_secs(52), "{silent:?}");
    until(&cluster, "replaced", |server| endpoints(server).len() == 3).await;
    assert!(began.elapsed() >= Duration::from_secs(350), "{:?}", began.elapsed());
    assert_eq!(pods(cluster.server()).len(), 4, "the lost pod stays, nobody confirms its end");
    ask(&cluster, &Method::DELETE, "/api/v1/nodes/node-1", &Value::Null);
    until(&cluster, "forced out", |server| pods(server).len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_runs_its_pods_again() {
    let cluster = start(ClusterOptions::default());
    create(&cluster, &manifest(3, &json!({})));
    until(&cluster, "up", |server| is_rolled_out(server, 3)).await;
    cluster.kill_node("node-0").await;
    until(&cluster, "unready", |server| ready(server) == 2).await;
    cluster.revive_node("node-0").await;
    until(&cluster, "ready", |server| ready(server) == 3).await;
    let nodes = cluster.server().objects("", "nodes");
    assert!(nodes.iter().all(|node| condition(node, "Ready")["status"] == "True"));
    assert_eq!(pods(cluster.server()).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_budget_stops_evictions() {
    let cluster = start(ClusterOptions::default());
    let budget = json!({
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "model"}}},
    });
    ask(&cluster, &Method::POST, "/apis/policy/v1/namespaces/default/poddisruptionbudgets", &budget);
    create(&cluster, &manifest(3, &json!({})));
    let allowed = |server: &Server| {
        let budget = server.object("policy", "poddisruptionbudgets", "default", "b").unwrap();
        budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(-1)
    };
    until(&cluster, "one allowed", |server| ready(server) == 3 && allowed(server) == 1).await;
    let names = cluster.server().names("", "pods", "default");
    cluster.evict("default", &names[0]).unwrap();
    until(&cluster, "none allowed", |server| ready(server) == 2 && allowed(server) == 0).await;
    let (status, text) = cluster.evict("default", &names[1]).unwrap_err();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(text.contains("disruption budget"), "{text}");
    until(&cluster, "replaced", |server| ready(server) == 3 && allowed(server) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_wrong_pod_can_be_made_to_leave() {
    let cluster = start(ClusterOptions::default());
    create(&cluster, &manifest(3, &json!({})));
    until(&cluster, "up", |server| is_rolled_out(server, 3)).await;
    let names = cluster.server().names("", "pods", "default");
    let cheap = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-9"}}});
    ask(&cluster, &Method::PATCH, &format!("/api/v1/namespaces/default/pods/{}", names[0]), &cheap);
    cluster.wrong_victim("default", &names[2]).await;
    scale(&cluster, 2);
    until(&cluster, "one left", |server| pods(server).len() == 2).await;
    assert_eq!(cluster.server().names("", "pods", "default"), names[..2]);
    scale(&cluster, 1);
    until(&cluster, "the cheap one left", |server| pods(server).len() == 1).await;
    assert_eq!(cluster.server().names("", "pods", "default"), names[1..2]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_controller_catches_up_and_a_slow_one_takes_longer() {
    let cluster = start(ClusterOptions::default());
    service(&cluster);
    create(&cluster, &manifest(1, &json!({})));
    until(&cluster, "up", |server| endpoints(server).len() == 1).await;
    cluster.pause(Part::EndpointSlices).await;
    scale(&cluster, 3);
    until(&cluster, "more pods", |server| is_rolled_out(server, 3)).await;
    assert_eq!(endpoints(cluster.server()).len(), 1);
    cluster.resume(Part::EndpointSlices).await;
    until(&cluster, "caught up", |server| endpoints(server).len() == 3).await;
    cluster.slow(Part::EndpointSlices, 1000.0).await;
    scale(&cluster, 4);
    until(&cluster, "one more pod", |server| ready(server) == 4).await;
    let began = tokio::time::Instant::now();
    until(&cluster, "one more endpoint", |server| endpoints(server).len() == 4).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_a_replica_failure_until_it_is_raised() {
    let cluster = start(ClusterOptions::default());
    cluster.quota("default", Some(2)).await;
    create(&cluster, &manifest(3, &json!({})));
    until(&cluster, "refused", |server| condition(&model(server), "ReplicaFailure")["reason"] == "FailedCreate").await;
    let text = condition(&model(cluster.server()), "ReplicaFailure")["message"].clone();
    assert!(text.as_str().unwrap().contains("exceeded quota"), "{text}");
    until(&cluster, "two", |server| ready(server) == 2).await;
    cluster.quota("default", None).await;
    until(&cluster, "three", |server| is_rolled_out(server, 3)).await;
    assert_eq!(condition(&model(cluster.server()), "ReplicaFailure"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_by_the_next_deployment() {
    let cluster = start(ClusterOptions::default());
    create(&cluster, &manifest(2, &json!({})));
    until(&cluster, "up", |server| is_rolled_out(server, 2)).await;
    let before = cluster.server().names("", "pods", "default");
    let orphan = json!({"propagationPolicy": "Orphan"});
    ask(&cluster, &Method::DELETE, &format!("{DEPLOYMENTS}/model"), &orphan);
    until(&cluster, "let go", |server| {
        let sets = server.objects("apps", "replicasets");
        server.names("apps", "deployments", "default").is_empty()
            && sets.iter().all(|set| set["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty))
    })
    .await;
    create(&cluster, &manifest(2, &json!({})));
    until(&cluster, "adopted", |server| is_rolled_out(server, 2)).await;
    assert_eq!(cluster.server().names("", "pods", "default"), before);
    assert_eq!(cluster.server().objects("apps", "replicasets").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_everything_with_it() {
    let cluster = start(ClusterOptions::default());
    ask(&cluster, &Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": "team"}}));
    let deployment = serde_json::to_value(manifest(2, &json!({}))).unwrap();
    ask(&cluster, &Method::POST, "/apis/apps/v1/namespaces/team/deployments", &deployment);
    until(&cluster, "up", |server| ready(server) == 2).await;
    ask(&cluster, &Method::DELETE, "/api/v1/namespaces/team", &Value::Null);
    until(&cluster, "gone", |server| server.object("", "namespaces", "", "team").is_none()).await;
    assert_eq!(pods(cluster.server()).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_is_emptied_and_compared() {
    let server = Server::new(Options::default());
    let mut store = Store::new(server.clone());
    let object = json!({
        "metadata": {"name": "set"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    let path = "/apis/apps/v1/namespaces/default/replicasets";
    assert!(server.request(&Method::POST, path, Some(&object)).0.is_success());
    let news = store.news();
    assert!(!news.is_empty());
    let other = Resource { group: "".into(), version: "v1".into(), plural: "things".into() };
    let noise = Object::read(&other, &json!({"metadata": {"name": "noise"}})).unwrap();
    let noise = Arc::new(Change::Added(noise));
    let none = Duration::ZERO..Duration::ZERO;
    let mut worker = Worker::new(Box::new(super::super::replicaset::ReplicaSets::default()), 0, none.clone(), none);
    let now = tokio::time::Instant::now();
    for _ in 0..=INBOX_MAX {
        worker.hear(now, &noise);
    }
    worker.work(now, server.now(), &store);
    assert_eq!(server.names("", "pods", "default").len(), 1, "what was not heard was seen");
}

#[tokio::test(start_paused = true)]
async fn what_the_history_lost_is_told_as_a_difference() {
    let server = Server::new(Options { history_events_max: 1, ..Options::default() });
    let mut store = Store::new(server.clone());
    let path = "/api/v1/namespaces/default/configmaps";
    let ask = |method: &Method, path: &str, body: Option<&Value>| {
        assert!(server.request(method, path, body).0.is_success(), "{method} {path}");
    };
    for name in ["a", "b"] {
        ask(&Method::POST, path, Some(&json!({"metadata": {"name": name}})));
    }
    store.news();
    ask(&Method::DELETE, &format!("{path}/a"), None);
    ask(&Method::PATCH, &format!("{path}/b"), Some(&json!({"data": {"k": "v"}})));
    ask(&Method::POST, path, Some(&json!({"metadata": {"name": "c"}})));
    let told: Vec<(&str, String)> = store
        .news()
        .iter()
        .map(|change| {
            let kind = match change {
                Change::Added(_) => "added",
                Change::Modified(_) => "modified",
                Change::Deleted(_) => "deleted",
            };
            (kind, change.object().id().name)
        })
        .collect();
    assert_eq!(told, [("deleted", "a".to_owned()), ("modified", "b".to_owned()), ("added", "c".to_owned())]);
    assert!(store.news().is_empty());
}

// -------------------------------------------------------------------------------------------------------------------
// Real processes, on the real clock

fn with_processes() -> (Cluster, Arc<Processes>) {
    let processes = Arc::new(Processes::new(ProcessOptions::default()));
    let kubelet: Arc<dyn Kubelet> = Arc::clone(&processes) as _;
    (start(ClusterOptions { kubelet, ..ClusterOptions::default() }), processes)
}

fn container(change: &Value) -> Value {
    let mut container = json!({
        "name": "server",
        "image": "a",
        "command": ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "$(PORT)"],
        "ports": [{"name": "http", "containerPort": 18080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    });
    json_patch::merge(&mut container, change);
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

fn is_alive(process: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), None).is_ok()
}

#[tokio::test]
async fn a_real_server_is_started_probed_and_stopped() {
    let (cluster, processes) = with_processes();
    service(&cluster);
    create(&cluster, &manifest(2, &container(&json!({}))));
    until(&cluster, "up", |server| is_rolled_out(server, 2) && endpoints(server).len() == 2).await;
    for address in endpoints(cluster.server()) {
        assert!(address.starts_with("127."), "{address}");
        tokio::net::TcpStream::connect((address.as_str(), 18080)).await.unwrap();
    }
    let running = processes.running();
    assert_eq!(running.len(), 2);
    scale(&cluster, 1);
    until(&cluster, "one", |server| pods(server).len() == 1).await;
    assert_eq!(running.iter().filter(|process| is_alive(**process)).count(), 1);
    drop(cluster);
    // Killed at once; what remains is a zombie until it is reaped, with no socket.
    assert_eq!(processes.running(), Vec::<i32>::new());
}

#[tokio::test]
async fn a_process_that_ends_is_a_crash_loop() {
    let (cluster, _) = with_processes();
    create(&cluster, &manifest(1, &container(&json!({"command": ["sh", "-c", "exit 3"]}))));
    let status = |server: &Server| {
        let pods = server.objects("", "pods");
        pods.first().map(|pod| pod["status"]["containerStatuses"][0].clone()).unwrap_or_default()
    };
    until(&cluster, "crashed", |server| status(server)["state"]["waiting"]["reason"] == "CrashLoopBackOff").await;
    let found = status(cluster.server());
    assert_eq!(found["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(ready(cluster.server()), 0);
    cluster.stop().await;
}

#[tokio::test]
async fn what_does_not_heed_term_is_killed_after_its_grace() {
    let (cluster, processes) = with_processes();
    let stubborn = json!({
        "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
        "readinessProbe": null,
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    });
    let mut change = container(&stubborn);
    change["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(2);
    create(&cluster, &manifest(1, &change));
    until(&cluster, "up", |server| ready(server) == 1).await;
    let process = processes.running()[0];
    let began = tokio::time::Instant::now();
    scale(&cluster, 0);
    until(&cluster, "gone", |server| pods(server).is_empty()).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(!is_alive(process));
    cluster.stop().await;
}
