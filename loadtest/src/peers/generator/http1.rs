//! One HTTP/1.1 connection: one write for a request, and for a small answer one read.
//!
//! Invariant: an answer is 200 with a Content-Length and is read to its last byte, whatever its size; nothing follows it.

use crate::net;
use anyhow::{Context as _, bail};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for a head, and for a part of a large body.
const BUFFER_BYTES: usize = 32 * 1024;

/// A GET, or with a body a POST.
pub(super) fn request(host: &str, path: &str, body_bytes: usize, closes: bool) -> Vec<u8> {
    let (method, length) = match body_bytes {
        0 => ("GET", String::new()),
        length => ("POST", format!("Content-Length: {length}\r\n")),
    };
    let close = if closes { "Connection: close\r\n" } else { "" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadtest\r\nAccept: */*\r\n{length}{close}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + body_bytes, b'x');
    bytes
}

/// A connection to a proxy.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { stream: net::connect(address).await?, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends `request` and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let mut rest = loop {
            filled += self.read(filled, self.buffer.len()).await?;
            if let Some(length) = answer_length(&self.buffer[..filled])? {
                break length.checked_sub(filled).context("more than one answer")?;
            }
            if filled == self.buffer.len() {
                bail!("the response head is too large");
            }
        };
        while rest > 0 {
            rest -= self.read(0, rest.min(self.buffer.len())).await?;
        }
        Ok(())
    }

    async fn read(&mut self, from: usize, to: usize) -> anyhow::Result<usize> {
        match self.stream.read(&mut self.buffer[from..to]).await? {
            0 => bail!("closed before the end of an answer"),
            read => Ok(read),
        }
    }
}

/// The whole length of the answer that `bytes` begin with, once its head is there.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = head_end(bytes)? else { return Ok(None) };
    const NAME: &[u8] = b"content-length:";
    for line in bytes[..end].split(|byte| *byte == b'\n').skip(1) {
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = std::str::from_utf8(&line[NAME.len()..])?.trim();
            let length: usize = value.parse().with_context(|| format!("content-length {value:?}"))?;
            return Ok(Some(end + length));
        }
    }
    bail!("an answer without content-length cannot be compared")
}

/// Where the head that `bytes` begin with ends, once it is whole; an error when its status is not 200.
pub(super) fn head_end(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    if !bytes.starts_with(b"HTTP/1.1 200") {
        let status = String::from_utf8_lossy(bytes.get(..40.min(end)).unwrap_or_default()).into_owned();
        bail!("not 200: {status}");
    }
    Ok(Some(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\nok";
        assert_eq!(answer_length(whole).unwrap(), Some(whole.len()));
        assert_eq!(answer_length(&whole[..20]).unwrap(), None);
        for bad in [
            &b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        ] {
            assert!(answer_length(bad).is_err());
        }
    }

    #[test]
    fn a_request_has_the_length_it_says() {
        let upload = request("a", "/", 5, true);
        assert!(upload.starts_with(b"POST / HTTP/1.1\r\nHost: a\r\n") && upload.ends_with(b"\r\n\r\nxxxxx"));
        assert!(!request("a", "/", 0, false).windows(6).any(|part| part == b"Length" || part == b"Connec"));
    }
}
