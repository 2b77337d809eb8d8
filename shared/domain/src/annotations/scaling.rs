//! The autoscaler's keys: signals, windows, rates, bounds (knative-behaviour 2 and 4).

use super::keys;
use super::kind::{Kind, Refused, quoted};
use super::read::Reader;
use super::shown::Shown;
use crate::defaults::Defaults;
use crate::host::is_label;
use crate::limits::Limits;
use crate::origin::{Origin, Resolved};
use crate::scaling::{Aggregation, Manual, ScalingSpec};
use crate::signal::{Signal, SignalSpec};
use crate::units::Replicas;
use std::time::Duration;

/// The share of the rps target to aim for, which no config key changes (knative-behaviour 3.1).
const RPS_UTILIZATION: f64 = 0.7;
/// CPU percent per replica when none is asked for, as Kubernetes' HorizontalPodAutoscaler.
const CPU_TARGET: f64 = 80.0;

/// A swap is a drain, a stop and a start; with much less, a machine would mostly swap.
const EXCLUSIVE_RESIDENCE: Duration = Duration::from_secs(30);

/// Every scaling setting, resolved. `limits` are the object's own.
pub(super) fn scaling(
    reader: &mut Reader<'_>,
    defaults: &Defaults,
    limits: &Limits,
    last: Option<&ScalingSpec>,
) -> ScalingSpec {
    let bounds = bounds(reader, defaults, last);
    ScalingSpec {
        signals: signals(reader, defaults, limits, last),
        stable_window: reader.value(&keys::WINDOW, Kind::span, last.map(|l| &*l.stable_window), defaults.stable_window),
        panic_window_percentage: reader.value(
            &keys::PANIC_WINDOW,
            Kind::number,
            last.map(|l| &*l.panic_window_percentage),
            defaults.panic_window_percentage,
        ),
        panic_threshold_percentage: reader.value(
            &keys::PANIC_THRESHOLD,
            Kind::number,
            last.map(|l| &*l.panic_threshold_percentage),
            defaults.panic_threshold_percentage,
        ),
        max_scale_up_rate: reader.value(
            &keys::MAX_SCALE_UP_RATE,
            Kind::number,
            last.map(|l| &*l.max_scale_up_rate),
            defaults.max_scale_up_rate,
        ),
        max_scale_down_rate: reader.value(
            &keys::MAX_SCALE_DOWN_RATE,
            Kind::number,
            last.map(|l| &*l.max_scale_down_rate),
            defaults.max_scale_down_rate,
        ),
        scale_down_delay: reader.value(
            &keys::SCALE_DOWN_DELAY,
            Kind::span,
            last.map(|l| &*l.scale_down_delay),
            defaults.scale_down_delay,
        ),
        min_scale: bounds.min,
        max_scale: bounds.max,
        initial_scale: initial(reader, defaults, last),
        activation_scale: bounds.activation,
        target_burst_capacity: reader.value(
            &keys::BURST_CAPACITY,
            Kind::number,
            last.map(|l| &*l.target_burst_capacity),
            defaults.target_burst_capacity,
        ),
        enable_scale_to_zero: defaults.enable_scale_to_zero,
        scale_to_zero_grace_period: reader.value(
            &keys::GRACE_PERIOD,
            Kind::span,
            last.map(|l| &*l.scale_to_zero_grace_period),
            defaults.scale_to_zero_grace_period,
        ),
        scale_to_zero_pod_retention_period: reader.value(
            &keys::RETENTION,
            Kind::span,
            last.map(|l| &*l.scale_to_zero_pod_retention_period),
            defaults.scale_to_zero_pod_retention_period,
        ),
        aggregation: reader.value(
            &keys::AGGREGATION,
            aggregation,
            last.map(|l| &*l.aggregation),
            Resolved::default_value(Aggregation::Linear),
        ),
        exclusive_group: reader.value(
            &keys::EXCLUSIVE_GROUP,
            label,
            last.map(|l| &*l.exclusive_group),
            Resolved::default_value(None),
        ),
        exclusive_slots: reader.value(
            &keys::EXCLUSIVE_SLOTS,
            |kind, text| kind.whole(text).map(Replicas::new),
            last.map(|l| &*l.exclusive_slots),
            Resolved::default_value(Replicas::ONE),
        ),
        exclusive_residence: reader.value(
            &keys::EXCLUSIVE_RESIDENCE,
            Kind::span,
            last.map(|l| &*l.exclusive_residence),
            Resolved::default_value(EXCLUSIVE_RESIDENCE),
        ),
        exact: reader.value(&keys::EXACT, Kind::flag, last.map(|l| &*l.exact), Resolved::default_value(false)),
        manual: reader.value(
            &keys::MANUAL,
            Kind::word,
            last.map(|l| &*l.manual),
            Resolved::default_value(Manual::Resume),
        ),
        start_deadline: limits.start_deadline,
        drain_timeout: limits.drain_timeout,
    }
}

