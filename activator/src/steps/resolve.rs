//! Host and path to revision.
//!
//! Invariant: what contradicts itself or came to the wrong place goes no further (RFC 9110 section 7.4, RFC 9112 section 3.2).

use super::{Response, Step};
use crate::error::RequestError;
use crate::headers::session::session;
use crate::request::{Door, Request, Routed};
use crate::sharing::CLAIM;
use crate::worker::{Worker, well_formed};
use crate::{HEADERS_MAX, URI_BYTES_MAX};
use http::uri::Scheme;
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
    let Request { head, asked, open, body, .. } = &*request;
    let peer = open.peer();
    let uri_bytes = head.uri.path_and_query().map_or(0, |target| target.as_str().len())
        + head.uri.authority().map_or(0, |authority| authority.as_str().len());
    if uri_bytes > URI_BYTES_MAX {
        return Err(RequestError::UriTooLong(uri_bytes));
    }
    // Those of HTTP/1.1 were counted where they were read.
    if head.headers.len() > HEADERS_MAX {
        return Err(RequestError::TooManyFields(head.headers.len()));
    }
    asked.check(head, body.is_over()).map_err(RequestError::BadRequest)?;
    let host = asked.host(&head.uri, head.version).map_err(RequestError::BadRequest)?;
    if let Some(scheme) = head.uri.scheme()
        && *scheme != Scheme::HTTP
        && !((peer.trusted || peer.door == Door::Secure) && *scheme == Scheme::HTTPS)
    {
        return Err(RequestError::Misdirected);
    }
    if asked.is_claimed() {
        well_formed(host)?;
        return claimed(worker, request);
    }
    let named = match peer.door {
        Door::Public | Door::Secure => None,
        Door::Internal => asked.named_revision(&head.headers).map_err(RequestError::BadRequest)?,
    };
    let local = match named {
        None => worker.route(host, &head.uri)?,
        Some(id) => {
            well_formed(host)?;
            worker.named(&id)?
        }
    };
    // Health checkers and scrapers neither count nor wake.
    let exempt = asked.exempt_agent || peer.settings.exempt_paths.iter().any(|path| path == head.uri.path());
    let limits = local.limits();
    let session = limits.session_affinity.as_ref().and_then(|affinity| session(affinity, &head.headers));
    let arrived = worker.base.clock.now();
    Ok(Routed { request, local, limits, session, arrived, exempt, claimed: None })
}

/// A request that another activator has announced: it has found its revision, and a slot is kept for it.
fn claimed<C: Connect>(worker: &Worker<C>, request: Box<Request>) -> Result<Routed<C::Stream>, RequestError> {
    let mark = request.head.headers.get(CLAIM).ok_or(RequestError::Internal)?;
    let (handle, slot) = worker.revisions.shares().claims.redeem(mark).ok_or(RequestError::ClaimUnknown)?;
    let local = worker.named(&handle.id)?;
    let limits = local.limits();
    let arrived = worker.base.clock.now();
    // Who announced it has seen to where it goes; what it belongs to says so again only where that replica fails.
    let session = limits.session_affinity.as_ref().and_then(|affinity| session(affinity, &request.head.headers));
    Ok(Routed { request, local, limits, session, arrived, exempt: false, claimed: Some(Box::new(slot)) })
}
