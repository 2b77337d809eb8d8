//! What a person sees of a revision: `kpa get`, its wide columns and its YAML.
//!
//! Invariant: a copy of what the brain knows at one moment; nothing here decides.

use domain::{EndpointId, Limits, Mode, Origin, Problem, Replicas, Resolved, RevisionId, ScalingSpec, Trouble, Why};
use serde::Serialize;
use std::time::Duration;

/// One revision as `kpa get` shows it. Serialised in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// `namespace/name`.
    pub id: RevisionId,
    /// Column NAME.
    pub name: String,
    /// Column NAMESPACE.
    pub namespace: String,
    /// Column REFERENCE: what is scaled, such as `Deployment/model`.
    pub reference: String,
    /// Column TARGETS: per signal the average of a ready replica over its target, such as `7.5/7`; `<unknown>` for a
    /// reading that is missing.
    pub targets: String,
    /// Column MINPODS: `min-scale`.
    pub min_pods: Replicas,
    /// Column MAXPODS: `max-scale`; `None` is unlimited.
    pub max_pods: Option<Replicas>,
    /// Column REPLICAS: what the platform was last asked for.
    pub replicas: Replicas,
    /// Column AGE: seconds since this autoscaler first saw it.
    pub age_seconds: u64,
    /// Wide column READY.
    pub ready: Replicas,
    /// Wide column MODE.
    pub mode: Activity,
    /// Wide column IN-FLIGHT: requests running on a replica, newest reports.
    pub in_flight: u32,
    /// Wide column QUEUED: requests waiting, newest reports.
    pub queued: u32,
    /// Wide column REASON: the last decision as a sentence.
    pub reason: String,
    /// What is wanted now.
    pub wanted: Replicas,
    /// How far we may go with it.
    pub management: Mode,
    /// The whole arithmetic of the last decision.
    pub last_decision: Option<Why>,
    /// Seconds since the last panic trigger, while it panics.
    pub panicking_seconds: Option<f64>,
    /// Replicas that are leaving.
    pub draining: Vec<EndpointId>,
    /// Seconds until the next start may be tried, after a failed one.
    pub retry_after_seconds: Option<f64>,
    /// Every setting in force with its source.
    pub settings: Vec<Setting>,
    /// Everything wrong with its settings.
    pub problems: Vec<Problem>,
    /// Why its replicas do not become ready, when the platform knows.
    pub trouble: Option<Trouble>,
    /// What is true of it and matters: coverage, start, trouble of its replicas.
    pub conditions: Vec<Condition>,
}

/// What of a [`RevisionStatus`] is a number: a tenth of its cost, for those who ask for all of them again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// Which one.
    pub id: RevisionId,
    /// How many replicas are wanted.
    pub wanted: Replicas,
    /// How many were last asked for.
    pub requested: Replicas,
    /// How many are ready.
    pub ready: Replicas,
    /// Replicas that are leaving.
    pub draining: usize,
    /// Requests running on a replica.
    pub in_flight: u32,
    /// Requests waiting.
    pub queued: u32,
    /// What it is doing.
    pub mode: Activity,
    /// Things wrong with its settings.
    pub problems: usize,
}

/// What a revision is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Follows the stable window.
    Stable,
    /// Follows the panic window.
    Panic,
    /// No replica.
    Asleep,
    /// Woken; no replica was ready yet.
    Starting,
    /// No replica, because others of its exclusive group have the slots.
    Waiting,
    /// Nothing to do; the last replica waits for its retention period.
    Idle,
    /// Replicas are leaving.
    Draining,
    /// Something is not known, so nothing shrinks.
    Holding,
    /// Somebody else wrote the count, which is left alone.
    Held,
    /// Its start failed.
    StartFailed,
    /// Paused by annotation.
    Paused,
    /// Decides and never writes.
    Shadow,
    /// Not ours to scale.
    Refused,
    /// Let go by hand.
    Released,
    /// Its settings are wrong.
    Invalid,
    /// Its object is gone; its replicas finish what they have.
    Removed,
}

impl Activity {
    /// The word of the column MODE.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Panic => "panic",
            Self::Asleep => "asleep",
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Draining => "draining",
            Self::Holding => "holding",
            Self::Held => "held",
            Self::StartFailed => "start-failed",
            Self::Paused => "paused",
            Self::Shadow => "shadow",
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Invalid => "invalid",
            Self::Removed => "removed",
        }
    }
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The key without its prefix, such as `min-scale`.
    pub key: &'static str,
    /// The value as it would be written.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// One condition, in the manner of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One word. Always there: `Ready`, `AbleToScale`, `ScalingActive`, `ScalingLimited`, `Coverage`. Only while there is
    /// something to say: `Started`, `Replicas`, `Slots`, `TrafficNotSeen` (which is false once a request was seen),
    /// `EndpointsUnreachable`, `WrittenByHand`, `AnotherAutoscaler`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it is so: for most of them, whether all is well.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// A sentence; empty when all is well.
    pub message: String,
    /// Seconds since it became so, when known.
    pub since_seconds: Option<u64>,
}

