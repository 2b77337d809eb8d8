//! Who goes to which replica now, and who waits: one per revision.
//!
//! Invariants: first in, first out within a class, and the oldest first between them; no replica carries more than the container concurrency, and without
//! one no more of a queue than its [`pace`](crate::pace) lets through; room never coexists with a waiting request once
//! [`Admission::grant`] has returned fewer grants than it was allowed; at most `queue_depth` wait. Knative's breaker
//! (knative-behaviour 12) keeps two semaphores for this and lets them disagree; here there is one state.

mod ask;

pub use ask::{Ask, Class, HOP_MARGIN, HOP_SHARE, SeatId, Slot, TicketId, Verdict};

use crate::affinity::{SeatKey, preferred};
use crate::balance::Chooser;
use crate::pace::{Pace, UNANSWERED_MAX};
use crate::queue::Queue;
use domain::{LoadBalancing, Timestamp};
use std::num::NonZeroU32;
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
struct Seat {
    generation: u32,
    key: SeatKey,
    state: SeatState,
    in_use: u32,
    /// What of that it has begun to answer; counted where no limit is.
    answering: u32,
    /// While it is let through what waited, and no limit says how much.
    pace: Option<Pace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeatState {
    Vacant,
    Closed,
    Open,
}

#[derive(Debug)]
struct Waiting<W> {
    ask: Ask,
    waiter: W,
}

/// The queue and the replicas of one revision. `W` is handed back when the request may go.
#[derive(Debug)]
pub struct Admission<W> {
    limit: Option<NonZeroU32>,
    queue_depth: usize,
    chooser: Chooser,
    seats: Vec<Seat>,
    open: usize,
    /// Some seat has a pace.
    paced: bool,
    /// Requests whose session has a replica, and that got another.
    strayed: u64,
    lines: [Queue<Waiting<W>>; Class::COUNT],
}

impl<W> Admission<W> {
    /// No replica, nobody waiting.
    #[must_use]
    pub fn new(limit: Option<NonZeroU32>, queue_depth: u32, policy: LoadBalancing, seed: u64) -> Self {
        Self {
            limit,
            queue_depth: queue_depth as usize,
            chooser: Chooser::new(policy, seed),
            seats: Vec::new(),
            open: 0,
            paced: false,
            strayed: 0,
            lines: [const { Queue::new() }; Class::COUNT],
        }
    }

    /// Changes the settings. What is over a lower limit finishes; what a higher one allows is given by
    /// [`Admission::grant`].
    pub fn configure(&mut self, limit: Option<NonZeroU32>, queue_depth: u32, policy: LoadBalancing) {
        let changes_kind = self.limit.is_some() != limit.is_some();
        self.limit = limit;
        self.queue_depth = queue_depth as usize;
        self.chooser.set_policy(policy);
        if changes_kind {
            (0..self.seats.len()).for_each(|index| self.begin_pace(index));
        }
    }

    /// A request arrives: it goes, waits (then, and only then, `waiter` is made) or is refused.
    pub fn admit(&mut self, ask: Ask, waiter: impl FnOnce() -> W) -> Verdict {
        if let Some(slot) = self.spare(ask) {
            return Verdict::Go(slot);
        }
        let line = &mut self.lines[ask.class.line()];
        if line.len() >= self.queue_depth {
            return Verdict::Full;
        }
        let place = line.push_back(Waiting { ask, waiter: waiter() });
        Verdict::Wait(TicketId { class: ask.class, place })
    }

    /// A request that a replica did not take comes back: it keeps its place at the head, whatever the depth of the
    /// queue. The caller still holds and then releases the slot it had.
    pub fn readmit(&mut self, ask: Ask, waiter: impl FnOnce() -> W) -> Verdict {
        self.slow_down();
        match self.claim(ask) {
            Some(slot) => Verdict::Go(slot),
            None => {
                let place = self.lines[ask.class.line()].push_front(Waiting { ask, waiter: waiter() });
                Verdict::Wait(TicketId { class: ask.class, place })
            }
        }
    }

    /// Gives room back. Follow with [`Admission::grant`].
    pub fn release(&mut self, slot: Slot) {
        if let Some(seat) = self.seats.get_mut(slot.seat.index as usize)
            && seat.generation == slot.seat.generation
        {
            debug_assert!(seat.in_use >= slot.weight, "a slot was released twice");
            seat.in_use = seat.in_use.saturating_sub(slot.weight);
            if slot.answered {
                seat.answering = seat.answering.saturating_sub(slot.weight);
            }
        }
    }

