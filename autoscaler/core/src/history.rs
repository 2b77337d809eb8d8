//! The last decisions of every revision, inside one budget for the process (kpa-behaviour 5.8).
//!
//! Invariant: at most 1 000 distinct decisions a revision, and never more bytes than the budget over all: the oldest of
//! the revision with the most goes first.

use crate::status::Kept;
use domain::{RevisionId, Why};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most distinct decisions of one revision.
pub const DISTINCT_MAX: usize = 1000;

/// Every revision's decisions.
#[derive(Debug)]
pub struct History {
    kept: BTreeMap<RevisionId, VecDeque<Kept>>,
    by_length: BTreeSet<(usize, RevisionId)>,
    total: usize,
    most: usize,
}

impl History {
    /// Keeps as many records as fit in `bytes`, at least one.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        // A ring buffer grows by doubling: half of it may be empty.
        let fit = bytes / (2 * size_of::<Kept>());
        let most = if fit == 0 { 1 } else { fit };
        Self { kept: BTreeMap::new(), by_length: BTreeSet::new(), total: 0, most }
    }

    /// Remembers a decision; one that only repeats the last extends it.
    pub fn push(&mut self, id: &RevisionId, why: &Why) {
        let kept = self.kept.entry(id.clone()).or_default();
        if let Some(last) = kept.back_mut()
            && last.why.same_decision(why)
        {
            last.until = why.at;
            last.times = last.times.saturating_add(1);
            return;
        }
        self.by_length.remove(&(kept.len(), id.clone()));
        kept.push_back(Kept { why: *why, until: why.at, times: 1 });
        self.total += 1;
        if kept.len() > DISTINCT_MAX {
            kept.pop_front();
            self.total -= 1;
        }
        self.by_length.insert((kept.len(), id.clone()));
        while self.total > self.most {
            self.drop_one();
        }
    }

    /// The oldest of the revision with the most.
    fn drop_one(&mut self) {
        let Some((length, id)) = self.by_length.pop_last() else { return };
        if let Some(kept) = self.kept.get_mut(&id) {
            kept.pop_front();
            self.total -= 1;
            if length > 1 {
                self.by_length.insert((length - 1, id));
            } else {
                self.kept.remove(&id);
            }
        }
    }

    /// Forgets a revision that is gone.
    pub fn forget(&mut self, id: &RevisionId) {
        if let Some(kept) = self.kept.remove(id) {
            self.total -= kept.len();
            self.by_length.remove(&(kept.len(), id.clone()));
        }
    }

    /// The decisions of a revision, oldest first.
    #[must_use]
    pub fn of(&self, id: &RevisionId) -> Vec<Kept> {
        self.kept.get(id).map(|kept| kept.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Memory, decide};
    use crate::testing::{seen, spec};
    use domain::{Replicas, Timestamp};

    fn why(secs: u64, replicas: u32) -> Why {
        let why = decide(Timestamp::from_secs(secs), &spec(10.0), &Memory::default(), &seen(1, 0.0, 0.0)).why;
        Why { replicas: Replicas::new(replicas), ..why }
    }

    #[test]
    fn repeats_extend_and_the_oldest_goes() {
        let mut history = History::new(64 * 1024 * 1024);
        let id = RevisionId::new("d", "m");
        for secs in 0..10 {
            history.push(&id, &why(secs, 1));
        }
        assert_eq!(
            history.of(&id).iter().map(|kept| (kept.times, kept.until)).collect::<Vec<_>>(),
            [(10, Timestamp::from_secs(9))]
        );
        for secs in 0..2000 {
            history.push(&id, &why(secs, u32::try_from(secs).unwrap() % 7 + 2));
        }
        assert_eq!(history.of(&id).len(), DISTINCT_MAX);
        history.forget(&id);
        assert_eq!((history.total, history.by_length.len()), (0, 0));
    }

    #[test]
    fn the_budget_is_shared_and_the_largest_pays() {
        let mut history = History::new(2 * size_of::<Kept>() * 10);
        let (large, small) = (RevisionId::new("d", "large"), RevisionId::new("d", "small"));
        history.push(&small, &why(0, 1));
        for secs in 0..50 {
            history.push(&large, &why(secs, u32::try_from(secs).unwrap()));
        }
        assert_eq!((history.of(&large).len(), history.of(&small).len()), (9, 1));
        assert_eq!(history.of(&large).last().unwrap().why.replicas.get(), 49, "the newest stay");
    }
}
