//! One check of one replica, and how long to wait before the next.
//!
//! Invariant: one check at a time, each within its timeout; ready is seen within 10 ms or 2 % of the start time
//! (kpa-behaviour 10.2).

use crate::launch::Environment;
use crate::process::Spawner;
use domain::{Probe, ProbeCheck};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Between connects until the port listens: a refusal costs next to nothing.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// How long one connect to this machine may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait between checks of a replica that was never ready.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// Longest status line that is read.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// The wait after a check that took `last`, `elapsed` after the start: a loading single-threaded server is not slowed by
/// being asked, and a start that takes long is not asked often.
pub(crate) fn pause(elapsed: Duration, last: Duration) -> Duration {
    CONNECT_PAUSE.max(elapsed / 50).max(last).min(PAUSE_MAX)
}

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
                    .is_ok_and(|status| status.is_ok_and(|status| (200..400).contains(&status)))
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
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("GET {}{path} HTTP/1.1\r\n", if path.starts_with('/') { "" } else { "/" });
    let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    let host = format!("{address}");
    let defaults = [("host", host.as_str()), ("user-agent", "kube-probe/kpa"), ("accept", "*/*")];
    for (name, value) in defaults.into_iter().filter(|(name, _)| !given(name)) {
        // Writing to a String cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut line = Vec::with_capacity(64);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    status(&line).ok_or_else(|| std::io::Error::other("no HTTP status line"))
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.trim_end().splitn(3, ' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn the_pause_follows_the_start_time() {
        let ms = Duration::from_millis;
        for (elapsed, last, expected) in [
            (0, 0, 10),
            (400, 1, 10),
            (1_000, 1, 20),
            (5_000, 1, 100),
            (1_000, 60, 60),
            (90_000, 1, 250),
            (1_000, 900, 250),
        ] {
            assert_eq!(pause(ms(elapsed), ms(last)), ms(expected), "{elapsed} {last}");
        }
    }

    #[test]
    fn a_status_line_is_read_and_anything_else_is_none() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nx: y\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in ["", "SSH-2.0-x\r\n", "HTTP/1.1\r\n", "HTTP/1.1 2000 X\r\n", "HTTP/2 200\r\n"] {
            assert_eq!(status(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_get_asks_for_the_path_with_its_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let headers = [("Host".to_owned(), "model.example.com".to_owned()), ("X-Probe".to_owned(), "1".to_owned())];
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            // In two pieces: the line is read to its end.
            stream.write_all(b"HTTP/1.1 50").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"3 Loading\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (head, status) = tokio::join!(server, get(address, "/healthz?full=1", &headers));
        assert_eq!(status.unwrap(), 503);
        assert_eq!(
            head,
            "GET /healthz?full=1 HTTP/1.1\r\nuser-agent: kube-probe/kpa\r\naccept: */*\r\nHost: model.example.com\r\nX-Probe: 1\r\nconnection: close\r\n\r\n"
        );
        drop(listener);
        assert!(!listens(address.port()).await);
    }
}
