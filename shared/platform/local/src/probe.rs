//! One check of one replica of this machine.
//!
//! Invariant: each within its timeout.

use crate::launch::Environment;
use crate::process::Spawner;
use domain::{Probe, ProbeCheck};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one connect to this machine may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether something accepts connections on `port` of this machine.
pub(crate) async fn listens(port: u16) -> bool {
    timeout(CONNECT_TIMEOUT, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await.is_ok_and(|done| done.is_ok())
}

/// Where and how the checks of one replica are made.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    /// The port that serves.
    pub(crate) port: u16,
    /// For exec checks.
    pub(crate) environment: Environment,
    /// For exec checks.
    pub(crate) spawner: Spawner,
}

impl Prober {
    /// Makes one check.
    pub(crate) async fn check(&self, probe: &Probe) -> bool {
        match &probe.check {
            ProbeCheck::Tcp { port } => {
                let connect = TcpStream::connect((Ipv4Addr::LOCALHOST, port.unwrap_or(self.port)));
                timeout(probe.timeout, connect).await.is_ok_and(|done| done.is_ok())
            }
            ProbeCheck::Http { port, path, headers } => {
                let address = (Ipv4Addr::LOCALHOST, port.unwrap_or(self.port)).into();
                timeout(probe.timeout, get(address, path, headers))
                    .await
                    .is_ok_and(|status| status.is_ok_and(platform::probe::passes))
            }
            ProbeCheck::Exec { command } => self.run(command, probe.timeout).await,
        }
    }

    /// Runs a command in the replica's environment; whether it ended with status 0 in time. It is killed with its group
    /// when it did not.
    pub(crate) async fn run(&self, command: &[String], limit: Duration) -> bool {
        let Ok(command) = self.environment.command(command) else { return false };
        let Ok(process) = self.spawner.spawn(command).await else { return false };
        let in_time = timeout(limit, process.ended()).await.is_ok();
        let status = process.reap().await;
        in_time && status.is_ok_and(|status| status.success())
    }
}

/// GETs `path` and gives the status.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[(String, String)]) -> std::io::Result<u16> {
    platform::probe::get(TcpStream::connect(address).await?, address, path, headers).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_port_listens_until_its_listener_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port).await);
        drop(listener);
        assert!(!listens(port).await);
    }
}
