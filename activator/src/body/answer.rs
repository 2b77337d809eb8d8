//! What a replica answers, on its way to a client.
//!
//! Invariant: the exchange is completed once the last frame is out of the replica's connection, and given up when that
//! breaks, takes too long or is dropped.

use super::{BodyError, Open};
use crate::bounds::Limit;
use crate::deadline::Deadline;
use crate::error::RequestError;
use crate::local::watchdog::Present;
use crate::request::Until;
use crate::upstream::exchange::Exchange;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use runtime::net::Socket;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// An answer on its way to a client.
#[derive(Debug)]
pub struct ResponseBody<S: Socket> {
    content: Content<S>,
    /// Runs while the client takes nothing of what was read of it.
    untaken: Deadline,
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
struct Stream<S: Socket> {
    /// Taken out of the exchange already.
    ahead: Option<Frame<Bytes>>,
    exchange: Option<Exchange<S>>,
    /// As long as the exchange.
    present: Option<Present>,
    silence: Option<Duration>,
    until: Option<Until>,
    /// The nearer of the two.
    deadline: Deadline,
}

impl<S: Socket> ResponseBody<S> {
    const fn of(content: Content<S>) -> Self {
        Self { content, untaken: Deadline::never(), open: None }
    }

    /// An answer of our own.
    pub fn full(content: Bytes) -> Self {
        Self::of(if content.is_empty() { Content::Empty } else { Content::Full(content) })
    }

    /// No body.
    pub const fn empty() -> Self {
        Self::of(Content::Empty)
    }

    /// A replica's answer, on the connection of `exchange`; `silence` is allowed between frames, and all must be over at
    /// `until`. An answer without content, or whose content came with its head, ends the exchange at once.
    ///
    /// # Errors
    /// What came with the head is not framed as content can be: the client can still be told.
    pub fn upstream(
        mut exchange: Exchange<S>,
        silence: Option<Duration>,
        until: Option<Until>,
    ) -> Result<Self, RequestError> {
        if exchange.is_over() {
            exchange.complete();
            return Ok(Self::empty());
        }
        let ahead = match exchange.body_at_hand() {
            Some(Ok(frame)) if frame.is_data() && exchange.is_over() => {
                exchange.complete();
                return Ok(Self::full(frame.into_data().unwrap_or_default()));
            }
            None if exchange.is_over() => {
                exchange.complete();
                return Ok(Self::empty());
            }
            ahead => ahead.transpose().map_err(|_| RequestError::Broken)?,
        };
        let stream = Stream::new(ahead, exchange, silence, until);
        Ok(Self::of(Content::Upstream(Box::new(stream))))
    }

    /// From here on it is this body that has the exchange, if that goes on.
    #[must_use]
    pub fn with_presence(mut self, present: Present) -> Self {
        if let Content::Upstream(stream) = &mut self.content {
            stream.present = Some(present);
        }
        self
    }

    /// Keeps the client's connection marked as busy until this body is done with.
    #[must_use]
    pub fn with_open(mut self, open: Open) -> Self {
        self.open = Some(open);
        self
    }

    /// For as long as the client makes no room for what was read of it: nothing more is read, and the clocks run on. A
    /// client that is silent longer than its revision lets it, or than `patience` where that says nothing, is given up, and
    /// so is an exchange that has no time left. Ready then, with the limit that was reached if it is the client's silence.
    pub fn poll_untaken(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<Option<Limit>> {
        let (silence, until) = match &self.content {
            Content::Upstream(stream) if stream.exchange.is_some() => (stream.silence, stream.until),
            Content::Upstream(_) | Content::Empty | Content::Full(_) => (None, None),
        };
        if !self.untaken.is_set() {
            let silent = Instant::now() + silence.unwrap_or(patience);
            self.untaken.set(Some(until.map_or(silent, |until| until.at.min(silent))));
        }
        ready!(self.untaken.poll(cx));
        Poll::Ready(until.is_none_or(|until| Instant::now() < until.at).then_some(Limit::SlowBody))
    }

    /// Whatever is left of it is wanted no longer, by the client's fault or by the clock's.
    pub fn give_up(&mut self) {
        if let Content::Upstream(stream) = &mut self.content {
            stream.give_up();
        }
    }

    /// The client has made room for something: it is not silent.
    pub fn taken(&mut self) {
        if self.untaken.is_set() {
            self.untaken.set(None);
            if let Content::Upstream(stream) = &mut self.content {
                stream.deadline.set(stream.next_due());
            }
        }
    }
}

impl<S: Socket> Stream<S> {
    fn new(
        ahead: Option<Frame<Bytes>>,
        exchange: Exchange<S>,
        silence: Option<Duration>,
        until: Option<Until>,
    ) -> Self {
        let mut stream =
            Self { ahead, exchange: Some(exchange), present: None, silence, until, deadline: Deadline::never() };
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
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let frame = match self.ahead.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => exchange.poll_body(cx),
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                if exchange.is_over() {
                    self.finish();
                } else if self.silence.is_some() {
                    self.deadline.set(self.next_due());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let (BodyError::Clock(clock), Some(permit)) = (&error, exchange.permit())
                    && let Some(limit) = clock.limit()
                {
                    permit.base().bounds.refuse(limit);
                }
                self.give_up();
                Poll::Ready(Some(Err(error)))
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
                    self.give_up();
                    return Poll::Ready(Some(Err(BodyError::Clock(error))));
                }
                Poll::Pending
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ahead.is_none() && self.exchange.as_ref().is_none_or(Exchange::is_over)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.exchange.as_ref().map_or_else(|| SizeHint::with_exact(0), Exchange::size_hint);
        if let Some(data) = self.ahead.as_ref().and_then(Frame::data_ref) {
            let ahead = data.len() as u64;
            // The upper bound first: the lower one may not exceed it.
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + ahead);
            }
            hint.set_lower(hint.lower() + ahead);
        }
        hint
    }

    /// The answer has ended: the connection may go back, the permit and the count fall.
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
        self.present = None;
    }

    fn give_up(&mut self) {
        (self.exchange, self.present) = (None, None);
    }
}

impl<S: Socket> Drop for Stream<S> {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.abandon();
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
            Content::Upstream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(content) => SizeHint::with_exact(content.len() as u64),
            Content::Upstream(stream) => stream.size_hint(),
        }
    }
}
