//! The two bodies of an exchange, one concrete type each way.
//!
//! Invariants: both forward `is_end_stream` and `size_hint`, without which an answer with no body grows one and gRPC's
//! trailers-only answers break; the permit and the in-flight count fall when the response body ends, fails or is dropped,
//! whichever is first.

use crate::deadline::Deadline;
use crate::error::RequestError;
use crate::request::{Peer, Until};
use crate::upstream::exchange::Exchange;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use runtime::net::Socket;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Most bytes of a request body that are kept to send it again.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection it came from broke.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// A clock ran out.
    #[error(transparent)]
    Clock(RequestError),
}

/// A request body on its way to a replica.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// Nothing.
    #[default]
    None,
    /// Streamed from the client.
    Stream(Box<Upload>),
    /// Sent again from what was kept.
    Again(VecDeque<Bytes>),
}

/// A body that is being streamed from the client.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    kept: Option<Arc<Mutex<Kept>>>,
    silence: Option<Duration>,
    deadline: Deadline,
}

/// The beginning of a body, for a replay.
#[derive(Debug, Default)]
pub struct Kept {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    complete: bool,
    too_long: bool,
}

impl Kept {
    /// The whole body, if it was all kept.
    pub fn whole(&self) -> Option<VecDeque<Bytes>> {
        (self.complete && !self.too_long).then(|| self.chunks.clone())
    }

    fn push(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len();
        if self.bytes > REPLAY_BYTES_MAX {
            self.too_long = true;
            self.chunks.clear();
        } else {
            self.chunks.push_back(chunk.clone());
        }
    }
}

impl RequestBody {
    /// The body of a client's request; `silence` bounds how long the client may pause. `kept` collects it for a replay.
    pub fn from_client(incoming: Incoming, silence: Option<Duration>, kept: Option<Arc<Mutex<Kept>>>) -> Self {
        if incoming.is_end_stream() {
            return Self::None;
        }
        Self::Stream(Box::new(Upload { incoming, kept, silence, deadline: Deadline::never() }))
    }

    /// Whether there is nothing to send.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Collects what is sent from now on, so that it can be sent again.
    pub fn keep(&mut self) -> Option<Arc<Mutex<Kept>>> {
        match self {
            Self::Stream(upload) => Some(Arc::clone(upload.kept.get_or_insert_default())),
            Self::None | Self::Again(_) => None,
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                if self.silence.is_some() {
                    self.deadline.set(None);
                }
                if let Some(kept) = &self.kept {
                    let mut kept = kept.lock();
                    match &frame {
                        Some(Ok(frame)) => match frame.data_ref() {
                            Some(data) => kept.push(data),
                            // Trailers are not kept: a request with them is not sent again.
                            None => kept.too_long = true,
                        },
                        Some(Err(_)) => kept.too_long = true,
                        None => kept.complete = true,
                    }
                    kept.complete |= self.incoming.is_end_stream();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
            }
            Poll::Pending => {
                let Some(silence) = self.silence else { return Poll::Pending };
                if !self.deadline.is_set() {
                    self.deadline.set(Some(Instant::now() + silence));
                }
                self.deadline.poll(cx).map(|()| Some(Err(BodyError::Clock(RequestError::RequestStalled(silence)))))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Stream(upload) => upload.poll(cx),
            Self::Again(chunks) => Poll::Ready(chunks.pop_front().map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Stream(upload) => upload.incoming.is_end_stream(),
            Self::Again(chunks) => chunks.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.incoming.size_hint(),
            Self::Again(chunks) => SizeHint::with_exact(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
        }
    }
}

/// Marks a request as open on its client's connection until dropped.
#[derive(Debug)]
pub struct Open(Arc<Peer>);

impl Open {
    /// A request has arrived on the connection.
    #[must_use]
    pub fn new(peer: Arc<Peer>) -> Self {
        peer.watch.begin();
        Self(peer)
    }

    /// Who sent it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watch.end();
    }
}

/// An answer on its way to a client.
#[derive(Debug)]
pub struct ResponseBody<S: Socket> {
    content: Content<S>,
    /// Falls last: the connection counts as idle when the answer is done with.
    open: Option<Open>,
}

#[derive(Debug)]
enum Content<S: Socket> {
    Empty,
    Full(Bytes),
    Upstream(Box<Stream<S>>),
}

/// A replica's answer.
#[derive(Debug)]
pub struct Stream<S: Socket> {
    incoming: Option<Incoming>,
    exchange: Option<Exchange<S>>,
    silence: Option<Duration>,
    until: Option<Until>,
    /// The nearer of the two.
    deadline: Deadline,
}

impl<S: Socket> ResponseBody<S> {
    /// An answer of our own.
    pub fn full(content: Bytes) -> Self {
        Self { content: if content.is_empty() { Content::Empty } else { Content::Full(content) }, open: None }
    }

    /// No body.
    pub const fn empty() -> Self {
        Self { content: Content::Empty, open: None }
    }

    /// A replica's answer.
    pub fn upstream(stream: Stream<S>) -> Self {
        Self { content: Content::Upstream(Box::new(stream)), open: None }
    }

    /// Keeps the client's connection marked as busy until this body is done with.
    #[must_use]
    pub fn with_open(mut self, open: Open) -> Self {
        self.open = Some(open);
        self
    }
}

impl<S: Socket> Stream<S> {
    /// `incoming` on the connection of `exchange`; `silence` is allowed between frames, and all must be over at `until`.
    pub fn new(incoming: Incoming, exchange: Exchange<S>, silence: Option<Duration>, until: Option<Until>) -> Self {
        let mut stream =
            Self { incoming: Some(incoming), exchange: Some(exchange), silence, until, deadline: Deadline::never() };
        stream.deadline.set(stream.next_due());
        stream
    }

    fn next_due(&self) -> Option<Instant> {
        let silence = self.silence.map(|silence| Instant::now() + silence);
        match (silence, self.until) {
            (Some(silence), Some(until)) => Some(silence.min(until.at)),
            (Some(silence), None) => Some(silence),
            (None, until) => until.map(|until| until.at),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (Some(incoming), Some(exchange)) = (&mut self.incoming, &mut self.exchange) else {
            return Poll::Ready(None);
        };
        match exchange.poll_body(incoming, cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if incoming.is_end_stream() {
                    self.finish();
                } else if self.silence.is_some() {
                    self.deadline.set(self.next_due());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.incoming = None;
                self.exchange = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if self.deadline.poll(cx).is_ready() {
                    let error = match self.until {
                        Some(until) if Instant::now() >= until.at => RequestError::Timeout(until.total),
                        Some(_) | None => RequestError::Timeout(self.silence.unwrap_or_default()),
                    };
                    self.incoming = None;
                    self.exchange = None;
                    return Poll::Ready(Some(Err(BodyError::Clock(error))));
                }
                Poll::Pending
            }
        }
    }

    /// The answer has ended: the connection may go back, the permit and the count fall.
    fn finish(&mut self) {
        self.incoming = None;
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
    }
}

impl<S: Socket> Drop for Stream<S> {
    fn drop(&mut self) {
        if let (Some(incoming), Some(exchange)) = (self.incoming.take(), self.exchange.take()) {
            exchange.abandon(Some(incoming));
        }
    }
}

impl<S: Socket> Body for ResponseBody<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(content) => {
                let content = std::mem::take(content);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(content))))
            }
            Content::Upstream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Upstream(stream) => stream.incoming.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(content) => SizeHint::with_exact(content.len() as u64),
            Content::Upstream(stream) => {
                stream.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
        }
    }
}
