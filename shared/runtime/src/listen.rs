//! Listening sockets: one a worker on the same address.
//!
//! Invariant: an address that somebody else listens on is an error, although our own workers share one.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel completes before we accept them. `tokio::net::TcpListener::bind` asks for 128, with which a
/// burst of 1 000 meets dropped SYNs and retransmits of one second.
pub const BACKLOG: i32 = 4096;

/// `count` listeners on `address`, which must be free. With port 0 all share the port that the first one got.
///
/// # Errors
/// What the system said, such as "address in use".
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // SO_REUSEPORT would share the port with another process of ours, silently; so first without it.
    let address = TcpListener::bind(address)?.local_addr()?;
    (0..count.max(1)).map(|_| listener(address)).collect()
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_and_strangers_do_not() {
        let ours = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert_eq!(ours[1].local_addr().unwrap(), address);
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
