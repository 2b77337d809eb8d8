//! A replica's socket as hyper reads it: asked at most once a turn whether there is more.
//!
//! Within one poll of a connection hyper tries to read up to three times after there was nothing to read, and each try
//! leaves the same waker with the reactor again, under a lock.
//!
//! Invariant: "nothing" is repeated without asking only within the turn in which the socket said it to the same waker; so
//! whatever comes later wakes whoever drives the connection.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use runtime::net::Socket;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

/// Where whoever drives the connection says that a turn begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// The socket is asked again.
    pub(super) fn begin(&self) {
        self.0.store(false, Relaxed);
    }

    fn is_dry(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn set_dry(&self) {
        self.0.store(true, Relaxed);
    }
}

/// A socket with its turns.
#[derive(Debug)]
pub(super) struct ByTurns<S> {
    io: TokioIo<S>,
    turn: Turn,
}

impl<S: Socket> ByTurns<S> {
    pub(super) fn new(socket: S, turn: Turn) -> Self {
        Self { io: TokioIo::new(socket), turn }
    }

    pub(super) fn into_socket(self) -> S {
        self.io.into_inner()
    }
}

impl<S: Socket> Read for ByTurns<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.turn.is_dry() {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.turn.set_dry();
        }
        read
    }
}

/// Never vectored: heads and chunks are copied into one write.
impl<S: Socket> Write for ByTurns<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::ReadBuf;
    use std::task::Waker;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_new_turn_asks_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (client, (mut server, _)) = (client.unwrap(), accepted.unwrap());
        let turn = Turn::default();
        let mut socket = ByTurns::new(client, turn.clone());
        let read = |socket: &mut ByTurns<TcpStream>| {
            let mut room = [0_u8; 8];
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(socket).poll_read(&mut Context::from_waker(Waker::noop()), buf.unfilled());
            read.map(|read| read.map(|()| buf.filled().len()).unwrap())
        };
        assert_eq!(read(&mut socket), Poll::Pending);
        server.write_all(b"late").await.unwrap();
        socket.io.inner().readable().await.unwrap();
        assert_eq!(read(&mut socket), Poll::Pending, "the same turn");
        turn.begin();
        assert_eq!(read(&mut socket), Poll::Ready(4));
    }
}
