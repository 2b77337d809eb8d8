//! What a controller has done and its cache has not shown yet, so that it does not do it twice.
//!
//! Invariant: a key with unmet expectations creates and deletes nothing, for at most `EXPECT_MAX`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::object::Id;
use super::pods::since_then;

/// After this long an event is taken as lost, and the cache as true.
pub(crate) const EXPECT_MAX: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
pub(crate) struct Expectations(BTreeMap<Id, Expected>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// Uids.
    deletions: BTreeSet<String>,
    since: Timestamp,
}

impl Expectations {
    pub(crate) fn expect(
        &mut self,
        now: Timestamp,
        key: &Id,
        creations: usize,
        deletions: impl IntoIterator<Item = String>,
    ) {
        let expected = Expected { creations, deletions: deletions.into_iter().collect(), since: now };
        self.0.insert(key.clone(), expected);
    }

    pub(crate) fn created(&mut self, key: &Id) {
        if let Some(expected) = self.0.get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    pub(crate) fn deleted(&mut self, key: &Id, uid: &str) {
        if let Some(expected) = self.0.get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    pub(crate) fn forget(&mut self, key: &Id) {
        self.0.remove(key);
    }

    pub(crate) fn met(&self, now: Timestamp, key: &Id) -> bool {
        self.0.get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || since_then(expected.since, now) > EXPECT_MAX
        })
    }

    /// How long until unmet expectations are given up.
    pub(crate) fn give_up_in(&self, now: Timestamp, key: &Id) -> Option<Duration> {
        let expected = self.0.get(key)?;
        (!self.met(now, key))
            .then(|| EXPECT_MAX.saturating_sub(since_then(expected.since, now)) + Duration::from_secs(1))
    }
}
