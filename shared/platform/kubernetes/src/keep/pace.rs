//! When workloads are written: at once, after a pause that follows a failure, or not again for a while.
//!
//! Invariant: pure, time is an argument; what is remembered of the past is bounded or forgotten.

use crate::schedule::Schedule;
use crate::trim::Key;
use crate::wanted::Write;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::time::Instant;

/// The first and the longest wait before a failed write is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Workloads to be looked at, and those of which a write has failed.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// When each may be looked at.
    at: Schedule<Key>,
    /// Failures in a row.
    failures: BTreeMap<Key, u32>,
}

impl Due {
    /// Looks at `key` as soon as its pause is over.
    pub(super) fn touch(&mut self, key: Key, now: Instant) {
        if !self.failures.contains_key(&key) {
            self.at.by(key, now);
        }
    }

    /// Those that are to be looked at now, at most `room`.
    pub(super) fn take(&mut self, now: Instant, room: usize) -> Vec<Key> {
        self.at.take(now, room)
    }

    pub(super) fn done(&mut self, key: &Key, went: Went, now: Instant) {
        if went != Went::Wrong {
            self.failures.remove(key);
            if let Went::Wait(wait) = went {
                // What has changed meanwhile is looked at before.
                self.at.by(key.clone(), now + wait);
            }
            return;
        }
        let failures = self.failures.entry(key.clone()).or_default();
        let (first, longest) = PAUSE;
        let pause = first.saturating_mul(2_u32.saturating_pow(*failures)).min(longest);
        *failures = failures.saturating_add(1);
        self.at.set(key.clone(), now + pause);
    }

    /// When there is something to look at next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.at.next()
    }
}

/// Between two selectors that are taken off one Service: whoever puts one back is not fought with more often.
pub(super) const TAKE_AGAIN: Duration = Duration::from_secs(60);
/// Services of which this is remembered. While so many lost their selector within [`TAKE_AGAIN`], no further one does.
const TAKEN_MAX: usize = 10_000;

/// When Services lost their selector.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<Key, Instant>);

impl Taken {
    /// Takes note that `service` loses its selector now, or says how long that has to wait.
    pub(super) fn take(&mut self, service: Key, now: Instant) -> Result<(), Duration> {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < TAKE_AGAIN);
        if let Some(at) = self.0.get(&service) {
            return Err(TAKE_AGAIN.saturating_sub(now.saturating_duration_since(*at)));
        }
        if self.0.len() >= TAKEN_MAX {
            return Err(TAKE_AGAIN);
        }
        self.0.insert(service, now);
        Ok(())
    }
}

/// How long a watch is given to tell what was applied, before the same is applied again. One that has much to tell is
/// some seconds behind.
const ECHO: Duration = Duration::from_secs(5);

/// What a write says, by its hash: two that are taken for the same cost [`ECHO`], and thousands of objects some memory.
type Mark = u64;

fn mark(write: &Write) -> Mark {
    let mut hasher = DefaultHasher::new();
    write.hash(&mut hasher);
    hasher.finish()
}

/// What was applied and no watch has told of yet. Each kind is told by a watch of its own: the first to tell is no reason
/// to apply the others again. Holds no more than what is written within twice [`ECHO`].
#[derive(Debug, Default)]
pub(super) struct Applied {
    by_key: BTreeMap<Key, Vec<(Instant, Mark)>>,
    /// When it was last looked for what is older than [`ECHO`].
    looked: Option<Instant>,
}

