//! A network in memory, so that a story can run on a paused clock.

use parking_lot::Mutex;
use runtime::net::{Connect, Listener, Socket};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// All of the network. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listening: BTreeMap<SocketAddr, (mpsc::Sender<Pipe>, usize)>,
    connects: BTreeMap<SocketAddr, usize>,
}

impl Network {
    /// Accepts connections at `address`.
    pub(crate) fn listen(&self, address: SocketAddr) -> Accepts {
        self.listen_for(address, usize::MAX)
    }

    /// Accepts `count` connections at `address`; those after them are refused.
    pub(crate) fn listen_for(&self, address: SocketAddr, count: usize) -> Accepts {
        let (sender, receiver) = mpsc::channel(64);
        self.0.lock().listening.insert(address, (sender, count));
        Accepts(receiver)
    }

    /// Connects that were tried to `address`.
    pub(crate) fn connects(&self, address: SocketAddr) -> usize {
        self.0.lock().connects.get(&address).copied().unwrap_or(0)
    }
}

impl Connect for Network {
    type Stream = Pipe;

    async fn connect(&self, to: SocketAddr) -> io::Result<Pipe> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let sender = {
            let State { listening, connects } = &mut *self.0.lock();
            *connects.entry(to).or_default() += 1;
            let (sender, left) = listening.get_mut(&to).filter(|(_, left)| *left > 0).ok_or_else(refused)?;
            *left -= 1;
            sender.clone()
        };
        let (near, far) = Pipe::pair();
        sender.send(far).await.map_err(|_| refused())?;
        Ok(near)
    }
}

/// Where connections to one address arrive.
#[derive(Debug)]
pub(crate) struct Accepts(mpsc::Receiver<Pipe>);

impl Listener for Accepts {
    type Stream = Pipe;

    async fn accept(&mut self) -> io::Result<(Pipe, SocketAddr)> {
        let stream = self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?;
        Ok((stream, SocketAddr::from(([10, 255, 0, 1], 40_000))))
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: DuplexStream,
    /// Whether this end has said its last, and whether the other has.
    closed: [Arc<AtomicBool>; 2],
}

impl Pipe {
    fn pair() -> (Self, Self) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let [a, b] = [Arc::<AtomicBool>::default(), Arc::default()];
        (Self { stream: near, closed: [Arc::clone(&a), Arc::clone(&b)] }, Self { stream: far, closed: [b, a] })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.closed[0].store(true, Relaxed);
    }
}

impl Socket for Pipe {
    fn is_read_closed(&self) -> bool {
        self.closed[1].load(Relaxed)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed[0].store(true, Relaxed);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
