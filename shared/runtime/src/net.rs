//! The seam between programs and the network: sockets, listeners and connects come from outside.
//!
//! Invariant: nothing behind this seam knows whether it runs on TCP, in memory or on a simulated network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};
use tokio::net::{TcpListener, TcpStream};

/// A connected byte stream that can say, without a system call, what the peer has done.
pub trait Socket: std::fmt::Debug + AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The peer has closed its side, or the connection broke.
    fn is_read_closed(&self) -> bool;
}

impl Socket for TcpStream {
    fn is_read_closed(&self) -> bool {
        readiness(self).is_some_and(Ready::is_read_closed)
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

    /// The next connection and its peer.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer))
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
