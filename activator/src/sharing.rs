//! Several activators in front of the same replicas of limited concurrency (kpa-behaviour 4.10).
//!
//! Each replica is one activator's alone. An activator with waiting requests and no free slot of its own asks the others
//! for theirs (`hop`); who has one keeps it for the asker (`claims`), and the request goes there in one hop, marked with
//! the claim. The slot is the owner's all the time, so a limit holds whatever becomes of the asker.
//!
//! Invariant: a claim is worth one request, once.

pub mod claims;
pub mod hop;
pub mod lent;

use crate::revisions::Revisions;
use activator_core::Part;
use arc_swap::ArcSwap;
use claims::Claims;
use domain::{EndpointId, ReporterId, RevisionId, Sharing, Timestamp};
use http::header::HeaderName;
use lent::Unused;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Marks a request as one that another activator has a claim for: the word and the claim's number.
pub const CLAIM: HeaderName = HeaderName::from_static("x-kpa-claim");
/// Where activators ask each other for slots.
pub const SLOTS_PATH: &str = "/.kpa/slots";
/// By this they know each other.
pub const WORD: HeaderName = HeaderName::from_static("x-kpa-word");

/// A bound of sharing. None of them refuses a request: one that waits here waits for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Bound {
    /// [`claims::CLAIMS_MAX`]: a slot that was free was not lent.
    Claims,
    /// [`hop::ASKS_MAX`]: another activator was not asked yet.
    Asks,
    /// [`hop::WANT_MAX`]: it was asked for fewer slots than there were requests for it.
    Want,
}

impl Bound {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Every bound, by index.
    pub const ALL: [Self; Self::COUNT] = [Self::Claims, Self::Asks, Self::Want];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Asks => "asks",
            Self::Want => "want",
        }
    }
}

/// What an activator shares with others.
#[derive(Debug)]
pub struct Shares {
    wanted: AtomicBool,
    told: ArcSwap<Told>,
    heard: Mutex<Option<Heard>>,
    reached: [AtomicU64; Bound::COUNT],
    /// Slots of ours that others have claims for.
    pub claims: Claims,
    /// Slots of others that nobody here wanted any more.
    pub unused: Unused,
}

#[derive(Debug)]
struct Told {
    part: Arc<Part>,
    held: BTreeMap<RevisionId, BTreeSet<EndpointId>>,
}

/// Whom this activator heard last on how to share.
#[derive(Debug)]
struct Heard {
    word: String,
    number: u64,
    at: Timestamp,
}

impl Heard {
    /// Whether what was `asked` then is older than what was heard last: answers overtake each other.
    fn is_after(&self, sharing: &Sharing, asked: Timestamp) -> bool {
        if self.word == sharing.word { sharing.number < self.number } else { asked < self.at }
    }
}

impl Shares {
    /// Nothing is shared. Claims are counted from `first` on.
    #[must_use]
    pub fn new(first: u64) -> Self {
        let told = Told { part: Arc::new(Part::All), held: BTreeMap::new() };
        Self {
            wanted: AtomicBool::new(false),
            told: ArcSwap::from_pointee(told),
            heard: Mutex::default(),
            reached: Default::default(),
            claims: Claims::new(first),
            unused: Unused::default(),
        }
    }

    /// A bound was reached.
    pub fn reach(&self, bound: Bound) {
        self.reached[bound as usize].fetch_add(1, Relaxed);
    }

    /// How often a bound was reached.
    #[must_use]
    pub fn reached(&self, bound: Bound) -> u64 {
        self.reached[bound as usize].load(Relaxed)
    }

    /// Which replicas are ours.
    #[must_use]
    pub fn part(&self) -> Arc<Part> {
        Arc::clone(&self.told.load().part)
    }

    /// Has `revision`'s gate follow what was told last.
    pub(crate) fn apply(&self, now: Timestamp, revision: &RevisionId, gate: &crate::gate::Gate) {
        let told = self.told.load();
        gate.share(now, &told.part, told.held.get(revision).unwrap_or(&BTreeSet::new()));
    }

    /// Goes by `part` from now on; `held` are replicas that nobody may use yet.
    fn set(&self, revisions: &Revisions, now: Timestamp, part: Part, held: BTreeMap<RevisionId, BTreeSet<EndpointId>>) {
        self.told.store(Arc::new(Told { part: Arc::new(part), held }));
        for handle in revisions.all() {
            self.apply(now, &handle.id, &handle.gate);
        }
    }

    /// Nobody has said how replicas are shared, and nobody will in time: requests go before exactness (kpa-behaviour 7.4).
    pub fn take_all(&self, revisions: &Revisions, now: Timestamp) {
        self.set(revisions, now, Part::All, BTreeMap::new());
    }

    /// There are other activators: uses nothing of what is shared until somebody says what.
    pub fn begin(&self, revisions: &Revisions, now: Timestamp) {
        self.wanted.store(true, Relaxed);
        self.set(revisions, now, Part::Nothing, BTreeMap::new());
    }

    /// Whether there are other activators to share with.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Follows the acting autoscaler, which was `asked` then.
    pub fn follow(
        &self,
        revisions: &Revisions,
        (asked, now): (Timestamp, Timestamp),
        own: &ReporterId,
        sharing: Sharing,
    ) {
        let mut heard = self.heard.lock();
        if heard.as_ref().is_some_and(|heard| heard.is_after(&sharing, asked)) {
            return;
        }
        let Sharing { members, settled, held, number, word } = sharing;
        *heard = Some(Heard { word: word.clone(), number, at: now });
        self.claims.learn(&word);
        let held: BTreeMap<_, BTreeSet<_>> =
            held.into_iter().map(|(id, endpoints)| (id, endpoints.into_iter().collect())).collect();
        let part = Part::Of { own: own.clone(), members: members.into(), settled };
        let told = self.told.load();
        if *told.part != part || told.held != held {
            self.set(revisions, now, part, held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_stand_where_their_index_says() {
        for (index, bound) in Bound::ALL.into_iter().enumerate() {
            assert_eq!(bound as usize, index);
        }
    }
}
