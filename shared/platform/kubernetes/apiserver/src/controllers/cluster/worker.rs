//! One controller at work: a cache that lags, a queue of keys, and pauses after refusals.
//!
//! Invariant: a key stands in the queue once; the inbox is bounded, and one that is full is emptied and compared instead.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::super::controller::{Controller, Hook};
use super::super::object::Id;
use super::super::world::{Change, World};
use super::store::{Store, difference};

/// Most changes that wait for one controller.
pub(super) const INBOX_MAX: usize = 10_000;
/// The first pause after a refusal; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// The longest.
const PAUSE_MOST: Duration = Duration::from_secs(1000);

pub(super) struct Worker {
    controller: Box<dyn Controller>,
    world: World,
    inbox: VecDeque<(Instant, Arc<Change>)>,
    /// The inbox was full: the cache is compared with the store instead, at this time.
    relist: Option<Instant>,
    queue: BTreeMap<Id, Instant>,
    refusals: BTreeMap<Id, u32>,
    random: StdRng,
    lag: Range<Duration>,
    delay: Range<Duration>,
    pub(super) factor: f64,
    pub(super) paused: bool,
}

impl Worker {
    pub(super) fn new(
        controller: Box<dyn Controller>,
        seed: u64,
        lag: Range<Duration>,
        delay: Range<Duration>,
    ) -> Self {
        Self {
            controller,
            world: World::default(),
            inbox: VecDeque::new(),
            relist: None,
            queue: BTreeMap::new(),
            refusals: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            lag,
            delay,
            factor: 1.0,
            paused: false,
        }
    }

    fn draw(&mut self, range: &Range<Duration>) -> Duration {
        let drawn = if range.is_empty() { range.start } else { self.random.random_range(range.clone()) };
        Duration::try_from_secs_f64(drawn.as_secs_f64() * self.factor).unwrap_or(drawn)
    }

    /// A change is on its way to the cache.
    pub(super) fn hear(&mut self, now: Instant, change: &Arc<Change>) {
        if self.relist.is_some() {
            return;
        }
        if self.inbox.len() >= INBOX_MAX {
            self.inbox.clear();
            self.relist = Some(now);
            return;
        }
        let lag = self.lag.clone();
        // Changes never overtake each other.
        let earliest = self.inbox.back().map_or(now, |(due, _)| *due);
        let due = (now + self.draw(&lag)).max(earliest);
        self.inbox.push_back((due, Arc::clone(change)));
    }

    /// When there is something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        let change = self.inbox.front().map(|(due, _)| *due);
        [change, self.relist, self.queue.values().min().copied()].into_iter().flatten().min()
    }

    fn enqueue(&mut self, key: Id, due: Instant) {
        let at = self.queue.entry(key).or_insert(due);
        *at = due.min(*at);
    }

    fn see(&mut self, now: Instant, change: &Change) {
        self.world.apply(change);
        for key in self.controller.affected(&self.world, change) {
            let delay = self.delay.clone();
            let due = now + self.draw(&delay);
            self.enqueue(key, due);
        }
    }

    pub(super) fn hook(&mut self, now: Instant, hook: &Hook) {
        for key in self.controller.hook(&self.world, hook) {
            self.enqueue(key, now);
        }
    }

    /// Does what is due.
    pub(super) fn work(&mut self, now: Instant, wall: Timestamp, store: &Store) {
        if self.paused {
            return;
        }
        if self.relist.is_some_and(|due| due <= now) {
            self.relist = None;
            for change in difference(&self.world, &store.latest) {
                self.see(now, &change);
            }
        }
        while let Some((due, change)) = self.inbox.pop_front() {
            if due > now {
                self.inbox.push_front((due, change));
                break;
            }
            self.see(now, &change);
        }
        let ready: Vec<Id> = self.queue.iter().filter(|(_, due)| **due <= now).map(|(key, _)| key.clone()).collect();
        for key in ready {
            self.queue.remove(&key);
            self.look(now, wall, store, &key);
        }
    }

    fn look(&mut self, now: Instant, wall: Timestamp, store: &Store, key: &Id) {
        let outcome = self.controller.reconcile(wall, &self.world, key);
        let mut answers = Vec::with_capacity(outcome.writes.len());
        let mut refused = None;
        for write in &outcome.writes {
            let answer = store.write(write);
            let failed = answer.as_ref().err().filter(|why| !why.is_not_found()).cloned();
            answers.push(answer);
            if failed.is_some() {
                refused = failed;
                break;
            }
        }
        for write in self.controller.settle(wall, &self.world, key, &outcome.writes, &answers) {
            if let Err(why) = store.write(&write)
                && !why.is_not_found()
            {
                refused = refused.or(Some(why));
            }
        }
        let again_in = match refused {
            Some(why) => {
                let count = self.refusals.entry(key.clone()).or_default();
                let pause = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(*count)).min(PAUSE_MOST);
                *count = count.saturating_add(1);
                tracing::debug!(?key, ?pause, "{why}");
                Some(outcome.again_in.unwrap_or(pause).min(pause))
            }
            None => {
                self.refusals.remove(key);
                outcome.again_in
            }
        };
        if let Some(pause) = again_in {
            self.enqueue(key.clone(), now + pause);
        }
    }
}
