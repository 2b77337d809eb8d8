//! Computes a decision again from its record and the state before it (kpa-behaviour 5.8).
//!
//! Invariant: shares no step with [`crate::decide`], so that a record that does not explain its count is noticed.

use crate::decide::Memory;
use domain::why::{Hold, Idleness, PanicStep, Trigger};
use domain::{Replicas, SignalSpec, Why};
use std::time::Duration;

/// What a record comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recomputed {
    /// The decision.
    pub replicas: Replicas,
    /// The state after it.
    pub after: Memory,
}

/// The count that `why` explains, and the state after it.
#[must_use]
pub fn recompute(why: &Why, before: &Memory) -> Recomputed {
    let evaluated = matches!(why.trigger, Trigger::Tick | Trigger::Poke);
    let (desired, after) = match why.demand {
        Some(_) if evaluated => evaluate(why, before),
        // Nothing was measured, or only the limits were applied again.
        Some(_) | None => (why.desired.map_or_else(|| why.requested.get(), Replicas::get), *before),
    };
    Recomputed { replicas: Replicas::new(limit(why, desired)), after }
}

/// The wish of the windows, and the panic state.
fn evaluate(why: &Why, before: &Memory) -> (u32, Memory) {
    let Some(demand) = why.demand else { return (why.requested.get(), *before) };
    let wish = |demand: domain::why::Demand| {
        let target = (demand.total * demand.utilization).max(SignalSpec::TARGET_MIN);
        let raw = Replicas::ceil(demand.reading / target).get();
        let clamped = raw.max(why.down.get()).min(why.up.get());
        let least = why.activation.map_or(0, Replicas::get);
        (raw, if raw > 0 { clamped.max(least) } else { clamped })
    };
    let (_, stable) = wish(demand.stable);
    let (raw_panic, panic) = wish(demand.panic);
    let over = f64::from(raw_panic) / f64::from(why.ready.get().max(1)) >= why.panic_threshold;
    let window = Duration::from_secs(why.window_seconds.into());
    let expired = before.panic_since.is_some_and(|since| why.at > since + window);
    let after = if over {
        Memory { panic_since: Some(why.at), panic_max: before.panic_max }
    } else if expired {
        Memory::default()
    } else {
        *before
    };
    let (wanted, after) = match after.panic_since {
        Some(_) => {
            let highest = before.panic_max.get().max(stable).max(panic);
            (highest, Memory { panic_max: Replicas::new(highest), ..after })
        }
        None => (stable, after),
    };
    debug_assert_eq!(after.panic_since.is_some(), !matches!(why.panic, PanicStep::Calm | PanicStep::Left));
    (wanted.max(why.delay.map_or(0, Replicas::get)), after)
}

/// Bounds, idleness, floor, hold and exclusive group.
fn limit(why: &Why, desired: u32) -> u32 {
    let (min, max) = (why.min.get(), why.max.map_or(u32::MAX, Replicas::get));
    let bound = |count: u32| if count < min { min } else { count.min(max) };
    let requested = why.requested.get();
    let count = match (why.idleness, bound(desired)) {
        (Idleness::Failed { .. }, _) => min,
        (_, 0) if !why.zero_allowed => 1,
        (Idleness::Starting | Idleness::Retained { .. }, 0) => requested.max(1),
        (Idleness::Young { .. }, 0) => 1,
        (Idleness::Asleep | Idleness::Spent, 0) => 0,
        (
            Idleness::Asleep
            | Idleness::Starting
            | Idleness::Young { .. }
            | Idleness::Retained { .. }
            | Idleness::Spent,
            count,
        ) => count,
    };
    let failed = matches!(why.idleness, Idleness::Failed { .. });
    let floor = why.backlog.filter(|_| !failed).map_or(0, |backlog| bound(backlog.replicas.get()));
    let held = if why.hold.is_some() { requested } else { 0 };
    let most = why.exclusive.map_or(u32::MAX, |exclusive| exclusive.at_most.get());
    let written = why.hold == Some(Hold::WrittenByHand);
    if written { requested.min(most) } else { count.max(floor).max(held).min(most) }
}
