//! Frames to one autoscaler.
//!
//! Invariant: a frame is bounded in time; whatever fails, the next one carries everything.

use crate::line::{Line, LineError};
use bytes::Bytes;
use domain::report::{FRAME_BYTES_MAX, FRAME_MEDIA_TYPE};
use domain::{Ack, Frame};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;
use runtime::Tasks;
use runtime::net::Connect;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one frame may take, answer included.
pub const POST_LIMIT: Duration = Duration::from_millis(800);

/// Sends `frame` and gives the answer.
///
/// # Errors
/// It was not acknowledged.
pub async fn post<C: Connect>(
    line: &mut Line,
    connector: &C,
    to: SocketAddr,
    authorization: Option<HeaderValue>,
    frame: &Frame,
    tasks: &Tasks,
) -> Result<Ack, LineError> {
    let unreadable = |error: serde_json::Error| LineError::Answer(error.to_string());
    let body = serde_json::to_vec(frame).map_err(unreadable)?;
    let mut request = Request::new(Full::new(Bytes::from(body)));
    (*request.method_mut(), *request.uri_mut()) = (http::Method::POST, Uri::from_static("/v1/frames"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_MEDIA_TYPE));
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    let answer = line.exchange(connector, to, request, (POST_LIMIT, FRAME_BYTES_MAX), tasks).await?;
    serde_json::from_slice(&answer).map_err(unreadable)
}
