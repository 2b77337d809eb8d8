//! What the rule of leader election is asked and answers.
//!
//! Invariant: closed lists; whoever carries out a step has seen all that can be asked.

use domain::Timestamp;
use std::time::Duration;

/// Microseconds since the Unix epoch, as a record holds them: for people, and so that no two renewals look alike.
pub type WallMicros = i64;

/// The version of a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

impl Version {
    /// Whether `self` was stored after `other`: versions are numbers that grow; of others nothing is known.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(own), Ok(other)) => own > other,
            (Err(_), _) | (_, Err(_)) => self != other,
        }
    }
}

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds the lease; empty when it was released.
    pub holder: String,
    /// How long others leave it to the holder after each renewal.
    pub held_for: Duration,
    /// When the holder got it.
    pub acquired: WallMicros,
    /// When the holder renewed it last.
    pub renewed: WallMicros,
    /// How often the lease has passed to another holder.
    pub transitions: i32,
}

/// Names one call, so that its answer is not taken for that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(super) u64);

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To lead.
    Acquire,
    /// To go on leading.
    Renew,
    /// To let another one lead at once.
    Release,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read the record.
    Read(Ticket),
    /// Store `record`: over exactly this version, or as a new one.
    Write {
        /// Names the call.
        ticket: Ticket,
        /// What for.
        purpose: Purpose,
        /// The version to be replaced; `None` when there must be no record.
        over: Option<Version>,
        /// The new record.
        record: Record,
    },
    /// Leadership has just ended by the clock. Say so, and ask again.
    Lost(Loss),
    /// Nothing before this moment, or before an answer or news; `None`: nothing but those.
    Wait(Option<Timestamp>),
    /// Resigned, and nothing is left to be done.
    Done,
}

/// What came back from a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The record as it is stored.
    Stored(Version, Record),
    /// There is no record.
    Absent,
    /// Somebody else stored something first; nothing was written.
    Conflict,
    /// Refused, broken off, or no answer in time: what it did is unknown.
    Unknown,
}

/// How leadership was won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gain {
    /// There was no record.
    First,
    /// The holder before released it; or an earlier write of this candidate had succeeded after all.
    Free,
    /// This one did not renew it in time.
    Expired(String),
}

/// Why leadership ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// No renewal has succeeded since then, for as long as the deadline is.
    NotRenewed {
        /// When the last one that did was sent.
        since: Timestamp,
    },
    /// Somebody else has written the record.
    Conflict,
    /// The record names this one.
    Taken(String),
    /// The record is gone.
    Deleted,
    /// This candidate goes.
    Resigned,
}

/// What changed for this candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It leads from now on.
    Leads(Gain),
    /// It leads no more.
    Lost(Loss),
    /// It follows this one.
    Follows(String),
}
