//! What a client sends, on its way to a replica.
//!
//! Invariant: a pause of the client ends it only where the revision bounds pauses; what is kept for a second sending is
//! the whole body or nothing.

use super::{BodyError, Incoming, Open};
use crate::bounds::{Bounds, Stock, Taken};
use crate::deadline::Deadline;
use crate::error::RequestError;
use crate::headers;
use crate::request::Peer;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Most bytes of a request body that are kept to send it again.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// Most parts of it, because each takes up room of its own. One that comes a byte at a time is not kept.
const REPLAY_PARTS_MAX: usize = 1024;

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

/// A client's body. When it is dropped before its end, its connection knows that more may come.
#[derive(Debug)]
pub struct FromClient {
    incoming: Incoming,
    /// Where it comes by HTTP/1.1; streams of HTTP/2 are reset one by one.
    peer: Option<Arc<Peer>>,
    /// While nobody reads it.
    held: Held,
}

/// What keeps a client whose body nobody reads from filling memory with it.
#[derive(Debug, Default)]
enum Held {
    /// Somebody reads, or the client's bytes stay in the kernel.
    #[default]
    No,
    /// It has so much room, and this is counted.
    Counted { _bytes: Taken },
}

impl FromClient {
    /// What follows the head of a request.
    #[must_use]
    pub fn new(incoming: Incoming, open: &Open) -> Self {
        let is_of_connection = matches!(incoming, Incoming::Http1(_)) && !incoming.is_end_stream();
        let peer = is_of_connection.then(|| open.shared_peer());
        Self { incoming, peer, held: Held::No }
    }

    /// Whether nothing follows the head.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Nobody reads it for a while. Over HTTP/1.1 that costs what came together with the head; over HTTP/2 the client goes
    /// on sending until its stream's window is full. That must fit into `max`, over all who wait.
    ///
    /// # Errors
    /// It does not.
    pub fn hold(&mut self, bounds: &Arc<Bounds>, max: u64) -> Result<(), RequestError> {
        let Incoming::Http2(stream) = &self.incoming else { return Ok(()) };
        if matches!(self.held, Held::No) && !self.incoming.is_end_stream() {
            let window = u64::from(stream.window());
            let bytes = self.incoming.size_hint().upper().map_or(window, |length| length.min(window));
            let held = bounds.take(Stock::HeldBytes, bytes, max);
            self.held = Held::Counted { _bytes: held.ok_or(RequestError::HeldBytesFull(max))? };
        }
        Ok(())
    }
}

impl Drop for FromClient {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer
            && !self.incoming.is_end_stream()
        {
            peer.watch.leave_unread();
        }
    }
}

/// Why a client's body broke off, for whoever has it sent by a library, which does not say.
#[derive(Debug, Clone, Default)]
pub struct Fault(Arc<OnceLock<RequestError>>);

impl Fault {
    /// What the client is told; nothing where its body is not the reason.
    #[must_use]
    pub fn of_client(&self) -> Option<RequestError> {
        self.0.get().cloned()
    }
}

/// A body that is being streamed from the client.
#[derive(Debug)]
pub struct Upload {
    body: FromClient,
    kept: Option<Arc<Mutex<Kept>>>,
    fault: Option<Fault>,
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
        self.too_long |= self.bytes > REPLAY_BYTES_MAX || self.chunks.len() == REPLAY_PARTS_MAX;
        if self.too_long {
            self.chunks = VecDeque::new();
        } else {
            self.chunks.push_back(chunk.clone());
        }
    }
}

impl RequestBody {
    /// The body of a client's request; `silence` bounds how long the client may pause.
    pub fn from_client(body: FromClient, silence: Option<Duration>) -> Self {
        if body.incoming.is_end_stream() {
            return Self::None;
        }
        Self::Stream(Box::new(Upload { body, kept: None, fault: None, silence, deadline: Deadline::never() }))
    }

    /// Nobody reads it for a while: [`FromClient::hold`].
    ///
    /// # Errors
    /// What it may take up does not fit into `max`.
    pub fn hold(&mut self, bounds: &Arc<Bounds>, max: u64) -> Result<(), RequestError> {
        match self {
            Self::Stream(upload) => upload.body.hold(bounds, max),
            Self::None | Self::Again(_) => Ok(()),
        }
    }

    /// Whether there is nothing to send.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Tells from now on why it breaks off.
    pub fn fault(&mut self) -> Option<Fault> {
        match self {
            Self::Stream(upload) => Some(upload.fault.get_or_insert_default().clone()),
            Self::None | Self::Again(_) => None,
        }
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
        if !matches!(self.body.held, Held::No) {
            self.body.held = Held::No;
        }
        match Pin::new(&mut self.body.incoming).poll_frame(cx) {
            Poll::Ready(mut frame) => {
                if let Some(Ok(frame)) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    headers::strip_trailers(trailers);
                }
                if self.silence.is_some() {
                    self.deadline.set(None);
                }
                if frame.is_none() {
                    self.body.peer = None;
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
                    kept.complete |= self.body.incoming.is_end_stream();
                }
                Poll::Ready(frame)
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
            Self::Stream(upload) => {
                let frame = ready!(upload.poll(cx));
                if let (Some(Err(error)), Some(fault)) = (&frame, &upload.fault) {
                    // The first reason is the reason.
                    let _ = fault.0.set(error.of_client());
                }
                Poll::Ready(frame)
            }
            Self::Again(chunks) => Poll::Ready(chunks.pop_front().map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Stream(upload) => upload.body.incoming.is_end_stream(),
            Self::Again(chunks) => chunks.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.body.incoming.size_hint(),
            Self::Again(chunks) => SizeHint::with_exact(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_bound_in_bytes_and_in_parts() {
        for (part, count, fits) in [
            (REPLAY_BYTES_MAX, 1, true),
            (REPLAY_BYTES_MAX / 2, 3, false),
            (1, REPLAY_PARTS_MAX, true),
            (1, REPLAY_PARTS_MAX + 1, false),
        ] {
            let mut kept = Kept::default();
            (0..count).for_each(|_| kept.push(&Bytes::from(vec![b'x'; part])));
            kept.complete = true;
            let whole = kept.whole().map(|chunks| chunks.iter().map(Bytes::len).sum::<usize>());
            assert_eq!(whole, fits.then_some(part * count), "{count} of {part} bytes");
            kept.push(&Bytes::from_static(b"x"));
            assert!(fits || kept.chunks.is_empty(), "and nothing is kept behind what is missing");
        }
    }
}
