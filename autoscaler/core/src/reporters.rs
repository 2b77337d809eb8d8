//! All reporters together: who is live, which seconds are closed, what is in flight now (kpa-behaviour 5.6 and 7).
//!
//! Invariant: no data is not zero. A silent reporter that the platform lists holds what it carried; one that said
//! `leaving` or is no longer listed and silent counts as zero.

use crate::event::FrameChunk;
use domain::report::REPORTERS_MAX;
use domain::{EndpointId, ReporterId, RevisionId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod effect;
mod reading;
mod reporter;
mod sharing;
#[cfg(test)]
mod tests;

pub use effect::{Effect, Refused, Span};
pub use reading::{Doubt, SLACK_MS};
use reporter::Reporter;
pub use sharing::SHARE_KEPT;

/// A reporter that was not heard for so long is silent, and seconds close without it (engineering 21).
pub const SILENT_AFTER: Duration = Duration::from_millis(2500);

/// Whether everybody who may carry requests of a revision reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// Yes.
    Full,
    /// A listed reporter is silent.
    Partial {
        /// Which one.
        reporter: ReporterId,
        /// When it was last heard, if ever.
        since: Option<Timestamp>,
    },
    /// No reporter is listed.
    NoReporters,
}

/// Requests of a revision now, over all reporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Running on a replica.
    pub in_flight: u32,
    /// Waiting.
    pub queued: u32,
}

impl Load {
    /// Both.
    #[must_use]
    pub const fn total(self) -> u32 {
        self.in_flight.saturating_add(self.queued)
    }
}

/// Every reporter that was listed or heard.
#[derive(Debug)]
pub struct Reporters {
    started: Timestamp,
    /// `None` until the platform says who should report: then everybody heard counts as listed.
    listed: Option<BTreeSet<ReporterId>>,
    known: BTreeMap<ReporterId, Reporter>,
    /// Listed since then, and never heard.
    awaited: BTreeMap<ReporterId, Timestamp>,
    closed: u64,
    refused: u64,
    /// Frames with a row that was not believed, and the latest of these rows.
    doubts: (u64, Option<Doubt>),
    /// How often activators were told how they share.
    shared: u64,
}

impl Reporters {
    /// Nobody was heard yet.
    #[must_use]
    pub const fn new(started: Timestamp) -> Self {
        Self {
            started,
            listed: None,
            known: BTreeMap::new(),
            awaited: BTreeMap::new(),
            closed: 0,
            refused: 0,
            doubts: (0, None),
            shared: 0,
        }
    }

    /// Who should report, from the platform. Those that are gone and silent are forgotten.
    pub fn list(&mut self, now: Timestamp, reporters: Vec<ReporterId>) {
        let listed: BTreeSet<_> = reporters.into_iter().take(REPORTERS_MAX).collect();
        self.known.retain(|id, reporter| listed.contains(id) || !reporter.silent(now));
        let unheard = listed.iter().filter(|id| !self.known.contains_key(*id));
        self.awaited = unheard.map(|id| (id.clone(), self.awaited.get(id).copied().unwrap_or(now))).collect();
        self.listed = Some(listed);
    }

    /// Takes in a part of a frame; what it means for each revision is appended to `effects`.
    pub fn accept(&mut self, now: Timestamp, chunk: FrameChunk, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        let id = &chunk.header.reporter;
        if !self.known.contains_key(id) && self.known.len() >= REPORTERS_MAX {
            let forgotten: Vec<_> = self
                .known
                .iter()
                .filter(|(id, other)| !self.is_listed(id) && other.silent(now))
                .map(|(id, _)| id.clone())
                .collect();
            for id in forgotten {
                self.known.remove(&id);
            }
            if self.known.len() >= REPORTERS_MAX {
                self.refused += 1;
                return Err(Refused::TooManyReporters);
            }
        }
        self.awaited.remove(id);
        let reporter = self.known.entry(id.clone()).or_insert_with(|| Reporter::new(&chunk.header, now));
        let result = reporter.accept(now, chunk, effects);
        if let Some(doubt) = reporter.take_doubt() {
            self.doubts = (self.doubts.0 + 1, Some(doubt));
        }
        self.refused += u64::from(result.is_err());
        result
    }

    fn is_listed(&self, id: &ReporterId) -> bool {
        self.listed.as_ref().is_none_or(|listed| listed.contains(id))
    }

    /// Those whose counts are in force: not leaving, and listed or still heard.
    fn counted(&self, now: Timestamp) -> impl Iterator<Item = &Reporter> {
        self.counted_by_name(now).map(|(_, reporter)| reporter)
    }

    fn counted_by_name(&self, now: Timestamp) -> impl Iterator<Item = (&ReporterId, &Reporter)> {
        self.known
            .iter()
            .filter(move |(id, reporter)| !reporter.leaving() && (self.is_listed(id) || !reporter.silent(now)))
    }

    /// Those that report now: they gate closed seconds and answer drain directives.
    fn live(&self, now: Timestamp) -> impl Iterator<Item = &Reporter> {
        self.counted(now).filter(move |reporter| !reporter.silent(now))
    }

