//! A connection that can end with a reset instead of an ordinary close.
//!
//! Invariant: bytes pass unchanged; only the last close differs.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The socket, and whether its close is to be a reset.
pub(super) struct Line {
    socket: TcpStream,
    reset: Rc<Cell<bool>>,
}

impl Line {
    pub(super) fn new(socket: TcpStream) -> (Self, Rc<Cell<bool>>) {
        let reset = Rc::<Cell<bool>>::default();
        (Self { socket, reset: Rc::clone(&reset) }, reset)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.get() {
            // A socket that is gone already needs no reset.
            drop(self.socket.set_zero_linger());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.get() {
            // An ordinary end first would hide the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
