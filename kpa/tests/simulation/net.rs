//! The programs' network seam over turmoil's sockets.
//!
//! Invariant: a connection says that it was closed by its peer without being read, as a reactor would, and never loses a
//! reader's wake-up by being asked.

use parking_lot::Mutex;
use runtime::net::{Connect, Listener, Socket};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// A simulated connection.
///
/// Turmoil has no readiness to ask for, but it can peek. A FIN behind unread data is seen only when the data has been
/// read; a real reactor would see it at once.
#[derive(Debug)]
pub(crate) struct SimStream(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// Who waits for data: a look must leave this one registered.
    reader: Option<Waker>,
    shut_down: bool,
}

impl SimStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Mutex::new(Inner { stream, reader: None, shut_down: false }))
    }
}

impl Socket for SimStream {
    fn is_read_closed(&self) -> bool {
        let inner = &mut *self.0.lock();
        let waker = inner.reader.as_ref().unwrap_or(Waker::noop());
        let mut byte = [0];
        let looked = inner.stream.poll_peek(&mut Context::from_waker(waker), &mut ReadBuf::new(&mut byte));
        matches!(looked, Poll::Ready(Ok(0) | Err(_)))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = self.0.get_mut();
        let read = Pin::new(&mut inner.stream).poll_read(cx, buf);
        inner.reader = read.is_pending().then(|| cx.waker().clone());
        read
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = self.0.get_mut();
        // Turmoil refuses a second shutdown; an operating system does not mind.
        if std::mem::replace(&mut inner.shut_down, true) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

/// Connects over the simulated network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimConnect;

impl Connect for SimConnect {
    type Stream = SimStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<SimStream> {
        Ok(SimStream::new(TcpStream::connect(to).await?))
    }
}

/// A simulated listener.
pub(crate) struct SimListener(TcpListener);

impl SimListener {
    /// Listens on every address of the current host.
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self(TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?))
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((SimStream::new(stream), peer))
    }
}
