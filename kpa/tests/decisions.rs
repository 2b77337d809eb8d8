//! Decision for decision: until a replica goes, the same load gives the same decisions on a cluster as in memory; after
//! that, the same counts.
//!
//! Both run the very autoscaler that is shipped, on a clock that is paused, fed with the frames of one activator. On the
//! cluster an API server, its controllers and its pods are in between; both get replicas ready after the same time.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

use apiserver::controllers::{Cluster, ClusterOptions, Simulated, SimulatedOptions};
use apiserver::{Options, Server};
use autoscaler::{Autoscaler, BrainSettings, Trust};
use bytes::Bytes;
use domain::report::{FRAME_MEDIA_TYPE, FRAME_VERSION};
use domain::{Ack, Change, EndpointId, Frame, Millis, ReporterId, RequestMillis, Revision, RevisionId, Row};
use futures_util::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use platform::Platform;
use platform::fake::Fake;
use platform_kubernetes::cluster::ClusterPlatform;
use platform_kubernetes::objects::definition;
use platform_kubernetes::right::Right;
use platform_kubernetes::settings::{Client, Settings};
use proptest::prelude::*;
use runtime::{Clock, Tasks};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// From being asked for to being ready, on both platforms.
const STARTS_IN: Duration = Duration::from_millis(500);
/// Until a platform has told everything, the first second begins.
const LEAD: Duration = Duration::from_secs(2);
/// Frames come beside the moments at which revisions decide, which are multiples of 100 ms.
const BESIDE: Duration = Duration::from_millis(50);
/// More than a window and every grace that keeps the last replica.
const SILENCE_SECONDS: usize = 60;
const NAME: &str = "model";

fn activator() -> ReporterId {
    ReporterId::new("kpa-activator-0")
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": NAME, "annotations": {
            "autoscaling.knative.dev/target": "4",
            "autoscaling.knative.dev/window": "10s",
            "autoscaling.knative.dev/max-scale": "12",
        }},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{"name": "main", "image": "model", "ports": [{"containerPort": 8080}]}]},
            },
        },
    })
}

/// A cluster with a Deployment and an activator. What is returned first keeps it alive.
fn cluster(seed: u64, tasks: &Tasks) -> (Cluster, Arc<ClusterPlatform>) {
    let server = Server::new(Options::default());
    let ready_after = STARTS_IN..STARTS_IN + Duration::from_millis(1);
    let kubelet = Arc::new(Simulated::new(SimulatedOptions { seed, ready_after, ..SimulatedOptions::default() }));
    let running = Cluster::start(server.clone(), ClusterOptions { seed, kubelet, ..ClusterOptions::default() });
    let create = |path: &str, object: &Value| {
        let (status, answer) = server.request(&Method::POST, path, Some(object));
        assert!(status.is_success(), "POST {path}: {status} {answer}");
    };
    create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition());
    create("/api/v1/namespaces", &json!({"metadata": {"name": "kpa-system"}}));
    create(
        "/apis/discovery.k8s.io/v1/namespaces/kpa-system/endpointslices",
        &json!({
            "metadata": {"name": "activators", "labels": {"kubernetes.io/service-name": "kpa-activator"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": ["10.0.0.1"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "name": activator().as_str(), "namespace": "kpa-system"},
            }],
        }),
    );
    create("/apis/apps/v1/namespaces/default/deployments", &deployment());
    let client = Client::new(server, "default");
    let (platform, work) = ClusterPlatform::new(client, Settings::default(), Right::Always);
    tasks.spawn("cluster", work);
    (running, platform)
}

/// The revision as a platform tells it.
async fn told(platform: &dyn Platform) -> Revision {
    let mut changes = platform.watch();
    loop {
        if let Change::Applied(revision) = changes.next().await.unwrap() {
            return (*revision).clone();
        }
    }
}

/// An activator that has `in_flight` requests in each second in turn, and does what it is told at once.
struct Reporter {
    line: SendRequest<Full<Bytes>>,
    drained: Vec<EndpointId>,
    area: u64,
}

