//! One request at a time on a kept-alive connection, or on one of a few shared HTTP/2 connections.
//!
//! Invariant: a request that the server cannot have seen is sent again on a new connection, once; nothing else is.

use super::plan::Plan;
use crate::net;
use crate::sse;
use crate::stats::{Answer, ErrorKind};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Largest body that is fetched whole.
const FETCH_BYTES_MAX: usize = 64 * 1024 * 1024;

type Body = Full<Bytes>;
/// The one place of a shared HTTP/2 connection. An async lock: whoever finds it closed connects while the others wait.
type Shared = Arc<Mutex<Option<http2::SendRequest<Body>>>>;

/// Sends requests one after the other.
#[derive(Debug)]
pub struct Client {
    plan: Arc<Plan>,
    connection: Option<Sender>,
    shared: Option<Shared>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Why a request on a connection came to nothing.
enum Unsent {
    /// The server cannot have seen it.
    Never,
    /// It may have.
    Perhaps,
}

impl Client {
    /// `count` clients. Over HTTP/1.1 each has its own connection, over HTTP/2 they share those of the plan.
    #[must_use]
    pub fn many(plan: &Arc<Plan>, count: usize) -> Vec<Self> {
        let shared: Vec<Shared> =
            (0..if plan.http2 { plan.connections } else { 0 }).map(|_| Shared::default()).collect();
        (0..count)
            .map(|n| Self {
                plan: Arc::clone(plan),
                connection: None,
                shared: (!shared.is_empty()).then(|| Arc::clone(&shared[n % shared.len()])),
            })
            .collect()
    }

    /// One request that should have left at `intended`, read to its end.
    ///
    /// # Errors
    ///
    /// There was no whole answer.
    pub async fn exchange(&mut self, intended: Instant) -> Result<Answer, ErrorKind> {
        let outcome = match tokio::time::timeout(self.plan.timeout, self.attempts(intended)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ErrorKind::Timeout),
        };
        if outcome.is_err() {
            self.connection = None;
        }
        outcome
    }

    /// The body of the answer to one request of `plan`, which must be 200; for small answers.
    ///
    /// # Errors
    ///
    /// No answer, another status, or none within the plan's time.
    pub async fn fetch(plan: &Plan) -> anyhow::Result<Bytes> {
        let fetching = async {
            let response = http1(plan).await?.send_request(plan.request()).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), FETCH_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the body broke off: {error}"))?.to_bytes();
            anyhow::ensure!(status == http::StatusCode::OK, "status {status}");
            Ok(body)
        };
        tokio::time::timeout(plan.timeout, fetching).await?
    }

    async fn attempts(&mut self, intended: Instant) -> Result<Answer, ErrorKind> {
        let reused = self.connection.is_some();
        let response = match self.send().await? {
            Ok(response) => response,
            // The server closed an idle connection at the moment we used it: no fault of either side.
            Err(Unsent::Never) if reused => {
                self.connection = None;
                self.send().await?.map_err(|_| ErrorKind::NoResponse)?
            }
            Err(Unsent::Never | Unsent::Perhaps) => return Err(ErrorKind::NoResponse),
        };
        let first_byte = intended.elapsed();
        let status = response.status().as_u16();
        let cold = response.headers().get("x-kpa-cold").is_some_and(|value| value == "true");
        let stream = self.plan.streaming && response.status().is_success();
        read(response.into_body(), stream).await?;
        Ok(Answer { status, first_byte, latency: intended.elapsed(), cold })
    }

    async fn send(&mut self) -> Result<Result<Response<Incoming>, Unsent>, ErrorKind> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await.map_err(|_| ErrorKind::Connect)?);
        }
        let Some(connection) = &mut self.connection else { return Err(ErrorKind::Connect) };
        Ok(connection.send(self.plan.request()).await)
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let Some(shared) = &self.shared else { return Ok(Sender::Http1(http1(&self.plan).await?)) };
        let mut shared = shared.lock().await;
        if let Some(open) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Sender::Http2(open.clone()));
        }
        let opened = http2(&self.plan).await?;
        *shared = Some(opened.clone());
        Ok(Sender::Http2(opened))
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(|_| Unsent::Never)?;
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(|_| Unsent::Never)?;
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|error| if error.message().is_some() { Unsent::Never } else { Unsent::Perhaps })
    }
}

async fn http1(plan: &Plan) -> anyhow::Result<http1::SendRequest<Body>> {
    let stream = net::connect(plan.address).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    net::spawn(async move {
        // Its end reaches the request that uses it.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn http2(plan: &Plan) -> anyhow::Result<http2::SendRequest<Body>> {
    let stream = net::connect(plan.address).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    net::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Reads a body to its end; of a stream also whether the end was said.
async fn read(mut body: Incoming, stream: bool) -> Result<(), ErrorKind> {
    let cut = if stream { ErrorKind::CutStream } else { ErrorKind::CutBody };
    let mut events = sse::Reader::new();
    while let Some(frame) = body.frame().await {
        if let (true, Some(data)) = (stream, frame.map_err(|_| cut)?.data_ref()) {
            events.push(data);
        }
    }
    if stream && !events.is_done() { Err(ErrorKind::CutStream) } else { Ok(()) }
}
