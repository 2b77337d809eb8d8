//! What a request gets at the gate: a place in the queue, or room on a replica.
//!
//! Invariant: both are given back by drop.

use super::{Changed, Gate};
use crate::sharing::lent::Lent;
use activator_core::admission::{Slot, TicketId};
use domain::Timestamp;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a waiting request is told.
pub type Answer = Result<HeldSlot, StartFailure>;

/// A start failed; held requests are refused with the reason (kpa-behaviour 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// Why, for the client.
    pub reason: Arc<str>,
    /// When the next start may be asked for.
    pub retry_at: Timestamp,
}

/// What happens to a request at the gate.
#[derive(Debug)]
pub enum Entry {
    /// It goes now.
    Go(HeldSlot),
    /// It waits for an [`Answer`].
    Wait(Waiting),
    /// Too many wait: this is the bound.
    Full(u32),
    /// The last start failed and it is too early for another.
    StartFailed(StartFailure),
}

/// A place in the queue; leaving it by drop gives the place up.
#[derive(Debug)]
pub struct Waiting {
    pub(super) gate: Arc<Gate>,
    pub(super) ticket: TicketId,
    pub(super) answer: oneshot::Receiver<Answer>,
    /// It waits for a start: no replica was there.
    pub is_cold: bool,
    /// It had its turn before, and no replica took it.
    pub returns: bool,
}

impl Waiting {
    /// The slot, when the request's turn comes.
    pub async fn granted(&mut self) -> Answer {
        // The sender lives in the queue until it is granted, refused or cancelled by our own drop.
        (&mut self.answer).await.unwrap_or_else(|_| {
            Err(StartFailure { reason: "the revision was removed".into(), retry_at: Timestamp::ZERO })
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.cancel(self.ticket);
    }
}

/// Room on one replica, given back on drop.
#[derive(Debug)]
pub struct HeldSlot {
    pub(super) gate: Arc<Gate>,
    pub(super) slot: Option<Slot>,
    lent: Option<Box<Lent>>,
}

impl HeldSlot {
    /// Room on a replica of this gate.
    pub(super) const fn of(gate: Arc<Gate>, slot: Slot) -> Self {
        Self { gate, slot: Some(slot), lent: None }
    }

    /// Room that another activator lends.
    pub(super) fn lent_to(gate: Arc<Gate>, lent: Lent) -> Self {
        Self { gate, slot: None, lent: Some(Box::new(lent)) }
    }

    /// What another activator lends, if it is that.
    #[must_use]
    pub fn lent(&self) -> Option<&Lent> {
        self.lent.as_deref()
    }

    /// Takes out what is lent: nobody wanted it.
    pub(super) fn into_lent(mut self) -> Option<Lent> {
        self.lent.take().map(|lent| *lent)
    }

    /// The index of the replica's seat.
    #[must_use]
    pub fn seat_index(&self) -> u32 {
        self.slot.map_or(u32::MAX, |slot| slot.seat().index)
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.gate.change(|state| {
                state.take_back(slot);
                Changed::Room
            });
        }
    }
}
