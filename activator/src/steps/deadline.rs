//! The clock over the whole exchange: `kpa.dev/timeout` and a gRPC caller's own deadline.

use super::{Response, Step};
use crate::error::RequestError;
use crate::headers;
use crate::request::{Routed, Until};
use crate::worker::Worker;
use runtime::net::Connect;
use std::sync::Arc;
use tokio::time::Instant;

/// Ends what takes too long. Most requests have no such clock and pay nothing.
#[derive(Debug)]
pub struct Deadline<N>(pub N);

impl<C: Connect, N: Step<C, Routed<C::Stream>>> Step<C, Routed<C::Stream>> for Deadline<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, mut input: Routed<C::Stream>) -> Result<Response<C>, RequestError> {
        let asked = headers::grpc_deadline(&input.request.head, &input.request.asked);
        let Some(total) = input.limits.timeout.value.into_iter().chain(asked).min() else {
            return self.0.run(worker, input).await;
        };
        let at = Instant::now() + total;
        input.request.until = Some(Until { at, total });
        // Boxed, so that requests without such a clock have no room for it in their futures.
        let limited = Box::pin(tokio::time::timeout_at(at, self.0.run(worker, input)));
        limited.await.unwrap_or(Err(RequestError::Timeout(total)))
    }
}
