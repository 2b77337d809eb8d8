//! What is kept of a request to send it a second time (kpa-behaviour 4.6).
//!
//! Invariant: a request is sent again unchanged or not at all.

use super::trip::Outgoing;
use crate::body::{Kept, REPLAY_BYTES_MAX, RequestBody};
use crate::error::RequestError;
use http::header::HeaderName;
use http::request::Parts;
use http::{Method, Request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use std::sync::Arc;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What is needed to send a request a second time.
pub(super) struct Spare {
    head: Parts,
    kept: Option<Arc<Mutex<Kept>>>,
    repeatable: bool,
}

impl Spare {
    /// Keeps what a second sending needs, if anything can come of it. On a connection that is `trusted` a request without a
    /// body needs nothing: the connection gives it back. So nobody pays under load.
    pub(super) fn of(request: &mut Request<RequestBody>, trusted: bool) -> Option<Self> {
        let repeatable = is_repeatable(request);
        if trusted && (!repeatable || request.body().is_none()) {
            return None;
        }
        let kept = request.body_mut().keep();
        let (parts, ()) = clone_head(request).into_parts();
        Some(Self { head: parts, kept, repeatable })
    }

    /// The request once more, if it may be sent again and all of its body is at hand. One that was `refused` unseen may
    /// be, whatever its method.
    pub(super) fn again(self, refused: bool) -> Option<Request<RequestBody>> {
        if !self.repeatable && !refused {
            return None;
        }
        let body = match self.kept {
            None => RequestBody::None,
            Some(kept) => RequestBody::Again(kept.lock().whole()?),
        };
        Some(Request::from_parts(self.head, body))
    }
}

/// Whether it does no harm to carry it out twice.
pub(super) fn is_repeatable<B>(request: &Request<B>) -> bool {
    matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    ) || request.headers().contains_key(IDEMPOTENCY_KEY)
}

fn clone_head(request: &Request<RequestBody>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// Whether the activator that sent a request on has kept all of it, so that it can take it back and try elsewhere. What it
/// has not kept waits here.
pub(super) fn may_go_back(outgoing: &Outgoing) -> bool {
    let length = outgoing.as_ref().and_then(|request| request.body().size_hint().exact());
    length.is_some_and(|length| length <= REPLAY_BYTES_MAX as u64)
}

/// Reads a body to its end: only then is it kept as a whole there.
pub(super) async fn read_whole(outgoing: &mut Outgoing) -> Result<(), RequestError> {
    let Some(request) = outgoing else { return Ok(()) };
    while let Some(frame) = request.body_mut().frame().await {
        frame.map_err(|error| error.of_client())?;
    }
    Ok(())
}
