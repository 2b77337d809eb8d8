//! What the activator answers for itself on the traffic port, for any Host: `/.kpa/healthz` (kpa-behaviour 3.4), and
//! other activators.

use super::{Response, Step, lend};
use crate::body::ResponseBody;
use crate::error::RequestError;
use crate::request::Request;
use crate::worker::Worker;
use bytes::Bytes;
use http::{Method, StatusCode};
use runtime::net::Connect;
use std::sync::Arc;

/// Where the activator answers for itself.
pub const HEALTH_PATH: &str = "/.kpa/healthz";

/// Answers health probes and other activators; passes everything else on.
#[derive(Debug)]
pub struct Probe<N>(pub N);

impl<C: Connect, N: Step<C, Box<Request>>> Step<C, Box<Request>> for Probe<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Box<Request>) -> Result<Response<C>, RequestError> {
        if input.head.uri.path() == HEALTH_PATH {
            let (status, text) = if worker.is_draining() || !worker.revisions.is_synced() {
                (StatusCode::SERVICE_UNAVAILABLE, "draining or starting\n")
            } else {
                (StatusCode::OK, "ok\n")
            };
            let mut response = http::Response::new(ResponseBody::full(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            return Ok(response);
        }
        if lend::is_asked(worker, &input.head) {
            return Ok(Box::pin(lend::lend(worker, input.head.uri)).await);
        }
        if matches!(input.head.method, Method::CONNECT | Method::TRACE) {
            return Err(RequestError::MethodRefused);
        }
        self.0.run(worker, input).await
    }
}
