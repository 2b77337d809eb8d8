//! One worker's HTTP/2 connections to one replica, shared by its streams (RFC 9113, cleartext by prior knowledge).
//!
//! Invariant: a connection gets no more streams than [`STREAMS_MAX`]; a new one is opened instead of queueing behind the
//! peer's limit.

use crate::body::RequestBody;
use crate::local::Base;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use runtime::net::Socket;
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
    /// What hyper says, with the request where none of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.0.sender.try_send_request(request).await
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    /// A stream on a connection that has room.
    pub fn stream(&self) -> Option<StreamGuard> {
        let mut connections = self.0.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let free = connections
            .iter()
            .find(|connection| connection.streams.load(Relaxed) < STREAMS_MAX && connection.sender.is_ready());
        free.cloned().map(StreamGuard::new)
    }

    /// A stream on a new connection.
    ///
    /// # Errors
    /// What hyper says of the handshake.
    pub async fn open<S: Socket>(&self, socket: S, base: &Base) -> hyper::Result<StreamGuard> {
        let (sender, connection) = http2::Builder::new(base.line_executor())
            .max_frame_size(16 * 1024)
            .max_header_list_size(u32::try_from(crate::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(socket))
            .await?;
        base.lines.spawn("http/2 connection to a replica", async move { drop(connection.await) });
        let connection = Multiplexed { sender, streams: Arc::default() };
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
