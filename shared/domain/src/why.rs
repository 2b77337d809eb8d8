//! The record of one decision: every step with its numbers, small enough to keep by the thousand.
//!
//! Invariant: with the state before it, a [`Why`] is enough to compute its replica count again (kpa-behaviour 5.8); it is
//! numbers and enums only, `Copy`, and at most 256 bytes.

use crate::signal::Signal;
use crate::time::Timestamp;
use crate::units::Replicas;
use serde::{Serialize, Serializer};

mod display;

/// One decision as arithmetic, in the order of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// When it was made.
    pub at: Timestamp,
    /// What asked for it.
    pub trigger: Trigger,
    /// What was measured and what that asks for; `None` when no signal has a reading yet.
    pub demand: Option<Demands>,
    /// Signals without a reading: they block shrinking, never growing (kpa-behaviour 5.3).
    pub unavailable: SignalSet,
    /// Replicas that are ready and were not ordered away.
    pub ready: Replicas,
    /// Replicas the platform was last asked for, whether it shows them yet or not when these are fewer.
    pub requested: Replicas,
    /// Most that one evaluation may ask for: `ceil(max-scale-up-rate × max(1, ready))`.
    pub up: Replicas,
    /// Fewest that one evaluation may ask for: `floor(max(1, ready) / max-scale-down-rate)`.
    pub down: Replicas,
    /// The smallest count other than zero (`activation-scale`).
    pub activation: Option<Replicas>,
    /// Demand of the stable window after the rate limits and the activation scale.
    pub stable_want: Replicas,
    /// The same of the panic window.
    pub panic_want: Replicas,
    /// Wanted over ready replicas from which on the revision panics.
    pub panic_threshold: f64,
    /// The stable window in seconds: panic ends when it has passed since the last trigger.
    pub window_seconds: u32,
    /// What happened to the panic state.
    pub panic: PanicStep,
    /// The high-water mark of the panic, which nothing falls below while it lasts.
    pub panic_max: Replicas,
    /// The largest earlier decision that `scale-down-delay` still holds.
    pub delay: Option<Replicas>,
    /// What Knative's decider would publish (knative-behaviour 6.9); `None` before the first valid evaluation.
    pub desired: Option<Replicas>,
    /// Lower bound: `min-scale`, or `initial-scale` until it was reached once.
    pub min: Replicas,
    /// Upper bound; the lower one wins (knative-behaviour 8.2).
    pub max: Option<Replicas>,
    /// `enable-scale-to-zero`.
    pub zero_allowed: bool,
    /// Whether the last replica may go.
    pub idleness: Idleness,
    /// The floor that the newest load puts under the decision (kpa-behaviour 5.2).
    pub backlog: Option<Backlog>,
    /// Why nothing may shrink now.
    pub hold: Option<Hold>,
    /// What its exclusive group leaves it; `None` outside of one.
    pub exclusive: Option<Exclusive>,
    /// The decision.
    pub replicas: Replicas,
}

const _: () = assert!(size_of::<Why>() <= 256, "a decision record is kept by the thousand");

/// What the two windows ask for: of each the signal that asks for most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Demands {
    /// Of the stable window.
    pub stable: Demand,
    /// Of the panic window.
    pub panic: Demand,
}

/// What one reading asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// What was measured.
    pub signal: Signal,
    /// The average over the window, of the whole revision.
    pub reading: f64,
    /// What one replica can carry in full.
    pub total: f64,
    /// The share of it to aim for.
    pub utilization: f64,
    /// `ceil(reading / max(0.01, total × utilization))`, before any limit.
    pub wanted: Replicas,
}

/// What asked for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// The regular 2 s tick.
    Tick,
    /// Load on a revision whose last decision was zero (knative-behaviour 7).
    Poke,
    /// An urgent frame: a floor only, the state of the tick stays as it was.
    Urgent,
    /// A time limit of the last decision passed, or the platform's counts changed: same demand, new limits.
    Recheck,
    /// A request for a paused or refused revision at zero: one replica, once (kpa-behaviour 1.8).
    Wake,
}

/// What an evaluation did to the panic state (knative-behaviour 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PanicStep {
    /// Not panicking.
    Calm,
    /// Began.
    Entered,
    /// The threshold was exceeded again: the end moves.
    Extended,
    /// Below the threshold, the stable window has not passed yet.
    Continued,
    /// Ended.
    Left,
}

impl PanicStep {
    /// Whether the decision was made in panic.
    #[must_use]
    pub const fn panicking(self) -> bool {
        match self {
            Self::Entered | Self::Extended | Self::Continued => true,
            Self::Calm | Self::Left => false,
        }
    }
}

/// Whether the last replica may go (knative-behaviour 8.3 and 8.4, kpa-behaviour 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Idleness {
    /// No replica is asked for.
    Asleep,
    /// Woken, and no replica was ready yet: it keeps what it has until its start deadline.
    Starting,
    /// Ready for less than a stable window: shrinks to one, not to zero.
    Young {
        /// When the stable window has passed.
        until: Timestamp,
    },
    /// Nothing to do, and the retention period runs: keeps what it has.
    Retained {
        /// When it has passed.
        until: Timestamp,
    },
    /// Nothing keeps the last replica.
    Spent,
    /// Its start failed: back to the lower bound, whatever the demand.
    Failed {
        /// When the next start may be tried.
        until: Timestamp,
    },
}

