//! What follows a client's head, by either version of HTTP.
//!
//! Invariants: what has been read of a stream of HTTP/2 is room for its client at once; a body of HTTP/1.1 reads nothing
//! behind its own end.

use super::BodyError;
use crate::connection::Window;
use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What a client sends after its head.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing, by HTTP/1.1.
    Nothing,
    /// By HTTP/1.1.
    Http1(ClientBody),
    /// By HTTP/2.
    Http2(Stream),
}

/// Where bodies come from by HTTP/1.1: a connection, which knows which of its requests is the newest.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// The next part of the body of that request.
    fn poll_frame(&self, serial: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;

    /// Whether nothing of it is left.
    fn is_over(&self, serial: u32) -> bool;

    /// What is known of what is left of it.
    fn size_hint(&self, serial: u32) -> SizeHint;
}

/// The body of one request on a connection.
#[derive(Debug)]
pub struct ClientBody {
    source: Arc<dyn Source>,
    serial: u32,
}

impl ClientBody {
    /// Of the newest request of `source`, which is called `serial`.
    pub fn new(source: Arc<dyn Source>, serial: u32) -> Self {
        Self { source, serial }
    }
}

/// The client's half of a stream.
#[derive(Debug)]
pub struct Stream {
    recv: RecvStream,
    /// Bytes that are still to come, if the head says how many; h2 holds the client to it (RFC 9113 section 8.1.1).
    left: Option<u64>,
    data_ended: bool,
    is_read: bool,
    window: Arc<Window>,
}

impl Stream {
    /// The body that a head with these fields announces, on a connection whose streams have this `window`.
    #[must_use]
    pub fn new(recv: RecvStream, headers: &HeaderMap, window: Arc<Window>) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { recv, left: length, data_ended: false, is_read: false, window }
    }

    /// What the client may send before somebody reads it, in bytes.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.window.bytes()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.is_read {
            self.is_read = true;
            self.window.wanted();
        }
        if !self.data_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails for more than was received, which this is not.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        self.recv.poll_trailers(cx).map(|trailers| trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => body.source.poll_frame(body.serial, cx),
            Self::Http2(stream) => stream.poll(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::Stream))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.source.is_over(body.serial),
            Self::Http2(stream) => stream.recv.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(body) => body.source.size_hint(body.serial),
            Self::Http2(stream) => stream.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
