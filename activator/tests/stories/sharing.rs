//! Two activators in front of the same replicas, each of them used by one (kpa-behaviour 4.10).

use crate::h2::{ask, client as h2_client, full, h2_backend, request, with_trailers};
use crate::retries::nobody;
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok, post, soon};
use activator::Settings;
use activator::body::REPLAY_BYTES_MAX;
use activator::sharing::claims::{CLAIM_LIFE, CLAIMS_MAX};
use activator::sharing::hop::WANT_MAX;
use domain::{Change, EndpointId, Limits, Peer, ReporterId, Sharing};
use http_body_util::BodyExt;
use runtime::net::Tcp;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, watch};

const WORD: &str = "0123456789abcdef";

/// `a` and `b`.
pub(crate) struct Two {
    pub(crate) a: Rig,
    pub(crate) b: Rig,
    number: AtomicU64,
    peers: watch::Sender<Vec<Peer>>,
}

fn one_at_a_time() -> Limits {
    limits(|limits| limits.container_concurrency = set(NonZeroU32::new(1)))
}

fn names(members: &[&str]) -> Vec<ReporterId> {
    members.iter().map(|member| ReporterId::new(member)).collect()
}

impl Two {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default(), one_at_a_time()).await
    }

    /// Where these settings hold.
    pub(crate) async fn with(settings: Settings, limits: Limits) -> Self {
        let peers = watch::Sender::new(Vec::new());
        let rig = async |name| {
            let rig = Rig::beside(settings.clone(), 1, Tcp, |listener| listener, (name, Some(peers.subscribe()))).await;
            rig.apply(&svc(), limits.clone()).await;
            rig.tell(Change::Synced).await;
            eventually("synced", || rig.activator.revisions().is_synced()).await;
            rig
        };
        let (a, b) = (rig("a").await, rig("b").await);
        let peer = |name: &str, rig: &Rig| Peer { id: ReporterId::new(name), address: rig.addresses[0] };
        peers.send_replace(vec![peer("a", &a), peer("b", &b)]);
        let two = Self { a, b, number: AtomicU64::new(0), peers };
        two.share(&["a", "b"]);
        two
    }

    /// What the acting autoscaler says, as if everybody went by it.
    fn share(&self, members: &[&str]) {
        let sharing = Sharing {
            members: names(members),
            settled: true,
            held: Vec::new(),
            number: self.number.fetch_add(1, Relaxed),
            word: WORD.into(),
        };
        for (name, rig) in [("a", &self.a), ("b", &self.b)] {
            let (revisions, now) = (rig.activator.revisions(), rig.activator.workers()[0].base.clock.now());
            revisions.shares().follow(revisions, (now, now), &ReporterId::new(name), sharing.clone());
        }
    }

    pub(crate) async fn replicas(&self, addresses: &[SocketAddr]) {
        self.a.replicas(addresses).await;
        self.b.replicas(addresses).await;
    }

    pub(crate) async fn at_rest(&self) {
        self.a.at_rest().await;
        self.b.at_rest().await;
        eventually("no slot is kept", || {
            [&self.a, &self.b].iter().all(|rig| rig.activator.revisions().shares().claims.kept() == 0)
        })
        .await;
    }
}

/// Whether a replica at this address is `owner`'s.
pub(crate) fn is_of(owner: &str, address: SocketAddr) -> bool {
    let id = EndpointId::new(&address.to_string());
    Sharing::owner(&names(&["a", "b"]), &id) == Some(&ReporterId::new(owner))
}

/// A replica that is `owner`'s, answering what `reply` makes of a request.
async fn replica_of(owner: &str, reply: impl Fn() -> Made) -> Backend {
    loop {
        let backend = reply().await;
        if is_of(owner, backend.address) {
            return backend;
        }
    }
}

type Made = std::pin::Pin<Box<dyn Future<Output = Backend> + Send>>;

fn saying(text: &'static str) -> impl Fn() -> Made {
    move || Box::pin(Backend::new(move |_| ok(text)))
}

