//! The load of a scenario, at as little cost as it can have.
//!
//! Invariant: at most one request is in flight on a client, and only answers read to their end count.

mod events;
mod http1;
mod http2;

use super::pacer::Pacer;
use super::scenario::{Shape, Traffic, Wire};
use crate::net;
use crate::run::Schedule;
use crate::stats::Latencies;
use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use http1::Connection;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// What the load saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Answers with status 200, or events.
    pub(super) count: u64,
    /// Clients that failed or got something else; each ends that client's part.
    pub(super) errors: u64,
    /// Of the answers, or from the writing of an event to its arrival.
    pub(super) latencies: Latencies,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
}

/// Clients of one proxy that have been answered once, so that a clock which starts now starts on warm connections.
pub(super) enum Clients {
    /// They ask and are answered.
    Asking(Vec<Client>),
    /// They listen to streams.
    Listening(Vec<events::Stream>),
}

impl Clients {
    /// Those of `shape`, connected to `address`.
    pub(super) async fn open(address: SocketAddr, shape: &Shape) -> anyhow::Result<Self> {
        if let Traffic::Events { .. } = shape.traffic {
            let mut streams = Vec::with_capacity(shape.connections);
            for host in shape.hosts().iter().cycle().take(shape.connections) {
                streams.push(events::Stream::open(address, host).await?);
            }
            return Ok(Self::Listening(streams));
        }
        let mut clients = Vec::new();
        for number in 0..shape.connections {
            for way in Way::open(address, shape).await? {
                let mut client = Client { way, next: (number * 1009 + clients.len()) as u64 };
                client.exchange().await?;
                clients.push(client);
            }
        }
        Ok(Self::Asking(clients))
    }

    /// Each sends the next request as soon as it has the answer, or listens, for `length`.
    pub(super) async fn run(self, length: Duration) -> anyhow::Result<Seen> {
        let started = Instant::now();
        let until = started + length;
        let seen = RefCell::new(Seen::default());
        match self {
            Self::Asking(clients) => {
                join_all(clients.into_iter().map(async |mut client| {
                    let mut sent = Instant::now();
                    while sent < until {
                        let answered = client.exchange().await.map(|()| Instant::now());
                        let Some(answered) = seen.borrow_mut().record(sent, answered) else { return };
                        sent = answered;
                    }
                }))
                .await;
            }
            Self::Listening(streams) => {
                join_all(streams.into_iter().map(|stream| stream.listen(until, &seen))).await;
            }
        }
        seen.into_inner().after(started)
    }

    /// `rate` requests a second for `length`, evenly spaced. Latency counts from the moment a request should have left, also when no
    /// client was free then.
    pub(super) async fn run_at(self, length: Duration, rate: f64) -> anyhow::Result<Seen> {
        let Self::Asking(clients) = self else { bail!("streams have no rate of requests") };
        let schedule = Schedule::new(rate).map_err(anyhow::Error::msg)?;
        let pacer = Pacer::new()?;
        let started = Instant::now();
        let (seen, next) = (RefCell::new(Seen::default()), Cell::new(0));
        let exchanges = join_all(clients.into_iter().map(async |mut client| {
            loop {
                let due = schedule.due(next.replace(next.get() + 1));
                if due >= length {
                    return;
                }
                let intended = started + due;
                pacer.until(intended).await;
                let answered = client.exchange().await.map(|()| Instant::now());
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
}

/// One client: a way to send, and which of its requests is next. Each goes through the services in an order of its own: in the
/// same order all of them would end up at the same service at the same time.
pub(super) struct Client {
    way: Way,
    next: u64,
}

/// How a client sends.
enum Way {
    KeptAlive(Connection, std::rc::Rc<[Vec<u8>]>),
    Fresh(SocketAddr, std::rc::Rc<[Vec<u8>]>),
    H2(http2::Stream),
}

impl Way {
    /// One connection to `address`, as one client or, over HTTP/2, as many.
    async fn open(address: SocketAddr, shape: &Shape) -> anyhow::Result<Vec<Self>> {
        let body_bytes = match shape.traffic {
            Traffic::Post { body_bytes } => body_bytes,
            Traffic::Get { .. } | Traffic::Events { .. } => 0,
        };
        let requests =
            |closes| shape.hosts().iter().map(|host| http1::request(host, "/", body_bytes, closes)).collect();
        Ok(match shape.wire {
            Wire::KeptAlive => vec![Self::KeptAlive(Connection::open(address).await?, requests(false))],
            Wire::Fresh => vec![Self::Fresh(address, requests(true))],
            Wire::H2 { streams } => {
                http2::open(address, &shape.hosts(), streams).await?.into_iter().map(Self::H2).collect()
            }
        })
    }
}

impl Client {
    async fn exchange(&mut self) -> anyhow::Result<()> {
        // Knuth's linear congruential generator; its upper bits are good enough to spread load.
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (self.next >> 33) as usize;
        match &mut self.way {
            Way::KeptAlive(connection, requests) => connection.exchange(&requests[number % requests.len()]).await,
            Way::Fresh(address, requests) => {
                Connection::open(*address).await?.exchange(&requests[number % requests.len()]).await
            }
            Way::H2(stream) => stream.exchange(number).await,
        }
    }
}

impl Seen {
    /// One request is over; `None` when its client is of no more use.
    fn record(&mut self, sent: Instant, answered: anyhow::Result<Instant>) -> Option<Instant> {
        if let Ok(answered) = &answered {
            self.count += 1;
            self.latencies.record(*answered - sent);
        } else {
            self.errors += 1;
        }
        answered.ok()
    }

    fn after(mut self, started: Instant) -> anyhow::Result<Self> {
        if self.count == 0 {
            bail!("nothing was answered");
        }
        self.elapsed = started.elapsed();
        Ok(self)
    }
}

/// Asks for `path` until the answer is 200.
pub(super) async fn until_ok(address: SocketAddr, host: &str, path: &str, limit: Duration) -> anyhow::Result<()> {
    let request = http1::request(host, path, 0, false);
    until(limit, async || Connection::open(address).await?.exchange(&request).await)
        .await
        .with_context(|| format!("http://{address}{path}: no 200 in {limit:?}"))
}

/// Connects until somebody listens.
pub(super) async fn until_accepted(address: SocketAddr, limit: Duration) -> anyhow::Result<()> {
    until(limit, async || Ok(net::connect(address).await.map(drop)?))
        .await
        .with_context(|| format!("nobody listens on {address} in {limit:?}"))
}

async fn until(limit: Duration, attempt: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let trying = async {
        while attempt().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    Ok(tokio::time::timeout(limit, trying).await?)
}