/// A decision that was kept, and how long it stood.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The decision, with the numbers it had when it was first made.
    pub why: Why,
    /// When it was last made again, with the same outcome.
    pub until: domain::Timestamp,
    /// How many times it was made in a row.
    pub times: u32,
}

/// Every setting in force, in the order of the documentation.
#[must_use]
pub fn settings(scaling: &ScalingSpec, limits: &Limits) -> Vec<Setting> {
    fn show<T>(key: &'static str, resolved: &Resolved<T>, text: impl FnOnce(&T) -> String) -> Setting {
        Setting { key, value: text(&resolved.value), origin: resolved.origin }
    }
    fn plain<T: ToString>(key: &'static str, resolved: &Resolved<T>) -> Setting {
        show(key, resolved, ToString::to_string)
    }
    fn count(key: &'static str, resolved: &Resolved<Option<Replicas>>) -> Setting {
        show(key, resolved, |count| count.map_or_else(|| "0".to_owned(), |count| count.to_string()))
    }
    fn span(key: &'static str, resolved: &Resolved<Duration>) -> Setting {
        show(key, resolved, |span| format!("{}s", span.as_secs_f64()))
    }
    fn off(key: &'static str, resolved: &Resolved<Option<Duration>>) -> Setting {
        show(key, resolved, |span| span.map_or_else(|| "off".to_owned(), |span| format!("{}s", span.as_secs_f64())))
    }
    let mut settings = Vec::new();
    for signal in &scaling.signals {
        settings.push(Setting { key: "metric", value: signal.signal.to_string(), origin: signal.total.origin });
        settings.push(plain("target", &signal.total));
        settings.push(show("target-utilization-percentage", &signal.utilization, |share| {
            format!("{}", (share * 1e6).round() / 1e4)
        }));
    }
    settings.extend([
        plain("min-scale", &scaling.min_scale),
        count("max-scale", &scaling.max_scale),
        plain("initial-scale", &scaling.initial_scale),
        count("activation-scale", &scaling.activation_scale),
        span("window", &scaling.stable_window),
        plain("panic-window-percentage", &scaling.panic_window_percentage),
        plain("panic-threshold-percentage", &scaling.panic_threshold_percentage),
        plain("max-scale-up-rate", &scaling.max_scale_up_rate),
        plain("max-scale-down-rate", &scaling.max_scale_down_rate),
        span("scale-down-delay", &scaling.scale_down_delay),
        plain("enable-scale-to-zero", &scaling.enable_scale_to_zero),
        span("scale-to-zero-grace-period", &scaling.scale_to_zero_grace_period),
        span("scale-to-zero-pod-retention-period", &scaling.scale_to_zero_pod_retention_period),
        plain("metric-aggregation-algorithm", &scaling.aggregation),
        plain("target-burst-capacity", &scaling.target_burst_capacity),
        show("exclusive-group", &scaling.exclusive_group, |group| group.clone().unwrap_or_else(|| "none".to_owned())),
        plain("exclusive-slots", &scaling.exclusive_slots),
        span("exclusive-residence", &scaling.exclusive_residence),
        plain("exact", &scaling.exact),
        plain("manual", &scaling.manual),
        span("start-deadline", &scaling.start_deadline),
        span("drain-timeout", &scaling.drain_timeout),
        show("container-concurrency", &limits.container_concurrency, |limit| {
            limit.map_or_else(|| "0".to_owned(), |limit| limit.to_string())
        }),
        plain("protocol", &limits.protocol),
        plain("queue-depth", &limits.queue_depth),
        span("queue-timeout", &limits.queue_timeout),
        span("connect-timeout", &limits.connect_timeout),
        span("upstream-idle-timeout", &limits.upstream_idle_timeout),
        plain("on-disconnect", &limits.on_disconnect),
        off("response-start-timeout", &limits.response_start_timeout),
        off("idle-timeout", &limits.idle_timeout),
        off("timeout", &limits.timeout),
        plain("load-balancing", &limits.load_balancing),
        show("session-affinity", &limits.session_affinity, |affinity| {
            affinity.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
        }),
        plain("backend-tls", &limits.backend_tls),
        show("backend-ca", &limits.backend_ca, |roots| {
            roots.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
        }),
        show("backend-server-name", &limits.backend_server_name, |name| {
            name.clone().unwrap_or_else(|| "none".to_owned())
        }),
    ]);
    settings
}