#[tokio::test]
async fn a_request_goes_in_one_hop_to_who_has_the_replica() {
    let two = Two::new().await;
    let backend = replica_of("b", saying("hello")).await;
    two.replicas(&[backend.address]).await;
    let body = "x".repeat(1 << 20);
    let mut client = two.a.client().await;
    for _ in 0..3 {
        let answer = client.ask(post(&body)).await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        assert!(answer.field("x-kpa-queue-wait").is_some(), "it has waited where it came in");
    }
    let seen = backend.last();
    assert_eq!((seen.body.len(), seen.field("x-kpa-claim")), (1 << 20, None));
    let client_ip = client.stream.local_addr().unwrap().ip().to_string();
    assert_eq!(seen.all("x-forwarded-for"), [client_ip], "the client's alone");
    assert_eq!((two.a.requests(), two.b.requests()), (3, 0), "each is counted once");
    assert_eq!(hops(&two.a), 3);
    two.at_rest().await;
}

#[tokio::test]
async fn a_tunnel_goes_that_way() {
    let two = Two::new().await;
    let echo = || -> Made {
        Box::pin(Backend::script(|mut wire: Wire, _, backend| async move {
            let Some(request) = wire.request().await else { return };
            backend.note(request);
            wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
            let bytes = wire.take(4).await;
            wire.send(bytes).await;
        }))
    };
    let backend = replica_of("b", echo).await;
    two.replicas(&[backend.address]).await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: svc.default\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut client = two.a.client().await;
    assert_eq!(client.ask(upgrade).await.status(), 101);
    client.send("ping").await;
    assert_eq!(soon(client.take(4)).await, b"ping");
    drop(client);
    two.at_rest().await;
    assert_eq!(backend.last().field("x-kpa-claim"), None);
}

#[tokio::test]
async fn http2_and_its_trailers_go_that_way() {
    let two = Two::new().await;
    let backend = loop {
        let backend = h2_backend(|_| http::Response::new(with_trailers("pong", "grpc-status", "0"))).await;
        if is_of("b", backend.address) {
            break backend;
        }
    };
    two.replicas(&[backend.address]).await;
    let (mut client, _tasks) = h2_client(two.a.addresses[0]).await;
    for _ in 0..2 {
        let answer = ask(&mut client, request("POST", "/", full("ping"))).await;
        assert_eq!(answer.status(), 200);
        let answer = answer.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), "pong");
    }
    let seen = backend.seen.lock().pop().unwrap();
    assert_eq!((&seen.body[..], seen.head.headers.get("x-kpa-claim")), (&b"ping"[..], None));
    two.at_rest().await;
}

#[tokio::test]
async fn no_replica_gets_two_however_many_come_where() {
    let two = Two::new().await;
    let most = Arc::new(parking_lot::Mutex::new(BTreeMap::<u32, (u32, u32)>::new()));
    let mut backends = Vec::new();
    for number in 0..6 {
        let most = Arc::clone(&most);
        backends.push(
            Backend::script(move |mut wire, _, backend| {
                let most = Arc::clone(&most);
                async move {
                    while let Some(request) = wire.request().await {
                        {
                            let mut most = most.lock();
                            let (now, max) = most.entry(number).or_default();
                            *now += 1;
                            *max = (*max).max(*now);
                        }
                        backend.note(request);
                        tokio::task::yield_now().await;
                        most.lock().entry(number).or_default().0 -= 1;
                        wire.send(ok("done")).await;
                    }
                }
            })
            .await,
        );
    }
    two.replicas(&backends.iter().map(|backend| backend.address).collect::<Vec<_>>()).await;
    let ask = async |rig: &Rig| {
        let mut client = rig.client().await;
        for _ in 0..25 {
            assert_eq!(client.ask(GET).await.status(), 200);
        }
    };
    let all = (0..24).map(|n| ask(if n % 4 == 0 { &two.b } else { &two.a }));
    futures_util::future::join_all(all).await;
    assert!(most.lock().values().all(|(now, max)| (*now, *max) == (0, 1)), "{:?}", most.lock());
    assert_eq!(backends.iter().map(Backend::count).sum::<usize>(), 24 * 25);
    assert_eq!(two.a.requests() + two.b.requests(), 24 * 25);
    two.at_rest().await;
}

#[tokio::test]
async fn what_an_activator_had_that_is_gone_goes_to_the_other() {
    let two = Two::new().await;
    let backend = replica_of("b", saying("hello")).await;
    two.replicas(&[backend.address]).await;
    // Nobody listens there any more.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    two.peers.send_replace(vec![Peer { id: ReporterId::new("b"), address: nobody }]);
    let mut client = two.a.client().await;
    client.send(GET).await;
    eventually("it waits", || two.a.waiting() == 1).await;
    two.share(&["a"]);
    assert_eq!(client.answer().await.status(), 200);
    two.at_rest().await;
}

