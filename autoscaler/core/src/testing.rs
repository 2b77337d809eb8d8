//! Values that many tests need.

use domain::{
    Aggregation, Limits, Manual, Mode, Replicas, Resolved, Revision, RevisionId, Route, ScaleTargetRef, ScalingSpec,
    Signal, SignalSpec,
};
use std::sync::Arc;
use std::time::Duration;

/// Knative's defaults with one concurrency signal of `total` at 70 %.
pub(crate) fn spec(total: f64) -> ScalingSpec {
    let span = |secs| Resolved::default_value(Duration::from_secs(secs));
    ScalingSpec {
        signals: vec![SignalSpec {
            signal: Signal::Concurrency,
            total: Resolved::default_value(total),
            utilization: Resolved::default_value(0.7),
        }],
        stable_window: span(60),
        panic_window_percentage: Resolved::default_value(10.0),
        panic_threshold_percentage: Resolved::default_value(200.0),
        max_scale_up_rate: Resolved::default_value(1000.0),
        max_scale_down_rate: Resolved::default_value(2.0),
        scale_down_delay: span(0),
        min_scale: Resolved::default_value(Replicas::ZERO),
        max_scale: Resolved::default_value(None),
        initial_scale: Resolved::default_value(Replicas::ONE),
        activation_scale: Resolved::default_value(None),
        target_burst_capacity: Resolved::default_value(211.0),
        enable_scale_to_zero: Resolved::default_value(true),
        scale_to_zero_grace_period: span(30),
        scale_to_zero_pod_retention_period: span(0),
        aggregation: Resolved::default_value(Aggregation::Linear),
        exclusive_group: Resolved::default_value(None),
        exclusive_slots: Resolved::default_value(Replicas::ONE),
        exclusive_residence: span(30),
        exact: Resolved::default_value(false),
        manual: Resolved::default_value(Manual::Resume),
        start_deadline: span(1800),
        drain_timeout: span(3600),
    }
}

pub(crate) fn revision(name: &str, scaling: ScalingSpec) -> Revision {
    Revision {
        id: RevisionId::new("default", name),
        target: ScaleTargetRef::deployment("default", name),
        mode: Mode::Act,
        route: Route::default(),
        limits: Limits::default(),
        scaling,
        problems: Vec::new(),
    }
}

pub(crate) fn applied(revision: Revision) -> domain::Change {
    domain::Change::Applied(Arc::new(revision))
}

/// A calm observation of an awake revision.
pub(crate) fn seen(ready: u32, stable: f64, panic: f64) -> crate::decide::Observation {
    crate::decide::Observation {
        trigger: domain::why::Trigger::Tick,
        ready: Replicas::new(ready),
        requested: Replicas::new(ready),
        concurrency: Some(crate::window::Reading { stable, panic }),
        rps: Some(crate::window::Reading { stable: 0.0, panic: 0.0 }),
        delay: None,
        initialised: true,
        idleness: domain::why::Idleness::Spent,
        backlog: None,
        hold: None,
        at_most: None,
    }
}
