//! What is in flight, waiting requests included, and how exchanges end.

use super::{Response, Step};
use crate::error::{Outcome, RequestError};
use crate::request::{Counted, Routed};
use crate::upstream::exchange::InFlight;
use crate::worker::Worker;
use runtime::net::Connect;
use std::sync::Arc;

/// Counts a request from here until its answer has ended.
#[derive(Debug)]
pub struct Count<N>(pub N);

impl<C: Connect, N: Step<C, Counted<C::Stream>>> Step<C, Routed<C::Stream>> for Count<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Routed<C::Stream>) -> Result<Response<C>, RequestError> {
        if input.exempt {
            return self.0.run(worker, Counted { routed: input, in_flight: None }).await;
        }
        let (counters, arrived) = (Arc::clone(&input.local.counters), input.arrived);
        let in_flight = Some(InFlight::enter(Arc::clone(&input.local), arrived));
        let result = self.0.run(worker, Counted { routed: input, in_flight }).await;
        let outcome = match &result {
            Ok(response) => Outcome::of_status(response.status().as_u16()),
            Err(error) => error.outcome(),
        };
        counters.answered(outcome, worker.base.clock.now() - arrived);
        result
    }
}
