//! The judged clients: each sends one request after another and looks at every byte of its answer.
//!
//! Invariant: a client never repeats a request that kpa may have taken; what it sends follows from the seed and its number.

use crate::content::{Ask, ID_HEADER, filler};
use crate::judge::{CONTENT, CUT, Failed, Failure, NOT_CONNECTED};
use crate::plan::ALL;
use crate::program::{PATIENCE, uptime_ms};
use crate::services::TABLE;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use runtime::Tasks;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A large body.
const LARGE: usize = 1024 * 1024;
/// A part of a chunked body.
const CHUNK: usize = 16 * 1024;
/// Failures kept; beyond, a run has failed whatever the others say.
const FAILURES_MAX: usize = 10_000;

type Sender = SendRequest<BoxBody<Bytes, Infallible>>;

/// Which services are asked for, or that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) active: [bool; ALL],
    pub(crate) over: bool,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By service.
    pub(crate) answered: [u64; ALL],
    pub(crate) failed: Vec<Failed>,
    /// Requests given up on purpose, by how.
    pub(crate) hung_up: BTreeMap<&'static str, u64>,
}

/// What all clients of a phase share.
#[derive(Clone)]
pub(crate) struct Crowd {
    pub(crate) proxy: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) load: watch::Receiver<Load>,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) seed: u64,
    /// Makes ids of two phases differ.
    pub(crate) phase: char,
}

/// The Host of a service.
pub(crate) fn host(service: usize) -> String {
    format!("{}.default.example.com", TABLE[service].name)
}

/// One client of one service.
pub(crate) struct Client {
    crowd: Crowd,
    service: usize,
    number: usize,
    count: u64,
    dice: SmallRng,
    line: Option<Sender>,
}

impl Client {
    pub(crate) fn new(crowd: Crowd, service: usize, number: usize) -> Self {
        let dice = SmallRng::seed_from_u64(crowd.seed.wrapping_mul(1_000).wrapping_add(number as u64));
        Self { crowd, service, number, count: 0, dice, line: None }
    }

    /// Sends requests while its service is asked for, until it is over.
    pub(crate) async fn run(mut self) {
        loop {
            let load = *self.crowd.load.borrow_and_update();
            if load.over {
                return;
            }
            if !load.active[self.service] {
                self.line = None;
                if self.crowd.load.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.request().await;
            let think = if TABLE[self.service].closes_idle && self.dice.random_ratio(1, 3) {
                // About as long as its replicas keep an idle connection.
                self.dice.random_range(900..1_100)
            } else {
                self.dice.random_range(10..150)
            };
            sleep(Duration::from_millis(think)).await;
        }
    }

    async fn request(&mut self) {
        self.count += 1;
        let ask = if self.dice.random_range(0..100) < TABLE[self.service].streams {
            Ask::Stream { events: self.dice.random_range(3..40), ms: self.dice.random_range(5..60) }
        } else {
            Ask::Unary { bytes: self.dice.random_range(1..20_000), ms: self.dice.random_range(0..120) }
        };
        let body = match self.dice.random_range(0..100) {
            0..55 => None,
            55..90 => Some(self.dice.random_range(0..2_000)),
            _ => Some(LARGE),
        };
        let letter = if body.is_some() { 'p' } else { 'g' };
        let id = format!("{letter}{}{}-{}", self.crowd.phase, self.number, self.count);
        let began = uptime_ms();
        let outcome = match timeout(PATIENCE, self.exchange(&id, ask, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure(None, "too_late", format!("no end within {PATIENCE:?}"))),
        };
        let mut book = self.crowd.book.lock();
        match outcome {
            Ok(()) => book.answered[self.service] += 1,
            Err(failure) if book.failed.len() < FAILURES_MAX => {
                book.failed.push(Failed { id, service: TABLE[self.service].name, began, ended: uptime_ms(), failure });
            }
            Err(_) => {}
        }
    }

    /// One request and its whole answer.
    async fn exchange(&mut self, id: &str, ask: Ask, body: Option<usize>) -> Result<(), Failure> {
        let chunked = self.dice.random_bool(0.5);
        let request = Request::builder()
            .method(if body.is_some() { Method::POST } else { Method::GET })
            .uri(ask.to_string())
            .header(header::HOST, host(self.service))
            .header(ID_HEADER, id)
            .body(content(id, body, chunked))
            .expect("a request of known parts");
        let keep = self.dice.random_ratio(4, 5);
        let kept = self.line.take().filter(SendRequest::is_ready);
        let mut line = match kept {
            Some(line) => line,
            None => self.connect().await?,
        };
        let response = match line.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // kpa had closed the connection before: nothing was sent.
                Some(request) => {
                    line = self.connect().await?;
                    line.send_request(request).await.map_err(|error| cut(None, &error))?
                }
                None => return Err(cut(None, error.error())),
            },
        };
        judge(response, &ask.answer(id, body.unwrap_or(0)).concat()).await?;
        self.line = keep.then_some(line);
        Ok(())
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let failed = |what: String| failure(None, NOT_CONNECTED, what);
        let socket = TcpStream::connect(self.crowd.proxy).await.map_err(|error| failed(error.to_string()))?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await.map_err(|error| failed(error.to_string()))?;
        // What it fails with is told to the request.
        self.crowd.tasks.spawn("client connection", async move { drop(connection.await) });
        Ok(sender)
    }
}

async fn judge(response: Response<Incoming>, expected: &[u8]) -> Result<(), Failure> {
    let status = response.status().as_u16();
    let reason =
        response.headers().get("x-kpa-reason").and_then(|code| code.to_str().ok()).unwrap_or("none").to_owned();
    let body = response.into_body().collect().await.map_err(|error| cut(Some(status), &error))?.to_bytes();
    if status != 200 {
        return Err(failure(Some(status), &reason, String::from_utf8_lossy(&body).trim().to_owned()));
    }
    if body != expected {
        let at = body.iter().zip(expected).position(|(is, should)| is != should).unwrap_or(body.len());
        let what = format!("{} bytes instead of {}, different from byte {at} on", body.len(), expected.len());
        return Err(failure(Some(status), CONTENT, what));
    }
    Ok(())
}

fn content(id: &str, length: Option<usize>, chunked: bool) -> BoxBody<Bytes, Infallible> {
    let Some(length) = length else { return Empty::new().boxed() };
    let bytes = Bytes::from(filler(id, length));
    if !chunked {
        return Full::new(bytes).boxed();
    }
    let chunks: Vec<_> = (0..length).step_by(CHUNK).map(|at| bytes.slice(at..length.min(at + CHUNK))).collect();
    BodyExt::boxed(StreamBody::new(stream::iter(chunks.into_iter().map(|chunk| Ok(Frame::data(chunk))))))
}

fn failure(status: Option<u16>, code: &str, what: String) -> Failure {
    Failure { status, code: code.to_owned(), what }
}

fn cut(status: Option<u16>, error: &hyper::Error) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    failure(status, CUT, format!("{error}{cause}"))
}
