//! Decision for decision: the same load gives the same decisions on a cluster as in memory, up, down and to zero.
//!
//! Both run the very autoscaler that is shipped, on a clock that is paused, fed with the frames of one activator. On the
//! cluster an API server, its controllers and its pods are in between; both get replicas ready after the same time. No
//! decision may follow from how they leave: the cluster marks pods before it lowers a count, at most five in a second, and
//! so shows the lower count up to some seconds later; and replicas need times to be gone that differ between the two.
//!
//! Compared are the whole record of the decision in force in each second, and the moment of each change of the decision.
//! What may differ is the moment at which an unchanged decision was looked at again because a platform had news, and so
//! the moment within its second from which on a reason is written in it: a replica is ready some milliseconds later on the
//! cluster.
//!
//! Where any load is tried, at most six replicas leave at once: so many pods are marked in the time of one call. Of more the
//! cluster takes a part at a time, and those that still wait for it are warm when load comes back meanwhile: in memory they
//! are gone, and then the two rightly differ.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

use apiserver::controllers::{Cluster, ClusterOptions, Simulated, SimulatedOptions};
use apiserver::{Options, Server};
use autoscaler::{Autoscaler, BrainSettings, Trust};
use bytes::Bytes;
use domain::report::{FRAME_MEDIA_TYPE, FRAME_VERSION};
use domain::{
    Ack, Change, Endpoint, EndpointId, EndpointState, Frame, Millis, ReporterId, RequestMillis, Revision, RevisionId,
    Row,
};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
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
/// More than a window and every grace that keeps the last replica.
const SILENCE_SECONDS: usize = 90;
const NAME: &str = "model";

fn activator() -> ReporterId {
    ReporterId::new("kpa-activator-0")
}

/// What a run is made of.
#[derive(Debug, Clone)]
struct Case {
    /// Of the cluster's delays.
    seed: u64,
    max_scale: u32,
    /// `max-scale-down-rate`: the smaller, the more a decision follows from how many are ready.
    down_rate: f64,
    /// Seconds from being told to leave to being gone, on the cluster and in memory.
    stops_in: [u64; 2],
    /// When in a second frames come, see [`phase`].
    phase: Duration,
    /// Requests in flight in each second.
    load: Vec<u32>,
}

/// Beside the `tenth` tenth of a second, and so beside the moments at which revisions decide: ours at 0.8 s.
const fn phase(tenth: u64) -> Duration {
    Duration::from_millis(100 * tenth + 50)
}

