//! The newest load as a floor under the decision, so that a surge needs no average to be seen (kpa-behaviour 5.2).
//!
//! Invariant: upwards only, within the rate limit and the bounds; it never enters windows, panic or delay. Only an urgent
//! frame makes a floor or raises it; a regular tick lowers it or leaves it.

use super::kpa::RateLimits;
use crate::decide::within;
use domain::why::Backlog;
use domain::{Replicas, ScalingSpec, Signal, Why};

/// The regular tick, counted from the urgent frame, from which on a floor follows the load down.
const TICKS: u8 = 2;

/// A floor that is in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// What it stands on.
    pub asked: Backlog,
    /// Regular ticks until it follows the load; zero once it does.
    ticks: u8,
}

impl Floor {
    /// The floor after an urgent frame: the higher one, the newer of two that are equal.
    #[must_use]
    pub fn raise(old: Option<Self>, asked: Backlog) -> Self {
        old.filter(|old| old.asked.replicas > asked.replicas).unwrap_or(Self { asked, ticks: TICKS })
    }

    /// What a regular tick leaves of it. The replicas that it started keep panic away, and the average may need a whole
    /// window to ask for them: so from the second tick on it stays as far as the newest load still asks for it.
    #[must_use]
    pub fn tick(self, newest: Option<Backlog>) -> Option<Self> {
        if self.ticks > 1 {
            return Some(Self { ticks: self.ticks - 1, ..self });
        }
        let newest = newest?;
        let asked = if newest.replicas > self.asked.replicas { self.asked } else { newest };
        Some(Self { asked, ticks: 0 })
    }

    /// Whether the windows ask for as much at this tick, so that it is no longer needed.
    #[must_use]
    pub fn reached(self, why: &Why) -> bool {
        let bounded = |count| within(count, why.min, why.max);
        self.ticks == 0 && why.desired.is_some_and(|desired| bounded(desired) >= bounded(self.asked.replicas))
    }
}

/// What `load` requests, running and waiting, ask for. `None` where it says nothing: with `kpa.dev/exact`, and for a
/// revision that is not scaled on concurrency. Any load asks for one replica at least.
#[must_use]
pub fn backlog(spec: &ScalingSpec, load: u32, ready: Replicas) -> Option<Backlog> {
    if *spec.exact || load == 0 {
        return None;
    }
    let concurrency = spec.signals.iter().find(|signal| signal.signal == Signal::Concurrency);
    // On another signal the load says only that somebody is there.
    let target = concurrency.map_or_else(|| f64::from(load), domain::SignalSpec::target);
    let limit = RateLimits::new(spec, ready).up;
    let wanted = Replicas::ceil(f64::from(load) / target).min(limit);
    Some(Backlog { load, target, replicas: within(wanted, *spec.min_scale, *spec.max_scale) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use domain::Resolved;

    #[test]
    fn the_newest_load_over_the_target_within_limits() {
        let check = |spec: &ScalingSpec, load, ready, expected: Option<u32>| {
            let floor = backlog(spec, load, Replicas::new(ready)).map(|floor| floor.replicas.get());
            assert_eq!(floor, expected, "{load} on {ready}");
        };
        let plain = spec(10.0);
        check(&plain, 0, 1, None);
        check(&plain, 1, 0, Some(1));
        check(&plain, 50, 1, Some(8));
        let slow = ScalingSpec { max_scale_up_rate: Resolved::default_value(2.0), ..spec(10.0) };
        check(&slow, 50, 3, Some(6));
        let bounded = ScalingSpec { max_scale: Resolved::default_value(Some(Replicas::new(5))), ..spec(10.0) };
        check(&bounded, 50, 1, Some(5));
        let at_least = ScalingSpec { min_scale: Resolved::default_value(Replicas::new(3)), ..spec(10.0) };
        check(&at_least, 1, 1, Some(3));
        let exact = ScalingSpec { exact: Resolved::default_value(true), ..spec(10.0) };
        check(&exact, 50, 1, None);
        let mut rps = spec(200.0);
        rps.signals[0].signal = Signal::Rps;
        check(&rps, 500, 1, Some(1));
    }

    #[test]
    fn a_floor_follows_the_load_down_from_its_second_tick_and_never_up() {
        let ask = |load| backlog(&spec(10.0), load, Replicas::ONE);
        let count = |floor: Option<Floor>| floor.map(|floor| floor.asked.replicas.get());
        let first = Floor::raise(None, ask(50).unwrap());
        let second = first.tick(ask(1)).unwrap();
        assert_eq!(second.asked, first.asked, "not before its second tick");
        assert_eq!(second.tick(None), None, "the load is gone");
        let mut floor = second.tick(ask(36));
        assert_eq!(count(floor), Some(6));
        for (load, expected) in [(36, 6), (70, 6), (20, 3), (50, 3)] {
            floor = floor.unwrap().tick(ask(load));
            assert_eq!(count(floor), Some(expected), "{load}");
        }
        let shown = floor.unwrap().asked;
        assert_eq!((shown.load, shown.replicas.get()), (20, 3), "what is shown adds up");
        assert_eq!(Floor::raise(floor, ask(7).unwrap()), floor.unwrap(), "a lower one leaves it as it is");
        let raised = Floor::raise(floor, ask(50).unwrap());
        assert_eq!((raised.asked.replicas.get(), count(raised.tick(None))), (8, Some(8)), "its two ticks begin again");
    }

    #[test]
    fn the_windows_reach_a_floor_within_the_same_bounds() {
        let before = crate::decide::Memory::default();
        let mut settings = spec(10.0);
        let check = |settings: &ScalingSpec, floor: Floor, ready, average| {
            let seen = crate::testing::seen(ready, average, average);
            floor.reached(&crate::decide::decide(domain::Timestamp::from_secs(9), settings, &before, &seen).why)
        };
        let young = Floor::raise(None, backlog(&settings, 50, Replicas::ONE).unwrap());
        assert!(!check(&settings, young, 8, 50.0), "it stays until its second tick, whatever the windows say");
        let held = Floor { ticks: 0, ..young };
        assert!(check(&settings, held, 8, 50.0) && !check(&settings, held, 8, 49.0));
        assert!(!check(&settings, held, 8, f64::NAN), "no reading reaches nothing");
        settings.max_scale = Resolved::default_value(Some(Replicas::new(5)));
        assert!(check(&settings, held, 5, 35.0), "nothing above the maximum is missed");
    }
}
