//! What a frame turns out to mean.
//!
//! Invariant: a span covers whole seconds, each of them once.

use crate::window::Sample;
use domain::RevisionId;
use domain::report::FRAME_ROWS_MAX;

/// What a row means for its revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which one.
    pub revision: RevisionId,
    /// What was measured since the last regular frame; `None` for an urgent frame and for a new baseline.
    pub span: Option<Span>,
    /// Requests are there now, or were since the last regular frame.
    pub active: bool,
    /// The reporter has counted a request for it in its life, however long ago.
    pub ever: bool,
    /// Requests that arrived since the last regular frame.
    pub arrived: u64,
}

/// The same measurement for each of some seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The first second.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Average requests in flight.
    pub concurrency: f64,
    /// Requests that arrived, a second.
    pub requests: f64,
}

impl Span {
    /// Seconds in it.
    #[must_use]
    pub const fn seconds(&self) -> u64 {
        self.last + 1 - self.first
    }

    /// One sample a second.
    pub fn samples(self) -> impl Iterator<Item = Sample> {
        (self.first..=self.last).map(move |second| Sample {
            second,
            concurrency: self.concurrency,
            requests: self.requests,
        })
    }
}

/// Why a frame, or a row of it, was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An older frame arrived after a newer one.
    #[error("a newer frame was seen already")]
    Late,
    /// Clock, tick or counters went back within a life.
    #[error("readings went back")]
    WentBack,
    /// More request time than the requests that were counted can have taken.
    #[error("more request time than there can have been")]
    TooMuch,
    /// More names than rows fit in a frame.
    #[error("more than {FRAME_ROWS_MAX} revisions are named")]
    TooManyNames,
    /// More reporters than we listen to.
    #[error("more than {} reporters", domain::report::REPORTERS_MAX)]
    TooManyReporters,
}
