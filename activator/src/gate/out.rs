//! Slots that are out, counted apart from [`Admission`](activator_core::Admission), and compared with it.
//!
//! Invariant: both counts change under the same lock, so any difference is a defect. It can be corrected: what is out is all
//! that can ever be given back.

use super::entry::HeldSlot;
use super::state::State;
use super::{Changed, Gate};
use crate::local::watchdog::WATCH_EVERY;
use activator_core::admission::Slot;
use domain::{RevisionId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl State {
    /// A slot leaves the gate, for a request.
    pub(super) fn hand_out(&mut self, slot: &Slot) {
        if let Some(seat) = self.seat_of(slot) {
            seat.out = seat.out.saturating_add(slot.weight());
        }
    }

    /// It comes back.
    pub(super) fn take_back(&mut self, slot: Slot) {
        if let Some(seat) = self.seat_of(&slot) {
            seat.out = seat.out.saturating_sub(slot.weight());
        }
        self.admission.release(slot);
    }

    /// The replica of a slot, unless it is gone: then the slot means nothing.
    fn seat_of(&mut self, slot: &Slot) -> Option<&mut super::state::Seat> {
        let seat = self.seats.get_mut(slot.seat().index as usize)?.as_mut()?;
        (seat.id == slot.seat()).then_some(seat)
    }
}

impl HeldSlot {
    /// A slot that leaves now.
    pub(super) fn out(gate: Arc<Gate>, state: &mut State, slot: Slot) -> Self {
        state.hand_out(&slot);
        Self::of(gate, slot)
    }
}

impl Gate {
    /// Compares both counts for every replica, unless another worker has just done so. What was differed the time before too is
    /// told, and what is out is taken for true: a slot that nobody has is free, and one that somebody has is not.
    pub fn watch(&self, now: Timestamp, revision: &RevisionId) {
        let mut told = Vec::new();
        self.change(|state| {
            if state.watched.is_some_and(|at| now.since(at) < WATCH_EVERY / 2) {
                return Changed::Room;
            }
            state.watched = Some(now);
            for seat in state.seats.iter_mut().flatten() {
                let count = state.admission.in_use(seat.id);
                if let Some(off) = seat.sight.look(i64::from(count) - i64::from(seat.out)) {
                    told.push((seat.endpoint.id.clone(), count, seat.out, off));
                    state.admission.correct(seat.id, seat.out);
                }
            }
            Changed::Room
        });
        for (endpoint, count, there, off) in told {
            self.differences.fetch_add(1, Relaxed);
            tracing::error!(
                %revision, %endpoint, what = "slots", count, there, off,
                "a count differs from what is there, and did {WATCH_EVERY:?} ago; it is what is there from now on; please \
                 report this"
            );
        }
    }

    /// How often the two counts differed.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.differences.load(Relaxed)
    }
}