/// The floor under a decision that the newest load asks for. From the second regular tick after it on it follows that load
/// down, and ends when the windows ask for as much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// Requests in flight and waiting, over all reporters.
    pub load: u32,
    /// What each replica should carry.
    pub target: f64,
    /// `ceil(load / target)` within rate limit and bounds.
    pub replicas: Replicas,
}

/// The last step: what an exclusive group leaves one of its members. The count is the smaller one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exclusive {
    /// What all other steps come to.
    pub wanted: Replicas,
    /// The most that it may have now.
    pub at_most: Replicas,
}

/// Why nothing may shrink. The first that applies is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Hold {
    /// The settings are wrong and no good ones are known (kpa-behaviour 1.6).
    Invalid,
    /// No activator is listed (5.6).
    NoReporters,
    /// An activator that may carry requests of this revision is silent (5.6).
    PartialCoverage,
    /// The data does not cover a whole stable window since the start yet (5.7).
    WarmingUp,
    /// A signal has no reading (5.3).
    SignalUnavailable,
    /// No request ever came through an activator and no min-scale is written (1.7).
    TrafficNotSeen,
    /// Somebody else wrote a count other than zero over zero: a wake, which stays until one stable window and the
    /// retention period after its first replica was ready (1.9).
    WokenByHand,
    /// Somebody else wrote the count: it neither grows nor shrinks (1.9).
    WrittenByHand,
}

impl Hold {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Invalid,
        Self::NoReporters,
        Self::PartialCoverage,
        Self::WarmingUp,
        Self::SignalUnavailable,
        Self::TrafficNotSeen,
        Self::WokenByHand,
        Self::WrittenByHand,
    ];

    /// The reason as part of a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "its settings are wrong",
            Self::NoReporters => "no activator is listed",
            Self::PartialCoverage => "an activator is silent",
            Self::WarmingUp => "the data does not cover a stable window yet",
            Self::SignalUnavailable => "a signal has no reading",
            Self::TrafficNotSeen => "no request ever came through an activator",
            Self::WokenByHand => "somebody else woke it",
            Self::WrittenByHand => "somebody else wrote this count",
        }
    }
}

/// A set of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(u8);

impl SignalSet {
    /// Puts `signal` in.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal as u8;
    }

    /// Whether `signal` is in.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u8) != 0
    }

    /// Whether it has no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, in the order of [`Signal::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL.iter().copied().filter(move |signal| self.contains(*signal))
    }
}

impl Serialize for SignalSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Why {
    /// Whether `other` says the same with newer numbers: same counts, same reasons.
    #[must_use]
    pub fn same_decision(&self, other: &Self) -> bool {
        self.outline() == other.outline()
    }

    /// What makes two decisions distinct: everything but readings, times and what asked.
    fn outline(&self) -> impl PartialEq {
        (
            (self.replicas, self.desired, self.requested, self.ready),
            (self.panic.panicking(), self.panic_max, self.delay, self.min, self.max),
            (std::mem::discriminant(&self.idleness), self.hold, self.backlog.is_some(), self.unavailable),
            self.exclusive.map(|exclusive| (exclusive.wanted > exclusive.at_most, exclusive.at_most)),
        )
    }

    /// The step that decided, as one word for a metric label or a table cell.
    #[must_use]
    pub fn step(&self) -> Step {
        let desired = self.desired.unwrap_or(self.requested);
        if self.exclusive.is_some_and(|exclusive| exclusive.wanted > exclusive.at_most) {
            Step::Exclusive
        } else if self.hold == Some(Hold::WrittenByHand) {
            Step::Hold
        } else if matches!(self.idleness, Idleness::Failed { .. }) {
            Step::StartFailed
        } else if self.trigger == Trigger::Wake {
            Step::Wake
        } else if self.backlog.is_some_and(|backlog| backlog.replicas == self.replicas && self.replicas > desired) {
            Step::Backlog
        } else if self.hold.is_some() && self.replicas > self.min.max(desired) {
            Step::Hold
        } else if self.demand.is_none() && self.desired.is_none() {
            Step::NoReading
        } else if self.replicas > desired && self.replicas == self.min {
            Step::Min
        } else if self.replicas > desired {
            Step::Idleness
        } else if self.replicas < desired {
            Step::Max
        } else if self.delay.is_some_and(|floor| floor == self.replicas && self.replicas > self.stable_want) {
            Step::Delay
        } else if self.panic.panicking() {
            Step::Panic
        } else {
            Step::Stable
        }
    }
}

/// The step of a decision that had the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// The average over the stable window.
    Stable,
    /// The panic: its window or its high-water mark.
    Panic,
    /// `scale-down-delay`.
    Delay,
    /// The lower bound.
    Min,
    /// The upper bound.
    Max,
    /// The last replica is starting, young or retained, or zero is not allowed.
    Idleness,
    /// The newest load.
    Backlog,
    /// Something is not known, so nothing shrinks.
    Hold,
    /// Nothing was measured yet.
    NoReading,
    /// The start failed.
    StartFailed,
    /// A paused or refused revision was woken.
    Wake,
    /// Its exclusive group has no more slots for it.
    Exclusive,
}

impl Step {
    /// One word, as in a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Panic => "panic",
            Self::Delay => "delay",
            Self::Min => "min",
            Self::Max => "max",
            Self::Idleness => "idleness",
            Self::Backlog => "backlog",
            Self::Hold => "hold",
            Self::NoReading => "no_reading",
            Self::StartFailed => "start_failed",
            Self::Wake => "wake",
            Self::Exclusive => "exclusive",
        }
    }
}

#[cfg(test)]
mod tests;
