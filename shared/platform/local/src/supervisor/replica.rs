//! One replica as the supervisor sees it: a slot number, the process that fills it, and how often that has crashed.
//!
//! Invariant: an [`EndpointId`] names one process; a restart of the slot gets a new one.

use super::backoff::Crashes;
use domain::{EndpointId, Timestamp};
use std::time::Duration;

/// Where a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No process: it crashed and is not started again before this moment.
    Backoff {
        /// When it is started again.
        until: Timestamp,
    },
    /// It runs and has never been ready, or is not ready any more.
    Starting,
    /// It answers.
    Ready,
    /// It gets no new requests and is told to end when it is let go, at this moment at the latest.
    Draining {
        /// When TERM is sent at the latest.
        until: Timestamp,
    },
    /// TERM (or its preStop) was sent; KILL follows at this moment.
    Stopping {
        /// When KILL is sent.
        kill_at: Timestamp,
    },
    /// KILL was sent.
    Killed,
}

/// One replica.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) id: EndpointId,
    pub(super) slot: u32,
    /// The generation of the workload it was started from.
    pub(super) generation: u64,
    /// Where it should listen. None while it has no process.
    pub(super) port: Option<u16>,
    /// Where it listens instead (a program that ignores `PORT`).
    pub(super) fixed_port: Option<u16>,
    pub(super) gpus: Vec<u32>,
    pub(super) state: State,
    /// Order of birth among all processes ever started.
    pub(super) born: u64,
    pub(super) started: Timestamp,
    /// When its slot was filled.
    pub(super) since: Timestamp,
    /// The leader of its process group, once that is known.
    pub(super) pid: Option<i32>,
    /// This process was ready once: it may have requests.
    pub(super) served: bool,
    /// Starts in a row that found their port taken.
    pub(super) port_changes: u32,
    /// How long it may take to end after TERM.
    pub(super) grace: Duration,
    pub(super) crashes: Crashes,
}

impl Replica {
    /// Whether it counts towards what was asked for.
    pub(super) const fn is_member(&self) -> bool {
        match self.state {
            State::Backoff { .. } | State::Starting | State::Ready => true,
            State::Draining { .. } | State::Stopping { .. } | State::Killed => false,
        }
    }

    /// Whether a process exists.
    pub(super) const fn has_process(&self) -> bool {
        !matches!(self.state, State::Backoff { .. })
    }

    /// The smallest leaves first when a count is lowered and nobody said which: waiting to restart, then youngest not
    /// ready, then youngest.
    pub(super) const fn leaving_order(&self) -> (u8, std::cmp::Reverse<u64>) {
        let rank = match self.state {
            State::Backoff { .. } => 0,
            State::Starting => 1,
            State::Ready => 2,
            State::Draining { .. } | State::Stopping { .. } | State::Killed => 3,
        };
        (rank, std::cmp::Reverse(self.born))
    }
}
