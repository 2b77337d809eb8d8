//! One HTTP/1.1 connection to a replica, written and read by whoever polls the exchange on it.
//!
//! Nobody polls it but the request that uses it: there is no task, no channel and no wake-up between the two, which is
//! what a connection driven elsewhere costs a request. So an idle connection notices its peer's close when it is next
//! taken out.
//!
//! Invariant: one exchange at a time; a request comes back only while not a byte of it was written; the connection can be
//! used again only when request and answer are both over and nothing else was said.

use super::head;
use crate::body::{BodyError, RequestBody};
use crate::http1::Unreadable;
use crate::http1::framing::{Decoder, Encoder};
use crate::http1::inbox::Inbox;
use crate::http1::outbox::Outbox;
use bytes::Bytes;
use domain::Timestamp;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use runtime::net::Socket;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// Why a request got no answer on a connection.
#[derive(Debug)]
pub enum Failure {
    /// The replica closed, or the connection broke; with the request if not a byte of it was written.
    Closed(Option<Box<Request<RequestBody>>>),
    /// The same after some of it was written, and before a byte of an answer came; with the request if it has no body.
    Unanswered(Option<Box<Request<RequestBody>>>),
    /// What came is no answer.
    Unreadable(Unreadable),
    /// The client's body broke off or stalled.
    Upload(BodyError),
}

/// One connection.
#[derive(Debug)]
pub struct Connection<S: Socket> {
    socket: S,
    inbox: Inbox,
    outbox: Outbox,
    /// The request that is being sent or answered.
    request: Option<Request<RequestBody>>,
    encoder: Encoder,
    /// Some of the request's body was taken, and would be missing in a second sending.
    touched: bool,
    /// Some byte of an answer has come, be it an interim one.
    heard: bool,
    /// Interim answers so far.
    interim: u32,
    /// Writing failed: the answer may have come before.
    mute: bool,
    decoder: Decoder,
    keeps_alive: bool,
    /// It has carried a request before.
    pub used: bool,
    /// When the last exchange ended.
    pub idle_since: Timestamp,
    /// How long it may be idle: the server's own word, where it gave one.
    pub idle_max: Option<Duration>,
}

impl<S: Socket> Connection<S> {
    /// On a fresh `socket`.
    pub fn new(socket: S) -> Box<Self> {
        Box::new(Self {
            socket,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            request: None,
            encoder: Encoder::Done,
            touched: false,
            heard: false,
            interim: 0,
            mute: false,
            decoder: Decoder::Done,
            keeps_alive: true,
            used: false,
            idle_since: Timestamp::ZERO,
            idle_max: None,
        })
    }

    /// Begins an exchange; [`Self::poll_answer`] carries it out.
    pub fn start(&mut self, request: Request<RequestBody>) {
        self.encoder = head::write_request(self.outbox.begin(), &request);
        self.request = Some(request);
        (self.touched, self.heard, self.interim) = (false, false, 0);
    }

