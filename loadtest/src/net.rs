//! Sockets and tasks as every part of this crate needs them.
//!
//! Invariant: this is the only place that spawns, listens and connects.

use socket2::{Domain, Protocol, Socket, Type};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Connections that may wait to be accepted. A listener made by tokio has room for 128, so a burst of 1 000 would meet
/// retransmitted handshakes through no fault of the server.
const BACKLOG: i32 = 4096;

/// Listens on `address`; `shared` lets several threads do so on the same port.
///
/// # Errors
///
/// The address cannot be had.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects without Nagle's delay.
///
/// # Errors
///
/// The connection is refused or fails.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A port of 127.0.0.1 that nobody listens on now.
///
/// # Errors
///
/// There is none.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Raises the limit of open files to what is allowed, so that thousands of connections fit. Returns what was got.
#[must_use]
pub fn raise_open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Runs `work` on the current runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns; callers keep the handle or need no answer")]
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(work)
}

/// A runtime on the calling thread.
///
/// # Errors
///
/// The operating system refuses.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
