//! Waiting for a replica with room.
//!
//! Invariants: on the open path nothing shared is written; a waiting request holds its place until it goes, is refused,
//! runs out of patience or its client leaves, and a grant beats a deadline that comes at the same moment.

use super::{Response, Step};
use crate::bounds::{Stock, Taken};
use crate::error::RequestError;
use crate::gate::{Entry, HeldSlot, StartFailure, Waiting};
use crate::local::watchdog::Parked;
use crate::local::{Counters, Local, Permit};
use crate::request::{Admitted, Counted, Routed, Wait};
use crate::worker::Worker;
use activator_core::Warmth;
use activator_core::admission::Ask;
use domain::Timestamp;
use runtime::net::Connect;
use runtime::watched::Watch;
use std::sync::Arc;
use std::time::Duration;

/// How often a waiting request looks whether its client is still there, and whether its time has changed.
pub const LOOK: Duration = Duration::from_millis(500);

/// Waits until a replica has room.
#[derive(Debug)]
pub struct AwaitCapacity<N>(pub N);

impl<C: Connect, N: Step<C, Admitted<C::Stream>>> Step<C, Counted<C::Stream>> for AwaitCapacity<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, mut counted: Counted<C::Stream>) -> Result<Response<C>, RequestError> {
        let local = &counted.routed.local;
        if let Some(slot) = counted.routed.claimed.take() {
            // Its replica may have left since: whoever announced the request has it back.
            let permit = local.permit(*slot).ok_or(RequestError::ClaimUnknown)?;
            return self.0.run(worker, Admitted { counted, permit, wait: Wait::default() }).await;
        }
        let open = if local.handle.gate.is_open() { local.choose(counted.routed.session) } else { None };
        let (permit, wait) = match open {
            Some(seat) => (Permit::new(seat, None), Wait::default()),
            None if counted.routed.exempt && !matches!(local.handle.gate.warmth(), Warmth::Warm { .. }) => {
                return Err(RequestError::NoCapacity);
            }
            None => {
                let Routed { arrived, session, ref mut request, .. } = counted.routed;
                let ask = Ask { session, since: arrived, ..Ask::default() };
                match local.handle.gate.enter(arrived, ask) {
                    Entry::Go(slot) if let Some(seat) = local.seat(slot.seat_index()) => {
                        (Permit::new(seat, Some(slot)), Wait::default())
                    }
                    // Boxed: every request's future would have room for the waiting that few of them do.
                    entry @ (Entry::Go(_) | Entry::Wait(_) | Entry::Full(_) | Entry::StartFailed(_)) => {
                        if matches!(entry, Entry::Wait(_)) {
                            request.body.hold(&worker.base.bounds, worker.settings.load().held_bytes_max)?;
                        }
                        Box::pin(acquire(worker, local, (arrived, ask), &request.open.peer().watch, entry)).await?
                    }
                }
            }
        };
        self.0.run(worker, Admitted { counted, permit, wait }).await
    }
}

/// Follows an entry at the gate to a permit, for a request that has `arrived` and was asked for as `ask` says.
///
/// # Errors
/// Refused, or waited too long.
pub async fn acquire<C: Connect>(
    worker: &Worker<C>,
    local: &Arc<Local<C::Stream>>,
    (arrived, ask): (Timestamp, Ask),
    watch: &Watch,
    mut entry: Entry,
) -> Result<(Permit<C::Stream>, Wait), RequestError> {
    let mut wait = Wait::default();
    loop {
        let slot = match entry {
            Entry::Go(slot) => slot,
            Entry::Full(depth) => return Err(RequestError::QueueFull(depth)),
            Entry::StartFailed(failure) => return Err(start_failed(worker, &failure)),
            Entry::Wait(mut waiting) => {
                wait.cold |= waiting.is_cold;
                let _held = if waiting.returns {
                    Held::returning(worker, watch, &local.counters)
                } else {
                    Held::admitted(worker, watch, local)?
                };
                let slot = patiently(worker, local, arrived, &mut waiting).await?;
                wait.queued = worker.base.clock.now() - arrived;
                slot
            }
        };
        match local.permit(slot) {
            Some(permit) => return Ok((permit, wait)),
            // The replica left between the grant and now: the request keeps its place.
            None => entry = local.handle.gate.reenter(worker.base.clock.now(), ask),
        }
    }
}

async fn patiently<C: Connect>(
    worker: &Worker<C>,
    local: &Local<C::Stream>,
    arrived: Timestamp,
    waiting: &mut Waiting,
) -> Result<HeldSlot, RequestError> {
    loop {
        let (now, (due, warmth)) = (worker.base.clock.now(), local.handle.gate.patience(arrived));
        if now >= due {
            return Err(match warmth {
                Warmth::Warm { .. } => RequestError::QueueTimeout(now - arrived),
                Warmth::Waking { .. } | Warmth::Asleep => {
                    let trouble = local.handle.gate.trouble();
                    RequestError::not_started(*local.limits().start_deadline, trouble.as_deref())
                }
            });
        }
        let look = LOOK.min(due - now);
        // A grant beats the clock; and each look wakes the connection, which then sees whether its client has left.
        tokio::select! {
            biased;
            answer = waiting.granted() => return answer.map_err(|failure| start_failed(worker, &failure)),
            () = tokio::time::sleep(look) => {}
        }
    }
}

fn start_failed<C: Connect>(worker: &Worker<C>, failure: &StartFailure) -> RequestError {
    let retry_after = failure.retry_at - worker.base.clock.now();
    RequestError::StartFailed { reason: Arc::clone(&failure.reason), retry_after }
}

/// Counts a request among all that are held, and has the connection look for a hang-up meanwhile.
pub(super) struct Held<'a> {
    watch: &'a Watch,
    _taken: Taken,
    _parked: Parked<'a>,
}

impl<'a> Held<'a> {
    /// One that waits at the gate of `local`.
    ///
    /// # Errors
    /// As many wait as may, in all or at this gate.
    fn admitted<C: Connect>(
        worker: &Worker<C>,
        watch: &'a Watch,
        local: &'a Local<C::Stream>,
    ) -> Result<Self, RequestError> {
        let max = u64::from(worker.settings.load().held_requests_max);
        if u64::from(local.handle.gate.waiting()) > max / 2 {
            return Err(RequestError::HeldShareFull(max / 2));
        }
        let taken = worker.base.bounds.take(Stock::HeldRequests, 1, max);
        Ok(Self::of(watch, taken.ok_or(RequestError::HeldRequestsFull(max))?, &local.counters))
    }

    /// One that was admitted before: it keeps its place, however many wait.
    pub(super) fn returning<C: Connect>(worker: &Worker<C>, watch: &'a Watch, counters: &'a Counters) -> Self {
        Self::of(watch, worker.base.bounds.take_anyway(Stock::HeldRequests, 1), counters)
    }

    fn of(watch: &'a Watch, taken: Taken, counters: &'a Counters) -> Self {
        watch.hold();
        Self { watch, _taken: taken, _parked: Parked::new(counters) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.watch.let_go();
    }
}
