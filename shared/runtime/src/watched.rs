//! What a client's connection and the requests on it tell each other, and a hang-up that nobody else would see.
//!
//! A connection of HTTP/2 is read all the time, but not while its peer sends nothing new: [`Watched`] owns the socket and
//! looks at what the reactor already knows whenever something is flushed, which is on every poll of the connection: no system
//! call and no second handle on the socket.
//!
//! Invariant: a hang-up is looked for only while [`Watch::hold`] says that somebody would miss it otherwise.

use crate::net::Socket;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of the rest of a request that are read and dropped after its answer. Then the client can send no more than
/// the socket's buffers hold, and still has the time of [`LINGER`] to read what it was told.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;
/// How long a connection with such a rest stays open after its last answer, unless the client closes it.
pub const LINGER: Duration = Duration::from_secs(2);

/// What the connection and the requests on it tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    holding: AtomicU32,
    open: AtomicU32,
    heard: AtomicBool,
    used: AtomicBool,
    unread: AtomicBool,
}

impl Watch {
    /// Looks for hang-ups until [`Watch::let_go`].
    pub fn hold(&self) {
        self.holding.fetch_add(1, Relaxed);
    }

    /// The request is held no longer.
    pub fn let_go(&self) {
        self.holding.fetch_sub(1, Relaxed);
    }

    /// Whether a request is held.
    pub fn is_holding(&self) -> bool {
        self.holding.load(Relaxed) > 0
    }

    /// A request has arrived.
    pub fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
        self.used.store(true, Relaxed);
        if self.unread.load(Relaxed) {
            self.unread.store(false, Relaxed);
        }
    }

    /// Whether a request has arrived since this was asked last.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Nobody will read the rest of the newest request.
    pub fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Whether nobody will.
    pub fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Bytes have arrived.
    pub fn hear(&self) {
        self.heard.store(true, Relaxed);
    }

    /// Its answer has ended.
    pub fn end(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.heard.store(false, Relaxed);
    }

    /// No request is open.
    pub fn is_idle(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// Bytes have arrived since the last answer ended: the beginning of a request.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }
}

/// A socket: first the bytes that were read to choose the HTTP version, then the rest.
#[derive(Debug)]
pub struct Watched<S> {
    socket: S,
    first: Bytes,
    watch: Arc<Watch>,
}

impl<S: Socket> Watched<S> {
    /// `first` was read from `socket` already.
    pub fn new(socket: S, first: Bytes, watch: Arc<Watch>) -> Self {
        if !first.is_empty() {
            watch.hear();
        }
        Self { socket, first, watch }
    }
}

impl<S: Socket> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if read.is_ready() {
            self.watch.hear();
        }
        read
    }
}

impl<S: Socket> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.is_holding() && self.socket.is_read_closed() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client hung up")));
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}