#[tokio::test]
async fn a_slot_that_nobody_comes_for_is_given_back() {
    let two = Two::new().await;
    let backend = replica_of("b", saying("hello")).await;
    two.replicas(&[backend.address]).await;
    let question =
        format!("POST /.kpa/slots?revision=default/svc&want=5 HTTP/1.1\r\nhost: b\r\nx-kpa-word: {WORD}\r\n\r\n");
    let answer = two.b.client().await.ask(question).await;
    assert_eq!((answer.status(), answer.text().split(' ').count()), (200, 1), "{}", answer.text());
    let mut client = two.b.client().await;
    client.send(GET).await;
    eventually("it waits for the slot", || two.b.waiting() == 1).await;
    let waits_for = tokio::time::timeout(CLAIM_LIFE * 3, client.answer());
    assert_eq!(waits_for.await.unwrap().status(), 200);
    two.at_rest().await;
}

#[tokio::test]
async fn strangers_get_nothing_for_a_claim_or_a_question() {
    let two = Two::new().await;
    let backend = replica_of("b", saying("hello")).await;
    two.replicas(&[backend.address]).await;
    for mark in ["", "1", "7340032", &format!("{WORD}.99"), &format!("{WORD}."), "0123456789abcdee.7340032"] {
        let claimed = format!("GET / HTTP/1.1\r\nhost: svc.default\r\nx-kpa-claim: {mark}\r\n\r\n");
        let answer = two.b.client().await.ask(claimed).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("claim_unknown")), "{mark}");
    }
    assert_eq!(backend.count(), 0);
    // Without the word the path is the service's.
    let question = "POST /.kpa/slots?revision=default/svc&want=1 HTTP/1.1\r\nhost: svc.default\r\nx-kpa-word: x\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(two.b.client().await.ask(question).await.text(), "hello");
    assert_eq!(backend.last().target(), "/.kpa/slots?revision=default/svc&want=1");
    two.at_rest().await;
}

