//! Which of several replicas gets a request, by the loads that the caller sees.
//!
//! Invariant: a replica without room is never chosen, and one with room is found whenever there is one.

use domain::LoadBalancing;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Up to this many replicas the least loaded is found by looking at all; beyond, by two random choices.
pub const SCAN_MAX: usize = 256;

/// A policy with the little state it needs. One an owner, so that nothing is shared.
#[derive(Debug)]
pub struct Chooser {
    policy: LoadBalancing,
    cursor: usize,
    random: SmallRng,
}

impl Chooser {
    /// A chooser whose random choices and first position follow from `seed`, so that workers differ.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "any start will do")]
    pub fn new(policy: LoadBalancing, seed: u64) -> Self {
        Self { policy, cursor: seed as usize, random: SmallRng::seed_from_u64(seed) }
    }

    /// Changes the policy; the state stays.
    pub const fn set_policy(&mut self, policy: LoadBalancing) {
        self.policy = policy;
    }

    /// Chooses among `count` replicas. `load(i)` is what replica `i` carries, or `None` when it has no room.
    pub fn choose(&mut self, count: usize, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        if count == 0 {
            return None;
        }
        match self.policy {
            LoadBalancing::FirstAvailable => (0..count).find(|&i| load(i).is_some()),
            LoadBalancing::RoundRobin => self.round_robin(count, load),
            LoadBalancing::LeastOutstanding if count <= SCAN_MAX => self.least(count, load),
            LoadBalancing::LeastOutstanding | LoadBalancing::PowerOfTwo => self.two_choices(count, load),
        }
    }

    fn round_robin(&mut self, count: usize, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let start = self.cursor % count;
        let chosen = (start..count).chain(0..start).find(|&i| load(i).is_some())?;
        self.cursor = chosen + 1;
        Some(chosen)
    }

    /// Starts behind the last choice, so that equals take turns.
    fn least(&mut self, count: usize, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let start = self.cursor % count;
        let mut best: Option<(usize, u32)> = None;
        for i in (start..count).chain(0..start) {
            if let Some(carried) = load(i)
                && best.is_none_or(|(_, least)| carried < least)
            {
                best = Some((i, carried));
                if carried == 0 {
                    break;
                }
            }
        }
        let (chosen, _) = best?;
        self.cursor = chosen + 1;
        Some(chosen)
    }

    /// Two random replicas, the less loaded wins; when neither has room, whoever has.
    fn two_choices(&mut self, count: usize, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        let first = self.random.random_range(0..count);
        let second = if count == 1 { first } else { (first + self.random.random_range(1..count)) % count };
        match (load(first), load(second)) {
            (Some(a), Some(b)) => Some(if b < a { second } else { first }),
            (Some(_), None) => Some(first),
            (None, Some(_)) => Some(second),
            (None, None) => self.least(count, load),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_policy_as_documented() {
        let loads = [Some(3), None, Some(1), Some(1)];
        let pick = |policy| {
            let mut chooser = Chooser::new(policy, 0);
            [0; 3].map(|_| chooser.choose(4, |i| loads[i]).unwrap())
        };
        assert_eq!(pick(LoadBalancing::FirstAvailable), [0, 0, 0]);
        assert_eq!(pick(LoadBalancing::RoundRobin), [0, 2, 3]);
        assert_eq!(pick(LoadBalancing::LeastOutstanding), [2, 3, 2]);
    }

    proptest! {
        #[test]
        fn room_is_found_and_nothing_else(
            loads in prop::collection::vec(prop::option::of(0_u32..9), 0..300),
            policy in 0..4_usize,
            seed: u64,
        ) {
            let mut chooser = Chooser::new(LoadBalancing::ALL[policy], seed);
            for _ in 0..4 {
                match chooser.choose(loads.len(), |i| loads[i]) {
                    Some(chosen) => prop_assert!(loads[chosen].is_some()),
                    None => prop_assert!(loads.iter().all(Option::is_none)),
                }
            }
        }

        #[test]
        fn least_outstanding_is_the_least(loads in prop::collection::vec(prop::option::of(0_u32..9), 1..SCAN_MAX), seed: u64) {
            let mut chooser = Chooser::new(LoadBalancing::LeastOutstanding, seed);
            let chosen = chooser.choose(loads.len(), |i| loads[i]).and_then(|i| loads[i]);
            prop_assert_eq!(chosen, loads.iter().copied().flatten().min());
        }
    }
}