    /// The latest second that every live reporter has delivered; without any, the one that ended 2.5 s ago. Never goes
    /// back.
    pub fn close(&mut self, now: Timestamp) -> u64 {
        let delivered = self.live(now).map(Reporter::delivered).min();
        let closed = match delivered {
            Some(Some(second)) => second,
            // One that is live and has delivered nothing yet was heard by an urgent frame only.
            Some(None) | None => now.before(SILENT_AFTER).whole_seconds().saturating_sub(1),
        };
        self.closed = self.closed.max(closed);
        self.closed
    }

    /// The latest closed second.
    #[must_use]
    pub const fn closed(&self) -> u64 {
        self.closed
    }

    /// The first second from which on every reporter's data is known.
    #[must_use]
    pub fn covered_from(&self, now: Timestamp) -> u64 {
        let started = self.started.whole_seconds();
        self.live(now).map(Reporter::covered_from).fold(started, u64::max)
    }

    /// Whether everybody who may carry requests of `revision` reports. A silent one matters if it was never heard, or
    /// carried the revision within its last `window`.
    #[must_use]
    pub fn coverage(&self, now: Timestamp, revision: &RevisionId, window: Duration) -> Coverage {
        let expected: Vec<&ReporterId> = match &self.listed {
            Some(listed) => listed.iter().collect(),
            None => self.known.keys().collect(),
        };
        if expected.is_empty() {
            return Coverage::NoReporters;
        }
        for id in expected {
            let known = self.known.get(id);
            let matters = known.is_none_or(|reporter| {
                !reporter.leaving() && reporter.silent(now) && reporter.carried(revision, window)
            });
            if matters {
                return Coverage::Partial { reporter: id.clone(), since: known.map(Reporter::heard) };
            }
        }
        Coverage::Full
    }

    /// The first listed reporter that is silent, whatever it carried.
    #[must_use]
    pub fn silent(&self, now: Timestamp) -> Option<&ReporterId> {
        let silent =
            |id: &&ReporterId| self.known.get(*id).is_none_or(|reporter| !reporter.leaving() && reporter.silent(now));
        match &self.listed {
            Some(listed) => listed.iter().find(silent),
            None => self.known.keys().find(silent),
        }
    }

    /// Whether the platform lists nobody, and nobody was heard while it has not said.
    #[must_use]
    pub fn none(&self) -> bool {
        self.listed.as_ref().map_or_else(|| self.known.is_empty(), BTreeSet::is_empty)
    }

    /// Requests of `revision` now.
    #[must_use]
    pub fn load(&self, now: Timestamp, revision: &RevisionId) -> Load {
        self.counted(now).filter_map(|reporter| reporter.entry(revision)).fold(Load::default(), |sum, entry| Load {
            in_flight: sum.in_flight.saturating_add(entry.in_flight),
            queued: sum.queued.saturating_add(entry.queued),
        })
    }

    /// Requests in flight on one endpoint; `None` while a reporter has some and has not said where.
    #[must_use]
    pub fn load_on(&self, now: Timestamp, revision: &RevisionId, endpoint: &EndpointId) -> Option<u32> {
        let mut sum = 0_u32;
        for entry in self.counted(now).filter_map(|reporter| reporter.entry(revision)) {
            match entry.endpoints.iter().find(|(id, _)| id == endpoint) {
                Some((_, load)) => sum = sum.saturating_add(*load),
                None if entry.in_flight > 0 && entry.endpoints.is_empty() => return None,
                None => {}
            }
        }
        Some(sum)
    }

    /// Requests in flight per endpoint, of every reporter that said.
    pub fn endpoints_of<'a>(
        &'a self,
        now: Timestamp,
        revision: &'a RevisionId,
    ) -> impl Iterator<Item = &'a (EndpointId, u32)> {
        self.counted(now).filter_map(move |reporter| reporter.entry(revision)).flat_map(|entry| &entry.endpoints)
    }

    /// Whether every live reporter has said that it no longer sends to `endpoint`.
    #[must_use]
    pub fn drained(&self, now: Timestamp, revision: &RevisionId, endpoint: &EndpointId) -> bool {
        self.live(now).all(|reporter| reporter.entry(revision).is_some_and(|entry| entry.drained.contains(endpoint)))
    }

    /// Replicas that a reporter cannot connect to.
    #[must_use]
    pub fn unreachable<'a>(&'a self, now: Timestamp, revision: &RevisionId) -> BTreeSet<&'a EndpointId> {
        self.counted(now).filter_map(|reporter| reporter.entry(revision)).flat_map(|entry| &entry.unreachable).collect()
    }

    /// Whether `reporter` is to send its names and every row again.
    #[must_use]
    pub fn wants_resync(&self, reporter: &ReporterId) -> bool {
        self.known.get(reporter).is_none_or(Reporter::wants_resync)
    }

    /// Forgets a revision that is gone.
    pub fn forget(&mut self, revision: &RevisionId) {
        for reporter in self.known.values_mut() {
            reporter.forget(revision);
        }
    }

    /// How many frames had rows that were not believed, and the latest of these rows.
    #[must_use]
    pub const fn doubts(&self) -> (u64, Option<&Doubt>) {
        (self.doubts.0, self.doubts.1.as_ref())
    }

    /// Frames and rows that were refused since the start.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
