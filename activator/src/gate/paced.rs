//! Replicas without a limit that are let through the queue at the pace of their answers (kpa-behaviour 4.5).
//!
//! Invariant: no lock is taken for a request that did not wait.

use super::{Changed, Gate, HeldSlot};
use domain::Timestamp;
use std::sync::atomic::Ordering;

impl Gate {
    /// How many there are.
    #[must_use]
    pub fn paced(&self) -> usize {
        self.state.lock().admission.paced_seats()
    }

    /// Time passes: one that says nothing gets more all the same. To be called a few times a second.
    pub fn look(&self, now: Timestamp) {
        if self.paced.load(Ordering::Acquire) {
            self.change(|state| {
                // Before anybody's patience is over: whom a replica could take is not refused for its pace.
                state.admission.look(now, *state.limits.queue_timeout / 2);
                Changed::Room
            });
        }
    }
}

impl HeldSlot {
    /// The replica has begun its answer.
    pub fn answered(&mut self) {
        if let Some(slot) = self.slot.as_mut().filter(|_| !self.gate.is_limited()) {
            self.gate.change(|state| {
                state.admission.answered(slot);
                Changed::Room
            });
        }
    }
}
