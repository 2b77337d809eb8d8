//! A client's HTTP/1.1 connection, shared by whoever serves it and by the body of the request on it.
//!
//! The body is read by whoever polls the exchange; there is no task and no channel between the two. So nothing is read that
//! nobody wants: what a held request sends stays in the kernel.
//!
//! Invariants: only the newest request's body reads, and until it is over nobody else does; whoever reads it or serves the
//! connection is woken when the other has done what it waits for; a connection that lingers reads no more than
//! [`LINGER_BYTES_MAX`] and is gone after [`LINGER`].

use super::head::{self, Follows, Progress};
use crate::body::{BodyError, Source};
use crate::error::RequestError;
use crate::http1::framing::Decoder;
use crate::http1::inbox::{Inbox, READ_BYTES};
use crate::http1::outbox::Outbox;
use bytes::Bytes;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use runtime::net::Socket;
use runtime::watched::{LINGER, LINGER_BYTES_MAX, Watch};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::ReadBuf;

/// Most bytes that are read behind a request before it is answered.
const AHEAD_BYTES_MAX: usize = 8 * 1024;
/// Read and dropped at once.
const DROPPED_BYTES: usize = 8 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The connection.
#[derive(Debug)]
pub(super) struct Wire<S>(Mutex<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    /// Until the connection is over.
    socket: Option<S>,
    inbox: Inbox,
    progress: Progress,
    /// The newest request's body, and which request that is.
    decoder: Decoder,
    serial: u32,
    /// The client waits to be told that its body is wanted.
    expects: bool,
    /// What is left of telling it; nothing of it may be left but that it goes out.
    interim: Option<&'static [u8]>,
    /// Who serves the connection, while a body is read, which may be in another task.
    server: Option<Waker>,
    /// Who reads the body, while nothing of it is here.
    reader: Option<Waker>,
    /// Nothing begins any more.
    closing: bool,
    /// Nothing had come when this was asked last.
    idle: bool,
}

impl<S: Socket> Wire<S> {
    /// `inbox` was read from `socket` already.
    pub(super) fn new(socket: S, inbox: Inbox) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            socket: Some(socket),
            inbox,
            progress: Progress::default(),
            decoder: Decoder::Done,
            serial: 0,
            expects: false,
            interim: None,
            server: None,
            reader: None,
            closing: false,
            idle: false,
        })))
    }

    /// What is under way ends, nothing new begins.
    pub(super) fn shut_down(&self) {
        self.0.lock().closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.lock().closing
    }

    /// The next request's head; nothing where none comes any more.
    pub(super) fn poll_next(
        &self,
        cx: &mut Context<'_>,
        watch: &Watch,
    ) -> Poll<Option<Result<(Parts, Follows), RequestError>>> {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        let Some(socket) = &mut inner.socket else { return Poll::Ready(None) };
        loop {
            if !inner.inbox.is_empty() {
                match head::read_request(&mut inner.inbox, &mut inner.progress) {
                    // An empty line begins nothing.
                    Ok(None) if inner.inbox.is_empty() => {}
                    Ok(None) => watch.hear(),
                    Ok(Some((parts, follows))) => {
                        inner.serial = inner.serial.wrapping_add(1);
                        (inner.decoder, inner.expects) = (follows.body, follows.expects);
                        return Poll::Ready(Some(Ok((parts, follows))));
                    }
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            match inner.inbox.poll_read(socket, cx, READ_BYTES) {
                Poll::Ready(Ok(1..)) => inner.idle = false,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    // Not at once: with the next request the buffer would be made anew.
                    if std::mem::replace(&mut inner.idle, true) {
                        inner.inbox.rest();
                    }
                    let is_over = inner.closing && inner.inbox.is_empty();
                    return if is_over { Poll::Ready(None) } else { Poll::Pending };
                }
            }
        }
    }

    /// Which request is the newest, for its body.
    pub(super) fn serial(&self) -> u32 {
        self.0.lock().serial
    }

    /// Whether the client has hung up, as far as can be seen. The next request may be read meanwhile.
    pub(super) fn has_hung_up(&self, cx: &mut Context<'_>, watch: &Watch) -> bool {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        let Some(socket) = &mut inner.socket else { return true };
        if watch.is_holding() && socket.is_read_closed() {
            return true;
        }
        if !inner.decoder.is_done() {
            // Its reader sees it, and says when nobody reads any more.
            leave(&mut inner.server, cx);
            return false;
        }
        while inner.inbox.len() < AHEAD_BYTES_MAX {
            match inner.inbox.poll_read(socket, cx, AHEAD_BYTES_MAX) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Pending => break,
            }
        }
        false
    }

    /// Whether the newest request was read to its end. What is here of the rest of it is dropped where it is `unread`: nobody
    /// wants it.
    pub(super) fn is_read(&self, unread: bool) -> bool {
        let mut inner = self.0.lock();
        let Inner { decoder, inbox, .. } = &mut *inner;
        while unread && matches!(decoder.next(inbox), Ok(Some(_))) {}
        decoder.is_done()
    }

    /// Writes what waits, whatever was begun of telling the client to go on before it.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        inner.expects = false;
        let Some(socket) = &mut inner.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if let Some(left) = inner.interim {
            if left.len() == CONTINUE.len() {
                // The answer says all there is to say.
                inner.interim = None;
            }
            ready!(tell(&mut inner.interim, socket, cx))?;
            // It may have waited for room to say the same.
            wake_other(&mut inner.reader, cx);
        }
        outbox.poll_write(socket, cx)
    }

    /// Writes past the reactor. `outbox` is as far on as that has brought it.
    ///
    /// # Errors
    /// As [`Socket::write_now`].
    pub(super) fn write_now(&self, outbox: &mut Outbox) -> io::Result<()> {
        let mut guard = self.0.lock();
        let Inner { socket: Some(socket), interim, .. } = &mut *guard else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match interim {
            Some(left) if !left.is_empty() => *left = &left[socket.write_now(left)?..],
            Some(_) | None => outbox.advance(socket.write_now(outbox.front())?),
        }
        Ok(())
    }

    /// What was sent is not whole, and the client has no other way to see that.
    pub(super) fn abort(&self) {
        if let Some(socket) = &mut self.0.lock().socket {
            socket.abort();
        }
    }

    /// The socket and what was read of it ahead. The connection is over.
    pub(super) fn take(&self) -> Option<(Bytes, S)> {
        let mut inner = self.0.lock();
        let ahead = inner.inbox.split().freeze();
        let socket = inner.socket.take();
        inner.server = None;
        if let Some(reader) = inner.reader.take() {
            // Nothing more will come.
            reader.wake();
        }
        socket.map(|socket| (ahead, socket))
    }

    /// Closes, gently where something of a request may still come: a socket that is closed with unread data in it is reset,
    /// and the reset can overtake the answer or destroy it at the client. So our side is shut down first, and a little of
    /// the rest is read and dropped.
    pub(super) async fn close(&self, watch: &Watch, is_read: bool) {
        let Some((ahead, mut socket)) = self.take() else { return };
        let mut dropped = ahead.len() + at_hand(&mut socket);
        let is_over = is_read && dropped == 0 && !(watch.is_idle() && watch.has_heard());
        if is_over && !S::SAYS_END {
            return;
        }
        let rest = async {
            let told = poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await;
            if is_over || told.is_err() {
                return;
            }
            if poll_fn(|cx| drop_rest(&mut socket, cx, &mut dropped)).await.is_break() {
                return;
            }
            // What it sends beyond fills the socket and stays there; it may still read.
            std::future::pending::<()>().await;
        };
        // Either way it is over.
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
}

