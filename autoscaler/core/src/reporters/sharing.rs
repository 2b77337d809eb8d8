//! Who of the activators uses which replica, where its concurrency is limited (kpa-behaviour 4.10).
//!
//! Two steps, so that no replica is ever used by two: everybody gives up what is no longer its own and says so; then, and
//! not before, everybody takes what has become its own, except what still carries requests of who gave it up. What is
//! needed for that is in the latest word of each activator, so that an autoscaler that begins to act knows as much.
//!
//! Invariant: a sharing is settled only when every activator whose counts are in force goes by it.

use super::{Reporter, Reporters};
use domain::{EndpointId, ReporterId, RevisionId, Sharing, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An activator that is listed and says nothing keeps what it shares for so long: it may only be cut off from us. So long
/// one that is listed and was never heard is waited for.
pub const SHARE_KEPT: Duration = Duration::from_secs(10);

impl Reporters {
    /// How activators share now; `None` while it is not known who they are, and what was told before stays in force.
    #[must_use]
    pub fn sharing(&mut self, now: Timestamp) -> Option<Sharing> {
        self.shared += 1;
        if self.awaited.values().any(|since| now.since(*since) <= SHARE_KEPT) {
            return None;
        }
        let all: Vec<(&ReporterId, &Reporter)> =
            self.counted_by_name(now).filter(|(_, reporter)| now.since(reporter.heard()) <= SHARE_KEPT).collect();
        let named = |draining: bool| -> Vec<ReporterId> {
            let wanted = all.iter().filter(|(_, reporter)| draining || !reporter.draining());
            wanted.map(|(id, _)| (*id).clone()).collect()
        };
        // Where everybody leaves, the last ones still have to serve what they hold.
        let members = Some(named(false)).filter(|members| !members.is_empty()).unwrap_or_else(|| named(true));
        let fingerprint = Sharing::fingerprint(&members);
        let settled = all.iter().all(|(_, reporter)| reporter.sharing() == Some(fingerprint));
        let mut held: BTreeMap<&RevisionId, BTreeSet<&EndpointId>> = BTreeMap::new();
        for (revision, endpoints) in all.iter().flat_map(|(_, reporter)| reporter.held()) {
            held.entry(revision).or_default().extend(endpoints);
        }
        let held = held.into_iter().map(|(id, endpoints)| (id.clone(), endpoints.into_iter().cloned().collect()));
        Some(Sharing { members, settled, held: held.collect(), number: self.shared, word: String::new() })
    }
}