/// The number behind `bound` on the page of metrics.
fn reached(rig: &Rig, bound: &str) -> u64 {
    let mut page = String::new();
    activator::metrics::render(rig.activator.revisions(), rig.activator.workers()[0].base.clock, &mut page);
    let name = format!("activator_sharing_bounds_reached_total{{bound=\"{bound}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn no_more_slots_are_lent_than_may_be_kept() {
    let two = Two::new().await;
    let many = limits(|limits| limits.container_concurrency = set(NonZeroU32::new(2 * CLAIMS_MAX as u32)));
    two.b.apply(&svc(), many).await;
    let backend = replica_of("b", saying("hello")).await;
    two.replicas(&[backend.address]).await;
    let mut asker = two.b.client().await;
    let slots = |query: &str| {
        format!("POST /.kpa/slots?{query} HTTP/1.1\r\nhost: b\r\nx-kpa-word: {WORD}\r\ncontent-length: 0\r\n\r\n")
    };
    let question = slots(&format!("revision=default/svc&want={WANT_MAX}"));
    let mut claims = Vec::new();
    let kept = || two.b.activator.revisions().shares().claims.kept();
    while kept() < CLAIMS_MAX {
        let answer = asker.ask(&question).await;
        claims.push(answer.text().replace(' ', "."));
        assert!(!answer.text().is_empty() && claims.len() <= CLAIMS_MAX / WANT_MAX as usize, "{claims:?}");
    }
    assert_eq!(reached(&two.b, "claims"), 0);
    assert_eq!(asker.ask(&question).await.text(), "", "as if there were no room");
    assert_eq!((reached(&two.b, "claims"), kept()), (1, CLAIMS_MAX));
    assert_eq!(two.b.client().await.ask(GET).await.text(), "hello", "there is, for its own clients");
    for claims in claims {
        asker.ask(slots(&format!("returned={claims}"))).await;
    }
    two.at_rest().await;
    assert_eq!(asker.ask(&question).await.text().split(' ').count(), WANT_MAX as usize);
}

#[tokio::test]
async fn one_question_asks_for_so_many_slots_and_no_more() {
    const WAITING: usize = 2 * WANT_MAX as usize;
    let two = Two::new().await;
    let replica = replica_of("b", saying("hello")).await;
    two.replicas(&[replica.address]).await;
    // It has none to lend.
    let other = Backend::new(|_| ok("")).await;
    two.peers.send_replace(vec![Peer { id: ReporterId::new("b"), address: other.address }]);
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        let mut client = two.a.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually("they all wait", || two.a.waiting() as usize == WAITING).await;
    let most = format!("&want={WANT_MAX}");
    eventually("it was asked for the most", || other.seen.lock().iter().any(|seen| seen.target().ends_with(&most)))
        .await;
    assert!(reached(&two.a, "want") >= 1);
    for question in other.seen.lock().iter() {
        let (_, want) = question.target().rsplit_once('=').unwrap();
        assert!(want.parse::<u32>().unwrap() <= WANT_MAX, "{want}");
    }
    two.share(&["a"]);
    for mut client in clients {
        assert_eq!(client.answer().await.text(), "hello");
    }
    two.at_rest().await;
}

/// A replica that answers when it is told to, and takes one request after the other.
async fn slow_replica_of(owner: &str) -> (Backend, Arc<Semaphore>) {
    let answers = Arc::new(Semaphore::new(0));
    let made = || -> Made {
        let answers = Arc::clone(&answers);
        Box::pin(Backend::script(move |mut wire, _, backend| {
            let answers = Arc::clone(&answers);
            async move {
                while let Some(request) = wire.request().await {
                    backend.note(request);
                    answers.acquire().await.unwrap().forget();
                    wire.send(ok("slow")).await;
                }
            }
        }))
    };
    let backend = replica_of(owner, made).await;
    (backend, answers)
}

/// An address that is `owner`'s, where nobody listens.
fn nobody_of(owner: &str) -> (TcpSocket, SocketAddr) {
    let mut others = Vec::new();
    loop {
        let (socket, address) = nobody();
        if is_of(owner, address) {
            return (socket, address);
        }
        // Kept, or it would be given out again.
        others.push(socket);
    }
}

fn hops(rig: &Rig) -> u64 {
    rig.handle().counters().iter().map(|counters| counters.hops.load(Relaxed)).sum()
}

/// `a`'s own replica is busy, and `b` lends a slot of one that has just died.
#[tokio::test]
async fn a_request_that_came_by_a_hop_goes_back_and_not_on() {
    for request in [GET.to_owned(), post("with a body")] {
        let two = Two::new().await;
        let (busy, answers) = slow_replica_of("a").await;
        let (_socket, dead) = nobody_of("b");
        two.replicas(&[busy.address, dead]).await;
        let (mut first, mut second) = (two.a.client().await, two.a.client().await);
        first.send(GET).await;
        eventually("the first is on its replica", || busy.count() == 1).await;
        second.send(&request).await;
        eventually("the second was there and is back", || hops(&two.a) == 1 && two.a.waiting() == 1).await;
        assert_eq!((two.b.waiting(), two.b.in_flight()), (0, 0));
        answers.add_permits(2);
        assert_eq!((first.answer().await.text(), second.answer().await.text()), ("slow", "slow"));
        let hops = (hops(&two.a), hops(&two.b));
        assert_eq!((hops, busy.count()), ((1, 0), 2), "straight to the replica");
        assert_eq!(busy.last().field("x-kpa-claim"), None);
        two.at_rest().await;
    }
}

#[tokio::test]
async fn what_nobody_can_send_again_waits_where_the_hop_has_led_it() {
    let two = Two::new().await;
    let (busy, answers) = slow_replica_of("a").await;
    let (_socket, dead) = nobody_of("b");
    two.replicas(&[busy.address, dead]).await;
    let (mut first, mut second) = (two.a.client().await, two.a.client().await);
    first.send(GET).await;
    eventually("the first is on its replica", || busy.count() == 1).await;
    let body = "x".repeat(2 * REPLAY_BYTES_MAX);
    second.send(post(&body)).await;
    eventually("it has hopped", || hops(&two.a) == 1).await;
    answers.add_permits(1);
    assert_eq!(first.answer().await.text(), "slow");
    // There is room at `a` now, and none for what is at `b`.
    let alive = replica_of("b", saying("alive")).await;
    two.replicas(&[busy.address, dead, alive.address]).await;
    assert_eq!(second.answer().await.text(), "alive");
    assert_eq!((alive.last().body.len(), busy.count()), (body.len(), 1));
    assert_eq!((hops(&two.a), hops(&two.b)), (1, 0));
    two.at_rest().await;
}
