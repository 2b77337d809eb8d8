//! The server's side of a connection, watched for hang-ups that hyper does not see.
//!
//! hyper reads one chunk of a request body and then stops reading until somebody wants more, so while a request is held
//! it never sees the client's FIN. [`Watched`] owns the socket and looks at what the reactor already knows whenever hyper
//! flushes, which it does on every poll of the connection: no system call and no second handle on the socket.
//!
//! Invariant: a hang-up is looked for only while [`Watch::hold`] says that somebody would miss it otherwise.

use crate::net::Socket;
use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

/// What the connection and the requests on it tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    holding: AtomicU32,
    open: AtomicU32,
    heard: AtomicBool,
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

    /// A request has arrived.
    pub fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
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

/// A socket as hyper sees it: first the bytes that were read to choose the HTTP version, then the rest.
#[derive(Debug)]
pub struct Watched<S> {
    io: TokioIo<S>,
    first: Bytes,
    watch: Arc<Watch>,
}

impl<S: Socket> Watched<S> {
    /// `first` was read from `socket` already.
    pub fn new(socket: S, first: Bytes, watch: Arc<Watch>) -> Self {
        if !first.is_empty() {
            watch.heard.store(true, Relaxed);
        }
        Self { io: TokioIo::new(socket), first, watch }
    }
}

impl<S: Socket> Read for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.watch.heard.store(true, Relaxed);
        }
        read
    }
}

impl<S: Socket> Write for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.holding.load(Relaxed) > 0 && self.io.inner().is_read_closed() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client hung up")));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
