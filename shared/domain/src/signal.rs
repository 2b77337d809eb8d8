//! What is measured and what each replica should carry of it.

use crate::limits::words;
use crate::origin::Resolved;
use crate::revision::UnknownWord;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

words! {
    /// A quantity that replicas are scaled on.
    Signal {
        /// Requests in flight, waiting ones included.
        #[default]
        Concurrency = "concurrency",
        /// Requests arriving per second.
        Rps = "rps",
        /// CPU use against the container's request, in percent.
        Cpu = "cpu",
        /// Memory use, in MiB.
        Memory = "memory",
    }
    "concurrency, rps, cpu, memory"
}

/// One signal with the value each replica should carry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalSpec {
    /// What is measured.
    pub signal: Signal,
    /// What one replica can carry in full ("total" in knative-behaviour 4).
    pub total: Resolved<f64>,
    /// The share of it to aim for, greater than 0 and at most 1.
    pub utilization: Resolved<f64>,
}

impl SignalSpec {
    /// Smallest target (knative-behaviour 4).
    pub const TARGET_MIN: f64 = 0.01;

    /// What each replica should carry: `max(0.01, total × utilization)`, not rounded.
    #[must_use]
    pub fn target(&self) -> f64 {
        (*self.total * *self.utilization).max(Self::TARGET_MIN)
    }
}
