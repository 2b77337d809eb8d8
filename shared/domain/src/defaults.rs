//! `config-autoscaler`: the cluster's defaults, with Knative's keys and rules (knative-behaviour 3.1).
//!
//! Invariant: a [`Defaults`] is consistent in itself; a map with one bad value gives none, and all its problems at once.
//!
//! Stricter than Knative: numbers that are not finite are refused, `panic-threshold-percentage` has the range of its
//! annotation, `scale-down-delay` has an upper bound, unknown keys are reported.

use crate::annotations::keys::{KeyDoc, Served, keys};
use crate::annotations::kind::{Kind, Range, Refused, quoted};
use crate::annotations::shown::Shown;
use crate::config_map::Map;
use crate::duration::LONGEST;
use crate::origin::{Origin, Resolved};
use crate::problem::Problem;
use crate::units::Replicas;
use std::collections::BTreeMap;
use std::time::Duration;

/// The KPA's class.
pub const KPA_CLASS: &str = "kpa.autoscaling.knative.dev";
/// The name of the ConfigMap.
pub const CONFIG_MAP: &str = "config-autoscaler";

/// The delay is kept as one count for every two seconds and service, so it is bounded (Knative: it is not).
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

const COUNT: Kind = Kind::Whole { min: 0, max: i32::MAX as u32 };

keys! {
    /// Every key of `config-autoscaler`.
    CONFIG_KEYS;

    CLASS = "pod-autoscaler-class", Kind::Class,
        default "kpa.autoscaling.knative.dev",
        "The class of services that name none.";
    ENABLE_SCALE_TO_ZERO = "enable-scale-to-zero", Kind::Flag,
        default "true",
        "Whether services may sleep. When false, a decision of 0 becomes 1.";
    ALLOW_ZERO_INITIAL_SCALE = "allow-zero-initial-scale", Kind::Flag,
        default "false",
        "Whether initial-scale may be 0, here and in annotations.";
    INITIAL_SCALE = "initial-scale", COUNT,
        default "1",
        "The size of a new service, a floor until it was reached once.";
    MIN_SCALE = "min-scale", COUNT,
        default "0",
        "The fewest replicas. Not above max-scale.";
    MAX_SCALE = "max-scale", COUNT,
        default "0",
        "The most replicas; 0 is unlimited.";
    MAX_SCALE_LIMIT = "max-scale-limit", COUNT,
        default "0",
        "The largest max-scale that a service may ask for; 0 is no limit. When it is set, max-scale must be set too.";
    TARGET_PERCENTAGE = "container-concurrency-target-percentage",
        Kind::Number(Range { low: 0.0, above_low: true, high: 100.0 }),
        default "70",
        "The share of a replica's concurrency to aim for. A value above 1 is a percentage, any other is the fraction \
         itself: 1 means 100 %.";
    CONCURRENCY_TARGET = "container-concurrency-target-default", Kind::Number(Range::above(0.0)),
        default "100",
        "What one replica can carry when it has no container-concurrency. Times the percentage above, 0.01 or more.";
    RPS_TARGET = "requests-per-second-target-default", Kind::Number(Range::at_least(0.01)),
        default "200",
        "The requests per second that one replica can carry, for services scaled on rps.";
    BURST_CAPACITY = "target-burst-capacity", Kind::Burst,
        default "211",
        "Read, checked and shown. The activator is always in the path, as with -1.";
    STABLE_WINDOW = "stable-window",
        Kind::Span { min: Duration::from_secs(6), max: Duration::from_secs(3600), whole_seconds: true },
        default "1m",
        "The time over which the metric is averaged.";
    PANIC_WINDOW = "panic-window-percentage", Kind::Number(Range::between(1.0, 100.0)),
        default "10",
        "The panic window as a percentage of the stable one.";
    PANIC_THRESHOLD = "panic-threshold-percentage", Kind::Number(Range::between(110.0, 1000.0)),
        default "200",
        "Panic starts when the replicas that the panic window asks for reach this percentage of the ready ones.";
    MAX_SCALE_UP_RATE = "max-scale-up-rate", Kind::Number(Range::above(1.0)),
        default "1000",
        "The most by which one decision multiplies the ready replicas.";
    MAX_SCALE_DOWN_RATE = "max-scale-down-rate", Kind::Number(Range::above(1.0)),
        default "2",
        "The most by which one decision divides the ready replicas.";
    SCALE_DOWN_DELAY = "scale-down-delay", Kind::Span { min: Duration::ZERO, max: DELAY_MAX, whole_seconds: true },
        default "0s",
        "The count is the highest that was wanted in this time.";
    GRACE_PERIOD = "scale-to-zero-grace-period",
        Kind::Span { min: Duration::from_nanos(1), max: LONGEST, whole_seconds: false },
        default "30s",
        "The longest the last replica stays for the network's sake; the activator is always in the path, so it seldom \
         matters.";
    RETENTION = "scale-to-zero-pod-retention-period",
        Kind::Span { min: Duration::ZERO, max: LONGEST, whole_seconds: false },
        default "0s",
        "How long the last replica stays, at least, once there is nothing to do.";
    ACTIVATOR_CAPACITY = "activator-capacity", Kind::Number(Range::at_least(1.0)),
        default "100",
        "What one activator is counted for when Knative sizes the set of a service. Read and checked; every activator \
         serves every service here.";
}

