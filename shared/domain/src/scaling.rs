//! What the autoscaler aims for, for one revision: knative-behaviour sections 2 to 4 and kpa-behaviour 5, resolved.

use crate::limits::words;
use crate::origin::Resolved;
use crate::revision::UnknownWord;
use crate::signal::SignalSpec;
use crate::units::Replicas;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Every scaling setting with its origin. Annotation keys carry the prefix `autoscaling.knative.dev/` unless another is
/// named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingSpec {
    /// What is measured, each with its target; the highest proposal wins. Never empty.
    pub signals: Vec<SignalSpec>,
    /// `window`, 6 s to 1 h in whole seconds.
    pub stable_window: Resolved<Duration>,
    /// `panic-window-percentage`, 1 to 100: the panic window as a share of the stable one.
    pub panic_window_percentage: Resolved<f64>,
    /// `panic-threshold-percentage`, 110 to 1000.
    pub panic_threshold_percentage: Resolved<f64>,
    /// `max-scale-up-rate` (config-autoscaler; per workload `kpa.dev/max-scale-up-rate`), more than 1.
    pub max_scale_up_rate: Resolved<f64>,
    /// `max-scale-down-rate` (config-autoscaler; per workload `kpa.dev/max-scale-down-rate`), more than 1.
    pub max_scale_down_rate: Resolved<f64>,
    /// `scale-down-delay`, 0 to 1 h in whole seconds.
    pub scale_down_delay: Resolved<Duration>,
    /// `min-scale`.
    pub min_scale: Resolved<Replicas>,
    /// `max-scale`; `None` is unlimited.
    pub max_scale: Resolved<Option<Replicas>>,
    /// `initial-scale`.
    pub initial_scale: Resolved<Replicas>,
    /// `activation-scale`, 2 or more: the smallest count other than zero.
    pub activation_scale: Resolved<Option<Replicas>>,
    /// `target-burst-capacity`: parsed and reported. The activator is always in the path, as with −1.
    pub target_burst_capacity: Resolved<f64>,
    /// `enable-scale-to-zero` (config-autoscaler).
    pub enable_scale_to_zero: Resolved<bool>,
    /// `scale-to-zero-grace-period` (config-autoscaler; per workload `kpa.dev/scale-to-zero-grace-period`).
    pub scale_to_zero_grace_period: Resolved<Duration>,
    /// `scale-to-zero-pod-retention-period`, 0 to 1 h.
    pub scale_to_zero_pod_retention_period: Resolved<Duration>,
    /// `metric-aggregation-algorithm`.
    pub aggregation: Resolved<Aggregation>,
    /// `kpa.dev/exclusive-group`, a DNS label: it shares slots with the other members in its namespace; `None` is no group.
    pub exclusive_group: Resolved<Option<String>>,
    /// `kpa.dev/exclusive-slots`, 1 or more: replicas of the whole group at once. Means nothing without a group.
    pub exclusive_slots: Resolved<Replicas>,
    /// `kpa.dev/exclusive-residence`, 1 s to 1 h: how long it keeps its slot once it is ready, has work and others wait.
    pub exclusive_residence: Resolved<Duration>,
    /// `kpa.dev/exact`: true switches off everything of kpa-behaviour section 5 that Knative does not have.
    pub exact: Resolved<bool>,
    /// `kpa.dev/manual`: what happens after the 30 s hold on a count that somebody else wrote.
    pub manual: Resolved<Manual>,
    /// `kpa.dev/start-deadline`, as in [`crate::limits::Limits`]: how long an activation may take.
    pub start_deadline: Resolved<Duration>,
    /// `kpa.dev/drain-timeout`, as in [`crate::limits::Limits`].
    pub drain_timeout: Resolved<Duration>,
}

impl ScalingSpec {
    /// The panic window: the share of the stable window, rounded half away from zero to whole seconds, at least 1 s
    /// (knative-behaviour 4).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a window is at most an hour")]
    pub fn panic_window(&self) -> Duration {
        let secs = (self.stable_window.as_secs_f64() * *self.panic_window_percentage / 100.0).round();
        Duration::from_secs((secs as u64).max(1))
    }

    /// The panic threshold as a ratio of wanted to ready replicas.
    #[must_use]
    pub fn panic_threshold(&self) -> f64 {
        *self.panic_threshold_percentage / 100.0
    }
}

words! {
    /// How a window is averaged (knative-behaviour 5.1).
    Aggregation {
        /// The mean of the seconds.
        #[default]
        Linear = "linear",
        /// The newest seconds weigh most.
        WeightedExponential = "weighted-exponential",
    }
    "linear, weighted-exponential"
}

words! {
    /// What follows a count that somebody else wrote (kpa-behaviour 1.9).
    Manual {
        /// Decisions are written again after 30 s.
        #[default]
        Resume = "resume",
        /// The count stays until somebody changes it.
        Hold = "hold",
    }
    "resume, hold"
}
