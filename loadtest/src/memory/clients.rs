//! Clients that stay: idle after an answer, or waiting for one with a large upload behind them.
//!
//! Invariant: an upload sends as much as is taken from it and no more; it ends with an answer, or when it is told to leave.

use super::subject::host;
use super::tls::Tls;
use crate::net;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What each upload offers.
const OFFERED_BYTES: usize = 64 * 1024 * 1024;
/// What is sent at a time.
const PART: &[u8] = &[b'x'; 16 * 1024];
/// Connections of the clients that speak HTTP/2.
const H2_CONNECTIONS: usize = 100;

/// Connections that were answered once and are kept.
pub(super) struct Idle(#[expect(dead_code, reason = "held open until dropped")] Vec<Line>);

type Line = Box<dyn Duplex>;

/// What a client speaks over.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Idle {
    pub(super) async fn open(address: SocketAddr, tls: Option<&Tls>, count: usize) -> anyhow::Result<Self> {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host());
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream: Line = match tls {
                None => Box::new(net::connect(address).await?),
                Some(tls) => Box::new(tls.connect(address).await?),
            };
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            if !status_is_200(&mut stream).await? {
                bail!("an idle connection was not answered 200");
            }
            streams.push(stream);
        }
        Ok(Self(streams))
    }
}

/// What the clients have come to.
#[derive(Debug, Default)]
struct Counts {
    /// 200.
    answered: AtomicUsize,
    /// Anything else.
    refused: AtomicUsize,
    /// Parts of bodies that were taken.
    parts: AtomicUsize,
}

/// Clients that upload and wait.
pub(super) struct Uploads {
    counts: Arc<Counts>,
    leave: CancellationToken,
}

impl Uploads {
    fn new() -> Self {
        Self { counts: Arc::default(), leave: CancellationToken::new() }
    }

    /// A connection each.
    pub(super) async fn over_http1(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let uploads = Self::new();
        let head = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: {OFFERED_BYTES}\r\n\r\n", host());
        for _ in 0..count {
            let mut stream = net::connect(address).await?;
            stream.write_all(head.as_bytes()).await?;
            let counts = Arc::clone(&uploads.counts);
            uploads.spawn(async move { upload_http1(stream, &counts).await.unwrap_or(false) });
        }
        Ok(uploads)
    }

    /// [`H2_CONNECTIONS`] connections, and as many streams on each as make `count`.
    pub(super) async fn over_http2(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let uploads = Self::new();
        for _ in 0..H2_CONNECTIONS {
            let (send, connection) = h2::client::handshake(net::connect(address).await?).await?;
            let leave = uploads.leave.clone();
            net::spawn(async move {
                tokio::select! { biased; () = leave.cancelled() => {}, _ = connection => {} }
            });
            let send = send.ready().await?;
            for _ in 0..count / H2_CONNECTIONS {
                let (send, counts) = (send.clone(), Arc::clone(&uploads.counts));
                uploads.spawn(async move { upload_http2(send, &counts).await.unwrap_or(false) });
            }
        }
        Ok(uploads)
    }

    /// Runs one client until it is answered; `upload` tells whether with 200.
    fn spawn(&self, upload: impl Future<Output = bool> + Send + 'static) {
        let (counts, leave) = (Arc::clone(&self.counts), self.leave.clone());
        net::spawn(async move {
            let answered = tokio::select! { biased; () = leave.cancelled() => return, answered = upload => answered };
            let count = if answered { &counts.answered } else { &counts.refused };
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Those that were answered 200.
    pub(super) fn answered(&self) -> usize {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Those that are over.
    pub(super) fn ended(&self) -> usize {
        self.answered() + self.counts.refused.load(Ordering::Relaxed)
    }

    /// Waits until nothing more is taken from anybody: no part in fifty looks.
    pub(super) async fn offered_all_that_fits(&self, look: Duration) {
        let parts = || self.counts.parts.load(Ordering::Relaxed);
        let (mut last, mut same) = (parts(), 0);
        while same < 50 {
            tokio::time::sleep(look).await;
            same = if parts() == last { same + 1 } else { 0 };
            last = parts();
        }
    }

    /// Ends all connections.
    pub(super) fn leave(&self) {
        self.leave.cancel();
    }
}

/// Sends while it is taken, until the answer comes; whether that is 200. An answer before the end of the upload is one.
async fn upload_http1(mut stream: TcpStream, counts: &Counts) -> anyhow::Result<bool> {
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let mut left = OFFERED_BYTES;
        while left > 0 {
            let part = &PART[..PART.len().min(left)];
            if writer.write_all(part).await.is_err() {
                break;
            }
            left -= part.len();
            counts.parts.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    };
    let mut head = Vec::new();
    let reading = async {
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if reader.read_buf(&mut head).await? == 0 {
                bail!("closed without an answer");
            }
        }
        Ok(head.starts_with(b"HTTP/1.1 200"))
    };
    tokio::select! { biased; answered = reading => answered, () = sending => Ok(false) }
}

async fn upload_http2(send: SendRequest<Bytes>, counts: &Counts) -> anyhow::Result<bool> {
    let mut send = send.ready().await?;
    let request = Request::post(format!("http://{}/", host())).header("content-length", OFFERED_BYTES).body(())?;
    let (answer, mut body) = send.send_request(request, false)?;
    let sending = async {
        let mut left = OFFERED_BYTES;
        while left > 0 {
            body.reserve_capacity(left.min(PART.len()));
            let room = std::future::poll_fn(|context| body.poll_capacity(context)).await;
            let Some(Ok(room)) = room else { break };
            let part = room.min(left).min(PART.len());
            if part > 0 && body.send_data(Bytes::from_static(&PART[..part]), part == left).is_err() {
                break;
            }
            left -= part;
            counts.parts.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        answer = answer => Ok(answer?.status() == StatusCode::OK),
        () = sending => Ok(false),
    }
}

/// Reads one small answer with a Content-Length, as the replica of this measurement gives.
async fn status_is_200(stream: &mut Line) -> anyhow::Result<bool> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        if stream.read_buf(&mut answer).await.context("no answer")? == 0 {
            bail!("closed without an answer");
        }
        if answer.len() > PART.len() {
            bail!("an answer of more than {} bytes", PART.len());
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
