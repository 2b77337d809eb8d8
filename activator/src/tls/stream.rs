//! Connections as they are behind TLS, on either side.
//!
//! Invariant: a plain connection to a replica costs one branch more than without TLS, and a client's none.

use super::backend::Identity;
use domain::Limits;
use runtime::net::Socket;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

/// A client's connection. Boxed, because the futures that serve it are moved.
#[derive(Debug)]
pub struct FromClient<S>(Box<server::TlsStream<S>>);

impl<S> FromClient<S> {
    pub(super) fn new(stream: server::TlsStream<S>) -> Self {
        Self(Box::new(stream))
    }
}

impl<S: Socket> Socket for FromClient<S> {
    const SAYS_END: bool = true;

    fn is_read_closed(&self) -> bool {
        self.0.get_ref().0.is_read_closed()
    }

    fn write_now(&mut self, _: &[u8]) -> io::Result<usize> {
        let (socket, session) = self.0.get_mut();
        // Whoever could write nothing has left what it wanted to write in the session.
        session.write_tls(&mut Now(socket)).map(|_| 0)
    }

    fn abort(&mut self) {
        self.0.get_mut().0.abort();
    }
}

/// Writes past the reactor.
struct Now<'a, S>(&'a mut S);

impl<S: Socket> io::Write for Now<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_now(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Socket> AsyncRead for FromClient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for FromClient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// A connection to a replica.
#[derive(Debug)]
pub enum ToReplica<S> {
    /// As it is.
    Plain(S),
    /// Behind TLS, with what its certificate was checked against.
    Tls(Box<client::TlsStream<S>>, Arc<Identity>),
}

impl<S> ToReplica<S> {
    /// What the replica's certificate was checked against; `None` without TLS.
    pub const fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(_, identity) => Some(identity),
        }
    }
}

/// Whether a connection that was checked against `identity` is one that may be used: `wanted` are the settings of a
/// revision that asks for TLS, `None` where it must be plain.
#[inline]
#[must_use]
pub fn suits(identity: Option<&Arc<Identity>>, wanted: Option<&Limits>) -> bool {
    match (identity, wanted) {
        (None, None) => true,
        (Some(identity), Some(limits)) => identity.is_of(limits),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl<S: Socket> Socket for ToReplica<S> {
    fn is_read_closed(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_read_closed(),
            Self::Tls(stream, _) => stream.get_ref().0.is_read_closed(),
        }
    }
}

impl<S: Socket> AsyncRead for ToReplica<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl<S: Socket> AsyncWrite for ToReplica<S> {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream, _) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }
}
