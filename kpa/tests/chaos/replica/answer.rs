//! An answer in pieces with pauses, that may be broken off in its middle.
//!
//! Invariant: the request's guard ends just before the last piece is given, or falls when the answer is given up.

use super::Guard;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// What is still to be sent.
pub(super) struct Answer {
    pieces: VecDeque<Bytes>,
    /// Its length is told.
    sized: bool,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// It is reset after its first piece.
    reset: Option<Rc<Cell<bool>>>,
    guard: Option<Guard>,
}

impl Answer {
    /// An empty one that nobody writes down.
    pub(super) const fn nothing() -> Self {
        Self { pieces: VecDeque::new(), sized: true, pause: Duration::ZERO, sleep: None, reset: None, guard: None }
    }

    /// `pieces` with a `pause` between them.
    pub(super) fn new(
        pieces: Vec<Bytes>,
        sized: bool,
        pause: Duration,
        reset: Option<Rc<Cell<bool>>>,
        guard: Guard,
    ) -> Self {
        Self { pieces: pieces.into(), sized, pause, sleep: None, reset, guard: Some(guard) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            if let (Some(reset), Some(guard)) = (self.reset.take(), &self.guard) {
                guard.replica.note(&format!("broke {}", guard.id));
                reset.set(true);
                return Poll::Ready(Some(Err(io::Error::other("told to"))));
            }
        }
        let Some(piece) = self.pieces.pop_front() else { return Poll::Ready(None) };
        if self.pieces.is_empty() {
            if let Some(guard) = &mut self.guard {
                guard.end();
            }
        } else {
            self.sleep = Some(Box::pin(sleep(self.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized {
            SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
        } else {
            SizeHint::new()
        }
    }
}
