//! The seam between programs and the network: sockets, listeners and connects come from outside.
//!
//! Invariant: nothing behind this seam knows whether it runs on TCP, in memory or on a simulated network.

use socket2::SockRef;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, Ready};
use tokio::net::{TcpListener, TcpStream};

/// A connected byte stream that can say, without a system call, what the peer has done.
pub trait Socket: std::fmt::Debug + AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether the peer is told of the end in the stream itself, and not only by its closing.
    const SAYS_END: bool = false;

    /// The peer has closed its side, or the connection broke.
    fn is_read_closed(&self) -> bool;

    /// Writes at once what the peer has room for, though the reactor has not said that there is any: it does so only when
    /// a third of the socket's buffer is free. Gives how many of `bytes` are written; none may be where something before
    /// them was.
    ///
    /// # Errors
    /// There is no room, or nobody can look past the reactor here (`WouldBlock`); the connection broke.
    fn write_now(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Its closing will be a reset: the peer shall not take it for the end of what it was sent.
    fn abort(&mut self) {}
}

impl Socket for TcpStream {
    fn is_read_closed(&self) -> bool {
        readiness(self).is_some_and(Ready::is_read_closed)
    }

    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(&*self).send(bytes)
    }

    fn abort(&mut self) {
        // A socket that cannot be told so is broken already.
        let _ = SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

/// A connection in memory. Only who reads it learns that the other end is gone.
impl Socket for DuplexStream {
    fn is_read_closed(&self) -> bool {
        false
    }
}

/// What the reactor knows already; `None` when nothing was reported. Leaves no waker behind.
fn readiness(stream: &TcpStream) -> Option<Ready> {
    match pin!(stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => Some(ready),
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
}

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// What is accepted.
    type Stream: Socket;

    /// Before the first connection.
    fn prepare(&mut self) {}

    /// The next connection and its peer.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn prepare(&mut self) {
        // Connections have it from their listener: one system call, not one each. Without it they are slower and no less right.
        let _ = SockRef::from(&*self).set_tcp_nodelay(true);
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

/// How connections are made.
pub trait Connect: std::fmt::Debug + Send + Sync + 'static {
    /// What is connected.
    type Stream: Socket;

    /// A connection to `to`. The caller bounds how long it may take.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// TCP, without Nagle's delay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_no_delay_from_their_listener() {
        let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        listener.prepare();
        let (near, far) = tokio::join!(Tcp.connect(address), Listener::accept(&mut listener));
        assert!(near.unwrap().nodelay().unwrap() && far.unwrap().0.nodelay().unwrap());
    }
}
