//! Replicas that fail or leave under steady load: what may be retried is not lost, and they get nothing while they are away.

use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{Wire, eventually, ok};
use activator::Settings;
use domain::{Change, EndpointId, Limits};
use parking_lot::Mutex;
use runtime::Tasks;
use runtime::net::{Connect, Tcp};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

/// Clients that ask one request after the other.
const CLIENTS: u64 = 8;

/// Counts connects by address.
#[derive(Debug, Clone, Default)]
struct Counting(Arc<Mutex<BTreeMap<SocketAddr, u32>>>);

impl Connect for Counting {
    type Stream = TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        *self.0.lock().entry(to).or_default() += 1;
        Tcp.connect(to).await
    }
}

/// A replica that can die, connections and all, and come back at the same address.
struct Mortal {
    address: SocketAddr,
    /// Keeps the address from being given to others.
    _place: TcpSocket,
    life: CancellationToken,
    /// Requests that it has read, in all its lives.
    seen: Arc<Mutex<BTreeSet<u64>>>,
    twice: Arc<AtomicBool>,
    /// It closes instead of answering, and accepts all the same.
    breaks: Arc<AtomicBool>,
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Mortal {
    fn new() -> Self {
        let place = bound("127.0.0.1:0".parse().unwrap());
        let address = place.local_addr().unwrap();
        let mut new = Self {
            address,
            _place: place,
            life: CancellationToken::new(),
            seen: Arc::default(),
            twice: Arc::default(),
            breaks: Arc::default(),
        };
        new.live();
        new
    }

    /// Listens, and answers each request after a few turns.
    fn live(&mut self) {
        self.life = CancellationToken::new();
        let (life, seen, twice) = (self.life.clone(), Arc::clone(&self.seen), Arc::clone(&self.twice));
        let breaks = Arc::clone(&self.breaks);
        let listener = bound(self.address).listen(1024).unwrap();
        Tasks::new().spawn("replica", async move {
            let tasks = Tasks::new();
            while let Some(Ok((stream, _))) = life.run_until_cancelled(listener.accept()).await {
                let (life, seen, twice) = (life.clone(), Arc::clone(&seen), Arc::clone(&twice));
                let breaks = Arc::clone(&breaks);
                let answers = async move {
                    let mut wire = Wire::new(stream);
                    while let Some(request) = wire.request().await {
                        let number = request.field("x-number").unwrap().parse().unwrap();
                        if !seen.lock().insert(number) && request.first.starts_with("POST") {
                            twice.store(true, Relaxed);
                        }
                        if breaks.load(Relaxed) {
                            return;
                        }
                        for _ in 0..number % 7 {
                            tokio::task::yield_now().await;
                        }
                        wire.send(ok("")).await;
                    }
                };
                tasks.spawn("replica's connection", async move {
                    life.run_until_cancelled(answers).await;
                });
            }
        });
    }

    fn die(&self) {
        self.life.cancel();
    }

    fn id(&self) -> EndpointId {
        EndpointId::new(&self.address.to_string())
    }
}

/// Number, method, and what came instead of 200.
type Failed = (u64, &'static str, u16);

/// Steady load; every request has a number of its own.
struct Load {
    next: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<Failed>>>,
    stop: CancellationToken,
    ended: Arc<AtomicU64>,
}

impl Load {
    fn start(to: SocketAddr) -> Self {
        let load = Self {
            next: Arc::default(),
            answered: Arc::default(),
            failed: Arc::default(),
            stop: CancellationToken::new(),
            ended: Arc::default(),
        };
        for _ in 0..CLIENTS {
            let (next, answered, failed) =
                (Arc::clone(&load.next), Arc::clone(&load.answered), Arc::clone(&load.failed));
            let (stop, ended) = (load.stop.clone(), Arc::clone(&load.ended));
            Tasks::new().spawn("client", async move {
                let mut client = Wire::connect(to).await;
                while !stop.is_cancelled() {
                    let number = next.fetch_add(1, Relaxed);
                    let (method, body) = if number % 2 == 0 { ("GET", "") } else { ("POST", "content-length: 0\r\n") };
                    let request =
                        format!("{method} / HTTP/1.1\r\nhost: svc.default\r\nx-number: {number}\r\n{body}\r\n");
                    let status = client.ask(request).await.status();
                    if status == 200 {
                        answered.fetch_add(1, Relaxed);
                    } else {
                        failed.lock().push((number, method, status));
                    }
                }
                ended.fetch_add(1, Relaxed);
            });
        }
        load
    }

    /// Waits until so many more requests were answered.
    async fn goes_on(&self, count: u64) {
        let until = self.answered.load(Relaxed) + count;
        eventually("the load goes on", || self.answered.load(Relaxed) >= until).await;
    }

    async fn end(&self) {
        self.stop.cancel();
        eventually("all clients have their answers", || self.ended.load(Relaxed) == CLIENTS).await;
    }
}

async fn rig(limits: Limits, replicas: &[SocketAddr]) -> (Rig<Counting>, Counting) {
    let connects = Counting::default();
    let rig = Rig::bare(Settings::default(), 1, connects.clone()).await;
    rig.apply(&svc(), limits).await;
    rig.tell(Change::Synced).await;
    rig.replicas(replicas).await;
    (rig, connects)
}

fn limited(cc: u32) -> Limits {
    limits(|limits| limits.container_concurrency = set(NonZeroU32::new(cc)))
}

#[tokio::test]
async fn a_replica_that_dies_under_load_is_passed_over_and_comes_back() {
    for cc in [0, 2, 4] {
        let mut mortal = Mortal::new();
        let others = [Mortal::new(), Mortal::new()];
        let (rig, connects) = rig(limited(cc), &[mortal.address, others[0].address, others[1].address]).await;
        let load = Load::start(rig.addresses[0]);
        load.goes_on(500).await;
        let had = mortal.seen.lock().len();
        assert!(had > 50, "{had}");

        mortal.die();
        let id = mortal.id();
        let usable = |rig: &Rig<Counting>| {
            rig.handle().gate.endpoints().iter().any(|(endpoint, usable)| endpoint.id == id && *usable)
        };
        eventually("it is passed over", || !usable(&rig)).await;
        // Who had a request there, or had chosen it, has been answered by now.
        load.goes_on(2 * CLIENTS).await;
        let (alive, tried) = (load.next.load(Relaxed), connects.0.lock()[&mortal.address]);
        load.goes_on(500).await;
        let tried = connects.0.lock()[&mortal.address] - tried;
        assert!(tried <= 10, "only its probes, with pauses that double: {tried}");
        let failed = load.failed.lock().clone();
        assert!(
            failed.iter().all(|(number, method, status)| *number < alive && *method == "POST" && *status == 502),
            "limit {cc}: {failed:?}"
        );
        assert!(failed.len() <= CLIENTS as usize, "those that it had, which nobody may send twice: {failed:?}");

        mortal.live();
        eventually("a probe clears it", || usable(&rig)).await;
        let before = mortal.seen.lock().len();
        load.goes_on(500).await;
        assert!(mortal.seen.lock().len() > before + 50);
        load.end().await;
        assert_eq!(load.failed.lock().len(), failed.len());
        assert!([&mortal, &others[0], &others[1]].iter().all(|replica| !replica.twice.load(Relaxed)));
        rig.at_rest().await;
    }
}

/// The least loaded replica would be the one that breaks at once.
#[tokio::test]
async fn a_replica_that_breaks_instead_of_answering_attracts_no_load() {
    for cc in [0, 4] {
        let replicas = [Mortal::new(), Mortal::new(), Mortal::new()];
        let (rig, _) = rig(limited(cc), &replicas.each_ref().map(|replica| replica.address)).await;
        let load = Load::start(rig.addresses[0]);
        load.goes_on(300).await;
        let broken = &replicas[0];
        let usable = |rig: &Rig<Counting>| {
            rig.handle().gate.endpoints().iter().any(|(endpoint, usable)| endpoint.id == broken.id() && *usable)
        };
        let before = broken.seen.lock().len();
        broken.breaks.store(true, Relaxed);
        eventually("it is passed over", || !usable(&rig)).await;
        // Each time that its probe clears it, those that go there at once.
        load.goes_on(2_000).await;
        let lost = broken.seen.lock().len() - before;
        assert!(lost as u64 <= 10 * CLIENTS, "limit {cc}: {lost} went there");
        assert!(load.failed.lock().iter().all(|(_, _, status)| *status == 502));
        broken.breaks.store(false, Relaxed);
        let before = broken.seen.lock().len();
        eventually("it answers again", || broken.seen.lock().len() > before + 50).await;
        let failed = load.failed.lock().len();
        load.goes_on(300).await;
        load.end().await;
        assert_eq!(load.failed.lock().len(), failed);
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn a_draining_replica_finishes_what_it_has_under_load_and_gets_nothing_more() {
    for cc in [0, 2, 4] {
        // Answers piece by piece to `/stream`, as it is told.
        let (tell, told) = tokio::sync::watch::channel(0_u32);
        let told = Arc::new(told);
        let leaving = Backend::script(move |mut wire, _, backend| {
            let mut told = (*told).clone();
            async move {
                while let Some(request) = wire.request().await {
                    let streams = request.target() == "/stream";
                    backend.note(request);
                    if !streams {
                        wire.send(ok("")).await;
                        continue;
                    }
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
                    for piece in 1..=2 {
                        told.wait_for(|told| *told >= piece).await.unwrap();
                        wire.send("x").await;
                    }
                }
            }
        })
        .await;
        let (rig, _) = rig(limited(cc), &[leaving.address]).await;
        let mut stream = Wire::connect(rig.addresses[0]).await;
        stream.send("GET /stream HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
        let mut head = stream.head().await.unwrap();
        let others = [Mortal::new(), Mortal::new()];
        let all = [leaving.address, others[0].address, others[1].address];
        rig.replicas(&all).await;
        let load = Load::start(rig.addresses[0]);
        load.goes_on(300).await;
        assert!(leaving.count() > 50);

        let handle = rig.handle();
        let id = EndpointId::new(&leaving.address.to_string());
        let endpoints = handle.gate.endpoints();
        let (endpoint, _) = endpoints.iter().find(|(endpoint, _)| endpoint.id == id).unwrap();
        let carried = endpoint.load() as usize;
        let before = leaving.count();
        handle.gate.set_drain(rig.activator.workers()[0].base.clock.now(), BTreeSet::from([id]));
        eventually("the short ones have ended", || endpoint.load() == 1).await;
        assert!(leaving.count() < before + carried, "nothing but what was on its way");
        let after = leaving.count();
        load.goes_on(300).await;
        tell.send_replace(1);
        load.goes_on(100).await;
        // Off the list: what it has goes on all the same.
        rig.replicas(&all[1..]).await;
        load.goes_on(100).await;
        assert_eq!((leaving.count(), endpoint.load()), (after, 1));
        tell.send_replace(2);
        crate::wire::soon(stream.body(&mut head, false)).await.unwrap();
        assert_eq!(head.text(), "xx", "not cut");
        eventually("it is idle", || endpoint.load() == 0).await;
        load.end().await;
        assert_eq!(*load.failed.lock(), [], "limit {cc}");
        rig.at_rest().await;
    }
}