    /// Nobody has seen the request: it comes back if it is still whole.
    fn unseen(&mut self) -> Failure {
        Failure::Closed(self.request.take().filter(|_| !self.touched).map(Box::new))
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// There is none.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Failure>> {
        loop {
            // Before the first byte is out, whatever the replica says or does is no answer to it.
            let read = self.poll_read(cx);
            if !self.outbox.has_begun() && read.is_ready() {
                return Poll::Ready(Err(self.unseen()));
            }
            match read {
                Poll::Ready(Ok(1..)) => {
                    self.heard = true;
                    let method = self.request.as_ref().map_or(&Method::GET, |request| request.method());
                    match head::read_answer(&mut self.inbox, method, &mut self.interim) {
                        Ok(None) => {}
                        Ok(Some(answer)) => {
                            (self.decoder, self.keeps_alive) = (answer.body, answer.keeps_alive);
                            return Poll::Ready(Ok(answer.head));
                        }
                        Err(unreadable) => return Poll::Ready(Err(Failure::Unreadable(unreadable))),
                    }
                }
                Poll::Ready(Ok(0) | Err(_)) if !self.heard => {
                    let whole = self.request.take().filter(|request| request.body().is_none());
                    return Poll::Ready(Err(Failure::Unanswered(whole.map(Box::new))));
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(Failure::Unreadable(Unreadable("an answer's head broke off"))));
                }
                Poll::Pending => {
                    ready!(self.poll_send(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next part of the answer's body; what is left of the request goes on being sent meanwhile.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.decoder.next(&mut self.inbox) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(unreadable) => return self.break_off(BodyError::Unreadable(unreadable)),
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.decoder.close() => {
                    self.keeps_alive = false;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return self.break_off(BodyError::Replica(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return self.break_off(BodyError::Replica(error)),
                Poll::Pending => {
                    return match self.poll_send(cx) {
                        Poll::Ready(Err(Failure::Upload(error))) => self.break_off(error),
                        // Nothing else can go wrong that the next read does not say.
                        Poll::Ready(
                            Err(Failure::Closed(_) | Failure::Unanswered(_) | Failure::Unreadable(_)) | Ok(()),
                        )
                        | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn break_off(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        (self.decoder, self.keeps_alive) = (Decoder::Done, false);
        Poll::Ready(Some(Err(error)))
    }

    /// A part of the body that is here already.
    pub fn body_at_hand(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        match self.decoder.next(&mut self.inbox) {
            Ok(frame) => frame.map(Ok),
            Err(unreadable) => {
                (self.decoder, self.keeps_alive) = (Decoder::Done, false);
                Some(Err(BodyError::Unreadable(unreadable)))
            }
        }
    }

    /// Whether the answer's body is over.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.decoder.is_done()
    }

    /// What is known of the rest of the answer's body.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    /// Ends the exchange. Whether another request can be sent on it.
    pub fn finish(&mut self) -> bool {
        let sent = self.encoder.is_done() && self.outbox.is_empty();
        let reusable = self.keeps_alive && !self.mute && sent && self.decoder.is_done() && self.inbox.is_empty();
        self.request = None;
        self.outbox.clear();
        reusable
    }

    /// Whether an idle connection is still open, as far as is known.
    pub fn is_open(&mut self) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// What it runs on.
    pub const fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket, when the exchange is given up.
    pub fn into_socket(self) -> S {
        self.socket
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.poll_read(&mut self.socket, cx, usize::MAX)
    }

    /// Writes as much of the request as is there and goes out now; ready with an error only.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let wants_more = self.gather(cx)?;
            if self.mute || self.poll_write(cx)?.is_pending() || !wants_more {
                return Poll::Pending;
            }
        }
    }

    /// Takes what the client has sent, up to a write's worth: a head and a short body go out together. Whether there may
    /// be more at once.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        while !self.encoder.is_done() {
            if !self.outbox.has_room() {
                return Ok(true);
            }
            let Some(request) = &mut self.request else { return Ok(false) };
            match Pin::new(request.body_mut()).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.put(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(Failure::Upload(error)),
                Poll::Ready(None) => self.end(None)?,
                Poll::Pending => return Ok(false),
            }
            self.touched = true;
        }
        Ok(false)
    }

    /// One part of the request's body, to be written next.
    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), Failure> {
        match frame.into_data() {
            Ok(content) => {
                // One write instead of two where the end is known by now.
                let last = self.request.as_ref().is_some_and(|request| request.body().is_end_stream());
                self.outbox.put(content, &mut self.encoder, last).map_err(|error| Failure::Upload(error.into()))
            }
            Err(frame) => self.end(frame.trailers_ref()),
        }
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Failure> {
        self.outbox.end(trailers, &mut self.encoder).map_err(|error| Failure::Upload(error.into()))
    }

    /// Writes what is to be written. Ready when all of it is out.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failure> {
        match self.outbox.poll_write(&mut self.socket, cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(_)) if !self.outbox.has_begun() => Err(self.unseen()),
            Poll::Ready(Err(_)) => {
                // The replica takes no more; what it has to say to that may be on its way.
                (self.mute, self.keeps_alive) = (true, false);
                Ok(Poll::Pending)
            }
        }
    }
}

#[cfg(test)]
mod tests;
