//! The benchmark's backend: one read and one write per request, nothing else.
//!
//! Invariant: a request has no body or one with a Content-Length; anything else ends the connection.

use crate::net;
use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Largest request head, in bytes; also what is read at a time of a body.
const BUFFER_BYTES: usize = 32 * 1024;
/// The path that is answered with a stream of events.
pub(crate) const EVENTS_PATH: &str = "/events";
/// What an event begins with; behind it stands when it was written, in microseconds of the monotonic clock.
pub(crate) const EVENT: &[u8] = b"data: ";

/// Microseconds of the monotonic clock, which the processes of one machine share.
pub(crate) fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// What is answered.
#[derive(Debug, Clone)]
struct Answers {
    /// To every request but one for [`EVENTS_PATH`].
    whole: Bytes,
    /// Between two events.
    every: Duration,
}

/// Answers every request on `listener` with `body_bytes` bytes, or with an event each time `every` has passed, until `stop`.
pub(crate) async fn serve(listener: TcpListener, body_bytes: usize, every: Duration, stop: CancellationToken) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body_bytes}\r\n\r\n");
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + body_bytes, b'x');
    let answers = Answers { whole: Bytes::from(answer), every: every.max(Duration::from_millis(1)) };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let answers = answers.clone();
                    net::spawn(async move {
                        // The peer's business: a benchmark sees it as an error of its own.
                        let _ = connection(stream, &answers).await;
                    });
                }
            }
        }
    }
}

/// Answers every request with two bytes as soon as its head is there, and closes behind those whose body it did not read.
pub(crate) async fn serve_without_reading(listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted =
            tokio::select! { biased; () = stop.cancelled() => return, accepted = listener.accept() => accepted };
        if let Ok((stream, _)) = accepted {
            let stop = stop.clone();
            net::spawn(async move {
                tokio::select! { biased; () = stop.cancelled() => {}, _ = answer_early(stream) => {} }
            });
        }
    }
}

async fn answer_early(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        while head_end(&buffer).is_none() {
            if buffer.len() >= BUFFER_BYTES || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let (end, body) = (head_end(&buffer).unwrap_or_default(), body_length(&buffer));
        if body == Some(0) {
            stream.write_all(format!("{ANSWER}\r\nok").as_bytes()).await?;
            buffer.drain(..end);
            continue;
        }
        stream.write_all(format!("{ANSWER}connection: close\r\n\r\nok").as_bytes()).await?;
        // Read on until the other side has seen the answer and leaves: a reset would take it from it.
        loop {
            buffer.clear();
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }
}

async fn connection(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut start = 0;
        while let Some(end) = head_end(&buffer[start..filled]) {
            let head = &buffer[start..start + end];
            let events = head.split(|byte| *byte == b' ').nth(1) == Some(EVENTS_PATH.as_bytes());
            let Some(body) = body_length(head) else { return Ok(()) };
            start += end;
            if events {
                return stream_events(stream, answers.every).await;
            }
            let here = body.min(filled - start);
            start += here;
            discard(&mut stream, body - here).await?;
            stream.write_all(&answers.whole).await?;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// How long the body is that the head announces; `None` when it does not say.
fn body_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME));
    match value {
        Some(line) => std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok(),
        None => (head.starts_with(b"GET ")).then_some(0),
    }
}

async fn discard(stream: &mut TcpStream, mut bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    while bytes > 0 {
        let most = bytes.min(buffer.len());
        match stream.read(&mut buffer[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes -= read,
        }
    }
    Ok(())
}

/// Events until the client leaves.
async fn stream_events(mut stream: TcpStream, every: Duration) -> io::Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut event = EVENT.to_vec();
        event.extend_from_slice(format!("{}\n\n", monotonic_micros()).as_bytes());
        let mut chunk = format!("{:x}\r\n", event.len()).into_bytes();
        chunk.extend_from_slice(&event);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk).await?;
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
        let server = net::spawn(serve(listener, 2, Duration::from_millis(1), stop.clone()));
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

    #[tokio::test]
    async fn an_upload_is_read_to_its_end_and_a_stream_says_when() {
        let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = net::spawn(serve(listener, 2, Duration::from_millis(1), stop.clone()));
        let mut client = net::connect(address).await.unwrap();
        let mut upload = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n".to_vec();
        upload.resize(upload.len() + 100_000, b'x');
        upload.extend_from_slice(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(&upload).await.unwrap();
        let mut answers = Vec::new();
        let event = b"\ndata: ";
        while !answers.windows(event.len()).any(|part| part == event) {
            assert_ne!(client.read_buf(&mut answers).await.unwrap(), 0);
        }
        assert!(
            answers
                .starts_with(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nxxHTTP/1.1 200")
        );
        stop.cancel();
        server.await.unwrap();
    }

    #[test]
    fn a_body_whose_length_is_not_said_ends_the_connection() {
        assert_eq!(body_length(b"GET / HTTP/1.1\r\n\r\n"), Some(0));
        assert_eq!(body_length(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n"), Some(7));
        assert_eq!(body_length(b"POST / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(body_length(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"), None);
    }
}
