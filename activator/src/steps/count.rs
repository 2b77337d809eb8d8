//! What is in flight, waiting requests included, and how exchanges end.

use super::{Response, Step};
use crate::error::{Outcome, RequestError};
use crate::local::Counters;
use crate::local::watchdog::Present;
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
        let counts = !input.exempt && input.claimed.is_none();
        let present = Present::new(Arc::clone(&input.local.counters), counts);
        if !counts {
            let result = self.0.run(worker, Counted { routed: input, in_flight: InFlight::none() }).await;
            return result.map(|response| response.map(|body| body.with_presence(present)));
        }
        let arrived = input.arrived;
        let in_flight = InFlight::enter(Arc::clone(&input.local), arrived);
        let until = input.request.until.map(|until| until.at);
        let unanswered = Unanswered { counters: present.counters(), worker, arrived, until };
        let result = self.0.run(worker, Counted { routed: input, in_flight }).await;
        let outcome = match &result {
            Ok(response) => Outcome::of_status(response.status().as_u16()),
            Err(error) => error.outcome(),
        };
        unanswered.end(outcome);
        result.map(|response| response.map(|body| body.with_presence(present)))
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