fn deployment(case: &Case) -> Value {
    json!({
        "metadata": {"name": NAME, "annotations": {
            "autoscaling.knative.dev/target": "4",
            "autoscaling.knative.dev/window": "10s",
            "autoscaling.knative.dev/max-scale": case.max_scale.to_string(),
            "kpa.dev/max-scale-down-rate": case.down_rate.to_string(),
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
fn cluster(case: &Case, tasks: &Tasks) -> (Cluster, Arc<ClusterPlatform>) {
    let server = Server::new(Options::default());
    let (seed, stops_in) = (case.seed, Duration::from_secs(case.stops_in[0]));
    let ready_after = STARTS_IN..STARTS_IN + Duration::from_millis(1);
    let kubelet =
        Arc::new(Simulated::new(SimulatedOptions { seed, ready_after, stops_in, ..SimulatedOptions::default() }));
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
    create("/apis/apps/v1/namespaces/default/deployments", &deployment(case));
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
    changes: BoxStream<'static, Change>,
    /// The replicas, in the order in which they were first seen.
    replicas: Vec<Endpoint>,
    drained: Vec<EndpointId>,
    /// Whether the load of each replica was asked for.
    tells_loads: bool,
    area: u64,
}

impl Reporter {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Bytes {
        self.line.ready().await.unwrap();
        let answer = self.line.send_request(request).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    async fn ask(&mut self, path: &str) -> Value {
        let request = Request::get(path).body(Full::default()).unwrap();
        serde_json::from_slice(&self.exchange(request).await).unwrap()
    }

    /// Takes over what the platform has told.
    fn follow(&mut self) {
        while let Some(Some(change)) = self.changes.next().now_or_never() {
            let Change::Endpoints { endpoints, .. } = change else { continue };
            let new = |endpoint: &&Endpoint| !self.replicas.iter().any(|known| known.id == endpoint.id);
            let new: Vec<Endpoint> = endpoints.iter().filter(new).cloned().collect();
            let now = |known: &Endpoint| endpoints.iter().find(|endpoint| endpoint.id == known.id).cloned();
            self.replicas = self.replicas.iter().filter_map(now).chain(new).collect();
        }
    }

    /// Requests on each replica, the older ones first: none on those that leave.
    fn loads(&self, in_flight: u32) -> Vec<(EndpointId, u32)> {
        let takes = |replica: &&Endpoint| replica.state == EndpointState::Ready && !self.drained.contains(&replica.id);
        let taking = u32::try_from(self.replicas.iter().filter(takes).count()).unwrap();
        let mut nth = 0..taking;
        let mut load = |replica: &Endpoint| match takes(&replica).then(|| nth.next()).flatten() {
            Some(nth) => in_flight / taking + u32::from(nth < in_flight % taking),
            None => 0,
        };
        self.replicas.iter().map(|replica| (replica.id.clone(), load(replica))).collect()
    }

    async fn report(&mut self, tick: u64, in_flight: u32) {
        self.follow();
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
                endpoints: if self.tells_loads { self.loads(in_flight) } else { Vec::new() },
                drained: self.drained.clone(),
                ..Row::default()
            }],
        };
        let body = Full::new(serde_json::to_vec(&frame).unwrap().into());
        let request = Request::post("/v1/frames").header("content-type", FRAME_MEDIA_TYPE).body(body).unwrap();
        let ack: Ack = serde_json::from_slice(&self.exchange(request).await).unwrap();
        self.tells_loads = !ack.load_of.is_empty();
        self.drained = ack.drain.into_iter().flat_map(|(_, endpoints)| endpoints).collect();
    }
}

/// What an autoscaler decided.
struct Decided {
    /// The decision in force at the end of each second.
    seconds: Vec<Value>,
    /// The decisions that differ from the one before, each with the moment since when.
    turns: Vec<Value>,
}

/// What an autoscaler on `platform` decides in `case`.
async fn decisions(platform: Arc<dyn Platform>, case: &Case, tasks: &Tasks) -> Decided {
    let begun = Instant::now();
    let changes = platform.watch();
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
    let mut reporter =
        Reporter { line, changes, replicas: Vec::new(), drained: Vec::new(), tells_loads: false, area: 0 };
    let mut seconds = Vec::new();
    for (tick, in_flight) in (1..).zip(&case.load) {
        sleep_until(begun + LEAD + Duration::from_secs(tick) + case.phase).await;
        let status = reporter.ask(&format!("/v1/revisions/default/{NAME}")).await;
        seconds.push(timeless(status["lastDecision"].clone()));
        reporter.report(tick, *in_flight).await;
    }
    let history = reporter.ask(&format!("/v1/revisions/default/{NAME}/decisions")).await;
    Decided { seconds, turns: turns(&history) }
}

/// Moments at which the decision changed, with what it came to. Not whether a panic was extended or merely continued: news
/// of a replica can have the same load looked at once more.
fn turns(history: &Value) -> Vec<Value> {
    let outcome = |kept: &Value| {
        let why = &kept["why"];
        let panics = !matches!(why["panic"].as_str(), Some("calm" | "left"));
        json!([why["desired"], why["replicas"], panics, why["panicMax"]])
    };
    let mut all: Vec<&Value> = history.as_array().unwrap().iter().collect();
    all.dedup_by_key(|kept| outcome(kept));
    all.iter().map(|kept| json!([kept["why"]["at"], outcome(kept)])).collect()
}

/// A decision without what says when it was looked at: a platform's news come milliseconds earlier or later, and have the
/// last decision looked at again.
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

/// The decisions of a case on a cluster and in memory.
fn both(case: &Case) -> [Decided; 2] {
    let paused = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (revision, on_cluster) = paused().block_on(async {
        let tasks = Tasks::new();
        let (_running, platform) = cluster(case, &tasks);
        let revision = told(&*platform).await;
        let decided = decisions(platform, case, &tasks).await;
        tasks.stop();
        (revision, decided)
    });
    let in_memory = paused().block_on(async {
        let (tasks, fake) = (Tasks::new(), Fake::new());
        fake.apply(revision, STARTS_IN);
        fake.set_stop_delay(Duration::from_secs(case.stops_in[1]));
        fake.set_activators(vec![activator()]);
        let decided = decisions(Arc::new(fake), case, &tasks).await;
        tasks.stop();
        decided
    });
    [on_cluster, in_memory]
}

/// Phases at which all replicas that a frame asked for are ready on the same side of the moment at which the revision
/// decides: on the cluster they become so up to 0.2 s after [`STARTS_IN`], one after the other.
fn phases() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![0, 3, 4, 5, 6, 7, 8, 9].into_iter().map(phase).collect::<Vec<_>>())
}

/// Some levels of load, each for a while, and then none until the last replica is gone.
fn cases() -> impl Strategy<Value = Case> {
    let levels = prop::collection::vec((0_u32..60, 3_usize..20), 2..6);
    let load = levels.prop_map(|levels| {
        let busy = levels.into_iter().flat_map(|(level, seconds)| std::iter::repeat_n(level, seconds));
        [0, 0].into_iter().chain(busy).chain(std::iter::repeat_n(0, SILENCE_SECONDS)).collect()
    });
    let down_rate = prop::sample::select(vec![1.2, 1.5, 2.0]);
    let rest = (any::<u64>(), down_rate, [0_u64..20, 0_u64..20], phases(), load);
    rest.prop_map(|(seed, down_rate, stops_in, phase, load)| Case {
        seed,
        max_scale: 12,
        down_rate,
        stops_in,
        phase,
        load,
    })
}

fn counts(decided: &Decided) -> Vec<u64> {
    let replicas = |decision: &Value| decision["replicas"].as_u64().unwrap();
    let mut counts: Vec<u64> = decided.seconds.iter().map(replicas).collect();
    counts.dedup();
    counts
}

/// The first in which two sequences differ: its number, and both.
fn first_difference(one: &[Value], other: &[Value]) -> Option<(usize, Option<Value>, Option<Value>)> {
    let at = |number: usize| (one.get(number).cloned(), other.get(number).cloned());
    let (number, (one, other)) = (0..one.len().max(other.len())).map(|n| (n, at(n))).find(|(_, (a, b))| a != b)?;
    Some((number, one, other))
}

/// Levels with their seconds, and then silence.
fn then_silence(levels: &[(u32, usize)]) -> Vec<u32> {
    let busy = levels.iter().flat_map(|(level, seconds)| std::iter::repeat_n(*level, *seconds));
    busy.chain(std::iter::repeat_n(0, SILENCE_SECONDS)).collect()
}

fn is_decided_as_in_memory(case: &Case) {
    let [on_cluster, in_memory] = both(case);
    for (place, decided) in [("on a cluster", &on_cluster), ("in memory", &in_memory)] {
        let seen = counts(decided);
        let ends = (seen.iter().max(), seen.last());
        assert_eq!(ends, (Some(&case.max_scale.into()), Some(&0)), "{place}: to the most and back to zero: {seen:?}");
    }
    assert_eq!(first_difference(&on_cluster.seconds, &in_memory.seconds), None);
    assert_eq!(first_difference(&on_cluster.turns, &in_memory.turns), None);
}

#[test]
fn up_and_down_to_zero_is_decided_as_in_memory() {
    let load = then_silence(&[(0, 3), (3, 10), (38, 8), (60, 6), (9, 30)]);
    let case = Case { seed: 1, max_scale: 12, down_rate: 2.0, stops_in: [1, 1], phase: phase(0), load };
    is_decided_as_in_memory(&case);
}

/// More leave at once than are marked in the time of a call: the cluster lowers in parts.
#[test]
fn many_that_leave_at_once_are_decided_as_in_memory() {
    for stops_in in [[1, 1], [10, 1]] {
        let load = then_silence(&[(0, 3), (3, 10), (38, 8), (100, 20), (9, 40), (30, 20)]);
        is_decided_as_in_memory(&Case { seed: 2, max_scale: 25, down_rate: 20.0, stops_in, phase: phase(0), load });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("KPA_LONG").is_some() { 200 } else { 4 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_load_is_decided_as_in_memory(case in cases()) {
        let [on_cluster, in_memory] = both(&case);
        prop_assert!(counts(&on_cluster).len() > 1 || case.load.iter().all(|level| *level == 0));
        prop_assert_eq!(counts(&on_cluster).last().copied(), Some(0), "to zero");
        prop_assert_eq!(first_difference(&on_cluster.seconds, &in_memory.seconds), None);
        prop_assert_eq!(first_difference(&on_cluster.turns, &in_memory.turns), None);
    }
}
