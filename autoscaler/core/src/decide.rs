//! The decision: Knative's arithmetic, then bounds, idleness, holds, the backlog floor and the exclusive group.
//!
//! Invariant: a function of its arguments. The state of the next evaluation changes in [`decide`] only; [`conclude`]
//! applies newer limits to the demand of the last evaluation and changes nothing.

use crate::delay::DelayFloor;
use crate::proposal::kpa::{self, Desire};
use crate::window::Reading;
use domain::why::{Backlog, Exclusive, Hold, Idleness, SignalSet, Trigger};
use domain::{Replicas, ScalingSpec, Signal, Timestamp, Why};
use serde::Serialize;

#[cfg(test)]
pub(crate) mod naive;
#[cfg(test)]
mod tests;

/// The state that one evaluation leaves for the next (knative-behaviour 6). The delay window is kept by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// When the panic threshold was last exceeded; `None` outside a panic.
    pub panic_since: Option<Timestamp>,
    /// The high-water mark of the panic.
    pub panic_max: Replicas,
}

impl Memory {
    /// The state of a new revision: with more than one ready replica it starts in panic, so that nothing shrinks for one
    /// stable window (knative-behaviour 6.10).
    #[must_use]
    pub fn at_creation(now: Timestamp, ready: Replicas) -> Self {
        Self { panic_since: (ready > Replicas::ONE).then_some(now), panic_max: ready }
    }
}

/// What is seen of a revision at the moment of a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// What asks.
    pub trigger: Trigger,
    /// Replicas that are ready and were not ordered away.
    pub ready: Replicas,
    /// Replicas the platform was last asked for, whether it shows them yet or not when these are fewer.
    pub requested: Replicas,
    /// Average requests in flight.
    pub concurrency: Option<Reading>,
    /// Average requests arriving per second.
    pub rps: Option<Reading>,
    /// The largest earlier decision that `scale-down-delay` holds.
    pub delay: Option<DelayFloor>,
    /// Whether `initial-scale` was reached once.
    pub initialised: bool,
    /// Whether the last replica may go.
    pub idleness: Idleness,
    /// The floor of the newest load.
    pub backlog: Option<Backlog>,
    /// Why nothing may shrink.
    pub hold: Option<Hold>,
    /// The most that its exclusive group leaves it.
    pub at_most: Option<Replicas>,
}

impl Observation {
    /// The reading of a signal; `None` for what activators cannot measure (CPU and memory).
    #[must_use]
    pub const fn reading(&self, signal: Signal) -> Option<Reading> {
        match signal {
            Signal::Concurrency => self.concurrency,
            Signal::Rps => self.rps,
            Signal::Cpu | Signal::Memory => None,
        }
    }
}

/// How many replicas, why, and what follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// How many.
    pub replicas: Replicas,
    /// The state for the next evaluation.
    pub after: Memory,
    /// Every step with its numbers.
    pub why: Why,
    /// What the delay window is to remember; `None` when no signal had a reading.
    pub undelayed: Option<Replicas>,
    /// When a limit passes that kept replicas: worth a look before the next tick.
    pub next_check: Option<Timestamp>,
}

/// One evaluation: the regular tick, or Knative's poke.
#[must_use]
pub fn decide(now: Timestamp, spec: &ScalingSpec, before: &Memory, seen: &Observation) -> Decision {
    let desire = kpa::desire(now, spec, before, seen);
    let why = conclude(now, spec, &record(now, spec, &desire, seen), seen);
    Decision {
        replicas: why.replicas,
        after: desire.after,
        why,
        undelayed: desire.demand.map(|_| desire.undelayed),
        next_check: next_check(&why),
    }
}

/// When a limit passes that keeps what would otherwise leave.
#[must_use]
pub fn next_check(why: &Why) -> Option<Timestamp> {
    match why.idleness {
        Idleness::Young { until } | Idleness::Retained { until } if why.desired == Some(Replicas::ZERO) => Some(until),
        Idleness::Failed { until } => Some(until),
        Idleness::Young { .. }
        | Idleness::Retained { .. }
        | Idleness::Asleep
        | Idleness::Starting
        | Idleness::Spent => None,
    }
}