fn label(_: &Kind, text: &str) -> Result<Option<String>, Refused> {
    if is_label(text) { Ok(Some(text.to_owned())) } else { Err(Refused(format!("{} is no DNS label", quoted(text)))) }
}

/// Knative also accepts an empty text and the older spelling.
fn aggregation(kind: &Kind, text: &str) -> Result<Aggregation, Refused> {
    match text {
        "" => Ok(Aggregation::Linear),
        "weightedExponential" => Ok(Aggregation::WeightedExponential),
        word => kind.word(word),
    }
}

/// `metric`, `target` and `target-utilization-percentage` belong together: when one is refused the last good signals
/// stay whole.
fn signals(
    reader: &mut Reader<'_>,
    defaults: &Defaults,
    limits: &Limits,
    last: Option<&ScalingSpec>,
) -> Vec<SignalSpec> {
    let last = last.map(|last| &last.signals);
    let shown = last.and_then(|signals| signals.first()).map(SignalSpec::shown);
    let metric = reader.read(&keys::METRIC, Kind::word::<Signal>, shown.clone());
    let target = reader.read(&keys::TARGET, Kind::number, shown.clone());
    let percentage = reader.read(&keys::UTILIZATION, Kind::number, shown.clone());
    let mut refused = metric.is_refused() || target.is_refused() || percentage.is_refused();

    let signal = metric.good().unwrap_or_default().value;
    let target = target.good();
    if signal == Signal::Memory && target.is_none() && !refused {
        reader.refuse(&keys::METRIC, "memory needs a target".into(), "target, in MiB for each replica".into(), shown);
        refused = true;
    }
    if let (true, Some(last)) = (refused, last) {
        return last.iter().map(SignalSpec::as_last_good).collect();
    }
    if matches!(signal, Signal::Cpu | Signal::Memory) {
        reader.report(
            crate::problem::Severity::Warning,
            &keys::METRIC,
            format!("{signal} is not measured in this release"),
            "concurrency or rps".into(),
            "replicas are woken and grow to min-scale, and are never lowered".into(),
        );
    }
    let utilization = percentage
        .good()
        .map_or_else(|| default_utilization(signal, defaults), |p| Resolved::new(p.value / 100.0, p.origin));
    vec![SignalSpec { signal, total: total(signal, target, defaults, limits), utilization }]
}

fn default_utilization(signal: Signal, defaults: &Defaults) -> Resolved<f64> {
    match signal {
        Signal::Concurrency => defaults.target_fraction,
        Signal::Rps => Resolved::default_value(RPS_UTILIZATION),
        Signal::Cpu | Signal::Memory => Resolved::default_value(1.0),
    }
}

/// What one replica can carry in full (knative-behaviour 4); never more concurrency than its hard limit.
fn total(signal: Signal, target: Option<Resolved<f64>>, defaults: &Defaults, limits: &Limits) -> Resolved<f64> {
    let default = match signal {
        Signal::Rps => defaults.rps_target,
        Signal::Cpu => Resolved::default_value(CPU_TARGET),
        // Memory without a target has been refused; the number only has to be large.
        Signal::Memory => Resolved::default_value(f64::from(u32::MAX)),
        Signal::Concurrency => {
            let limit = limits.container_concurrency;
            let Some(hard) = limit.value else { return target.unwrap_or(defaults.concurrency_target) };
            let hard = Resolved::new(f64::from(hard.get()), limit.origin);
            return target.filter(|target| target.value <= hard.value).unwrap_or(hard);
        }
    };
    target.unwrap_or(default)
}

/// `initial-scale`, which may be 0 only where the cluster allows it.
fn initial(reader: &mut Reader<'_>, defaults: &Defaults, last: Option<&ScalingSpec>) -> Resolved<Replicas> {
    let zero_allowed = *defaults.allow_zero_initial_scale;
    let count = |kind: &Kind, text: &str| match kind.whole(text)? {
        0 if !zero_allowed => {
            Err(Refused("\"0\" is not allowed by allow-zero-initial-scale of config-autoscaler".into()))
        }
        count => Ok(Replicas::new(count)),
    };
    reader.value(&keys::INITIAL_SCALE, count, last.map(|l| &*l.initial_scale), defaults.initial_scale)
}