/// Leaves the task's waker.
fn leave(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

/// Wakes the task that left it, if that is not this one.
fn wake_other(place: &mut Option<Waker>, cx: &Context<'_>) {
    if let Some(waker) = place.take_if(|waker| !waker.will_wake(cx.waker())) {
        waker.wake();
    }
}

/// Reads and drops what comes until [`LINGER_BYTES_MAX`] were `dropped`, or nothing comes any more. Nothing is kept for it
/// while it waits: thousands of clients whose uploads nobody wanted may linger at a time.
fn drop_rest(socket: &mut impl Socket, cx: &mut Context<'_>, dropped: &mut usize) -> Poll<ControlFlow<()>> {
    let mut scratch = [MaybeUninit::uninit(); DROPPED_BYTES];
    while *dropped < LINGER_BYTES_MAX {
        let mut buf = ReadBuf::uninit(&mut scratch);
        let read = ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf));
        if read.is_err() || buf.filled().is_empty() {
            return Poll::Ready(ControlFlow::Break(()));
        }
        *dropped += buf.filled().len();
    }
    Poll::Ready(ControlFlow::Continue(()))
}

/// Reads and drops what has come. Gives how many bytes.
fn at_hand(socket: &mut impl Socket) -> usize {
    let mut scratch = [0; 512];
    let mut buf = ReadBuf::new(&mut scratch);
    // Whatever is wrong, whoever reads on will see it.
    let _ = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
    buf.filled().len()
}

/// Writes what is left of `interim`.
fn tell<S: Socket>(interim: &mut Option<&'static [u8]>, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let Some(left) = interim else { return Poll::Ready(Ok(())) };
    while !left.is_empty() {
        match ready!(Pin::new(&mut *socket).poll_write(cx, left))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *left = &left[count..],
        }
    }
    ready!(Pin::new(socket).poll_flush(cx))?;
    *interim = None;
    Poll::Ready(Ok(()))
}

impl<S: Socket> Inner<S> {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let next = self.decoder.next(&mut self.inbox);
            if self.decoder.is_done() {
                self.inbox.renew();
                wake_other(&mut self.server, cx);
            }
            match next {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(unreadable) => return Poll::Ready(Some(Err(unreadable.into()))),
            }
            let gone = |error| Poll::Ready(Some(Err(BodyError::Client(error))));
            let Some(socket) = &mut self.socket else { return gone(io::ErrorKind::NotConnected.into()) };
            if std::mem::take(&mut self.expects) && self.inbox.is_empty() {
                self.interim = Some(CONTINUE);
            }
            if self.interim.is_some() {
                if let Err(error) = ready!(tell(&mut self.interim, socket, cx)) {
                    return gone(error);
                }
                // It may wait for room to say the same.
                wake_other(&mut self.server, cx);
            }
            match ready!(self.inbox.poll_read(socket, cx, self.decoder.wants())) {
                Ok(1..) => {}
                Ok(0) => return gone(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return gone(error),
            }
        }
    }
}

impl<S: Socket> Source for Wire<S> {
    fn poll_frame(&self, serial: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut inner = self.0.lock();
        if inner.serial != serial {
            return Poll::Ready(None);
        }
        let part = inner.poll_part(cx);
        if part.is_pending() {
            leave(&mut inner.reader, cx);
        }
        part
    }

    fn is_over(&self, serial: u32) -> bool {
        let inner = self.0.lock();
        inner.serial != serial || inner.decoder.is_done()
    }

    fn size_hint(&self, serial: u32) -> SizeHint {
        let inner = self.0.lock();
        if inner.serial == serial { inner.decoder.size_hint() } else { SizeHint::with_exact(0) }
    }
}

#[cfg(test)]
mod tests;
