//! Carries out what was decided: one call at a time per revision, the latest order first.
//!
//! Invariant: nothing is remembered beyond an order's short life. The brain asks again on every tick while it still wants
//! the count, so an order that was dropped or failed repairs itself, and one that was withdrawn is never sent late.

mod lanes;

use crate::metrics::Meters;
use autoscaler_core::ScaleOutcome;
use domain::{EndpointId, Replicas, RevisionId, ScaleTargetRef};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lanes::{Lanes, Retry};
use parking_lot::Mutex;
use platform::leadership::CALL_TIMEOUT;
use platform::{Platform, ScaleError};
use runtime::{Clock, WakeLog};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Scale calls under way at once.
pub const CALLS_MAX: usize = 64;
/// An order that could not be sent for this long is dropped: a little more than the 2 s after which a revision's tick
/// gives it again if it still holds.
pub const ORDER_LIFE: Duration = Duration::from_millis(2500);

/// One count to be written.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) revision: RevisionId,
    pub(crate) target: ScaleTargetRef,
    pub(crate) from: Replicas,
    pub(crate) to: Replicas,
    pub(crate) remove_first: Vec<EndpointId>,
}

/// What became of an order.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) revision: RevisionId,
    pub(crate) to: Replicas,
    pub(crate) outcome: ScaleOutcome,
}

/// Where orders are left. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders(Arc<Waiting>);

/// Bounded by the number of revisions: a later order takes the place of an earlier one.
#[derive(Debug, Default)]
struct Waiting {
    orders: Mutex<BTreeMap<RevisionId, (Instant, Order)>>,
    given: Notify,
}

impl Orders {
    /// Leaves an order, in place of an earlier one for the same revision that has not been sent.
    pub(crate) fn give(&self, order: Order) {
        self.0.orders.lock().insert(order.revision.clone(), (Instant::now(), order));
        self.0.given.notify_one();
    }

    /// Takes what may be sent now, at most `room`, and what has become too old.
    fn due(&self, lanes: &mut Lanes, now: Instant, room: usize) -> Due {
        let mut due = Due { send: Vec::new(), late: Vec::new(), next: None };
        let mut room = room;
        self.0.orders.lock().retain(|revision, (given, order)| {
            let expires = *given + ORDER_LIFE;
            let start = lanes.start(revision, now);
            if expires <= now {
                due.late.push(order.clone());
                false
            } else if room > 0 && start.is_some_and(|start| start <= now) {
                room -= 1;
                lanes.started(revision);
                due.send.push(order.clone());
                false
            } else {
                // A lane that is busy, or all of them: the end of a call comes by itself.
                let again = start.filter(|start| *start > now).map_or(expires, |start| start.min(expires));
                due.next = Some(due.next.map_or(again, |next: Instant| next.min(again)));
                true
            }
        });
        due
    }
}

/// What [`Orders::due`] found.
struct Due {
    send: Vec<Order>,
    late: Vec<Order>,
    /// When to look again.
    next: Option<Instant>,
}

/// The runner.
pub(crate) struct Applier {
    pub(crate) orders: Orders,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) clock: Clock,
    pub(crate) wakes: Option<Arc<WakeLog>>,
    pub(crate) meters: Arc<Meters>,
}

impl Applier {
    /// Carries out orders until `stop`; what waits then is dropped, and calls under way are seen to their end, so that
    /// whoever leads next finds a count that stands still.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut lanes = Lanes::default();
        let mut calls = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let Due { send, late, next } = self.orders.due(&mut lanes, now, CALLS_MAX - calls.len());
            for order in late {
                self.report(order.revision, order.to, Answer::Late).await;
            }
            for order in send {
                calls.push(self.carry_out(order));
            }
            tokio::select! {
                biased; // Outcomes before new orders: they free the lanes that new orders wait for.
                () = stop.cancelled() => break,
                Some((revision, to, answer)) = calls.next() => {
                    lanes.finished(&revision, answer.retry(), Instant::now());
                    self.report(revision, to, answer).await;
                }
                () = self.orders.0.given.notified() => {}
                () = until(next) => {}
            }
        }
        while let Some((revision, to, answer)) = calls.next().await {
            self.report(revision, to, answer).await;
        }
    }

    async fn carry_out(&self, order: Order) -> (RevisionId, Replicas, Answer) {
        let Order { revision, target, from, to, remove_first } = order;
        if !self.platform.leadership().borrow().may_call(Instant::now()) {
            return (revision, to, Answer::NoLease);
        }
        if let Some(wakes) = &self.wakes
            && from.is_zero()
            && !to.is_zero()
        {
            wakes.scale_called(&revision, self.clock.now());
        }
        let sent = Instant::now();
        let answer = match timeout(CALL_TIMEOUT, self.platform.scale(&target, from, to, &remove_first)).await {
            Ok(Ok(())) => Answer::Accepted,
            Ok(Err(error)) => Answer::Failed(error),
            Err(_) => Answer::TimedOut,
        };
        self.meters.scale_call(&revision, answer.label(), sent.elapsed());
        (revision, to, answer)
    }

    async fn report(&self, revision: RevisionId, to: Replicas, answer: Answer) {
        tracing::debug!(%revision, answer = answer.label(), "a scale order ended");
        // An error means that the loop is gone, and the program with it.
        let _ = self.done.send(Done { revision, to, outcome: answer.outcome() }).await;
    }
}

/// How an order ended.
#[derive(Debug)]
enum Answer {
    Accepted,
    Failed(ScaleError),
    TimedOut,
    NoLease,
    Late,
}

impl Answer {
    /// The metric's label.
    const fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Failed(ScaleError::Changed { .. }) => "changed",
            Self::Failed(ScaleError::NotFound(_)) => "not_found",
            Self::Failed(ScaleError::Busy(_)) => "busy",
            Self::Failed(ScaleError::Refused(_)) => "refused",
            Self::Failed(ScaleError::Unreachable(_)) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::NoLease => "no_lease",
            Self::Late => "late",
        }
    }

    /// When the revision's next order may be sent.
    const fn retry(&self) -> Retry {
        match self {
            // The count was read anew: deciding from it at once is right.
            Self::Accepted | Self::Failed(ScaleError::Changed { .. }) | Self::NoLease | Self::Late => Retry::AtOnce,
            Self::Failed(ScaleError::Busy(patience)) => Retry::After(*patience),
            Self::Failed(ScaleError::NotFound(_) | ScaleError::Refused(_) | ScaleError::Unreachable(_))
            | Self::TimedOut => Retry::BackOff,
        }
    }

    fn outcome(self) -> ScaleOutcome {
        match self {
            Self::Accepted => ScaleOutcome::Accepted,
            Self::Failed(ScaleError::Changed { now }) => ScaleOutcome::Changed { now },
            Self::Failed(error) => ScaleOutcome::Failed { message: error.to_string() },
            Self::TimedOut => ScaleOutcome::Failed { message: format!("no answer within {CALL_TIMEOUT:?}") },
            Self::NoLease => ScaleOutcome::Failed { message: "this autoscaler may not act now".into() },
            Self::Late => ScaleOutcome::Failed { message: "earlier calls are still being retried".into() },
        }
    }
}

/// Resolves at `due`; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