/// The record of an evaluation, before bounds.
fn record(now: Timestamp, spec: &ScalingSpec, desire: &Desire, seen: &Observation) -> Why {
    Why {
        demand: desire.demand,
        unavailable: desire.unavailable,
        up: desire.limits.up,
        down: desire.limits.down,
        activation: *spec.activation_scale,
        stable_want: desire.stable_want,
        panic_want: desire.panic_want,
        panic: desire.panic,
        panic_max: desire.after.panic_max,
        delay: seen.delay.map(|floor| floor.replicas),
        desired: desire.demand.map(|_| desire.desired),
        ..unknown(now, spec, seen)
    }
}

/// The record of a revision that was not evaluated yet: it keeps what it has.
#[must_use]
pub fn unknown(now: Timestamp, spec: &ScalingSpec, seen: &Observation) -> Why {
    Why {
        at: now,
        trigger: seen.trigger,
        demand: None,
        unavailable: SignalSet::default(),
        ready: seen.ready,
        requested: seen.requested,
        up: Replicas::ZERO,
        down: Replicas::ZERO,
        activation: None,
        stable_want: Replicas::ZERO,
        panic_want: Replicas::ZERO,
        panic_threshold: spec.panic_threshold(),
        window_seconds: u32::try_from(spec.stable_window.as_secs()).unwrap_or(u32::MAX),
        panic: domain::why::PanicStep::Calm,
        panic_max: Replicas::ZERO,
        delay: None,
        desired: None,
        min: Replicas::ZERO,
        max: None,
        zero_allowed: true,
        idleness: seen.idleness,
        backlog: None,
        hold: None,
        exclusive: None,
        replicas: seen.requested,
    }
}

/// Applies bounds, idleness, holds, the backlog floor and the exclusive group's limit to the demand in `last`
/// (knative-behaviour 8.2 to 8.4, kpa-behaviour 5.2 to 5.7).
#[must_use]
pub fn conclude(now: Timestamp, spec: &ScalingSpec, last: &Why, seen: &Observation) -> Why {
    let initial = spec.initial_scale.value;
    let initialising = !seen.initialised && initial > Replicas::ONE;
    let mut why = Why {
        at: now,
        trigger: seen.trigger,
        requested: seen.requested,
        min: if initialising { initial.max(*spec.min_scale) } else { *spec.min_scale },
        max: *spec.max_scale,
        zero_allowed: *spec.enable_scale_to_zero,
        idleness: seen.idleness,
        backlog: seen.backlog,
        hold: seen.hold.or_else(|| (!last.unavailable.is_empty()).then_some(Hold::SignalUnavailable)),
        ..*last
    };
    let wanted = bounded(&why);
    // The last word, also over min-scale and a hold: the slots are what the machine has.
    why.exclusive = seen.at_most.map(|at_most| Exclusive { wanted, at_most });
    why.replicas = seen.at_most.map_or(wanted, |at_most| wanted.min(at_most));
    why
}

/// The steps after the demand, in order. Reads nothing but the record, so that the record alone can be checked.
fn bounded(why: &Why) -> Replicas {
    if why.hold == Some(Hold::WrittenByHand) {
        return why.requested;
    }
    let keep = |wanted: Replicas| if why.hold.is_some() { wanted.max(why.requested) } else { wanted };
    if matches!(why.idleness, Idleness::Failed { .. }) {
        return keep(why.min);
    }
    let wanted = within(why.desired.unwrap_or(why.requested), why.min, why.max);
    let wanted = if wanted.is_zero() { at_zero(why) } else { wanted };
    let floor = why.backlog.map_or(Replicas::ZERO, |backlog| within(backlog.replicas, why.min, why.max));
    keep(wanted.max(floor))
}

/// The lower bound is tested first (knative-behaviour 8.2): with `min > max` a small demand gets the lower one and a
/// large demand the upper one.
pub(crate) fn within(wanted: Replicas, min: Replicas, max: Option<Replicas>) -> Replicas {
    if wanted < min { min } else { max.map_or(wanted, |max| wanted.min(max)) }
}

/// What becomes of a decision for zero (knative-behaviour 8.3 and 8.4).
fn at_zero(why: &Why) -> Replicas {
    match why.idleness {
        _ if !why.zero_allowed => Replicas::ONE,
        // Nothing is written: what is there stays.
        Idleness::Starting | Idleness::Retained { .. } => why.requested.max(Replicas::ONE),
        Idleness::Young { .. } => Replicas::ONE,
        Idleness::Asleep | Idleness::Spent | Idleness::Failed { .. } => Replicas::ZERO,
    }
}
