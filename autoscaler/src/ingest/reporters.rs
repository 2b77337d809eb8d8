//! Who has reported lately.
//!
//! Invariant: at most [`REPORTERS_MAX`] are listened to, and none of them can be pushed out by a newcomer.

use super::IngestError;
use domain::ReporterId;
use domain::report::REPORTERS_MAX;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A reporter that is silent for this long makes room for another one.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The reporters and when each was last heard.
#[derive(Debug, Default)]
pub(super) struct Reporters(BTreeMap<ReporterId, Instant>);

impl Reporters {
    /// Counts a frame of `reporter`; one that is leaving gives its place back.
    pub(super) fn admit(&mut self, reporter: &ReporterId, leaving: bool, now: Instant) -> Result<(), IngestError> {
        if leaving {
            self.0.remove(reporter);
            return Ok(());
        }
        if let Some(heard) = self.0.get_mut(reporter) {
            *heard = now;
            return Ok(());
        }
        if self.0.len() >= REPORTERS_MAX {
            self.0.retain(|_, heard| now.saturating_duration_since(*heard) < FORGET_AFTER);
        }
        if self.0.len() >= REPORTERS_MAX {
            return Err(IngestError::TooManyReporters);
        }
        self.0.insert(reporter.clone(), now);
        Ok(())
    }
}
