//! A whole activator between clients and replicas over pipes in memory, on one thread, with a clock that stands still.
//!
//! Invariant: nothing here depends on the machine. Time moves only when nobody has anything left to do, so a wait of one
//! millisecond ends exactly when everything that could happen has happened; the replicas keep every byte they are sent.

use crate::strict::{self, Eyes, Front, Request};
use activator::reporter::ReporterSettings;
use activator::{Activator, Settings, Setup};
use domain::{ReporterId, RevisionId};
use parking_lot::Mutex;
use platform::fixed::{Fixed, FixedPlatform};
use platform::trust::{Shown, Token};
use runtime::net::{Connect, Listener};
use runtime::{Clock, PhaseSender, Tasks, WakeLog};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

/// What a pipe holds before its writer has to wait.
const PIPE_BYTES: usize = 256 * 1024;
/// Nobody waits for a clock this short.
const TICK: Duration = Duration::from_millis(1);

/// Where clients come in.
struct Door(mpsc::Receiver<(DuplexStream, SocketAddr)>);

impl Listener for Door {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

/// What a replica sends for one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// Written one after the other; whoever reads sees the end of each.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// It closes then.
    pub(crate) closes: bool,
}

impl Reply {
    /// A plain 200.
    pub(crate) fn ok(body: &str) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        Self { pieces: vec![head.into_bytes()], closes: false }
    }
}

/// Chooses the answer to a request.
type Script = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// All connections to the replica: it keeps what comes, and answers what a strict reader finds in it.
struct Replica {
    script: Script,
    seen: Mutex<Vec<Request>>,
    faults: Mutex<Vec<String>>,
}

impl Replica {
    async fn serve(self: Arc<Self>, mut socket: DuplexStream) {
        let mut bytes = Vec::new();
        loop {
            match strict::request(&bytes, Eyes::Replica) {
                _ if bytes.is_empty() => {}
                Front::Whole(request, used) => {
                    bytes.drain(..used);
                    let reply = (self.script)(&request);
                    self.seen.lock().push(request);
                    // No pause behind the last: an answer in one piece takes no time.
                    for (index, piece) in reply.pieces.into_iter().enumerate() {
                        if index > 0 {
                            settle().await;
                        }
                        if socket.write_all(&piece).await.is_err() {
                            break;
                        }
                    }
                    if reply.closes {
                        return;
                    }
                    continue;
                }
                Front::Part => {}
                Front::Refused(why) => {
                    self.faults.lock().push(format!("{why}: {:?}", String::from_utf8_lossy(&bytes)));
                    return;
                }
            }
            if !matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        }
    }
}

#[derive(Clone)]
struct Wiring {
    replica: Arc<Replica>,
    tasks: Tasks,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wiring")
    }
}

impl Connect for Wiring {
    type Stream = DuplexStream;

    async fn connect(&self, _: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = duplex(PIPE_BYTES);
        self.tasks.spawn("replica", Arc::clone(&self.replica).serve(far));
        Ok(near)
    }
}

/// The activator, its replica and its door.
pub(crate) struct World {
    replica: Arc<Replica>,
    tasks: Tasks,
    door: mpsc::Sender<(DuplexStream, SocketAddr)>,
}

/// Does `work` in a world of its own.
pub(crate) fn within<T, F: Future<Output = T>>(
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    work: impl FnOnce(World) -> F,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without a reactor").block_on(async {
        let world = World::begin(Box::new(script));
        settle().await;
        work(world).await
    })
}

/// Until nobody has anything left to do.
pub(crate) async fn settle() {
    tokio::time::sleep(TICK).await;
}

impl World {
    fn begin(script: Script) -> Self {
        let replica = Arc::new(Replica { script, seen: Mutex::default(), faults: Mutex::default() });
        let (tasks, (door, doors)) = (Tasks::new(), mpsc::channel(16));
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        // Whatever a client speaks, the replica is sent HTTP/1.1.
        let platform = FixedPlatform::with(Fixed {
            upstreams: vec![(RevisionId::new("default", "svc"), vec![address])],
            annotations: [("kpa.dev/protocol".to_owned(), "http1".to_owned())].into(),
            ..Fixed::default()
        });
        let platform = platform.unwrap_or_else(|problems| panic!("{problems:?}"));
        let setup = Setup {
            connector: Wiring { replica: Arc::clone(&replica), tasks: tasks.clone() },
            platform: Arc::new(platform),
            settings: Settings::default(),
            reporter: ReporterSettings { id: ReporterId::new("a"), boot: 7, shown: Shown::Fixed(Token::new("secret")) },
            clock: Clock::start(),
            wakes: Arc::new(WakeLog::new()),
            phase: PhaseSender::new(),
            seed: 1,
            neighbours: None,
        };
        let (_, runs) = Activator::start(setup, 1, &tasks);
        let run = runs.into_iter().next().expect("one worker was asked for");
        tasks.spawn("worker", run.serve(Door(doors), None));
        Self { replica, tasks, door }
    }

    /// A client's connection.
    pub(crate) async fn client(&self) -> Client {
        let (near, far) = duplex(PIPE_BYTES);
        let from = SocketAddr::from(([10, 9, 9, 9], 4711));
        self.door.send((far, from)).await.expect("the door is open");
        let (mut read, write) = tokio::io::split(near);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ear = Arc::clone(&heard);
        self.tasks.spawn("client", async move {
            let mut bytes = Vec::new();
            loop {
                let more = matches!(read.read_buf(&mut bytes).await, Ok(1..));
                let mut heard = ear.lock();
                heard.bytes.append(&mut bytes);
                heard.closed = !more;
                if !more {
                    return;
                }
            }
        });
        Client { write, heard }
    }

    /// Sends `pieces` on a connection of their own, each when the one before has had all its effect; gives what came back.
    pub(crate) async fn attack<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
        let mut client = self.client().await;
        for piece in pieces {
            client.send(piece).await;
        }
        client.heard()
    }

    /// What a well-behaved client gets on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Heard {
        let request = format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n\r\n");
        self.attack([request.as_bytes()]).await
    }

    /// The whole requests that have arrived, in order.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.replica.seen.lock().clone()
    }

    /// A task has died that should not have.
    pub(crate) fn has_failed(&self) -> bool {
        self.tasks.failed().is_cancelled()
    }

    /// What arrived that no strict reader takes.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.replica.faults.lock().clone()
    }
}

/// What a client has been sent.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.closed { "closed" } else { "open" };
        write!(f, "{:?} ({end})", String::from_utf8_lossy(&self.bytes))
    }
}

impl Heard {
    /// The answers in it, interim ones left out; an error where it is not made of whole and unambiguous answers.
    pub(crate) fn answers(&self) -> Result<Vec<strict::Answer>, String> {
        let (mut answers, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            match strict::answer(&self.bytes[at..], false, self.closed) {
                Front::Whole(answer, used) => {
                    at += used;
                    if answer.status != 100 {
                        answers.push(answer);
                    }
                }
                Front::Part if self.closed => return Err("an answer broke off".to_owned()),
                Front::Part => return Err("an answer is not all there".to_owned()),
                Front::Refused(why) => return Err(why.to_owned()),
            }
        }
        Ok(answers)
    }
}

/// A client's side of a connection.
pub(crate) struct Client {
    write: tokio::io::WriteHalf<DuplexStream>,
    heard: Arc<Mutex<Heard>>,
}

impl Client {
    /// Sends and waits until it has had all its effect.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // Whoever has refused reads no more, or has closed.
        drop(tokio::time::timeout(TICK, self.write.write_all(bytes)).await);
        settle().await;
    }

    /// What has come so far.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }
}