/// The cluster's defaults, every value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// `pod-autoscaler-class`.
    pub class: Resolved<String>,
    /// `enable-scale-to-zero`.
    pub enable_scale_to_zero: Resolved<bool>,
    /// `allow-zero-initial-scale`.
    pub allow_zero_initial_scale: Resolved<bool>,
    /// `initial-scale`.
    pub initial_scale: Resolved<Replicas>,
    /// `min-scale`.
    pub min_scale: Resolved<Replicas>,
    /// `max-scale`; `None` is unlimited.
    pub max_scale: Resolved<Option<Replicas>>,
    /// `max-scale-limit`; `None` is no limit.
    pub max_scale_limit: Resolved<Option<Replicas>>,
    /// `container-concurrency-target-percentage` as a fraction, greater than 0 and at most 1.
    pub target_fraction: Resolved<f64>,
    /// `container-concurrency-target-default`.
    pub concurrency_target: Resolved<f64>,
    /// `requests-per-second-target-default`.
    pub rps_target: Resolved<f64>,
    /// `target-burst-capacity`.
    pub target_burst_capacity: Resolved<f64>,
    /// `stable-window`.
    pub stable_window: Resolved<Duration>,
    /// `panic-window-percentage`.
    pub panic_window_percentage: Resolved<f64>,
    /// `panic-threshold-percentage`.
    pub panic_threshold_percentage: Resolved<f64>,
    /// `max-scale-up-rate`.
    pub max_scale_up_rate: Resolved<f64>,
    /// `max-scale-down-rate`.
    pub max_scale_down_rate: Resolved<f64>,
    /// `scale-down-delay`.
    pub scale_down_delay: Resolved<Duration>,
    /// `scale-to-zero-grace-period`.
    pub scale_to_zero_grace_period: Resolved<Duration>,
    /// `scale-to-zero-pod-retention-period`.
    pub scale_to_zero_pod_retention_period: Resolved<Duration>,
    /// `activator-capacity`.
    pub activator_capacity: Resolved<f64>,
    /// What was noteworthy in the map although it is in force (unknown keys).
    pub warnings: Vec<Problem>,
}

