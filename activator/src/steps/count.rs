//! What is in flight, waiting requests included, and how exchanges end.

use super::{Response, Step};
use crate::error::{Outcome, RequestError};
use crate::local::Counters;
use crate::request::{Counted, Routed};
use crate::upstream::exchange::InFlight;
use crate::worker::Worker;
use domain::Timestamp;
use runtime::net::Connect;
use std::sync::Arc;
use tokio::time::Instant;

/// Counts a request from here until its answer has ended.
#[derive(Debug)]
pub struct Count<N>(pub N);

impl<C: Connect, N: Step<C, Counted<C::Stream>>> Step<C, Routed<C::Stream>> for Count<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Routed<C::Stream>) -> Result<Response<C>, RequestError> {
        // What another activator sends on is counted there.
        if input.exempt || input.claimed.is_some() {
            return self.0.run(worker, Counted { routed: input, in_flight: InFlight::none() }).await;
        }
        let (counters, arrived) = (Arc::clone(&input.local.counters), input.arrived);
        let in_flight = InFlight::enter(Arc::clone(&input.local), arrived);
        let unanswered =
            Unanswered { counters: &counters, worker, arrived, until: input.request.until.map(|until| until.at) };
        let result = self.0.run(worker, Counted { routed: input, in_flight }).await;
        let outcome = match &result {
            Ok(response) => Outcome::of_status(response.status().as_u16()),
            Err(error) => error.outcome(),
        };
        unanswered.end(outcome);
        result
    }
}

/// Counts a request whose future is dropped before it has an answer: its time was over, or its client has left.
struct Unanswered<'a, C: Connect> {
    counters: &'a Counters,
    worker: &'a Worker<C>,
    arrived: Timestamp,
    until: Option<Instant>,
}

impl<C: Connect> Unanswered<'_, C> {
    fn end(self, outcome: Outcome) {
        self.note(outcome);
        std::mem::forget(self);
    }

    fn note(&self, outcome: Outcome) {
        self.counters.answered(outcome, self.worker.base.clock.now() - self.arrived);
    }
}

impl<C: Connect> Drop for Unanswered<'_, C> {
    fn drop(&mut self) {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        self.note(if std::thread::panicking() {
            Outcome::Internal
        } else if late {
            Outcome::Timeout
        } else {
            Outcome::ClientGone
        });
    }
}
