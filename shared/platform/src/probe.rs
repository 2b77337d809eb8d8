//! The HTTP check of a readiness probe, over a connection that the caller made.
//!
//! Invariant: what passes here passes a kubelet: a status from 200 to 399. The caller bounds how long it may take.

use std::fmt::{Display, Write as _};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest status line that is read.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// Whether a check that was answered with `status` has passed.
#[must_use]
pub const fn passes(status: u16) -> bool {
    200 <= status && status < 400
}

/// GETs `path` from `host` over `stream` and gives the status.
///
/// # Errors
/// The connection broke, or what came is not HTTP/1.
pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: impl Display,
    path: &str,
    headers: &[(String, String)],
) -> io::Result<u16> {
    let mut head = format!("GET {}{path} HTTP/1.1\r\n", if path.starts_with('/') { "" } else { "/" });
    let given = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    let host = host.to_string();
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
    stream.flush().await?;
    let mut line = Vec::with_capacity(64);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    status(&line).ok_or_else(|| io::Error::other("no HTTP status line"))
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

    #[test]
    fn a_status_line_is_read_and_anything_else_is_none() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nx: y\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in ["", "SSH-2.0-x\r\n", "HTTP/1.1\r\n", "HTTP/1.1 2000 X\r\n", "HTTP/2 200\r\n"] {
            assert_eq!(status(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn what_passes_is_what_passes_a_kubelet() {
        for (status, expected) in [(100, false), (199, false), (200, true), (302, true), (399, true), (400, false)] {
            assert_eq!(passes(status), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn a_get_asks_for_the_path_with_its_headers() {
        let (near, mut far) = tokio::io::duplex(4096);
        let headers = [("Host".to_owned(), "model.example.com".to_owned()), ("X-Probe".to_owned(), "1".to_owned())];
        let server = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                far.read_buf(&mut head).await.unwrap();
            }
            // In two pieces: the line is read to its end.
            far.write_all(b"HTTP/1.1 50").await.unwrap();
            tokio::task::yield_now().await;
            far.write_all(b"3 Loading\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (head, status) = tokio::join!(server, get(near, "10.0.0.1:8080", "/healthz?full=1", &headers));
        assert_eq!(status.unwrap(), 503);
        assert_eq!(
            head,
            "GET /healthz?full=1 HTTP/1.1\r\nuser-agent: kube-probe/kpa\r\naccept: */*\r\nHost: model.example.com\r\nX-Probe: 1\r\nconnection: close\r\n\r\n"
        );
    }
}
