//! The clients: a crowd that always has so many requests under way, single visitors, and questions to autoscalers.
//!
//! Invariant: a request is POST, sent once and never repeated by the client: whatever saves it is the activator's work.

use crate::cluster::{Cluster, now};
use crate::ledger::Call;
use crate::net::SimStream;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use turmoil::net::TcpStream;

/// The Host of every request.
const HOST: &str = "echo.default.example.com";
/// Longer than any answer may take that is not lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest time for a connection to be accepted.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// Between a broken request and the next one of the same client.
const PAUSE: Duration = Duration::from_millis(100);
/// Between the first requests of two members that become active together.
const STAGGER: Duration = Duration::from_millis(2);
/// Members of the crowd.
pub(crate) const CROWD: usize = 32;
/// Orders that may wait.
pub(crate) const ORDERS_MAX: usize = 64;

/// What a driver asks of the clients.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// One request through one activator.
    Visit(usize),
    /// What an autoscaler knows.
    Ask(usize),
}

/// How many of the crowd are active, and which activator they prefer; `None`: half each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Crowd {
    pub(crate) active: usize,
    pub(crate) home: Option<usize>,
}

/// Where everybody is.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) activators: Vec<SocketAddr>,
    pub(crate) autoscalers: Vec<SocketAddr>,
}

/// Runs the clients until the driver is gone.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    addresses: Addresses,
    crowd: watch::Receiver<Crowd>,
    mut orders: mpsc::Receiver<Order>,
) -> turmoil::Result {
    let mut tasks = JoinSet::new();
    for number in 0..CROWD {
        tasks.spawn(member(Arc::clone(&cluster), addresses.activators.clone(), crowd.clone(), number));
    }
    while let Some(order) = orders.recv().await {
        let cluster = Arc::clone(&cluster);
        match order {
            Order::Visit(via) => {
                let to = addresses.activators[via];
                tasks.spawn(async move {
                    call(&cluster, via, &mut Line::default(), to).await;
                });
            }
            Order::Ask(number) => {
                let to = addresses.autoscalers[number];
                tasks.spawn(async move {
                    let answer = Line::default().exchange(to, Request::get("/v1/revisions")).await;
                    let status =
                        answer.ok().and_then(|(_, body)| serde_json::from_slice::<serde_json::Value>(&body).ok());
                    cluster.ledger().statuses.insert(number, status.unwrap_or_default()[0].clone());
                });
            }
        }
    }
    Ok(())
}

/// One of the crowd: the next request follows the answer to the last one. Changes to another activator when its own
/// does not answer.
async fn member(cluster: Arc<Cluster>, activators: Vec<SocketAddr>, mut crowd: watch::Receiver<Crowd>, number: usize) {
    let mut line = Line::default();
    let mut moved = 0;
    loop {
        if crowd.borrow().active <= number {
            if crowd.wait_for(|crowd| crowd.active > number).await.is_err() {
                return;
            }
            // A watch wakes its receivers in no order; this is one, and the same for the same seed.
            tokio::time::sleep(STAGGER * number as u32).await;
        }
        let home = crowd.borrow().home;
        let via = (home.unwrap_or(number) + moved) % activators.len();
        if !call(&cluster, via, &mut line, activators[via]).await {
            line = Line::default();
            moved += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One request, into the ledger. Whether an answer came.
async fn call(cluster: &Cluster, via: usize, line: &mut Line, to: SocketAddr) -> bool {
    let began = now();
    cluster.ledger().sent += 1;
    let request = Request::post("/v1/echo");
    let outcome = match tokio::time::timeout(PATIENCE, line.exchange(to, request)).await {
        Ok(Ok((status, _))) => Ok(status),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    };
    let answered = outcome.is_ok();
    cluster.ledger().calls.push(Call { via, began, ended: now(), outcome });
    answered
}

/// A kept-alive connection.
#[derive(Default)]
struct Line {
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Drives the connection; dropped with the line.
    driver: JoinSet<()>,
}

impl Line {
    /// Sends a request; its status and body.
    async fn exchange(&mut self, to: SocketAddr, request: http::request::Builder) -> Result<(u16, Bytes), String> {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(to)).await;
            let stream = connected.map_err(|_| "connect: no answer")?.map_err(|error| format!("connect: {error}"))?;
            let (sender, connection) =
                handshake(TokioIo::new(SimStream::new(stream))).await.map_err(|error| error.to_string())?;
            self.driver.abort_all();
            self.driver.spawn(async move { drop(connection.await) });
            self.sender = Some(sender);
        }
        let Some(sender) = &mut self.sender else { return Err("not connected".into()) };
        let request = request.header(header::HOST, HOST).body(Full::new(Bytes::from_static(b"hello")));
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request.expect("the request is valid")).await?;
            let status = answer.status().as_u16();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        exchange.await.map_err(|error: hyper::Error| format!("exchange: {error}"))
    }
}
