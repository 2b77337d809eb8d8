//! Replicas of limited concurrency that are divided among activators (kpa-behaviour 4.10).
//!
//! Invariant: a seat that is not ours gets nothing from us; what another activator lends goes to who has waited longest.

use super::{AbortOnPanic, Changed, Entry, Gate, HeldSlot, Waiting};
use crate::sharing::lent::Lent;
use activator_core::admission::{Ask, Class, Verdict};
use activator_core::{Part, Warmth};
use domain::{EndpointId, ReporterId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

impl Gate {
    /// Which replicas are ours from now on, and which of those still carry requests of another activator.
    pub fn share(&self, now: Timestamp, part: &Arc<Part>, held: &BTreeSet<EndpointId>) {
        self.change(|state| {
            if *state.part == **part && state.held == *held {
                return Changed::Room;
            }
            for seat in state.seats.iter_mut().flatten() {
                let id = &seat.endpoint.id;
                seat.allowed = part.allows(id, seat.allowed, held.contains(id));
            }
            (state.part, state.held) = (Arc::clone(part), held.clone());
            state.reseat(now);
            Changed::Snapshot
        });
    }

    /// Replicas that are not ours any more and still carry requests of ours.
    #[must_use]
    pub fn held(&self) -> Vec<EndpointId> {
        let state = self.state.lock();
        if !state.is_shared() {
            return Vec::new();
        }
        let held = state.seats.iter().flatten().filter(|seat| !seat.allowed && state.admission.in_use(seat.id) > 0);
        held.map(|seat| seat.endpoint.id.clone()).collect()
    }

    /// How many replicas we send requests to.
    #[must_use]
    pub fn own(&self) -> usize {
        self.state.lock().admission.open_seats()
    }

    /// The other activators that have replicas of this revision, while somebody waits here.
    #[must_use]
    pub fn lenders(&self) -> BTreeSet<ReporterId> {
        let state = self.state.lock();
        let Part::Of { members, .. } = &*state.part else { return BTreeSet::new() };
        let mut lenders = BTreeSet::new();
        if !state.is_shared() || state.admission.waiting() == 0 {
            return lenders;
        }
        for seat in state.seats.iter().flatten().filter(|seat| state.usable(seat)) {
            if lenders.len() + 1 >= members.len() {
                break;
            }
            lenders.extend(state.part.other_owner(&seat.endpoint.id).cloned());
        }
        lenders
    }

    /// What another activator lends goes to who has waited longest.
    ///
    /// # Errors
    /// Nobody waits: it goes back.
    pub fn lend(&self, mut lent: Lent) -> Result<(), Lent> {
        let Some(gate) = self.itself.upgrade() else { return Err(lent) };
        loop {
            let next = {
                let _abort = AbortOnPanic::new();
                let mut state = self.state.lock();
                let next = state.admission.take_next(Class::Normal);
                self.publish(&state);
                next
            };
            let Some(waiter) = next else { return Err(lent) };
            let slot = HeldSlot::lent_to(Arc::clone(&gate), lent);
            // Whoever has left in this moment takes nothing with it.
            match waiter.send(Ok(slot)).map_err(|unsent| unsent.ok().and_then(HeldSlot::into_lent)) {
                Err(Some(back)) => lent = back,
                Ok(()) | Err(None) => return Ok(()),
            }
        }
    }

    /// For how long the oldest of those that wait here has.
    #[must_use]
    pub fn waited(&self, now: Timestamp) -> Duration {
        self.state.lock().admission.waiting_since().map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Another activator asks for room, for a request that has `waited` there. It is no load of ours, and gets what our own
    /// clients leave that have waited as long, or nearly (`HOP_MARGIN`).
    #[must_use]
    pub fn borrow(&self, now: Timestamp, waited: Duration) -> Option<Entry> {
        let gate = self.itself.upgrade()?;
        let _abort = AbortOnPanic::new();
        let mut state = self.state.lock();
        if !state.is_shared() || !matches!(state.warmth, Warmth::Warm { .. }) {
            return None;
        }
        let mut answer = None;
        let verdict = state.admission.admit(Ask::of_neighbour(now, waited), || {
            let (sender, receiver) = oneshot::channel();
            answer = Some(receiver);
            sender
        });
        self.publish(&state);
        match (verdict, answer) {
            (Verdict::Go(slot), _) => Some(Entry::Go(HeldSlot::out(gate, &mut state, slot))),
            (Verdict::Wait(ticket), Some(answer)) => {
                Some(Entry::Wait(Waiting { gate, ticket, answer, is_cold: false, returns: false }))
            }
            (Verdict::Wait(_), None) | (Verdict::Full, _) => None,
        }
    }

    /// Room on a replica of ours that nobody waits for.
    #[must_use]
    pub fn spare(&self) -> Option<HeldSlot> {
        let gate = self.itself.upgrade()?;
        let _abort = AbortOnPanic::new();
        let mut state = self.state.lock();
        let slot = state.admission.spare(Ask::default())?;
        Some(HeldSlot::out(gate, &mut state, slot))
    }
}
