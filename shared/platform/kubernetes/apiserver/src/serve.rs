//! The server on a socket: HTTP/1.1 without TLS, for programs and for kubectl.
//!
//! Invariant: while connections are refused there is no listener and no open connection.

use crate::server::Server;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Most connections at a time; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 1024;

impl Server {
    /// Serves until it is dropped. All connections end with it.
    ///
    /// # Errors
    /// When the listener cannot accept, or its address cannot be bound again after [`crate::Faults::accept`].
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if self.inner().faults.is_refusing() {
                listener = None;
                connections.shutdown().await;
                // The sender lives as long as this server.
                drop(changes.changed().await);
                continue;
            }
            let open = match &listener {
                Some(open) => open,
                None => listener.insert(TcpListener::bind(address).await?),
            };
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                Some(_) = connections.join_next() => {}
                accepted = open.accept(), if connections.len() < CONNECTIONS_MAX => {
                    let (stream, _) = accepted?;
                    stream.set_nodelay(true)?;
                    let service = TowerToHyperService::new(self.clone());
                    let connection =
                        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                    });
                }
            }
        }
    }
}
