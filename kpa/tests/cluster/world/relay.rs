//! The way of our programs to an API server that was given, which can be cut and made silent.
//!
//! Invariant: what was sent into a silence arrives after it, in its order; what was cut is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much is carried at once.
const BUFFER_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// Connections are closed, new ones at once.
    Cut,
    /// Connections stand, and nothing is carried.
    Silent,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    /// Ends with this value.
    _running: JoinSet<()>,
}

impl Relay {
    /// In front of `to`.
    pub(super) async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (way, told) = watch::channel(Way::Open);
        let address = listener.local_addr().unwrap();
        let to: Arc<str> = to.into();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((near, _)) = listener.accept() => {
                        connections.spawn(connection(near, Arc::clone(&to), told.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, way, _running: running }
    }

    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn connection(near: TcpStream, to: Arc<str>, mut way: watch::Receiver<Way>) {
    if *way.borrow_and_update() == Way::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(&*to).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // Whichever side ends, the other one is closed with it: HTTP knows no half of a connection.
    tokio::select! {
        () = carry(near_in, far_out, way.clone()) => {}
        () = carry(far_in, near_out, way) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // Its sender lives as long as the cluster; without one there is nobody left to carry for.
        let Ok(now) = way.wait_for(|way| *way != Way::Silent).await.map(|way| *way) else { return };
        if now == Way::Cut {
            return;
        }
        tokio::select! {
            biased;
            _ = way.changed() => {}
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
