//! One worker's HTTP/2 connections to one replica, shared by its streams (RFC 9113): cleartext by prior knowledge, or behind TLS.
//!
//! Invariant: a connection gets no more streams than [`STREAMS_MAX`]; a new one is opened instead of queueing behind the
//! peer's limit.

use super::exchange::SendError;
use crate::body::{BodyError, RequestBody};
use crate::local::Base;
use crate::tls::backend::Identity;
use crate::tls::stream::{ToReplica, suits};
use domain::Limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use runtime::net::Socket;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Streams on one connection.
pub const STREAMS_MAX: u32 = 100;

/// The connections.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Vec<Multiplexed>>);

#[derive(Debug, Clone)]
struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
    identity: Option<Arc<Identity>>,
}

/// A stream to be opened; the connection counts it until it is dropped.
#[derive(Debug)]
pub struct StreamGuard(Multiplexed);

impl StreamGuard {
    fn new(connection: Multiplexed) -> Self {
        connection.streams.fetch_add(1, Relaxed);
        Self(connection)
    }

    /// Sends `request` and waits for the response head.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        self.0.sender.try_send_request(request).await.map_err(reason)
    }
}

/// Why hyper got no answer.
fn reason(mut failed: TrySendError<Request<RequestBody>>) -> SendError {
    let request = failed.take_message();
    let mut cause = failed.error().source();
    while let Some(inner) = cause {
        if let Some(body) = inner.downcast_ref::<BodyError>() {
            return SendError::Client(body.of_client());
        }
        if let Some(h2) = inner.downcast_ref::<h2::Error>()
            && was_refused(h2)
            && request.is_none()
        {
            return SendError::Refused;
        }
        cause = inner.source();
    }
    match request {
        Some(request) => SendError::NotSent(Box::new(request)),
        None => SendError::Broken { answer_begun: failed.error().is_parse(), request: None },
    }
}

/// Whether the peer says that it has not looked at the request (RFC 9113 sections 6.8 and 8.7).
fn was_refused(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    /// A stream on a connection that has room. `secured` are the settings of a revision that asks for TLS; connections
    /// that do not suit it get no further streams.
    pub fn stream(&self, secured: Option<&Limits>) -> Option<StreamGuard> {
        let mut connections = self.0.lock();
        connections.retain(|connection| !connection.sender.is_closed() && suits(connection.identity.as_ref(), secured));
        let free = connections
            .iter()
            .find(|connection| connection.streams.load(Relaxed) < STREAMS_MAX && connection.sender.is_ready());
        free.cloned().map(StreamGuard::new)
    }

    /// A stream on a new connection.
    ///
    /// # Errors
    /// What hyper says of the handshake.
    pub async fn open<S: Socket>(&self, socket: ToReplica<S>, base: &Base) -> hyper::Result<StreamGuard> {
        let identity = socket.identity().cloned();
        let (sender, connection) = http2::Builder::new(base.line_executor())
            .max_frame_size(16 * 1024)
            .max_header_list_size(u32::try_from(crate::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(socket))
            .await?;
        base.lines.spawn("http/2 connection to a replica", async move { drop(connection.await) });
        let connection = Multiplexed { sender, streams: Arc::default(), identity };
        self.0.lock().push(connection.clone());
        Ok(StreamGuard::new(connection))
    }

    /// Forgets idle connections: a dropped sender ends them.
    pub fn tidy(&self, leaving: bool) {
        self.0
            .lock()
            .retain(|connection| !connection.sender.is_closed() && (!leaving || connection.streams.load(Relaxed) > 0));
    }
}