    /// The replica has begun to answer what holds `slot`. Follow with [`Admission::grant`].
    pub fn answered(&mut self, slot: &mut Slot) {
        let weight = slot.weight;
        if self.limit.is_none()
            && !slot.answered
            && let Some(seat) = self.seat_mut(slot.seat)
        {
            slot.answered = true;
            seat.answering += weight;
            if let Some(pace) = seat.pace.as_mut() {
                pace.answered();
            }
        }
    }

    /// Time passes for replicas that are let through a queue at their own pace, each for `at_most` so long. Follow with
    /// [`Admission::grant`].
    pub fn look(&mut self, now: Timestamp, at_most: Duration) {
        self.paced = false;
        for seat in &mut self.seats {
            if seat.pace.as_mut().is_some_and(|pace| pace.look(now, at_most)) {
                seat.pace = None;
            }
            self.paced |= seat.pace.is_some();
        }
    }

    /// Whether [`Admission::look`] changes anything now.
    #[must_use]
    pub const fn is_paced(&self) -> bool {
        self.paced
    }

    /// Hands free room to those who wait, oldest first, at most `max` of them. Fewer than `max` means that nobody else can
    /// go now.
    pub fn grant(&mut self, max: usize, granted: &mut Vec<(W, Slot)>) -> usize {
        let before = granted.len();
        while granted.len() - before < max {
            let Some(ask) = self.next() else { break };
            let Some(slot) = self.claim(ask) else { break };
            if let Some(waiting) = self.lines[ask.class.line()].pop_front() {
                granted.push((waiting.waiter, slot));
            }
        }
        self.settle();
        granted.len() - before
    }

    /// What the oldest of all that wait asks for.
    fn next(&self) -> Option<Ask> {
        let [normal, neighbour] = &self.lines;
        match (normal.front(), neighbour.front()) {
            (Some(own), Some(other)) if other.ask.since < own.ask.since => Some(other.ask),
            (Some(first), _) | (None, Some(first)) => Some(first.ask),
            (None, None) => None,
        }
    }

    /// A waiting request leaves. `None` when it was granted or cancelled before.
    pub fn cancel(&mut self, ticket: TicketId) -> Option<W> {
        let left = self.lines[ticket.class.line()].remove(ticket.place).map(|waiting| waiting.waiter);
        self.settle();
        left
    }

    /// Takes the oldest waiting request of a class out of the queue, to be refused or to go where no seat is.
    pub fn take_next(&mut self, class: Class) -> Option<W> {
        let next = self.lines[class.line()].pop_front().map(|waiting| waiting.waiter);
        self.settle();
        next
    }

    /// Room for one request that does not wait; none while others do.
    pub fn spare(&mut self, ask: Ask) -> Option<Slot> {
        if self.anyone_waiting() { None } else { self.claim(ask) }
    }

    /// A replica appears, which sessions know by `key`. It gets nothing before [`Admission::set_open`].
    #[expect(clippy::cast_possible_truncation, reason = "replicas are far fewer than 2^32")]
    pub fn add_seat(&mut self, key: SeatKey) -> SeatId {
        let index = self.seats.iter().position(|seat| seat.state == SeatState::Vacant).unwrap_or_else(|| {
            self.seats.push(Seat { generation: 0, key, state: SeatState::Vacant, in_use: 0, answering: 0, pace: None });
            self.seats.len() - 1
        });
        let seat = &mut self.seats[index];
        seat.key = key;
        seat.state = SeatState::Closed;
        (seat.in_use, seat.answering) = (0, 0);
        SeatId { index: index as u32, generation: seat.generation }
    }

    /// Lets a replica be sent requests, or not (draining, suspect, not ready). Follow an opening with
    /// [`Admission::grant`].
    pub fn set_open(&mut self, id: SeatId, open: bool) {
        let state = if open { SeatState::Open } else { SeatState::Closed };
        if let Some(seat) = self.seat_mut(id)
            && seat.state != state
        {
            seat.state = state;
            if open {
                self.open += 1;
            } else {
                self.open -= 1;
            }
            self.begin_pace(id.index as usize);
        }
    }

    /// A replica is gone: slots on it mean nothing any more.
    pub fn remove_seat(&mut self, id: SeatId) {
        self.set_open(id, false);
        if let Some(seat) = self.seat_mut(id) {
            seat.state = SeatState::Vacant;
            seat.generation = seat.generation.wrapping_add(1);
            (seat.in_use, seat.answering) = (0, 0);
        }
    }

