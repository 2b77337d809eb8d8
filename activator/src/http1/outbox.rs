//! What is to be written on a connection.
//!
//! Invariant: at most a head, [`COPY_BYTES_MAX`] of content and one larger part wait at a time; all that waits goes out in
//! one write where the socket can gather.

use super::fields::Unreadable;
use super::framing::Encoder;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Content up to this size is copied behind what is written before it; larger parts are written from where they are.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// Bytes in the order in which they go.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// To be written before `chunk`, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Content too large to be copied, and what stands behind it.
    chunk: Bytes,
    behind: &'static [u8],
    /// Some byte is out since [`Self::begin`].
    begun: bool,
}

impl Outbox {
    /// Where the head of the next message is written.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.begun = false;
        &mut self.out
    }

    /// Whether some byte of the message is out.
    pub(crate) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all is out.
    pub(crate) const fn is_empty(&self) -> bool {
        self.written == self.out.len() && self.chunk.is_empty()
    }

    /// Bytes that wait.
    pub(crate) const fn left(&self) -> usize {
        self.out.len() - self.written + self.chunk.len() + self.behind.len()
    }

    /// Whether another part may be put in before all is out.
    pub(crate) const fn has_room(&self) -> bool {
        self.chunk.is_empty() && self.out.len() < COPY_BYTES_MAX
    }

    /// Whatever waits is not written any more.
    pub(crate) fn clear(&mut self) {
        self.out.clear();
        (self.written, self.chunk, self.behind) = (0, Bytes::new(), b"");
    }

    /// Keeps no more than a usual head's room.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() && self.out.capacity() > 1024 {
            *self = Self::default();
        }
    }

    /// Part of a body; `last` says that nothing follows it.
    ///
    /// # Errors
    /// It is more or less than was announced.
    pub(crate) fn put(&mut self, content: Bytes, encoder: &mut Encoder, last: bool) -> Result<(), Unreadable> {
        if !content.is_empty() {
            let behind = encoder.content(&content, &mut self.out)?;
            if content.len() <= COPY_BYTES_MAX {
                self.out.extend_from_slice(&content);
                self.out.extend_from_slice(behind);
            } else {
                (self.chunk, self.behind) = (content, behind);
            }
        }
        if !last {
            return Ok(());
        }
        if *encoder == Encoder::Chunked && !self.chunk.is_empty() {
            (*encoder, self.behind) = (Encoder::Done, b"\r\n0\r\n\r\n");
            return Ok(());
        }
        self.end(None, encoder)
    }

    /// The end of a body.
    ///
    /// # Errors
    /// It is less than was announced.
    pub(crate) fn end(&mut self, trailers: Option<&HeaderMap>, encoder: &mut Encoder) -> Result<(), Unreadable> {
        encoder.end(trailers, &mut self.out)
    }

    /// Writes all of it. Ready when that is out.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn poll_write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = ready!(self.poll_some(socket, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(count);
        }
        self.out.clear();
        self.written = 0;
        // Behind TLS what was written may still be here. It is nothing without it.
        Pin::new(socket).poll_flush(cx)
    }

    fn poll_some(&self, socket: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = &self.out[self.written..];
        if self.chunk.is_empty() {
            return Pin::new(socket).poll_write(cx, before);
        }
        if !socket.is_write_vectored() {
            return Pin::new(socket).poll_write(cx, if before.is_empty() { &self.chunk } else { before });
        }
        let parts = [IoSlice::new(before), IoSlice::new(&self.chunk), IoSlice::new(self.behind)];
        Pin::new(socket).poll_write_vectored(cx, &parts)
    }

    /// The first bytes that wait, for whoever writes them in another way.
    pub(crate) fn front(&self) -> &[u8] {
        if self.written < self.out.len() { &self.out[self.written..] } else { &self.chunk }
    }

    /// So many bytes are out.
    pub(crate) fn advance(&mut self, count: usize) {
        let before = count.min(self.out.len() - self.written);
        self.written += before;
        let content = (count - before).min(self.chunk.len());
        if content == 0 {
            return;
        }
        self.chunk.advance(content);
        if self.chunk.is_empty() {
            self.out.clear();
            self.out.extend_from_slice(std::mem::take(&mut self.behind));
            self.written = count - before - content;
        }
    }
}

#[cfg(test)]
mod tests;
