//! Clients as they are behind a Service: a new connection goes only to an activator that is listed, and a connection that
//! was told to end (`connection: close`, GOAWAY) is used no more.

use crate::support::PATIENCE;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Clients of each kind.
const CLIENTS: usize = 4;
/// Requests that a client of HTTP/2 has on its connection at once.
const STREAMS: usize = 4;
/// Between two requests of a client: a load, not a flood.
const THINK: Duration = Duration::from_millis(5);
/// Events of a stream, and between two of them.
const EVENTS: usize = 30;
const EVENT_MS: usize = 50;

/// The Service in front of the activators, as clients have it.
#[derive(Debug, Default)]
pub(crate) struct Front {
    listed: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Front {
    pub(crate) fn of(listed: &[SocketAddr]) -> Arc<Self> {
        Arc::new(Self { listed: Mutex::new(listed.to_vec()), turn: AtomicUsize::new(0) })
    }

    pub(crate) fn list(&self, address: SocketAddr) {
        self.listed.lock().push(address);
    }

    pub(crate) fn unlist(&self, address: SocketAddr) {
        self.listed.lock().retain(|listed| *listed != address);
    }

    fn next(&self) -> SocketAddr {
        let listed = self.listed.lock();
        listed[self.turn.fetch_add(1, Ordering::Relaxed) % listed.len()]
    }
}

/// What became of the requests of one kind.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) asked: usize,
    pub(crate) failed: Vec<String>,
}

impl Book {
    fn note(&mut self, outcome: Result<(), String>) {
        self.asked += 1;
        self.failed.extend(outcome.err());
    }
}

/// What every client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Echo(usize),
    Hello,
    Events,
}

impl Ask {
    fn request(self, host: &str) -> Request<Full<Bytes>> {
        let (method, path, body) = match self {
            Self::Echo(number) => (Method::POST, "/".to_owned(), number.to_string()),
            Self::Hello => (Method::GET, "/".to_owned(), String::new()),
            Self::Events => (Method::GET, format!("/events?n={EVENTS}&ms={EVENT_MS}"), String::new()),
        };
        let uri = format!("http://{host}{path}");
        Request::builder().method(method).uri(uri).header("host", host).body(Full::new(body.into())).unwrap()
    }

    fn answer(self) -> String {
        match self {
            Self::Echo(number) => number.to_string(),
            Self::Hello => "hello\n".to_owned(),
            Self::Events => (0..EVENTS).map(|number| format!("data: {number}\n\n")).collect(),
        }
    }

    async fn judge(self, answer: Response<Incoming>) -> Result<(), String> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("{}: cut: {error:?}", head.status))?.to_bytes();
        if head.status == StatusCode::OK && body == self.answer().as_bytes() {
            return Ok(());
        }
        Err(format!("{} {:?} {:?}", head.status, head.headers, String::from_utf8_lossy(&body)))
    }
}

/// Which HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

enum Line {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Line {
    /// The connection goes on for as long as it has something to do.
    async fn to(address: SocketAddr, version: Version) -> Result<Self, String> {
        let failed = |error: &dyn std::error::Error| format!("no connection to {address}: {error}");
        let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        socket.set_nodelay(true).map_err(|error| failed(&error))?;
        let io = TokioIo::new(socket);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its connection; what it fails with is told to the request"
        )]
        Ok(match version {
            Version::One => {
                let (line, connection) = http1::handshake(io).await.map_err(|error| failed(&error))?;
                drop(tokio::spawn(connection));
                Self::One(line)
            }
            Version::Two => {
                let made = http2::handshake(TokioExecutor::new(), io).await;
                let (line, connection) = made.map_err(|error| failed(&error))?;
                drop(tokio::spawn(connection));
                Self::Two(line)
            }
        })
    }

    async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(line) => line.ready().await.is_ok(),
            Self::Two(line) => line.ready().await.is_ok(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::One(line) => line.try_send_request(request).await,
            Self::Two(line) => line.try_send_request(request).await,
        }
    }

    /// Another user of the same connection, where there can be one.
    fn shared(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(line) => Some(Self::Two(line.clone())),
        }
    }
}

/// One user of connections.
struct Client {
    front: Arc<Front>,
    host: String,
    version: Version,
    line: Option<Line>,
}

