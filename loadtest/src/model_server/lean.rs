//! The benchmark's backend: one read and one write per request, nothing else.
//!
//! Invariant: it understands requests without a body only; anything else ends the connection.

use crate::net;
use bytes::Bytes;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Answers every GET on `listener` with `body_bytes` bytes until `stop`.
pub(crate) async fn serve(listener: TcpListener, body_bytes: usize, stop: CancellationToken) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body_bytes}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + body_bytes, b'x');
    let answer = Bytes::from(answer);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let answer = answer.clone();
                    net::spawn(async move {
                        // The peer's business: a benchmark sees it as an error of its own.
                        let _ = connection(stream, &answer).await;
                    });
                }
            }
        }
    }
}

async fn connection(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut start = 0;
        while let Some(end) = head_end(&buffer[start..filled]) {
            if !buffer[start..].starts_with(b"GET ") {
                return Ok(());
            }
            stream.write_all(answer).await?;
            start += end;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// Where the head that `bytes` begin with ends, if it is whole.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r\n"), Some(18));
        assert_eq!(head_end(b"a\r\n\r\nb\r\n\r\n"), Some(5));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(head_end(b"\r\n"), None);
    }

    #[tokio::test]
    async fn split_and_joined_requests_are_answered_once_each() {
        let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = net::spawn(serve(listener, 2, stop.clone()));
        let mut client = net::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT").await.unwrap();
        client.write_all(b"TP/1.1\r\n\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
        assert!(answers.ends_with("content-length: 2\r\n\r\nxx"));
        stop.cancel();
        server.await.unwrap();
    }
}
