//! An activator's worker between a client and a replica in memory, all on one thread.
//!
//! Invariant: no socket, no kernel and no tick beside the requests: what varies from run to run is left out.

use activator::request::Door;
use activator::revisions::Revisions;
use activator::settings::Live;
use activator::worker::{Shared, Worker};
use activator::{Settings, connection, stack};
use domain::host::{AllowedHosts, Domains, RouteTable};
use domain::{Endpoint, EndpointId, EndpointState, RevisionId};
use http::Uri;
use runtime::net::Connect;
use runtime::{Clock, Tasks, WakeLog};
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const HOST: &str = "bench.default.example.com";
const REQUEST: &[u8] =
    b"GET /v1/models/custom-model HTTP/1.1\r\nhost: bench.default.example.com\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
/// Room of a connection, each way.
const PIPE_BYTES: usize = 64 * 1024;
/// Requests before the first that counts.
const WARM_UP: u32 = 200;

/// Connects to a replica that answers everything alike.
#[derive(Debug)]
struct Replicas(Tasks);

impl Connect for Replicas {
    type Stream = DuplexStream;

    async fn connect(&self, _: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        self.0.spawn("replica", answer(far));
        Ok(near)
    }
}

async fn answer(mut stream: DuplexStream) {
    let mut buffer = [0_u8; 4096];
    let mut filled = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]).await {
        filled += count;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// What workers share that know one revision with three replicas and this limit each.
pub(crate) fn shared(limit: Option<NonZeroU32>) -> Shared {
    let clock = Clock::start();
    let revisions = Revisions::new(1, Arc::default());
    let mut revision = platform::fixed::default_revision(RevisionId::new("default", "bench"));
    revision.limits.container_concurrency = domain::Resolved::default_value(limit);
    // Under a tool that is slow, too, connections stay warm.
    revision.limits.upstream_idle_timeout = domain::Resolved::default_value(Duration::from_secs(3_600));
    let revision = Arc::new(revision);
    let handle = revisions.apply(Arc::clone(&revision));
    let endpoints = [0, 1, 2].map(|n: u16| Endpoint {
        id: EndpointId::new(&format!("replica-{n}")),
        address: ([127, 0, 0, 1], 20_000 + n).into(),
        state: EndpointState::Ready,
        early_probe: None,
    });
    handle.gate.set_endpoints(clock.now(), 1, &endpoints);
    revisions.set_routes(RouteTable::build(&[revision], &Domains::default(), &AllowedHosts::default()).0);
    revisions.set_synced();
    let (suspects, _) = mpsc::channel(1);
    let settings = Arc::new(Live::from_pointee(Settings::default()));
    Shared { revisions, settings, wakes: Arc::new(WakeLog::new()), suspects, clock }
}

fn worker(shared: &Shared, tasks: &Tasks) -> Arc<Worker<Replicas>> {
    Worker::new(Replicas(tasks.clone()), shared, 1)
}

pub(crate) fn on_one_thread(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { unreachable!("a runtime without a driver asks the system for nothing") };
    runtime.block_on(work);
}

/// A client on one kept-alive connection to a worker of its own.
pub(crate) struct Client(DuplexStream);

impl Client {
    /// One that has sent a few requests.
    pub(crate) async fn warm(shared: &Shared) -> Self {
        let tasks = Tasks::new();
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let peer = (SocketAddr::from(([127, 0, 0, 1], 40_000)), Door::Public, None);
        tasks.spawn("connection", connection::serve(far, peer, worker(shared, &tasks), Arc::new(stack::stack())));
        let mut client = Self(near);
        client.get(WARM_UP).await;
        client
    }

    /// So many requests, one after the other.
    pub(crate) async fn get(&mut self, times: u32) {
        for _ in 0..times {
            self.exchange().await;
        }
    }

    async fn exchange(&mut self) {
        let sent = self.0.write_all(REQUEST).await;
        let mut buffer = [0_u8; 4096];
        let mut filled = 0;
        while sent.is_ok() && !buffer[..filled].ends_with(b"\r\n\r\nok") {
            match self.0.read(&mut buffer[filled..]).await {
                Ok(count @ 1..) => filled += count,
                Ok(0) | Err(_) => break,
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..filled]));
    }
}

/// Requests one after the other on one kept-alive connection.
pub(crate) fn get(limit: Option<NonZeroU32>, times: u32) {
    on_one_thread(async {
        let mut client = Client::warm(&shared(limit)).await;
        client.get(times).await;
    });
}

/// A host that the worker has met.
pub(crate) fn route_hit(times: u32) {
    route(HOST, true, times);
}

/// A host that nobody has.
pub(crate) fn route_miss(times: u32) {
    route("bemch.defualt.example.com", false, times);
}

fn route(host: &str, known: bool, times: u32) {
    on_one_thread(async {
        let worker = worker(&shared(None), &Tasks::new());
        let target = Uri::from_static("/v1/models/custom-model");
        for _ in 0..=times {
            assert_eq!(black_box(worker.route(black_box(host.as_bytes()), &target)).is_ok(), known, "{host}");
        }
    });
}
