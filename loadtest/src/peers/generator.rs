//! Load over keep-alive connections for one fixed GET, at the cost of one write and one read per request.
//!
//! Invariant: at most one request is in flight on a connection, and only answers read to their end count.

use super::pacer::Pacer;
use crate::net;
use crate::run::Schedule;
use crate::stats::Latencies;
use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Largest answer, head and body.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Connections, and so requests in flight at most.
    pub(super) connections: usize,
    /// For how long.
    pub(super) length: Duration,
}

/// What the load saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Answers with status 200.
    pub(super) requests: u64,
    /// Connections that failed or answered something else; each ends that connection's part.
    pub(super) errors: u64,
    /// Of the answers.
    pub(super) latencies: Latencies,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
}

/// Loads `address` with `request`, each connection with the next one as soon as it has the answer.
pub(super) async fn run(address: SocketAddr, request: &[u8], load: Load) -> anyhow::Result<Seen> {
    let connections = open(address, request, load.connections).await?;
    let started = Instant::now();
    let until = started + load.length;
    let seen = RefCell::new(Seen::default());
    join_all(connections.into_iter().map(async |mut connection: Connection| {
        let mut sent = Instant::now();
        while sent < until {
            let answered = connection.exchange(request).await.map(|()| Instant::now());
            let Some(answered) = seen.borrow_mut().record(sent, answered) else { return };
            sent = answered;
        }
    }))
    .await;
    seen.into_inner().after(started)
}

/// Loads `address` with `rate` requests a second, evenly spaced. Latency counts from the moment a request should have
/// left, also when no connection was free then.
pub(super) async fn run_at(address: SocketAddr, request: &[u8], load: Load, rate: f64) -> anyhow::Result<Seen> {
    let schedule = Schedule::new(rate).map_err(anyhow::Error::msg)?;
    let connections = open(address, request, load.connections).await?;
    let pacer = Pacer::new()?;
    let started = Instant::now();
    let (seen, next) = (RefCell::new(Seen::default()), Cell::new(0));
    let exchanges = join_all(connections.into_iter().map(async |mut connection: Connection| {
        loop {
            let due = schedule.due(next.replace(next.get() + 1));
            if due >= load.length {
                return;
            }
            let intended = started + due;
            pacer.until(intended).await;
            let answered = connection.exchange(request).await.map(|()| Instant::now());
            if seen.borrow_mut().record(intended, answered).is_none() {
                return;
            }
        }
    }));
    tokio::select! {
        biased;
        _ = exchanges => (),
        broken = pacer.run() => broken?,
    }
    seen.into_inner().after(started)
}

/// Connections that have answered once, so that the clock starts on warm ones.
async fn open(address: SocketAddr, request: &[u8], count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(address).await?;
        connection.exchange(request).await?;
        connections.push(connection);
    }
    Ok(connections)
}

impl Seen {
    /// One request is over; `None` when its connection is of no more use.
    fn record(&mut self, sent: Instant, answered: anyhow::Result<Instant>) -> Option<Instant> {
        if let Ok(answered) = &answered {
            self.requests += 1;
            self.latencies.record(*answered - sent);
        } else {
            self.errors += 1;
        }
        answered.ok()
    }

    fn after(mut self, started: Instant) -> anyhow::Result<Self> {
        if self.requests == 0 {
            bail!("no request was answered");
        }
        self.elapsed = started.elapsed();
        Ok(self)
    }
}

/// Asks for `path` until the answer is 200.
pub(super) async fn until_ok(address: SocketAddr, host: &str, path: &str, limit: Duration) -> anyhow::Result<()> {
    let request = request(host, path);
    let asking = async {
        loop {
            let answered = async { Connection::open(address).await?.exchange(&request).await };
            match answered.await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(limit, asking).await.with_context(|| format!("http://{address}{path}: no 200 in {limit:?}"))
}

/// A GET without a body.
pub(super) fn request(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadtest\r\nAccept: */*\r\n\r\n").into_bytes()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { stream: net::connect(address).await?, buffer: vec![0; 16 * 1024] })
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                bail!("closed before the end of an answer");
            }
            filled += read;
            match answer_length(&self.buffer[..filled])? {
                Some(length) if length == filled => return Ok(()),
                Some(length) if length < filled => bail!("more than one answer"),
                Some(length) if length > self.buffer.len() => self.buffer.resize(length.min(ANSWER_BYTES_MAX), 0),
                Some(_) => (),
                None if filled == self.buffer.len() => bail!("the response head is too large"),
                None => (),
            }
        }
    }
}

/// The whole length of the answer that `bytes` begin with, once its head is there.
fn answer_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    if !head.starts_with(b"HTTP/1.1 200") {
        let status = String::from_utf8_lossy(head.get(..40.min(head.len())).unwrap_or_default()).into_owned();
        bail!("not 200: {status}");
    }
    const NAME: &[u8] = b"content-length:";
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = std::str::from_utf8(&line[NAME.len()..])?.trim();
            let length: usize = value.parse().with_context(|| format!("content-length {value:?}"))?;
            if length > ANSWER_BYTES_MAX {
                bail!("the answer is over {ANSWER_BYTES_MAX} bytes");
            }
            return Ok(Some(end + 4 + length));
        }
    }
    bail!("an answer without content-length cannot be compared")
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
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        ] {
            assert!(answer_length(bad).is_err());
        }
    }
}
