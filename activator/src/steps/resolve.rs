//! Host to revision.

use super::{Response, Step};
use crate::error::RequestError;
use crate::headers;
use crate::request::{Request, Routed};
use crate::settings::Settings;
use crate::worker::Worker;
use http::header::USER_AGENT;
use http::request::Parts;
use runtime::net::Connect;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Finds the revision that a request is for.
#[derive(Debug)]
pub struct Resolve<N>(pub N);

impl<C: Connect, N: Step<C, Routed<C::Stream>>> Step<C, Request> for Resolve<N> {
    async fn run(&self, worker: &Arc<Worker<C>>, input: Request) -> Result<Response<C>, RequestError> {
        let routed = route(worker, input).inspect_err(|_| {
            worker.unrouted.fetch_add(1, Relaxed);
        })?;
        self.0.run(worker, routed).await
    }
}

fn route<C: Connect>(worker: &Worker<C>, request: Request) -> Result<Routed<C::Stream>, RequestError> {
    if headers::is_ambiguous(&request.head.headers) {
        return Err(RequestError::BadRequest("both Transfer-Encoding and Content-Length"));
    }
    let host = headers::host(&request.head).map_err(RequestError::BadRequest)?;
    let local = worker.route(host)?;
    let exempt = is_exempt(&worker.settings, &request.head);
    let limits = local.limits();
    let arrived = worker.base.clock.now();
    Ok(Routed { request, local, limits, arrived, until: None, exempt })
}

/// Health checkers and scrapers neither count nor wake.
fn is_exempt(settings: &Settings, head: &Parts) -> bool {
    let agent = head.headers.get(USER_AGENT).map(|agent| agent.as_bytes());
    agent.is_some_and(|agent| settings.exempt_agents.iter().any(|prefix| agent.starts_with(prefix.as_bytes())))
        || settings.exempt_paths.iter().any(|path| path == head.uri.path())
}
