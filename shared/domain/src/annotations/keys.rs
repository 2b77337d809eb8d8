//! The table: one row a key.
//!
//! Invariant: a key is named, ranged and described here and nowhere else; `docs/annotations.md` is printed from it.

use super::kind::{Kind, Range};
use std::time::Duration;

/// Whether this release does what a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It does.
    Now,
    /// It reads and checks the value and does something else: what happens instead.
    Later(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyDoc {
    /// The key.
    pub key: &'static str,
    /// Other spellings, in the order in which they are looked for after the key.
    pub aliases: &'static [&'static str],
    /// Form and range of the value.
    pub kind: Kind,
    /// The default; `cluster KEY` where `config-autoscaler` sets it.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// Whether it is served.
    pub served: Served,
}

impl KeyDoc {
    /// The key and its aliases, in the order of the look-up.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.key).chain(self.aliases.iter().copied())
    }
}

const COUNT: Kind = Kind::Whole { min: 0, max: i32::MAX as u32 };
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const fn span(min: Duration, max: Duration) -> Kind {
    Kind::Span { min, max, whole_seconds: false }
}

/// Defines a table, and each row of it as a constant under its own name.
macro_rules! keys {
    ($(#[$meta:meta])* $table:ident; $($name:ident = $key:literal $([$($alias:literal),+])?, $kind:expr, default $default:literal, $doc:literal
       $(, later $later:literal)?;)+) => {
        $(pub(crate) const $name: KeyDoc = KeyDoc {
            key: $key,
            aliases: &[$($($alias),+)?],
            kind: $kind,
            default: $default,
            doc: $doc,
            served: keys!(@served $($later)?),
        };)+

        $(#[$meta])*
        pub const $table: &[KeyDoc] = &[$($name),+];
    };
    (@served) => { Served::Now };
    (@served $later:literal) => { Served::Later($later) };
}
pub(crate) use keys;

keys! {
    /// Every annotation, Knative's first.
    KEYS;

    CLASS = "autoscaling.knative.dev/class", Kind::Class,
        default "cluster pod-autoscaler-class",
        "Which autoscaler is in charge. Any but the KPA class: routed and counted, never scaled.";
    METRIC = "autoscaling.knative.dev/metric", Kind::Word(&["concurrency", "rps", "cpu", "memory"]),
        default "concurrency",
        "What is measured: requests in flight (waiting ones included), requests per second, CPU in percent of the \
         request, memory in MiB. cpu and memory are not measured yet: replicas are woken and grow to min-scale, and \
         are never lowered.";
    TARGET = "autoscaling.knative.dev/target", Kind::Number(Range::at_least(0.01)),
        default "cluster container-concurrency-target-default or requests-per-second-target-default",
        "What one replica can carry of the metric; never more than kpa.dev/container-concurrency. For cpu the default \
         is 80; memory has none.";
    UTILIZATION = "autoscaling.knative.dev/target-utilization-percentage"
        ["autoscaling.knative.dev/targetUtilizationPercentage"], Kind::Number(Range::between(1.0, 100.0)),
        default "cluster container-concurrency-target-percentage; 70 for rps, 100 for cpu and memory",
        "The share of the target to aim for. Here 1 means 1 %.";
    BURST_CAPACITY = "autoscaling.knative.dev/target-burst-capacity" ["autoscaling.knative.dev/targetBurstCapacity"],
        Kind::Burst,
        default "cluster target-burst-capacity",
        "Read, checked and shown. The activator is always in the path, as with -1.";
    MIN_SCALE = "autoscaling.knative.dev/min-scale" ["autoscaling.knative.dev/minScale"], COUNT,
        default "cluster min-scale",
        "The fewest replicas; 0 lets the service sleep.";
    MAX_SCALE = "autoscaling.knative.dev/max-scale" ["autoscaling.knative.dev/maxScale"], COUNT,
        default "cluster max-scale",
        "The most replicas; 0 is unlimited. Not below min-scale, not beyond the cluster's max-scale-limit.";
    INITIAL_SCALE = "autoscaling.knative.dev/initial-scale" ["autoscaling.knative.dev/initialScale"], COUNT,
        default "cluster initial-scale",
        "The size at creation, a floor until it was reached once. 0 only where the cluster allows it.";
    ACTIVATION_SCALE = "autoscaling.knative.dev/activation-scale", Kind::Whole { min: 2, max: i32::MAX as u32 },
        default "none",
        "The smallest size other than zero. Not below min-scale, not above max-scale.";
    WINDOW = "autoscaling.knative.dev/window",
        Kind::Span { min: Duration::from_secs(6), max: HOUR, whole_seconds: true },
        default "cluster stable-window",
        "The stable window, over which the metric is averaged; also the shortest time a service stays awake.";
    PANIC_WINDOW = "autoscaling.knative.dev/panic-window-percentage"
        ["autoscaling.knative.dev/panicWindowPercentage", "kpa.dev/panic-window-percentage"],
        Kind::Number(Range::between(1.0, 100.0)),
        default "cluster panic-window-percentage",
        "The panic window as a percentage of the stable one.";
    PANIC_THRESHOLD = "autoscaling.knative.dev/panic-threshold-percentage"
        ["autoscaling.knative.dev/panicThresholdPercentage", "kpa.dev/panic-threshold-percentage"],
        Kind::Number(Range::between(110.0, 1000.0)),
        default "cluster panic-threshold-percentage",
        "Panic starts when the replicas that the panic window asks for reach this percentage of the ready ones.";
    SCALE_DOWN_DELAY = "autoscaling.knative.dev/scale-down-delay" ["autoscaling.knative.dev/scaleDownDelay"],
        Kind::Span { min: Duration::ZERO, max: HOUR, whole_seconds: true },
        default "cluster scale-down-delay",
        "The count is the highest that was wanted in this time.";
    RETENTION = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
        ["autoscaling.knative.dev/scaleToZeroPodRetentionPeriod"], span(Duration::ZERO, HOUR),
        default "cluster scale-to-zero-pod-retention-period",
        "How long the last replica stays, at least, once there is nothing to do.";
    AGGREGATION = "autoscaling.knative.dev/metric-aggregation-algorithm"
        ["autoscaling.knative.dev/metricAggregationAlgorithm"],
        Kind::Word(&["linear", "weighted-exponential"]),
        default "linear",
        "How a window is averaged: the mean of its seconds, or the newest weighing most.";

    CONTAINER_CONCURRENCY = "kpa.dev/container-concurrency", COUNT,
        default "0",
        "Requests that one replica may run at once, a hard limit; 0 is none.";
    PORT = "kpa.dev/port", Kind::Whole { min: 1, max: 65535 },
        default "the first serving port",
        "The port that serves.";
    PROTOCOL = "kpa.dev/protocol", Kind::Word(&["auto", "http1", "h2c"]),
        default "auto",
        "What is spoken to the replica: HTTP/1.1, HTTP/2 over cleartext, or as the client came (from clients \
         behind TLS only gRPC goes on in HTTP/2). With kpa.dev/backend-tls h2c is \
         HTTP/2 over TLS. A port named h2c, or \
         with appProtocol kubernetes.io/h2c, makes it h2c.";
    BACKEND_TLS = "kpa.dev/backend-tls", Kind::Flag,
        default "false",
        "Replicas are reached over TLS, by requests, tunnels and the activator's own checks. A replica whose certificate \
         does not pass gets no request. See docs/tls.md.";
    BACKEND_CA = "kpa.dev/backend-ca", Kind::Text("certificates in PEM, 64 KiB at most"),
        default "the activator's --backend-ca",
        "The roots that a replica's certificate has to lead to. No others are trusted; without any no replica is reached.";
    BACKEND_SERVER_NAME = "kpa.dev/backend-server-name", Kind::Text("a DNS name or an IP address"),
        default "the service's name and namespace, as in model.default",
        "Whose certificate a replica has to show, and what it is asked for (SNI).";
    HOSTS = "kpa.dev/hosts", Kind::Hosts,
        default "none",
        "Further hosts that mean this service.";
    PATH_PREFIX = "kpa.dev/path-prefix", Kind::Text("a path that begins with /, as it is on the wire"),
        default "none",
        "Of kpa.dev/hosts, only requests of this path and below it, by whole segments and byte for byte; the longest \
         wins, and other services may claim the same hosts with other prefixes, 64 in all. The path is forwarded as it \
         came. The service's own names keep every path.";
    DEFAULT_ROUTE = "kpa.dev/default-route", Kind::Flag,
        default "false",
        "Takes requests whose Host is localhost or an IP address.";
    QUEUE_DEPTH = "kpa.dev/queue-depth", COUNT,
        default "10000",
        "Requests held at once; one more is answered 503 queue_full.";
    QUEUE_TIMEOUT = "kpa.dev/queue-timeout", span(Duration::ZERO, DAY),
        default "60s",
        "How long a request may wait for a free slot, then 503 queue_timeout. One that came to a sleeping service has \
         at least this long from the first ready replica.";
    START_DEADLINE = "kpa.dev/start-deadline", span(Duration::from_secs(1), DAY),
        default "30m",
        "How long a cold start may take before held requests are answered 503 start_failed.";
    CONNECT_TIMEOUT = "kpa.dev/connect-timeout", span(Duration::from_millis(1), Duration::from_secs(60)),
        default "1s",
        "For a connection to a replica.";
    UPSTREAM_IDLE_TIMEOUT = "kpa.dev/upstream-idle-timeout", span(Duration::ZERO, HOUR),
        default "1.5s",
        "An idle connection to a replica is closed after this, before the server does it.";
    ON_DISCONNECT = "kpa.dev/on-disconnect", Kind::Word(&["finish", "cancel"]),
        default "finish for container-concurrency 1 to 3, else cancel",
        "When a client leaves early. finish: the slot is free when the answer has been read to its end, or, where the upload \
         was cut off, when the replica has closed the connection. cancel: our side of the connection is closed, and the \
         slot is free when the replica closes its own, after 5 s at the latest. A replica that is spoken to in HTTP/2 gets \
         a reset of the stream, and the slot is free at once, unless finish reads its answer.";
    RESPONSE_START_TIMEOUT = "kpa.dev/response-start-timeout", Kind::SpanOrOff { max: DAY },
        default "off",
        "From dispatch to the first byte, then 504.";
    IDLE_TIMEOUT = "kpa.dev/idle-timeout", Kind::SpanOrOff { max: DAY },
        default "off",
        "Silence between bytes, in either direction; then the stream is reset.";
    TIMEOUT = "kpa.dev/timeout", Kind::SpanOrOff { max: WEEK },
        default "off",
        "The whole exchange; then the stream is reset.";
    DRAIN_TIMEOUT = "kpa.dev/drain-timeout", span(Duration::ZERO, WEEK),
        default "1h",
        "How long a leaving replica may finish what it has.";
    LOAD_BALANCING = "kpa.dev/load-balancing",
        Kind::Word(&["least-outstanding", "first-available", "round-robin", "power-of-two"]),
        default "least-outstanding",
        "How a replica is chosen among those with room.";
    SESSION_AFFINITY = "kpa.dev/session-affinity",
        Kind::Text("header=NAME or cookie=NAME, such as header=X-Session-Id"),
        default "none",
        "Requests whose field or cookie has the same value go to the same ready replica, whichever worker or activator they \
         come to, and a replica that comes or goes moves only its own sessions. One that is full gets no more: then \
         kpa.dev/load-balancing chooses among the others, and nobody waits for a session's sake. Full is \
         kpa.dev/container-concurrency, or without one more than twice the mean in flight, from 8 on, by each worker's own \
         counts. With container-concurrency and several activators each sends a session to a replica of its own.";
    MAX_SCALE_UP_RATE = "kpa.dev/max-scale-up-rate", Kind::Number(Range::above(1.0)),
        default "cluster max-scale-up-rate",
        "The most by which one decision multiplies the ready replicas.";
    MAX_SCALE_DOWN_RATE = "kpa.dev/max-scale-down-rate", Kind::Number(Range::above(1.0)),
        default "cluster max-scale-down-rate",
        "The most by which one decision divides the ready replicas.";
    GRACE_PERIOD = "kpa.dev/scale-to-zero-grace-period", span(Duration::from_nanos(1), HOUR),
        default "cluster scale-to-zero-grace-period",
        "The longest the last replica stays for the network's sake; the activator is always in the path, so it seldom \
         matters.";
    MODE = "kpa.dev/mode", Kind::Word(&["act", "shadow", "paused"]),
        default "act",
        "act writes decisions; shadow decides and only shows; paused leaves the count alone.";
    MANUAL = "kpa.dev/manual", Kind::Word(&["resume", "hold"]),
        default "resume",
        "What follows 30 s after somebody else wrote a count: decisions again, or that count until it is changed.";
    EXCLUSIVE_GROUP = "kpa.dev/exclusive-group", Kind::Text("a DNS label: a-z, 0-9 and -"),
        default "none",
        "Services of one group (per namespace) share slots, because they do not fit on the machine at once: a request for \
         one that has none makes another leave. See docs/one-machine.md.";
    EXCLUSIVE_SLOTS = "kpa.dev/exclusive-slots", Kind::Whole { min: 1, max: i32::MAX as u32 },
        default "1",
        "Replicas that the whole group may have at once, leaving ones included. Where members disagree the smallest counts.";
    // Less than a second could take the slot back before the first held request is sent on.
    EXCLUSIVE_RESIDENCE = "kpa.dev/exclusive-residence", span(Duration::from_secs(1), HOUR),
        default "30s",
        "How long a member keeps its slot, from its first ready replica on, while others wait and it still has requests.";
    EXACT = "kpa.dev/exact", Kind::Flag,
        default "false",
        "true switches off what Knative does not have: the backlog proposal and early evaluation.";
    MANAGE = "kpa.dev/manage", Kind::Flag,
        default "false",
        "Adopt the Deployment although another controller owns it.";
    SERVICE = "kpa.dev/service", Kind::Text("the name of a Service in the same namespace"),
        default "none",
        "On a cluster: an existing Service whose endpoints are used, in place of one of our own. On one machine it means \
         nothing.";
    TAKE_OVER = "kpa.dev/take-over", Kind::Flag,
        default "false",
        "On a cluster: kpa.dev/service leads to the activators instead of the pods, and clients call it as ever. Takes rights \
         of their own (docs/kubernetes.md). On one machine it means nothing.";
    UPSTREAM = "kpa.dev/upstream", Kind::Word(&["pods", "service"]),
        default "pods",
        "On a cluster: service sends to the cluster IP of kpa.dev/service as one endpoint, for meshes and policies that \
         want it so. On one machine requests go to the replicas.";
    LOCAL_COMMAND = "kpa.dev/local-command", Kind::Text("a command, such as \"python server.py --port $PORT\""),
        default "none",
        "What runs on one machine instead of the image, its command and its args. Split into words; run by /bin/sh -c when it holds shell syntax \
         (pipes, variables, globs). $(NAME) is expanded as in Kubernetes.";
    PLACEHOLDER = "kpa.dev/placeholder", Kind::Word(&["off", "on"]),
        default "off",
        "A waiting page for browsers while the service wakes.",
        later "browsers wait like any other client";
    HEARTBEAT = "kpa.dev/heartbeat", Kind::SpanOrOff { max: HOUR },
        default "off",
        "Comments at this interval to clients that asked for an event stream and wait.",
        later "nothing is sent before the answer";
}

/// The prefix of Knative's keys.
pub const KNATIVE_PREFIX: &str = "autoscaling.knative.dev/";
/// The prefix of our own keys.
pub const KPA_PREFIX: &str = "kpa.dev/";
