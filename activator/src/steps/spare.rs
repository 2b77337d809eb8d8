//! What is kept of a request to send it a second time (kpa-behaviour 4.6).
//!
//! Invariant: a request is sent again unchanged or not at all.

use crate::body::{Kept, RequestBody};
use http::header::HeaderName;
use http::request::Parts;
use http::{Method, Request};
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
