//! What is asked of an [`Admission`](super::Admission) and what it answers.
//!
//! Invariant: a ticket and a slot mean one request each, and nothing any more once they were given back.

use crate::affinity::Session;
use crate::queue::Place;
use domain::Timestamp;
use std::time::Duration;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which line it stands in.
    pub class: Class,
    /// How much of a replica's concurrency it takes, at least 1. More than the limit counts as the limit.
    pub weight: u32,
    /// Whose replica it goes to while that one has room.
    pub session: Option<Session>,
    /// Since when it waits. Between lines the oldest goes first, within one whoever came first.
    pub since: Timestamp,
}

/// By so much longer another activator's request must have waited to go before ours, and by [`HOP_SHARE`] of its wait: a hop
/// leaves a slot idle for a round trip.
pub const HOP_MARGIN: Duration = Duration::from_millis(10);
/// Without it, queues that are long everywhere would swap their requests all the time.
pub const HOP_SHARE: u32 = 16;

impl Ask {
    /// Another activator's, for a request that has `waited` there.
    #[must_use]
    pub fn of_neighbour(now: Timestamp, waited: Duration) -> Self {
        let since = (now + HOP_MARGIN).before(waited - waited / HOP_SHARE);
        Self { class: Class::Neighbour, since, ..Self::default() }
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self { class: Class::Normal, weight: 1, session: None, since: Timestamp::ZERO }
    }
}

/// Lines of waiting requests. Of two that have waited equally long, the earlier of these goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Our own clients'.
    Normal,
    /// Another activator's, which has replicas of its own.
    Neighbour,
}

impl Class {
    pub(super) const COUNT: usize = 2;

    pub(super) const fn line(self) -> usize {
        match self {
            Self::Normal => 0,
            Self::Neighbour => 1,
        }
    }
}

/// Names one waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketId {
    pub(super) class: Class,
    pub(super) place: Place,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this replica now.
    Go(Slot),
    /// It waits; its waiter will be handed back with a slot.
    Wait(TicketId),
    /// Too many wait already.
    Full,
}

/// Room taken on one replica. Must be given back exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a slot that is not released is lost"]
pub struct Slot {
    pub(super) seat: SeatId,
    pub(super) weight: u32,
    pub(super) answered: bool,
}

impl Slot {
    /// Where it is.
    #[must_use]
    pub const fn seat(&self) -> SeatId {
        self.seat
    }

    /// How much of it.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }
}

/// A replica's place in the table. Places are reused under another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeatId {
    /// Its index; small, for the caller's own tables.
    pub index: u32,
    pub(super) generation: u32,
}