impl Default for Defaults {
    fn default() -> Self {
        let span = |secs| Resolved::default_value(Duration::from_secs(secs));
        Self {
            class: Resolved::default_value(KPA_CLASS.into()),
            enable_scale_to_zero: Resolved::default_value(true),
            allow_zero_initial_scale: Resolved::default_value(false),
            initial_scale: Resolved::default_value(Replicas::ONE),
            min_scale: Resolved::default_value(Replicas::ZERO),
            max_scale: Resolved::default_value(None),
            max_scale_limit: Resolved::default_value(None),
            target_fraction: Resolved::default_value(0.7),
            concurrency_target: Resolved::default_value(100.0),
            rps_target: Resolved::default_value(200.0),
            target_burst_capacity: Resolved::default_value(211.0),
            stable_window: span(60),
            panic_window_percentage: Resolved::default_value(10.0),
            panic_threshold_percentage: Resolved::default_value(200.0),
            max_scale_up_rate: Resolved::default_value(1000.0),
            max_scale_down_rate: Resolved::default_value(2.0),
            scale_down_delay: span(0),
            scale_to_zero_grace_period: span(30),
            scale_to_zero_pod_retention_period: span(0),
            activator_capacity: Resolved::default_value(100.0),
            warnings: Vec::new(),
        }
    }
}

impl Defaults {
    /// Reads the data of a `config-autoscaler`; `place` says where it stands.
    ///
    /// # Errors
    /// All problems together, warnings included, when one of them is an error: the last good defaults stay in force, and
    /// where there are none every object is invalid (kpa-behaviour 1.6).
    pub fn from_map(place: &str, data: &BTreeMap<String, String>) -> Result<Self, Vec<Problem>> {
        let consequence = "the last good defaults stay in force; without any, nothing is scaled down";
        let mut map = Map { name: CONFIG_MAP, keys: CONFIG_KEYS, consequence, place, data, problems: Vec::new() };
        let mut defaults = Self::default();
        defaults.class = map.read(&CLASS, Kind::text, defaults.class);
        defaults.enable_scale_to_zero = map.read(&ENABLE_SCALE_TO_ZERO, Kind::flag, defaults.enable_scale_to_zero);
        defaults.allow_zero_initial_scale =
            map.read(&ALLOW_ZERO_INITIAL_SCALE, Kind::flag, defaults.allow_zero_initial_scale);
        defaults.initial_scale = map.read(&INITIAL_SCALE, count, defaults.initial_scale);
        defaults.min_scale = map.read(&MIN_SCALE, count, defaults.min_scale);
        defaults.max_scale = map.read(&MAX_SCALE, limit, defaults.max_scale);
        defaults.max_scale_limit = map.read(&MAX_SCALE_LIMIT, limit, defaults.max_scale_limit);
        defaults.target_fraction = map.read(&TARGET_PERCENTAGE, fraction, defaults.target_fraction);
        defaults.concurrency_target = map.read(&CONCURRENCY_TARGET, Kind::number, defaults.concurrency_target);
        defaults.rps_target = map.read(&RPS_TARGET, Kind::number, defaults.rps_target);
        defaults.target_burst_capacity = map.read(&BURST_CAPACITY, Kind::number, defaults.target_burst_capacity);
        defaults.stable_window = map.read(&STABLE_WINDOW, Kind::span, defaults.stable_window);
        defaults.panic_window_percentage = map.read(&PANIC_WINDOW, Kind::number, defaults.panic_window_percentage);
        defaults.panic_threshold_percentage =
            map.read(&PANIC_THRESHOLD, Kind::number, defaults.panic_threshold_percentage);
        defaults.max_scale_up_rate = map.read(&MAX_SCALE_UP_RATE, Kind::number, defaults.max_scale_up_rate);
        defaults.max_scale_down_rate = map.read(&MAX_SCALE_DOWN_RATE, Kind::number, defaults.max_scale_down_rate);
        defaults.scale_down_delay = map.read(&SCALE_DOWN_DELAY, Kind::span, defaults.scale_down_delay);
        defaults.scale_to_zero_grace_period = map.read(&GRACE_PERIOD, Kind::span, defaults.scale_to_zero_grace_period);
        defaults.scale_to_zero_pod_retention_period =
            map.read(&RETENTION, Kind::span, defaults.scale_to_zero_pod_retention_period);
        defaults.activator_capacity = map.read(&ACTIVATOR_CAPACITY, Kind::number, defaults.activator_capacity);
        defaults.check(&mut map);
        map.unknown_keys();
        if map.is_wrong() {
            return Err(map.problems);
        }
        defaults.warnings = map.problems;
        Ok(defaults)
    }

