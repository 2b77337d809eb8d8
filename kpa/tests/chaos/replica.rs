//! The replica: a small HTTP/1.1 server that writes down what it does and misbehaves when it is told to.
//!
//! Invariant: what is in the ledger is written before anybody can see it: a beginning before any of its answer, an end
//! before its last bytes. On TERM it dies at once, as programs do that never heard of signals.

mod answer;
mod line;

use crate::content::{Ask, ID_HEADER, filler};
use crate::plan::{LYING, REFUSING};
use crate::program::uptime_ms;
use answer::Answer;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use line::Line;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

/// How long the service that closes idle connections waits for the next request.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(1);

/// What a replica is, as its command line says it: `replica SERVICE PORT LEDGERS LIMIT keep|close`.
struct Settings {
    service: String,
    port: u16,
    ledgers: String,
    /// Requests at once; 0 is any number.
    limit: u32,
    closes_idle: bool,
}

impl Settings {
    fn of(args: &[String]) -> Option<Self> {
        let [service, port, ledgers, limit, idle] = args else { return None };
        let (port, limit) = (port.parse().ok()?, limit.parse().ok()?);
        Some(Self { service: service.clone(), port, ledgers: ledgers.clone(), limit, closes_idle: idle == "close" })
    }
}

/// What the whole process knows.
struct Replica {
    ledger: File,
    limit: u32,
    busy: Cell<u32>,
    lies: Cell<bool>,
    /// The next answer is reset in its middle.
    resets: Cell<bool>,
}

impl Replica {
    fn note(&self, words: &str) {
        // One write a line, so that a KILL leaves whole ones.
        (&self.ledger).write_all(format!("{} {words}\n", uptime_ms()).as_bytes()).expect("the ledger can be written");
    }
}

/// One request from its beginning to its end.
struct Guard {
    replica: Rc<Replica>,
    id: String,
    ended: bool,
}

impl Guard {
    fn begin(replica: &Rc<Replica>, id: &str, method: &Method) -> Self {
        replica.note(&format!("start {id} {method}"));
        replica.busy.set(replica.busy.get() + 1);
        if replica.limit > 0 && replica.busy.get() > replica.limit {
            replica.note(&format!("over {id}"));
        }
        Self { replica: Rc::clone(replica), id: id.to_owned(), ended: false }
    }

    /// The last of its answer is about to be written.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.replica.note(&format!("end {}", self.id));
            self.replica.busy.set(self.replica.busy.get() - 1);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.ended {
            self.replica.note(&format!("left {}", self.id));
            self.replica.busy.set(self.replica.busy.get() - 1);
        }
    }
}

/// Runs a replica until it is killed.
pub(crate) fn main(args: &[String]) -> io::Result<()> {
    let settings = Settings::of(args)
        .ok_or_else(|| io::Error::other(format!("expected SERVICE PORT LEDGERS LIMIT keep|close, got {args:?}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(settings))
}

async fn run(settings: Settings) -> io::Result<()> {
    let (mut refuse, mut reset, mut lie) =
        (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?, signal(SignalKind::hangup())?);
    let path = Path::new(&settings.ledgers).join(format!("{}.{}", settings.service, std::process::id()));
    let ledger = File::options().append(true).create(true).open(path)?;
    let (limit, closes_idle) = (settings.limit, settings.closes_idle);
    let replica =
        Rc::new(Replica { ledger, limit, busy: Cell::new(0), lies: Cell::new(false), resets: Cell::new(false) });
    let told = Rc::clone(&replica);
    spawn_local(async move {
        while reset.recv().await.is_some() {
            told.note("reset");
            told.resets.set(true);
        }
    });
    let told = Rc::clone(&replica);
    spawn_local(async move {
        while lie.recv().await.is_some() {
            told.note("lie");
            told.lies.set(true);
            sleep(LYING).await;
            told.lies.set(false);
        }
    });
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
        replica.note("up");
        loop {
            tokio::select! {
                biased;
                _ = refuse.recv() => break,
                accepted = listener.accept() => serve(&replica, accepted?.0, closes_idle),
            }
        }
        // Whoever is connected already is served: a close would reset what nobody has read.
        while let Some(Ok((socket, _))) = listener.accept().now_or_never() {
            serve(&replica, socket, closes_idle);
        }
        drop(listener);
        replica.note("refuse");
        sleep(REFUSING).await;
    }
}

fn serve(replica: &Rc<Replica>, socket: TcpStream, closes_idle: bool) {
    let (line, reset) = Line::new(socket);
    let replica = Rc::clone(replica);
    let service = service_fn(move |request| {
        let (replica, reset) = (Rc::clone(&replica), Rc::clone(&reset));
        async move { answer(&replica, reset, request).await }
    });
    let mut server = http1::Builder::new();
    if closes_idle {
        server.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    }
    let connection = server.serve_connection(TokioIo::new(line), service);
    // A connection that fails says so to its peer.
    spawn_local(async move { drop(connection.await) });
}

async fn answer(
    replica: &Rc<Replica>,
    reset: Rc<Cell<bool>>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, hyper::Error> {
    let plain = |status| {
        let mut response = Response::new(Answer::nothing());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.uri().path() == "/healthz" {
        return plain(if replica.lies.get() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK });
    }
    let id = request.headers().get(ID_HEADER).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (Some(id), Ok(ask)) = (id, request.uri().path().parse::<Ask>()) else { return plain(StatusCode::BAD_REQUEST) };
    let guard = Guard::begin(replica, &id, request.method());
    // Something for the log files. A reader that is gone is no reason to fail.
    drop(writeln!(io::stdout(), "{id}"));
    let mut body = Vec::new();
    let mut incoming = request.into_body();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    if body != filler(&id, body.len()) {
        return plain(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let pieces: Vec<Bytes> = ask.answer(&id, body.len()).into_iter().map(Bytes::from).collect();
    let (pause, sized) = match ask {
        Ask::Unary { ms, .. } => (Duration::from_millis(ms) / 2, true),
        Ask::Stream { ms, .. } => (Duration::from_millis(ms), false),
    };
    sleep(pause).await;
    let reset = replica.resets.take().then_some(reset);
    Ok(Response::new(Answer::new(pieces, sized, pause, reset, guard)))
}
