//! `scale-down-delay`: the largest decision of the last while stays in force (knative-behaviour 6.7).
//!
//! Invariant: slots are 2 s; a value leaves exactly as many slots later as the delay has, rounded up.

use domain::{Replicas, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Length of a slot: one tick.
const SLOT: Duration = Duration::from_secs(2);

/// The largest earlier decision still in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayFloor {
    /// How many replicas.
    pub replicas: Replicas,
    /// When it leaves.
    pub until: Timestamp,
}

/// The decisions of the last while, as a falling sequence: one that is followed by a larger one can never matter again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayWindow {
    slots: u64,
    falling: VecDeque<(u64, Replicas)>,
}

impl DelayWindow {
    /// `None` without a delay: a window of one slot would be something else.
    #[must_use]
    pub fn new(delay: Duration) -> Option<Self> {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        (seconds > 0).then(|| Self { slots: seconds.div_ceil(SLOT.as_secs()), falling: VecDeque::new() })
    }

    const fn slot(now: Timestamp) -> u64 {
        now.whole_seconds() / SLOT.as_secs()
    }

    /// The largest of the decisions recorded before that is still in force at `now`.
    #[must_use]
    pub fn floor(&self, now: Timestamp) -> Option<DelayFloor> {
        let current = Self::slot(now);
        let (slot, replicas) = *self.falling.iter().find(|(slot, _)| slot + self.slots > current)?;
        Some(DelayFloor { replicas, until: Timestamp::from_secs((slot + self.slots) * SLOT.as_secs()) })
    }

    /// Remembers a decision from before the delay was applied.
    pub fn record(&mut self, now: Timestamp, desired: Replicas) {
        let current = Self::slot(now);
        while self.falling.front().is_some_and(|(slot, _)| slot + self.slots <= current) {
            self.falling.pop_front();
        }
        while self.falling.back().is_some_and(|(_, replicas)| *replicas <= desired) {
            self.falling.pop_back();
        }
        // Within a slot the larger one wins.
        if self.falling.back().is_none_or(|(slot, _)| *slot != current) {
            self.falling.push_back((current, desired));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_value_leaves_exactly_its_slots_later() {
        let mut window = DelayWindow::new(Duration::from_secs(6)).unwrap();
        window.record(at(10), Replicas::new(5));
        window.record(at(12), Replicas::new(2));
        for (now, replicas) in [(12, Some(5)), (15, Some(5)), (16, Some(2)), (17, Some(2)), (18, None)] {
            assert_eq!(window.floor(at(now)).map(|floor| floor.replicas.get()), replicas, "{now}");
        }
        assert_eq!(window.floor(at(12)).unwrap().until, at(16));
    }

    #[test]
    fn within_a_slot_the_larger_wins_and_without_delay_there_is_no_window() {
        let mut window = DelayWindow::new(Duration::from_secs(2)).unwrap();
        window.record(at(10), Replicas::new(4));
        window.record(at(11), Replicas::new(3));
        assert_eq!(window.floor(at(11)).unwrap().replicas.get(), 4);
        assert_eq!(window.floor(at(12)), None);
        assert!(DelayWindow::new(Duration::ZERO).is_none());
    }

    proptest! {
        /// Against the definition: the maximum of the slots with an index beyond `current - n`.
        #[test]
        fn equals_the_maximum_of_the_slots(
            delay in 1_u64..20,
            steps in prop::collection::vec((0_u64..7, 0_u32..9), 1..60),
        ) {
            let mut window = DelayWindow::new(Duration::from_secs(delay)).unwrap();
            let slots = delay.div_ceil(2);
            let mut all: Vec<(u64, u32)> = Vec::new();
            let mut now = 0;
            for (pause, desired) in steps {
                now += pause;
                let expected = all.iter().filter(|(slot, _)| slot + slots > now / 2).map(|(_, wanted)| *wanted).max();
                prop_assert_eq!(window.floor(at(now)).map(|floor| floor.replicas.get()), expected);
                window.record(at(now), Replicas::new(desired));
                all.push((now / 2, desired));
            }
        }
    }
}
