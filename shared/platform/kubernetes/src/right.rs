//! The right to write: what has to be held while something is written that only the leader may write.

use crate::elector::{Standing, UnderWay};
use platform::Leadership;
use tokio::sync::watch;

/// Where the right comes from. Clones are the same.
#[derive(Debug, Clone)]
pub enum Right {
    /// Nobody else writes: a person's command, a test.
    Always,
    /// An election.
    Elected(Standing),
}

impl Right {
    /// Whether this process leads, and until when.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        match self {
            Self::Always => watch::Sender::new(Leadership::Leader { until: None }).subscribe(),
            Self::Elected(standing) => standing.leadership(),
        }
    }

    /// The right to one call of at most [`platform::leadership::CALL_TIMEOUT`], held as long as the answer lives; `None`:
    /// not now.
    #[must_use]
    pub fn call(&self) -> Option<Held> {
        match self {
            Self::Always => Some(Held(None)),
            Self::Elected(standing) => standing.call().map(|call| Held(Some(call))),
        }
    }
}

/// The right is held; leadership is not given up before this is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held for its drop")] Option<UnderWay>);
