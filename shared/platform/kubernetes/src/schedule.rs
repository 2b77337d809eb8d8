//! When each of many is due.
//!
//! Invariant: each has at most one moment, and who is next is known without looking at the others.

use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// Moments, by key.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    at: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// `key` is due at that moment, and not when it was before.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        if let Some(before) = self.at.insert(key.clone(), at) {
            self.order.remove(&(before, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// `key` is due then at the latest.
    pub(crate) fn by(&mut self, key: K, at: Instant) {
        if self.at.get(&key).is_none_or(|before| *before > at) {
            self.set(key, at);
        }
    }

    /// Takes out those that are due, the longest due first, at most `room`.
    pub(crate) fn take(&mut self, now: Instant, room: usize) -> Vec<K> {
        let due: Vec<K> =
            self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).take(room).collect();
        for key in &due {
            if let Some(at) = self.at.remove(key) {
                self.order.remove(&(at, key.clone()));
            }
        }
        due
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_is_due_once_and_the_longest_due_first() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(schedule.next(), None);
        for (key, at) in [("a", 3), ("b", 1), ("c", 2), ("a", 5), ("d", 9)] {
            schedule.set(key, after(at));
        }
        schedule.by("c", after(4));
        schedule.by("d", after(4));
        schedule.by("e", after(6));
        assert_eq!(schedule.next(), Some(after(1)));
        assert_eq!(schedule.take(start, 9), Vec::<&str>::new());
        assert_eq!(schedule.take(after(5), 2), ["b", "c"]);
        assert_eq!(schedule.take(after(5), 9), ["d", "a"]);
        assert_eq!(schedule.next(), Some(after(6)));
        assert_eq!(schedule.take(after(6), 9), ["e"]);
        assert!(schedule.at.is_empty() && schedule.order.is_empty(), "{schedule:?}");
    }
}