    /// The rules between keys. A key that was refused stands at its built-in value here, which breaks no rule by itself.
    fn check(&self, map: &mut Map<'_>) {
        if self.initial_scale.is_zero() && !*self.allow_zero_initial_scale {
            map.refuse(&INITIAL_SCALE, "\"0\" is not allowed", "1 or more, or allow-zero-initial-scale: \"true\"");
        }
        if let Some(max) = *self.max_scale
            && *self.min_scale > max
        {
            let what = format!("\"{}\" is more than max-scale {max}", *self.min_scale);
            map.refuse(&MIN_SCALE, &what, &format!("a whole number from 0 to {max}"));
        }
        if let Some(limit) = *self.max_scale_limit
            && self.max_scale.is_none_or(|max| max > limit)
        {
            let what = format!("{} is beyond max-scale-limit {limit}", quoted(&self.max_scale.shown()));
            map.refuse(&MAX_SCALE, &what, &format!("a whole number from 1 to {limit}"));
        }
        if *self.target_fraction * *self.concurrency_target < 0.01 {
            let what =
                format!("{} times container-concurrency-target-percentage is below 0.01", *self.concurrency_target);
            map.refuse(&CONCURRENCY_TARGET, &what, "a product of 0.01 or more");
        }
    }

    /// Every key with its value as it would be written, in the order of [`CONFIG_KEYS`].
    #[must_use]
    pub fn to_map(&self) -> Vec<(&'static str, String)> {
        self.with_origins().into_iter().map(|(key, value, _)| (key, value)).collect()
    }

    /// As [`Self::to_map`], with where each value came from.
    #[must_use]
    pub fn with_origins(&self) -> Vec<(&'static str, String, Origin)> {
        fn row<T: Shown>(resolved: &Resolved<T>) -> (String, Origin) {
            (resolved.shown(), resolved.origin)
        }
        [
            row(&self.class),
            row(&self.enable_scale_to_zero),
            row(&self.allow_zero_initial_scale),
            row(&self.initial_scale),
            row(&self.min_scale),
            row(&self.max_scale),
            row(&self.max_scale_limit),
            (percent(*self.target_fraction), self.target_fraction.origin),
            row(&self.concurrency_target),
            row(&self.rps_target),
            row(&self.target_burst_capacity),
            row(&self.stable_window),
            row(&self.panic_window_percentage),
            row(&self.panic_threshold_percentage),
            row(&self.max_scale_up_rate),
            row(&self.max_scale_down_rate),
            row(&self.scale_down_delay),
            row(&self.scale_to_zero_grace_period),
            row(&self.scale_to_zero_pod_retention_period),
            row(&self.activator_capacity),
        ]
        .into_iter()
        .zip(CONFIG_KEYS)
        .map(|((value, origin), row)| (row.key, value, origin))
        .collect()
    }
}

/// A count in replicas.
fn count(kind: &Kind, text: &str) -> Result<Replicas, Refused> {
    kind.whole(text).map(Replicas::new)
}

/// A count in replicas where 0 is unlimited.
fn limit(kind: &Kind, text: &str) -> Result<Option<Replicas>, Refused> {
    kind.whole(text).map(|count| (count > 0).then(|| Replicas::new(count)))
}

/// Knative's reading of its percentage: above 1 it is one, from there down it is the fraction itself.
fn fraction(kind: &Kind, text: &str) -> Result<f64, Refused> {
    kind.number(text).map(|value| if value > 1.0 { value / 100.0 } else { value })
}

/// The inverse of [`fraction`]. One percent and less stays a fraction, because a percentage of 1 means 100 %.
fn percent(fraction: f64) -> String {
    let percent = (fraction * 1e8).round() / 1e6;
    if percent > 1.0 { percent.shown() } else { fraction.shown() }
}

#[cfg(test)]
mod tests;