/// The bounds, which are checked together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    min: Resolved<Replicas>,
    max: Resolved<Option<Replicas>>,
    activation: Resolved<Option<Replicas>>,
}

/// The bounds against each other and against the cluster's (stricter than Knative, which compares annotations only:
/// knative-behaviour 22, point 13). When they disagree, all of them go back to the last good ones.
fn bounds(reader: &mut Reader<'_>, defaults: &Defaults, last: Option<&ScalingSpec>) -> Bounds {
    let count = |kind: &Kind, text: &str| kind.whole(text).map(Replicas::new);
    let some = |kind: &Kind, text: &str| kind.whole(text).map(|count| Some(Replicas::new(count)));
    let limit = |kind: &Kind, text: &str| kind.whole(text).map(|n| (n > 0).then(|| Replicas::new(n)));
    let none = Resolved::default_value(None);
    let new = Bounds {
        min: reader.value(&keys::MIN_SCALE, count, last.map(|l| &*l.min_scale), defaults.min_scale),
        max: reader.value(&keys::MAX_SCALE, limit, last.map(|l| &*l.max_scale), defaults.max_scale),
        activation: reader.value(&keys::ACTIVATION_SCALE, some, last.map(|l| &*l.activation_scale), none),
    };
    let before = last.map(|last| Bounds {
        min: Resolved::new(*last.min_scale, Origin::LastGood),
        max: Resolved::new(*last.max_scale, Origin::LastGood),
        activation: Resolved::new(*last.activation_scale, Origin::LastGood),
    });
    if agree(reader, defaults, &new, before.as_ref()) { new } else { before.unwrap_or(new) }
}

/// Whether the bounds fit each other; reports every pair that does not.
fn agree(reader: &mut Reader<'_>, defaults: &Defaults, bounds: &Bounds, before: Option<&Bounds>) -> bool {
    let (min, max, activation) = (bounds.min.value, bounds.max.value, bounds.activation.value);
    let from = |origin: Origin| format!("({origin})");
    let mut fits = true;
    let mut clash = |reader: &mut Reader<'_>, row, what: String, expected: String, last: Option<String>| {
        reader.refuse(row, what, expected, last);
        fits = false;
    };
    if let Some(max) = max.filter(|max| min > *max) {
        let (max_from, min_from) = (from(bounds.max.origin), from(bounds.min.origin));
        // Both are named where both are written; the cluster's own share cannot be mended here.
        let last_max = before.map(|b| b.max.value.shown());
        if reader.has(&keys::MAX_SCALE) {
            clash(
                reader,
                &keys::MAX_SCALE,
                format!("{max} is less than min-scale {min} {min_from}"),
                format!("0, or {min} or more"),
                last_max,
            );
        }
        if reader.has(&keys::MIN_SCALE) || !reader.has(&keys::MAX_SCALE) {
            clash(
                reader,
                &keys::MIN_SCALE,
                format!("{min} is more than max-scale {max} {max_from}"),
                format!("a whole number from 0 to {max}"),
                before.map(|b| b.min.value.shown()),
            );
        }
    }
    // The cluster's own maximum was checked with the cluster's own limit.
    if let (Some(limit), true) = (*defaults.max_scale_limit, reader.has(&keys::MAX_SCALE))
        && max.is_none_or(|max| max > limit)
    {
        clash(
            reader,
            &keys::MAX_SCALE,
            format!("{} is beyond max-scale-limit {limit} of config-autoscaler", max.shown()),
            format!("a whole number from 1 to {limit}"),
            before.map(|b| b.max.value.shown()),
        );
    }
    if let Some(activation) = activation {
        let last_activation = before.map(|b| b.activation.value.shown());
        if min > activation {
            clash(
                reader,
                &keys::ACTIVATION_SCALE,
                format!("{activation} is less than min-scale {min} {}", from(bounds.min.origin)),
                format!("{min} or more"),
                last_activation,
            );
        } else if let Some(max) = max.filter(|max| activation > *max) {
            clash(
                reader,
                &keys::ACTIVATION_SCALE,
                format!("{activation} is more than max-scale {max} {}", from(bounds.max.origin)),
                format!("a whole number from 2 to {max}"),
                last_activation,
            );
        }
    }
    fits
}

impl SignalSpec {
    fn shown(&self) -> String {
        format!("{} {} at {} %", self.signal, *self.total, *self.utilization * 100.0)
    }

    fn as_last_good(&self) -> Self {
        Self {
            signal: self.signal,
            total: Resolved::new(*self.total, Origin::LastGood),
            utilization: Resolved::new(*self.utilization, Origin::LastGood),
        }
    }
}
