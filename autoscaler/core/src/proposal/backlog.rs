//! The newest load as a floor under the decision, so that a surge needs no average to be seen (kpa-behaviour 5.2).
//!
//! Invariant: upwards only, within the rate limit and the bounds; it never enters windows, panic or delay.

use super::kpa::RateLimits;
use domain::why::Backlog;
use domain::{Replicas, ScalingSpec, Signal};

/// Regular ticks that a floor outlives: it falls at the second one after it was computed.
pub const TICKS: u8 = 2;

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
    Some(Backlog { load, target, replicas: crate::decide::within(wanted, *spec.min_scale, *spec.max_scale) })
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
}