impl Client {
    async fn connected(&mut self) -> Result<&mut Line, String> {
        let kept = match self.line.take() {
            Some(mut line) => line.is_ready().await.then_some(line),
            None => None,
        };
        let line = match kept {
            Some(line) => line,
            None => Line::to(self.front.next(), self.version).await?,
        };
        Ok(self.line.insert(line))
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), String> {
        let mut request = ask.request(&self.host);
        // The connection may end while it is taken; a second new one may not.
        for _ in 0..3 {
            match self.connected().await?.send(request).await {
                Ok(answer) => return ask.judge(answer).await,
                Err(mut error) => match error.take_message() {
                    // It was never sent.
                    Some(unsent) => {
                        self.line = None;
                        request = unsent;
                    }
                    None => return Err(format!("{:?}", error.into_error())),
                },
            }
        }
        Err("three connections in a row ended before anything was sent".to_owned())
    }

    async fn in_time(&mut self, ask: Ask) -> Result<(), String> {
        timeout(PATIENCE, self.ask(ask)).await.unwrap_or_else(|_| Err(format!("not within {PATIENCE:?}")))
    }
}

/// Requests of one kind without end.
async fn client(mut client: Client, events: bool, over: Arc<AtomicBool>, book: Arc<Mutex<Book>>) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let ask = if events { Ask::Events } else { Ask::Echo(number) };
        let outcome = client.in_time(ask).await;
        book.lock().note(outcome);
        sleep(THINK).await;
    }
}

/// The same, several at once on one connection.
async fn streams(front: Arc<Front>, host: String, over: Arc<AtomicBool>, book: Arc<Mutex<Book>>) {
    let mut first = Client { front: Arc::clone(&front), host: host.clone(), version: Version::Two, line: None };
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let mut asking = JoinSet::new();
        let connected = first.connected().await;
        for _ in 0..STREAMS {
            number += 1;
            let line = connected.as_ref().ok().and_then(|line| line.shared());
            let (front, host) = (Arc::clone(&front), host.clone());
            asking.spawn(async move {
                Client { front, host, version: Version::Two, line }.in_time(Ask::Echo(number)).await
            });
        }
        for outcome in asking.join_all().await {
            book.lock().note(outcome);
        }
        sleep(THINK).await;
    }
}

fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(work))
}

/// Clients of HTTP/1.1, of HTTP/2 and of streams, until [`Crowd::end`].
pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    books: [(&'static str, Arc<Mutex<Book>>); 3],
    thread: JoinHandle<()>,
}

impl Crowd {
    pub(crate) fn of(front: &Arc<Front>, service: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let books = ["HTTP/1.1", "HTTP/2", "streams"].map(|kind| (kind, Arc::default()));
        let host = host(service);
        let mut clients = JoinSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for number in 0..CLIENTS {
            let new = |version| Client { front: Arc::clone(front), host: host.clone(), version, line: None };
            let book = |n: usize| Arc::clone(&books[n].1);
            clients.spawn_on(client(new(Version::One), false, Arc::clone(&over), book(0)), runtime.handle());
            clients.spawn_on(streams(Arc::clone(front), host.clone(), Arc::clone(&over), book(1)), runtime.handle());
            let version = [Version::One, Version::Two][number % 2];
            clients.spawn_on(client(new(version), true, Arc::clone(&over), book(2)), runtime.handle());
        }
        let thread = std::thread::spawn(move || {
            runtime.block_on(clients.join_all());
        });
        Self { over, books, thread }
    }

    /// Lets every client end what it has begun; what became of all requests, by kind.
    pub(crate) fn end(self) -> [(&'static str, Book); 3] {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.books.map(|(kind, book)| (kind, std::mem::take(&mut *book.lock())))
    }
}

/// Requests for a service at once, each on a connection of its own to this activator; what went wrong.
pub(crate) fn at_once(address: SocketAddr, service: &str, count: usize) -> JoinHandle<Vec<String>> {
    let (front, host) = (Front::of(&[address]), host(service));
    on_a_thread(async move {
        let mut asking = JoinSet::new();
        for _ in 0..count {
            let mut client =
                Client { front: Arc::clone(&front), host: host.clone(), version: Version::One, line: None };
            asking.spawn(async move { client.in_time(Ask::Hello).await });
        }
        asking.join_all().await.into_iter().filter_map(Result::err).collect()
    })
}

fn host(service: &str) -> String {
    format!("{service}.default.example.com")
}
