//! What was read of a connection and not understood yet.
//!
//! Invariant: room is there only while something is read; one read is at most [`READ_BYTES_MAX`], and what a body was read
//! with is not kept for what follows it.

use bytes::{BufMut, BytesMut};
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// With less room than this the buffer gets more.
const READ_ROOM_MIN: usize = 2 * 1024;
/// Room for one read; it doubles up to [`READ_BYTES_MAX`] while reads fill it.
pub(crate) const READ_BYTES: usize = 8 * 1024;
/// Most bytes read at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes in the order in which they came.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: BytesMut,
    room: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::new(), room: READ_BYTES }
    }

    /// Reads once, at most `max` bytes, which are some. Gives how many; none is the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn poll_read(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() - self.bytes.len() < READ_ROOM_MIN {
            self.bytes.reserve(self.room.min(max.max(READ_BYTES)));
        }
        let room = self.bytes.capacity() - self.bytes.len();
        let count = ready!(poll_read_buf(Pin::new(socket), cx, &mut (&mut self.bytes).limit(max)))?;
        if count == room {
            self.room = (2 * self.room).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(count))
    }

    /// The same on a connection that may say nothing for long.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn poll_first(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_read(socket, cx, READ_BYTES);
        if read.is_pending() {
            self.rest();
        }
        read
    }

    /// What follows has nothing to do with what was read: it shall not keep a large buffer alive.
    pub(crate) fn renew(&mut self) {
        if self.room > READ_BYTES {
            self.bytes = if self.bytes.is_empty() { BytesMut::new() } else { BytesMut::from(&self.bytes[..]) };
        }
    }

    /// Nothing will come for a while: an empty buffer costs nothing then.
    pub(crate) fn rest(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::new();
        }
    }
}

impl Deref for Inbox {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Inbox {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}