    /// Requests of our own clients waiting.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.lines[Class::Normal.line()].len()
    }

    /// Since when the first of them waits.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Timestamp> {
        self.lines[Class::Normal.line()].front().map(|waiting| waiting.ask.since)
    }

    /// Whether somebody waits, of whatever class.
    #[must_use]
    pub fn anyone_waiting(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    /// Replicas that may be sent requests.
    #[must_use]
    pub const fn open_seats(&self) -> usize {
        self.open
    }

    /// Replicas that are let through a queue at their own pace.
    #[must_use]
    pub fn paced_seats(&self) -> usize {
        self.seats.iter().filter(|seat| seat.pace.is_some()).count()
    }

    /// What a replica carries through slots; 0 when it is gone.
    #[must_use]
    pub fn in_use(&self, id: SeatId) -> u32 {
        self.seats.get(id.index as usize).filter(|seat| seat.generation == id.generation).map_or(0, |seat| seat.in_use)
    }

    /// What a replica carries through slots is `in_use`, whatever was counted: its caller knows better. Follow with
    /// [`Admission::grant`].
    pub fn correct(&mut self, id: SeatId, in_use: u32) {
        if let Some(seat) = self.seat_mut(id) {
            (seat.in_use, seat.answering) = (in_use, seat.answering.min(in_use));
        }
    }

    /// Requests that went to another replica than their session's, which had no room.
    #[must_use]
    pub const fn strayed(&self) -> u64 {
        self.strayed
    }

    /// Whether requests need slots at all once nobody waits.
    #[must_use]
    pub const fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    fn seat_mut(&mut self, id: SeatId) -> Option<&mut Seat> {
        self.seats
            .get_mut(id.index as usize)
            .filter(|seat| seat.generation == id.generation && seat.state != SeatState::Vacant)
    }

    /// Where somebody waits and no limit says how much of that a replica may get.
    fn begin_pace(&mut self, index: usize) {
        let needed = self.limit.is_none() && self.anyone_waiting();
        let seat = &mut self.seats[index];
        seat.pace = (needed && seat.state == SeatState::Open).then(|| Pace::new(seat.in_use));
        self.paced = self.seats.iter().any(|seat| seat.pace.is_some());
    }

    /// Requests that come back were not in the queue meanwhile, and may come all at once.
    fn slow_down(&mut self) {
        if self.limit.is_some() {
            return;
        }
        for seat in self.seats.iter_mut().filter(|seat| seat.state == SeatState::Open && seat.pace.is_none()) {
            if seat.in_use - seat.answering >= UNANSWERED_MAX {
                seat.pace = Some(Pace::full(seat.in_use));
                self.paced = true;
            }
        }
    }

    /// Nobody waits: what comes now comes at its own pace.
    fn settle(&mut self) {
        if self.paced && !self.anyone_waiting() {
            self.paced = false;
            for seat in &mut self.seats {
                seat.pace = None;
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "replicas are far fewer than 2^32")]
    fn claim(&mut self, Ask { weight, session, .. }: Ask) -> Option<Slot> {
        if self.open == 0 {
            return None;
        }
        let limit = self.limit.map_or(u32::MAX, NonZeroU32::get);
        let weight = weight.clamp(1, limit);
        let seats = &self.seats;
        let room = |i: usize| {
            let seat = &seats[i];
            let room = seat.pace.map_or(limit, |pace| pace.window(seat.answering));
            let fits = seat.in_use.saturating_add(weight.min(room)) <= room;
            (seat.state == SeatState::Open && fits).then_some(seat.in_use)
        };
        let home = session.and_then(|session| {
            let open = |i: usize| (seats[i].state == SeatState::Open).then_some((seats[i].key, seats[i].in_use));
            preferred(session, seats.len(), open)
        });
        let index = match home {
            Some(home) if room(home.index).is_some() && !(self.limit.is_none() && home.is_crowded) => home.index,
            Some(_) | None => self.chooser.choose(seats.len(), room)?,
        };
        self.strayed += u64::from(home.is_some_and(|home| home.index != index));
        let seat = &mut self.seats[index];
        seat.in_use += weight;
        let seat = SeatId { index: index as u32, generation: seat.generation };
        Some(Slot { seat, weight, answered: false })
    }
}

#[cfg(test)]
mod tests;