impl Applied {
    /// Takes note that `write` was carried out.
    pub(super) fn note(&mut self, key: &Key, write: &Write, now: Instant) {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= ECHO) {
            self.looked = Some(now);
            self.by_key.retain(|_, writes| {
                writes.retain(|(at, _)| now.saturating_duration_since(*at) < ECHO);
                !writes.is_empty()
            });
        }
        self.by_key.entry(key.clone()).or_default().push((now, mark(write)));
    }

    /// What is owed now: anything else was told of, and is written at once when it is owed again.
    pub(super) fn owed(&mut self, key: &Key, owed: &[Write]) {
        let Some(writes) = self.by_key.get_mut(key) else { return };
        let owed: Vec<Mark> = owed.iter().map(mark).collect();
        writes.retain(|(_, applied)| owed.contains(applied));
        if writes.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// How long the very same is not to be written again; `None`: it is to be written now.
    pub(super) fn wait(&self, key: &Key, write: &Write, now: Instant) -> Option<Duration> {
        let (writes, write) = (self.by_key.get(key)?, mark(write));
        let (at, _) = writes.iter().rfind(|(_, applied)| *applied == write)?;
        ECHO.checked_sub(now.saturating_duration_since(*at)).filter(|wait| !wait.is_zero())
    }
}

/// How the writes of a workload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    Well,
    Wrong,
    /// Something is still to be done, and not before that.
    Wait(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> Key {
        ("prod".into(), name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_selector_that_somebody_puts_back_is_taken_off_once_a_minute_at_most() {
        let (mut taken, start) = (Taken::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(taken.take(key("a"), start), Ok(()));
        assert_eq!(taken.take(key("b"), after(1)), Ok(()), "another Service is another matter");
        assert_eq!(taken.take(key("a"), after(20)), Err(Duration::from_secs(40)));
        assert_eq!(taken.take(key("a"), after(60)), Ok(()));
        assert_eq!(taken.take(key("a"), after(61)), Err(Duration::from_secs(59)), "the count begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_services_is_bounded() {
        let (mut taken, now) = (Taken::default(), Instant::now());
        for number in 0..TAKEN_MAX {
            assert_eq!(taken.take(key(&number.to_string()), now), Ok(()));
        }
        assert_eq!(taken.take(key("more"), now), Err(TAKE_AGAIN));
        assert_eq!(taken.0.len(), TAKEN_MAX);
        assert_eq!(taken.take(key("more"), now + TAKE_AGAIN), Ok(()));
        assert_eq!(taken.0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_not_applied_again_before_a_watch_could_tell_of_it() {
        let (mut applied, start) = (Applied::default(), Instant::now());
        let workload = |text: &str| Write::Workload(json!({"spec": text}));
        assert_eq!(applied.wait(&key("a"), &workload("x"), start), None);
        applied.note(&key("a"), &workload("x"), start);
        let half = start + ECHO / 2;
        assert_eq!(applied.wait(&key("a"), &workload("x"), half), Some(ECHO / 2));
        assert_eq!(applied.wait(&key("a"), &workload("y"), half), None, "what is wanted now is something else");
        assert_eq!(applied.wait(&key("b"), &workload("x"), half), None);
        assert_eq!(applied.wait(&key("a"), &workload("x"), start + ECHO), None, "nobody told of it: once more");
        applied.note(&key("b"), &workload("x"), start + ECHO);
        assert_eq!(applied.by_key.len(), 1, "what is older is forgotten");
        applied.owed(&key("b"), &[workload("y"), workload("x")]);
        assert_eq!(applied.wait(&key("b"), &workload("x"), start + ECHO), Some(ECHO));
        applied.owed(&key("b"), &[workload("y")]);
        assert_eq!(applied.wait(&key("b"), &workload("x"), start + ECHO), None, "it was told of, and is gone again");
        assert!(applied.by_key.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_to_wait_is_looked_at_again_and_sooner_if_something_changes() {
        let (mut due, now) = (Due::default(), Instant::now());
        due.done(&key("a"), Went::Wait(TAKE_AGAIN), now);
        assert_eq!(due.take(now + TAKE_AGAIN / 2, 9), Vec::<Key>::new());
        assert_eq!(due.next(), Some(now + TAKE_AGAIN));
        due.touch(key("a"), now);
        assert_eq!(due.take(now, 9), [key("a")]);
    }
}
