//! One worker's HTTP/2 connections to one replica, shared by its streams (RFC 9113): cleartext by prior knowledge, or behind TLS.
//!
//! Invariants: a connection gets no more streams than [`STREAMS_MAX`]; a new one is opened instead of queueing behind the
//! peer's limit. As many requests wait for one that is being opened: a burst at a new replica opens few.

use super::exchange::SendError;
use crate::body::RequestBody;
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
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::sync::watch;

/// Streams on one connection.
pub const STREAMS_MAX: u32 = 100;

/// What a replica may send on a stream before its client takes it, in bytes. As much waits for one client at most.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// No bound but that of the streams: clients that do not read must not use up what those beside them need. The library's
/// bound on unread small frames is half of this, and is meant for strangers; a replica that sends a token a frame is none.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The connections.
#[derive(Debug, Default)]
pub struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    connections: Vec<Multiplexed>,
    /// One that is being opened and that others may still wait for.
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    /// Closed when it is over, with whether it has failed.
    failed: watch::Receiver<bool>,
    streams: u32,
}

/// How a request comes to a stream.
#[derive(Debug)]
enum Turn<'a> {
    Stream(StreamGuard),
    /// When somebody else has opened a connection.
    Wait(watch::Receiver<bool>),
    Open(Opener<'a>),
}

/// Who opens a connection. When it leaves early, those who wait look again.
#[derive(Debug)]
struct Opener<'a> {
    shared: &'a Shared,
    failed: watch::Sender<bool>,
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        if state.opening.as_ref().is_some_and(|opening| self.failed.subscribe().same_channel(&opening.failed)) {
            state.opening = None;
        }
    }
}

impl State {
    fn stream(&mut self, secured: Option<&Limits>) -> Option<StreamGuard> {
        self.connections
            .retain(|connection| !connection.sender.is_closed() && suits(connection.identity.as_ref(), secured));
        let has_room =
            |connection: &&Multiplexed| connection.streams.load(Relaxed) < STREAMS_MAX && connection.sender.is_ready();
        self.connections.iter().find(has_room).cloned().map(StreamGuard::new)
    }
}

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
    pub async fn send(&mut self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        let fault = request.body_mut().fault();
        self.0.sender.try_send_request(request).await.map_err(|failed| {
            // Only the stream's reset is told here, which the replica might have sent.
            fault.and_then(|fault| fault.of_client()).map_or_else(|| reason(failed), SendError::Client)
        })
    }
}

/// Why hyper got no answer.
fn reason(mut failed: TrySendError<Request<RequestBody>>) -> SendError {
    let request = failed.take_message();
    let mut cause = failed.error().source();
    while let Some(inner) = cause {
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
        self.0.lock().stream(secured)
    }

    /// A stream on a connection that `connect` or somebody else has just opened; nothing where that failed.
    pub async fn open<S: Socket>(
        &self,
        secured: Option<&Limits>,
        connect: impl Future<Output = Option<ToReplica<S>>>,
        base: &Base,
    ) -> Option<StreamGuard> {
        loop {
            match self.turn(secured) {
                Turn::Stream(stream) => return Some(stream),
                Turn::Wait(mut failed) => {
                    while failed.changed().await.is_ok() {}
                    if *failed.borrow() {
                        return None;
                    }
                }
                Turn::Open(opener) => {
                    let stream = match connect.await {
                        Some(socket) => self.shake_hands(socket, base).await.ok(),
                        None => None,
                    };
                    opener.failed.send_replace(stream.is_none());
                    return stream;
                }
            }
        }
    }

    fn turn(&self, secured: Option<&Limits>) -> Turn<'_> {
        let mut state = self.0.lock();
        if let Some(stream) = state.stream(secured) {
            return Turn::Stream(stream);
        }
        if let Some(opening) = &mut state.opening
            && opening.streams < STREAMS_MAX
        {
            opening.streams += 1;
            return Turn::Wait(opening.failed.clone());
        }
        let (sender, failed) = watch::channel(false);
        state.opening = Some(Opening { failed, streams: 1 });
        Turn::Open(Opener { shared: self, failed: sender })
    }

    async fn shake_hands<S: Socket>(&self, socket: ToReplica<S>, base: &Base) -> hyper::Result<StreamGuard> {
        let identity = socket.identity().cloned();
        let (mut sender, connection) = http2::Builder::new(base.line_executor())
            .max_frame_size(16 * 1024)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(crate::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(socket))
            .await?;
        base.lines.spawn("http/2 connection to a replica", async move { drop(connection.await) });
        // Before that nobody else would find it ready.
        sender.ready().await?;
        let connection = Multiplexed { sender, streams: Arc::default(), identity };
        let stream = StreamGuard::new(connection.clone());
        self.0.lock().connections.push(connection);
        Ok(stream)
    }

    /// Forgets idle connections: a dropped sender ends them.
    pub fn tidy(&self, leaving: bool) {
        self.0
            .lock()
            .connections
            .retain(|connection| !connection.sender.is_closed() && (!leaving || connection.streams.load(Relaxed) > 0));
    }
}
