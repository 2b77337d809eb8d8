//! `POST /v1/frames`: what activators report, checked and bounded before anything is made of it (kpa-behaviour 7).
//!
//! Invariant: every bound has a name, an error that says it, and a metric; a frame that is refused changes nothing, and
//! one that is answered has been handled.

mod error;
mod reporters;

pub use error::IngestError;

use crate::event_loop::{Delivery, Inbox};
use crate::metrics::Meters;
use autoscaler_core::FrameChunk;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use domain::report::{FRAME_BYTES_MAX, FRAME_MEDIA_TYPE, FRAME_ROWS_MAX, FRAME_VERSION, REPORTERS_MAX};
use domain::{Ack, Frame};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use platform::trust::{Doubt, Trust};
use reporters::Reporters;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// From the request head to the answer; the sender gives up after as long (kpa-behaviour 7.1).
pub const FRAME_DEADLINE: Duration = Duration::from_millis(800);
/// Frames being read or handled at once: a regular and an urgent one of every reporter.
pub const FRAMES_AT_ONCE: usize = 2 * REPORTERS_MAX;
/// Longest name of a reporter, in bytes: a DNS label path, as pods have.
pub const REPORTER_NAME_MAX: usize = 253;
/// Longer bodies are parsed on a thread of their own: 64 KiB take less than half a millisecond, 8 MiB some fifty.
const PARSE_INLINE_MAX: usize = 64 * 1024;

/// The receiving end of frames.
#[derive(Debug)]
pub(crate) struct Ingest {
    trust: Trust,
    inbox: Inbox,
    reporters: Mutex<Reporters>,
    room: Semaphore,
    meters: Arc<Meters>,
}

impl Ingest {
    pub(crate) fn new(trust: Trust, inbox: Inbox, meters: Arc<Meters>) -> Self {
        let room = Semaphore::new(FRAMES_AT_ONCE);
        Self { trust, inbox, reporters: Mutex::default(), room, meters }
    }

    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new().route("/v1/frames", post(receive)).with_state(self)
    }

    async fn take(&self, request: Request) -> Result<Ack, IngestError> {
        let deadline = Instant::now() + FRAME_DEADLINE;
        let (head, body) = request.into_parts();
        let pod = timeout_at(deadline, self.authorise(&head.headers)).await.map_err(|_| IngestError::Unchecked)??;
        check_head(&head.headers)?;
        let _place = timeout_at(deadline, self.room.acquire()).await.map_err(|_| IngestError::Busy)?;
        let bytes = timeout_at(deadline, read(body)).await.map_err(|_| IngestError::Slow)??;
        let frame = if bytes.len() <= PARSE_INLINE_MAX {
            parse(&bytes)?
        } else {
            tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(|_| IngestError::Busy)??
        };
        if let Some(pod) = pod.filter(|pod| pod != frame.reporter.as_str()) {
            return Err(IngestError::Forbidden(format!("the pod {pod} speaks for {}", frame.reporter)));
        }
        self.reporters.lock().admit(&frame.reporter, frame.leaving, Instant::now())?;
        self.meters.frame(frame.urgent, frame.rows.len());
        timeout_at(deadline, self.deliver(frame)).await.map_err(|_| IngestError::Busy)?
    }

    /// Hands the frame over in chunks and waits until the last one was handled.
    async fn deliver(&self, frame: Frame) -> Result<Ack, IngestError> {
        let urgent = frame.urgent;
        let (reply, handled) = oneshot::channel();
        let mut reply = Some(reply);
        for chunk in FrameChunk::split(frame) {
            let reply = if chunk.last { reply.take() } else { None };
            self.inbox.deliver(urgent, Delivery { chunk, reply }).await.map_err(|_| IngestError::Stopping)?;
        }
        handled.await.map_err(|_| IngestError::Stopping)
    }

    /// Whether the sender is heard, and the pod that it may speak for, if for one only.
    async fn authorise(&self, headers: &HeaderMap) -> Result<Option<String>, IngestError> {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let (identifies, account) = match &self.trust {
            Trust::Everyone => return Ok(None),
            Trust::Secret(token) if shown.is_some_and(|shown| token.is(shown)) => return Ok(None),
            Trust::Secret(_) => return Err(IngestError::Unauthorized),
            Trust::Pods { identifies, account } => (identifies, account),
        };
        let shown = shown.and_then(|shown| std::str::from_utf8(shown).ok()).ok_or(IngestError::Unauthorized)?;
        let caller = identifies.who(shown).await.map_err(|doubt| match doubt {
            Doubt::Refused(_) => IngestError::Unauthorized,
            Doubt::Unknown(_) => IngestError::Unchecked,
        })?;
        if caller.account != *account {
            return Err(IngestError::Forbidden(format!("{} is not the account of the activators", caller.account)));
        }
        match caller.pod {
            Some(pod) if self.inbox.lists(&pod) => Ok(Some(pod)),
            Some(pod) => Err(IngestError::Forbidden(format!("the pod {pod} is not listed as an activator"))),
            None => Err(IngestError::Forbidden("the token was not made for a pod".into())),
        }
    }
}

async fn receive(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    match ingest.take(request).await.and_then(|ack| serde_json::to_vec(&ack).map_err(|_| IngestError::Stopping)) {
        Ok(ack) => ([(header::CONTENT_TYPE, FRAME_MEDIA_TYPE)], ack).into_response(),
        Err(error) => {
            ingest.meters.refused(&error);
            tracing::debug!(%error, "a frame was refused");
            error.into_response()
        }
    }
}

fn check_head(headers: &HeaderMap) -> Result<(), IngestError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let essence = text(header::CONTENT_TYPE).and_then(|media_type| media_type.split(';').next()).unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case(FRAME_MEDIA_TYPE) {
        return Err(IngestError::MediaType);
    }
    let announced = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > FRAME_BYTES_MAX as u64) {
        return Err(IngestError::TooLarge);
    }
    Ok(())
}

async fn read(body: Body) -> Result<Bytes, IngestError> {
    match Limited::new(body, FRAME_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(IngestError::TooLarge),
        Err(_) => Err(IngestError::Broken),
    }
}

/// A body as a frame within its bounds. Pure: what a fuzzer calls.
pub(crate) fn parse(bytes: &[u8]) -> Result<Frame, IngestError> {
    /// What every version of the format starts from.
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let foreign = |v: u64| v != u64::from(FRAME_VERSION);
    let frame: Frame = serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice(bytes) {
        Ok(Version { v }) if foreign(v) => IngestError::Version(v),
        Ok(_) | Err(_) => IngestError::Malformed(error.to_string()),
    })?;
    let name = frame.reporter.as_str().len();
    if foreign(u64::from(frame.v)) {
        Err(IngestError::Version(u64::from(frame.v)))
    } else if name == 0 || name > REPORTER_NAME_MAX {
        Err(IngestError::ReporterName)
    } else if frame.rows.len() > FRAME_ROWS_MAX || frame.names.len() > FRAME_ROWS_MAX {
        Err(IngestError::TooManyRows)
    } else {
        Ok(frame)
    }
}

#[cfg(test)]
mod tests;
