//! The server's side of a connection, watched for hang-ups that hyper does not see.
//!
//! hyper reads one chunk of a request body and then stops reading until somebody wants more, so while a request is held
//! it never sees the client's FIN. [`Watched`] owns the socket and looks at what the reactor already knows whenever hyper
//! flushes, which it does on every poll of the connection: no system call and no second handle on the socket.
//!
//! It also closes gently where something of a request was left unread. A socket that is closed with unread data in it is
//! reset, and the reset can overtake the answer or destroy it at the client. So our side is shut down first, and a little
//! of the rest is read and dropped ([`LINGER_BYTES_MAX`]) before the socket is closed ([`LINGER`]).
//!
//! And it reads nothing while [`Watch::pause`] says that nobody wants what comes: hyper would take a piece of a body into
//! memory unasked.
//!
//! Invariants: a hang-up is looked for only while [`Watch::hold`] says that somebody would miss it otherwise; a connection
//! that lingers reads no more than its bound and is gone when its time is over.

use crate::net::Socket;
use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep};

/// Most bytes of the rest of a request that are read and dropped after its answer. Then the client can send no more than
/// the socket's buffers hold, and still has the time of [`LINGER`] to read what it was told.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;
/// How long a connection with such a rest stays open after its last answer, unless the client closes it.
pub const LINGER: Duration = Duration::from_secs(2);
/// Read and dropped at once.
const DROPPED_BYTES: usize = 8 * 1024;

/// What the connection and the requests on it tell each other.
#[derive(Debug, Default)]
pub struct Watch {
    holding: AtomicU32,
    open: AtomicU32,
    heard: AtomicBool,
    used: AtomicBool,
    unread: AtomicBool,
    paused: AtomicBool,
    reader: AtomicWaker,
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

    /// Nothing is read from the client until [`Watch::go_on`]. For HTTP/1.1, whose connection has one body at a time.
    pub fn pause(&self) {
        self.paused.store(true, Release);
    }

    /// Somebody wants to read.
    pub fn go_on(&self) {
        self.paused.store(false, Release);
        self.reader.wake();
    }

    /// Whether the reader whose waker is in `cx` has to wait.
    fn is_paused(&self, cx: &Context<'_>) -> bool {
        self.paused.load(Acquire) && {
            self.reader.register(cx.waker());
            // It may have ended before anybody could be woken.
            self.paused.load(Acquire)
        }
    }

    /// A request has arrived.
    pub fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
        self.used.store(true, Relaxed);
        // Whatever was left unread of the one before has been dealt with, or this one could not have been read.
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

    /// Something of a request may still come, or be in the socket: the rest of a body, or of a head that was refused.
    fn expects_more(&self) -> bool {
        self.unread.load(Relaxed) || (self.is_idle() && self.has_heard())
    }
}

/// A socket as hyper sees it: first the bytes that were read to choose the HTTP version, then the rest.
#[derive(Debug)]
pub struct Watched<S> {
    io: TokioIo<S>,
    first: Bytes,
    watch: Arc<Watch>,
    lingers: bool,
    linger: Option<Box<Linger>>,
}

/// Our side is shut down; the client's is not.
#[derive(Debug)]
struct Linger {
    dropped: usize,
    end: Pin<Box<Sleep>>,
}

impl<S: Socket> Watched<S> {
    /// `first` was read from `socket` already.
    pub fn new(socket: S, first: Bytes, watch: Arc<Watch>) -> Self {
        if !first.is_empty() {
            watch.heard.store(true, Relaxed);
        }
        Self { io: TokioIo::new(socket), first, watch, lingers: false, linger: None }
    }

    /// Closes gently where something of a request was left unread. Not for HTTP/2, which ends each stream by itself and
    /// whose bytes after the last request are no request.
    #[must_use]
    pub fn lingering(self) -> Self {
        Self { lingers: true, ..self }
    }
}

impl Linger {
    /// Ready when the socket may be closed.
    fn poll<S: Socket>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [std::mem::MaybeUninit::uninit(); DROPPED_BYTES];
        while self.dropped < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.dropped += buf.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl<S: Socket> Read for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            // Together with what follows: of a read this small hyper concludes nothing good, and makes its buffer twice as
            // large for the next. An error here is an end at the next read.
            if buf.remaining() > 0 {
                let _ = Pin::new(&mut self.io).poll_read(cx, buf);
            }
            return Poll::Ready(Ok(()));
        }
        if self.watch.is_paused(cx) {
            return Poll::Pending;
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
        if self.watch.is_holding() && self.io.inner().is_read_closed() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client hung up")));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.lingers || !self.watch.expects_more() {
                return Poll::Ready(Ok(()));
            }
            self.linger = Some(Box::new(Linger { dropped: 0, end: Box::pin(sleep(LINGER)) }));
        }
        let Self { io, linger: Some(linger), .. } = &mut *self else { return Poll::Ready(Ok(())) };
        linger.poll(io.inner_mut(), cx).map(Ok)
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

#[cfg(test)]
mod tests;
