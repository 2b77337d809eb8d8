//! One line a request, when somebody asks for it.
//!
//! Invariant: while the level is off, this costs one atomic load.

use super::{Response, Step};
use crate::error::RequestError;
use crate::request::Request;
use crate::worker::Worker;
use runtime::net::Connect;
use std::sync::Arc;
use tracing::Level;

/// Logs requests at debug level under the target `access`.
#[derive(Debug)]
pub struct AccessLog<N>(pub N);

impl<C: Connect, N: Step<C, Box<Request>>> Step<C, Box<Request>> for AccessLog<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Box<Request>) -> Result<Response<C>, RequestError> {
        if !tracing::enabled!(target: "access", Level::DEBUG) {
            return self.0.run(worker, input).await;
        }
        let began = worker.base.clock.now();
        let (method, uri, peer) = (input.head.method.clone(), input.head.uri.clone(), input.open.peer().address);
        let host = input.asked.host(&input.head.uri, input.head.version).unwrap_or_default();
        let host = String::from_utf8_lossy(host).into_owned();
        // Boxed, so that requests nobody logs have no room for it in their futures.
        let result = Box::pin(self.0.run(worker, input)).await;
        let (status, code) = match &result {
            Ok(response) => (response.status().as_u16(), ""),
            Err(error) => (error.reply().status, error.reply().code),
        };
        let waited_ms = (worker.base.clock.now() - began).as_millis();
        tracing::debug!(target: "access", %peer, %method, host, path = uri.path(), status, code, waited_ms);
        result
    }
}
