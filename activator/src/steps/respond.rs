//! The outermost step: whatever fails below becomes an answer, and a panic becomes a 500.
//!
//! Invariant: a client sees a stable code and a sentence, never internal text.

use super::{Response, Step};
use crate::body::ResponseBody;
use crate::error::RequestError;
use crate::headers::Tongue;
use crate::request::Request;
use crate::worker::Worker;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{StatusCode, Version};
use runtime::net::Connect;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Which of our errors an answer tells.
pub const REASON: HeaderName = HeaderName::from_static("x-kpa-reason");

/// Turns errors into answers.
#[derive(Debug)]
pub struct Respond<N>(pub N);

impl<N> Respond<N> {
    /// Answers every request.
    ///
    /// # Errors
    /// Never.
    pub async fn answer<C: Connect>(
        &self,
        worker: &Arc<Worker<C>>,
        request: Box<Request>,
    ) -> Result<Response<C>, Infallible>
    where
        N: Step<C, Box<Request>>,
    {
        let (tongue, version) = (request.asked.tongue, request.head.version);
        let result = AssertUnwindSafe(self.0.run(worker, request)).catch_unwind().await;
        let mut last = worker.is_draining();
        let mut response = match result {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if let Some(limit) = error.limit() {
                    worker.base.bounds.refuse(limit);
                }
                // Its rest is not waited for: the connection is of no more use (RFC 9110 section 15.5.9). Where we and the
                // client may disagree about what was said, what follows is no request (RFC 9112 section 6.3); CONNECT may
                // be followed by the tunnel's first bytes.
                use RequestError::{BadRequest, MethodRefused, RequestStalled};
                last |= matches!(error, RequestStalled(_) | BadRequest(_) | MethodRefused);
                refuse::<C>(&error, tongue)
            }
            Err(_) => refuse::<C>(&RequestError::Internal, tongue),
        };
        if last && version != Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// An error as its client wants to be told of it.
pub fn refuse<C: Connect>(error: &RequestError, tongue: Tongue) -> Response<C> {
    let reply = error.reply();
    let (body, content_type) = match tongue {
        Tongue::Grpc => (String::new(), "application/grpc"),
        Tongue::Text => (format!("{error}\n"), "text/plain; charset=utf-8"),
        Tongue::Json => {
            let body = serde_json::json!({ "error": { "code": reply.code, "message": error.to_string() } });
            (format!("{body}\n"), "application/json")
        }
    };
    let mut response = http::Response::new(ResponseBody::full(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(REASON, HeaderValue::from_static(reply.code));
    if let Some(seconds) = reply.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if tongue == Tongue::Grpc {
        // Trailers-only: a gRPC caller reads the status from the head.
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(reply.grpc)));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&error.to_string())) {
            headers.insert(GRPC_MESSAGE, message);
        }
    } else {
        *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    response
}

/// gRPC's encoding of a status message: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_callers_read_the_status_from_the_head() {
        let answer = refuse::<runtime::net::Tcp>(&RequestError::QueueFull(7), Tongue::Grpc);
        assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].to_str().unwrap()), (200, "14"));
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        assert_eq!(percent_encoded("50 % ü"), "50 %25 %C3%BC");
    }
}