impl Reporter {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Bytes {
        self.line.ready().await.unwrap();
        let answer = self.line.send_request(request).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    async fn report(&mut self, tick: u64, in_flight: u32) {
        self.area += u64::from(in_flight) * 1_000;
        let frame = Frame {
            v: FRAME_VERSION,
            reporter: activator(),
            boot: 1,
            tick,
            seq: tick,
            at: Millis(tick * 1_000),
            leaving: false,
            urgent: false,
            draining: false,
            sharing: None,
            complete: true,
            names: vec![(0, RevisionId::new("default", NAME))],
            rows: vec![Row {
                n: 0,
                area: RequestMillis(self.area),
                requests: self.area / 1_000,
                in_flight,
                endpoints: self.drained.iter().map(|id| (id.clone(), 0)).collect(),
                drained: self.drained.clone(),
                ..Row::default()
            }],
        };
        let body = Full::new(serde_json::to_vec(&frame).unwrap().into());
        let request = Request::post("/v1/frames").header("content-type", FRAME_MEDIA_TYPE).body(body).unwrap();
        let ack: Ack = serde_json::from_slice(&self.exchange(request).await).unwrap();
        self.drained = ack.drain.into_iter().flat_map(|(_, endpoints)| endpoints).collect();
    }
}

/// The decision in force at the end of each second of an autoscaler on `platform` under `load`.
async fn decisions(platform: Arc<dyn Platform>, load: &[u32], tasks: &Tasks) -> Vec<Value> {
    let begun = Instant::now();
    let settings = autoscaler::Settings {
        id: ReporterId::new("kpa-autoscaler-0"),
        trust: Trust::Everyone,
        brain: BrainSettings::default(),
        audience: None,
        word: None,
    };
    let autoscaler = Autoscaler::new(settings, platform, Clock::start(), None);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    tasks.spawn("their end", runtime::admin::serve_connection(theirs, autoscaler.router(), tasks.stopping()));
    autoscaler.start(tasks);
    let (line, connection) = handshake(TokioIo::new(ours)).await.unwrap();
    // It ends when the other end does.
    tasks.spawn("our end", async move { drop(connection.await) });
    let (mut reporter, mut decided) = (Reporter { line, drained: Vec::new(), area: 0 }, Vec::new());
    for (tick, in_flight) in (1..).zip(load) {
        sleep_until(begun + LEAD + Duration::from_secs(tick) + BESIDE).await;
        let ask = Request::get(format!("/v1/revisions/default/{NAME}")).body(Full::default()).unwrap();
        let status: Value = serde_json::from_slice(&reporter.exchange(ask).await).unwrap();
        decided.push(timeless(status["lastDecision"].clone()));
        reporter.report(tick, *in_flight).await;
    }
    decided
}

/// A decision without what says when it was made: a platform's news come milliseconds earlier or later, and have the last
/// decision looked at again.
fn timeless(mut why: Value) -> Value {
    let fields = why.as_object_mut().expect("a decision");
    for when in ["at", "trigger"] {
        assert!(fields.remove(when).is_some(), "{when}");
    }
    if let Some((word, _until)) = fields["idleness"].as_object().and_then(|idleness| idleness.iter().next()) {
        fields["idleness"] = json!(word.clone());
    }
    why
}

/// The decisions under a load on a cluster and in memory.
fn both(seed: u64, load: &[u32]) -> [Vec<Value>; 2] {
    let paused = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (revision, on_cluster) = paused().block_on(async {
        let tasks = Tasks::new();
        let (_running, platform) = cluster(seed, &tasks);
        let revision = told(&*platform).await;
        let decided = decisions(platform, load, &tasks).await;
        tasks.stop();
        (revision, decided)
    });
    let in_memory = paused().block_on(async {
        let (tasks, fake) = (Tasks::new(), Fake::new());
        fake.apply(revision, STARTS_IN);
        fake.set_activators(vec![activator()]);
        let decided = decisions(Arc::new(fake), load, &tasks).await;
        tasks.stop();
        decided
    });
    [on_cluster, in_memory]
}

/// Some levels of load, each for a while, and then none until the last replica is gone.
fn loads() -> impl Strategy<Value = Vec<u32>> {
    let levels = prop::collection::vec((0_u32..40, 3_usize..20), 2..6);
    levels.prop_map(|levels| {
        let busy = levels.into_iter().flat_map(|(level, seconds)| std::iter::repeat_n(level, seconds));
        [0, 0].into_iter().chain(busy).chain(std::iter::repeat_n(0, SILENCE_SECONDS)).collect()
    })
}

fn counts(decisions: &[Value]) -> Vec<u64> {
    let mut counts: Vec<u64> = decisions.iter().map(|decision| decision["replicas"].as_u64().unwrap()).collect();
    counts.dedup();
    counts
}

/// The first second in which two platforms differ, with both decisions, until the first replica is to go. How soon it has
/// gone differs: a cluster marks pods before they leave, five in a second. What is decided while some go may come a tick
/// earlier or later for that, and is compared by its counts only.
fn first_difference(one: &[Value], other: &[Value]) -> Option<(usize, Value, Value)> {
    assert_eq!(one.len(), other.len());
    let mut pairs = one.iter().zip(other).enumerate();
    let (second, (one, other)) = pairs.find(|(_, (one, other))| one != other || lowers(one))?;
    (one != other).then(|| (second, one.clone(), other.clone()))
}

fn lowers(decision: &Value) -> bool {
    decision["replicas"].as_u64().unwrap() < decision["requested"].as_u64().unwrap()
}

#[test]
fn up_and_down_to_zero_is_decided_as_in_memory() {
    let busy = [(0, 3), (3, 10), (38, 8), (60, 6), (9, 30)];
    let load: Vec<u32> = busy.into_iter().flat_map(|(level, seconds)| std::iter::repeat_n(level, seconds)).collect();
    let load: Vec<u32> = load.into_iter().chain(std::iter::repeat_n(0, SILENCE_SECONDS)).collect();
    let [on_cluster, in_memory] = both(1, &load);
    for (place, decided) in [("on a cluster", &on_cluster), ("in memory", &in_memory)] {
        let seen = counts(decided);
        println!("{place}: {} decisions, counts {seen:?}", decided.len());
        assert_eq!((seen.iter().max(), seen.last()), (Some(&12), Some(&0)), "{place}: from zero to the most and back");
    }
    assert_eq!(counts(&on_cluster), counts(&in_memory), "and through the same counts on the way down");
    assert_eq!(first_difference(&on_cluster, &in_memory), None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("KPA_LONG").is_some() { 200 } else { 4 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_load_is_decided_as_in_memory_until_a_replica_goes(seed: u64, load in loads()) {
        let [on_cluster, in_memory] = both(seed, &load);
        prop_assert!(counts(&on_cluster).len() > 1 || load.iter().all(|level| *level == 0));
        prop_assert_eq!(first_difference(&on_cluster, &in_memory), None);
    }
}
