//! Host to revision.

use super::{Response, Step};
use crate::error::RequestError;
use crate::request::{Request, Routed};
use crate::worker::Worker;
use runtime::net::Connect;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Finds the revision that a request is for.
#[derive(Debug)]
pub struct Resolve<N>(pub N);

impl<C: Connect, N: Step<C, Routed<C::Stream>>> Step<C, Box<Request>> for Resolve<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Box<Request>) -> Result<Response<C>, RequestError> {
        let routed = route(worker, input).inspect_err(|_| {
            worker.unrouted.fetch_add(1, Relaxed);
        })?;
        self.0.run(worker, routed).await
    }
}

fn route<C: Connect>(worker: &Worker<C>, request: Box<Request>) -> Result<Routed<C::Stream>, RequestError> {
    let Request { head, asked, .. } = &*request;
    if asked.is_ambiguous() {
        return Err(RequestError::BadRequest("both Transfer-Encoding and Content-Length"));
    }
    let host = asked.host(&head.uri, head.version).map_err(RequestError::BadRequest)?;
    let local = worker.route(host)?;
    // Health checkers and scrapers neither count nor wake.
    let exempt = asked.exempt_agent || worker.settings.exempt_paths.iter().any(|path| path == head.uri.path());
    let limits = local.limits();
    let arrived = worker.base.clock.now();
    Ok(Routed { request, local, limits, arrived, exempt })
}
