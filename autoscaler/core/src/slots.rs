//! When each revision has its regular tick: 20 slots of 100 ms, the same in every autoscaler (engineering 27).
//!
//! Invariant: a revision is in at most one slot, chosen by its name alone.

use domain::{RevisionId, Timestamp};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Slots in the 2 s between two ticks of a revision.
pub const SLOTS: u64 = 20;
/// Length of a slot.
pub const SLOT_MILLIS: u64 = 100;

/// Who is awake, by slot.
#[derive(Debug)]
pub struct Slots {
    members: Vec<BTreeSet<RevisionId>>,
    /// The number of the last slot that was served, counted from the clock's start.
    served: u64,
}

/// FNV-1a, 64 bit: stable over processes, machines and versions, unlike the standard library's hasher.
#[must_use]
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The slot of `id`.
#[must_use]
pub fn slot_of(id: &RevisionId) -> u64 {
    fnv1a(id.as_str()) % SLOTS
}

impl Slots {
    /// Nobody is awake.
    #[must_use]
    pub fn new(started: Timestamp) -> Self {
        Self { members: (0..SLOTS).map(|_| BTreeSet::new()).collect(), served: started.as_millis() / SLOT_MILLIS }
    }

    fn members(&mut self, slot: u64) -> Option<&mut BTreeSet<RevisionId>> {
        usize::try_from(slot).ok().and_then(|slot| self.members.get_mut(slot))
    }

    /// Gives `id` its slot.
    pub fn insert(&mut self, id: &RevisionId) {
        if let Some(members) = self.members(slot_of(id))
            && !members.contains(id)
        {
            members.insert(id.clone());
        }
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: &RevisionId) {
        if let Some(members) = self.members(slot_of(id)) {
            members.remove(id);
        }
    }

    /// How many are awake.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.iter().map(BTreeSet::len).sum()
    }

    /// Whether nobody is awake.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who is due, since it was last asked. A pause of more than 2 s is not made up for.
    pub fn due(&mut self, now: Timestamp) -> Vec<RevisionId> {
        let current = now.as_millis() / SLOT_MILLIS;
        let from = (self.served + 1).max((current + 1).saturating_sub(SLOTS));
        self.served = self.served.max(current);
        let range: RangeInclusive<u64> = from..=current;
        let mut due = Vec::new();
        for number in range {
            if let Some(members) = self.members(number % SLOTS) {
                due.extend(members.iter().cloned());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn everybody_is_due_once_every_two_seconds() {
        let ids: Vec<_> = (0..200).map(|n| RevisionId::new("default", &format!("m{n}"))).collect();
        let mut slots = Slots::new(Timestamp::ZERO);
        ids.iter().for_each(|id| slots.insert(id));
        let mut due = Vec::new();
        for millis in (100..=2000).step_by(100) {
            due.extend(slots.due(Timestamp::from_millis(millis)));
        }
        due.sort();
        let mut all = ids;
        all.sort();
        assert_eq!(due, all);
        assert!(slots.due(Timestamp::from_millis(2000)).is_empty());
        assert_eq!(slots.due(Timestamp::from_secs(60)).len(), 200, "a long pause is one round");
    }
}
