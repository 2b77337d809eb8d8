//! Every limit refuses, says which it was, and leaves whoever keeps to it alone (kpa-behaviour 4.9).

use crate::h2::{ask, client, full, request};
use crate::retries::nobody;
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, PATIENCE, Wire, eventually, ok, soon};
use activator::bounds::{Limit, Stock};
use activator::connection::{H2_FIRST_WINDOW, H2_PENDING_RESETS_MAX, H2_STREAMS_MAX};
use activator::serve::ACCEPT_PAUSE;
use activator::{HEAD_BYTES_MAX, HEADERS_MAX, Settings, URI_BYTES_MAX};
use domain::{Change, Endpoint, EndpointId, EndpointState, Limits, Protocol, RevisionId};
use http::{HeaderName, HeaderValue, Request};
use runtime::net::{Listener, Tcp};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A service beside the usual one that has a replica.
async fn neighbour(rig: &Rig, backend: &Backend) {
    let id = RevisionId::new("default", "warm");
    rig.apply(&id, limits(|l| l.protocol = set(Protocol::Http1))).await;
    let endpoint = Endpoint {
        id: EndpointId::new("w-1"),
        address: backend.address,
        state: EndpointState::Ready,
        early_probe: None,
    };
    rig.tell(Change::Endpoints { revision: id.clone(), version: 1, endpoints: [endpoint].into() }).await;
    eventually("the neighbour is there", || {
        rig.activator.revisions().get(&id).is_some_and(|handle| handle.gate.endpoints_version() == 1)
    })
    .await;
}

/// Status and reason of an answer of ours.
fn refusal<B>(answer: &http::Response<B>) -> (u16, &str) {
    (answer.status().as_u16(), answer.headers()["x-kpa-reason"].to_str().unwrap())
}

/// The neighbour answers as if nothing were.
async fn neighbour_is_served(rig: &Rig) {
    let answer = rig.client().await.ask("GET / HTTP/1.1\r\nhost: warm.default\r\n\r\n").await;
    assert_eq!(answer.text(), "warm");
}

#[tokio::test]
async fn one_connection_more_is_closed_at_once() {
    let backend = Backend::new(|_| ok("served")).await;
    let settings = Settings { connections_max: 3, ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
    let mut clients = [rig.client().await, rig.client().await, rig.client().await];
    for client in &mut clients {
        assert_eq!(client.ask(GET).await.text(), "served");
    }
    for n in 1..=3 {
        assert!(rig.client().await.closes().await);
        assert_eq!(rig.refused(Limit::Connections), n);
        assert_eq!(clients[0].ask(GET).await.text(), "served", "who is in is served meanwhile");
    }
    // A program of ours is let in all the same.
    let mut internal = Wire::connect(rig.internal[0]).await;
    assert_eq!(internal.ask(GET).await.text(), "served");
    drop(internal);
    eventually("it has left", || rig.bounds().stock(Stock::Connections) == 3).await;
    let [first, mut second, mut third] = clients;
    for client in [&mut second, &mut third] {
        assert_eq!(client.ask(GET).await.text(), "served", "who is in stays in");
    }
    drop(first);
    eventually("one has left", || rig.bounds().stock(Stock::Connections) == 2).await;
    assert_eq!(rig.client().await.ask(GET).await.text(), "served");
}

/// A client that is let in is of no use when no replica can be reached for it.
#[tokio::test]
async fn some_descriptors_are_kept_for_connections_to_replicas() {
    let backend = Backend::new(|_| ok("served")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    rig.bounds().share_descriptors(4);
    let mut clients = [rig.client().await, rig.client().await, rig.client().await];
    for client in &mut clients {
        assert_eq!(client.ask(GET).await.text(), "served");
    }
    assert!(rig.client().await.closes().await);
    assert_eq!(rig.refused(Limit::Connections), 1);
    assert_eq!(clients[0].ask(GET).await.text(), "served", "who is in is served meanwhile");
}

#[tokio::test]
async fn held_requests_are_bounded_in_all_and_one_service_gets_half() {
    let backend = Backend::new(|_| ok("warm")).await;
    let settings = Settings { held_requests_max: 4, ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[]).await;
    let other = RevisionId::new("default", "other");
    rig.apply(&other, Limits::default()).await;
    let third = RevisionId::new("default", "third");
    rig.apply(&third, Limits::default()).await;
    neighbour(&rig, &backend).await;
    let to = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let mut held = Vec::new();
    for (host, waiting) in [("svc.default", 2), ("other.default", 4)] {
        for _ in 0..2 {
            let mut client = rig.client().await;
            client.send(to(host)).await;
            held.push(client);
        }
        eventually("they wait", || rig.bounds().stock(Stock::HeldRequests) == waiting).await;
        let answer = rig.client().await.ask(to(host)).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("held_share_full")));
        assert_eq!(answer.field("retry-after"), Some("1"));
    }
    let answer = rig.client().await.ask(to("third.default")).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("held_requests_full")));
    assert_eq!((rig.refused(Limit::HeldShare), rig.refused(Limit::HeldRequests)), (2, 1));
    let refused = rig.activator.revisions().get(&third).unwrap();
    assert_eq!(refused.gate.waiting(), 0, "who is refused leaves the queue");
    neighbour_is_served(&rig).await;
    rig.replicas(&[backend.address]).await;
    for client in &mut held[..2] {
        assert_eq!(client.answer().await.status(), 200);
    }
    eventually("there is room again", || rig.bounds().stock(Stock::HeldRequests) == 2).await;
}

/// It was let in before: that no replica took it is no reason to refuse it, however many are held by then.
#[tokio::test]
async fn a_request_that_comes_back_keeps_its_place_when_the_process_is_full() {
    let (socket, address) = nobody();
    let one_at_a_time = limits(|l| l.container_concurrency = set(NonZeroU32::new(1)));
    let rig = Rig::new(one_at_a_time, &[address]).await;
    let other = RevisionId::new("default", "other");
    rig.apply(&other, Limits::default()).await;
    let mut held = Vec::new();
    for waiting in 1..=2 {
        let mut client = rig.client().await;
        client.send("GET / HTTP/1.1\r\nhost: other.default\r\n\r\n").await;
        held.push(client);
        eventually("it waits", || rig.bounds().stock(Stock::HeldRequests) == waiting).await;
    }
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it pauses between two rounds", || rig.bounds().stock(Stock::HeldRequests) == 3).await;
    let full = domain::ActivatorConfig { max_held_requests: set(2), ..domain::ActivatorConfig::default() };
    rig.tell(Change::ActivatorConfig(Arc::new(full))).await;
    let began = Instant::now();
    eventually("several rounds passed", || began.elapsed() > Duration::from_millis(300)).await;
    let _backend = Backend::script_on(socket.listen(16).unwrap(), |mut wire, _, _| async move {
        while wire.request().await.is_some() {
            wire.send(ok("at last")).await;
        }
    });
    assert_eq!(client.answer().await.text(), "at last");
    let refused = rig.client().await.ask("GET / HTTP/1.1\r\nhost: other.default\r\n\r\n").await;
    assert_eq!(refused.field("x-kpa-reason"), Some("held_share_full"), "the limit is in force");
}

#[tokio::test]
async fn the_default_depth_of_a_queue_is_half_of_what_may_be_held() {
    assert_eq!(Settings::default().held_requests_max, 2 * *Limits::default().queue_depth);
}

#[tokio::test]
async fn held_bytes_are_bounded_over_http2() {
    let backend = Backend::new(|_| ok("warm")).await;
    let settings = Settings { held_bytes_max: 2 * u64::from(H2_FIRST_WINDOW), ..Settings::default() };
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[]).await;
    neighbour(&rig, &backend).await;
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let (mut sender, _tasks) = client(rig.addresses[0]).await;
    let mut held = Vec::new();
    for n in 1..=2 {
        sender.ready().await.unwrap();
        let mut call = Box::pin(sender.send_request(request("POST", "/", full(big))));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        held.push(call);
        eventually("it waits", || rig.waiting() == n).await;
    }
    assert_eq!(rig.bounds().stock(Stock::HeldBytes), 2 * u64::from(H2_FIRST_WINDOW));
    let refused = ask(&mut sender, request("POST", "/", full("little"))).await;
    assert_eq!(refusal(&refused), (503, "held_bytes_full"));
    assert_eq!((rig.refused(Limit::HeldBytes), rig.waiting()), (1, 2));
    // What has no body, and what comes by HTTP/1.1, costs nothing of it.
    sender.ready().await.unwrap();
    let mut get = Box::pin(sender.send_request(request("GET", "/", full(""))));
    assert!(futures_util::poll!(get.as_mut()).is_pending());
    let mut post = rig.client().await;
    post.send(crate::wire::post("little")).await;
    eventually("they wait", || rig.waiting() == 4).await;
    let warm = Request::post("http://warm.default/").body(full(big)).unwrap();
    assert_eq!(ask(&mut sender, warm).await.status(), 200, "a neighbour on the same connection");

    rig.replicas(&[backend.address]).await;
    for call in held {
        assert_eq!(soon(call).await.unwrap().status(), 200);
    }
    assert_eq!(soon(get).await.unwrap().status(), 200);
    assert_eq!(post.answer().await.status(), 200);
    eventually("all of it is given back", || rig.bounds().stock(Stock::HeldBytes) == 0).await;
}

#[tokio::test]
async fn held_bytes_are_bounded_where_every_replica_refuses_connections() {
    let settings = Settings { held_bytes_max: u64::from(H2_FIRST_WINDOW), ..Settings::default() };
    let (_place, address) = nobody();
    let backend = Backend::new(|_| ok("warm")).await;
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[address]).await;
    neighbour(&rig, &backend).await;
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let (mut sender, _tasks) = client(rig.addresses[0]).await;
    sender.ready().await.unwrap();
    let mut call = Box::pin(sender.send_request(request("POST", "/", full(big))));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    eventually("it pauses", || rig.bounds().stock(Stock::HeldBytes) == u64::from(H2_FIRST_WINDOW)).await;
    let refused = ask(&mut sender, request("POST", "/", full("little"))).await;
    assert_eq!(refusal(&refused), (503, "held_bytes_full"));
    assert_eq!(rig.refused(Limit::HeldBytes), 1);
    let warm = Request::post("http://warm.default/").body(full(big)).unwrap();
    assert_eq!(ask(&mut sender, warm).await.status(), 200, "a neighbour on the same connection");
    neighbour_is_served(&rig).await;
    drop(call);
    eventually("what it held is given back", || rig.bounds().stock(Stock::HeldBytes) == 0).await;
}

#[tokio::test]
async fn heads_and_targets_are_bounded_over_http1() {
    let backend = Backend::new(|_| ok("warm")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    neighbour(&rig, &backend).await;
    let with = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n{fields}\r\n");
    let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    let fields = |count: usize| (1..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let whole = HEAD_BYTES_MAX - with("/", "x: \r\n").len();
    for (what, head, status, limit) in [
        ("a long target", with(&path(URI_BYTES_MAX), ""), 200, None),
        ("a longer one", with(&path(URI_BYTES_MAX + 1), ""), 414, Some(Limit::UriLength)),
        (
            "with its authority",
            with(&format!("http://svc.default{}", path(URI_BYTES_MAX)), ""),
            414,
            Some(Limit::UriLength),
        ),
        ("many fields", with("/", &fields(HEADERS_MAX)), 200, None),
        ("more fields", with("/", &fields(HEADERS_MAX + 1)), 431, Some(Limit::HeadSize)),
        ("a long field", with("/", &format!("x: {}\r\n", "y".repeat(whole))), 200, None),
        ("a longer field", with("/", &format!("x: {}\r\n", "y".repeat(whole + 1))), 431, Some(Limit::HeadSize)),
        ("no end", with(&path(4 * HEAD_BYTES_MAX), ""), 431, Some(Limit::HeadSize)),
    ] {
        let before = limit.map(|limit| rig.refused(limit));
        let mut client = rig.client().await;
        // What is too long may be refused before all of it is sent.
        let _ = client.stream.write_all(head.as_bytes()).await;
        assert_eq!(client.answer().await.status(), status, "{what}");
        drop(client);
        if let Some(limit) = limit {
            eventually(what, || Some(rig.refused(limit)) == before.map(|before| before + 1)).await;
        }
    }
    neighbour_is_served(&rig).await;
}

#[tokio::test]
async fn heads_and_targets_are_bounded_over_http2() {
    let backend = Backend::new(|_| ok("served")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut sender, _tasks) = client(rig.addresses[0]).await;
    let long = format!("/{}", "x".repeat(URI_BYTES_MAX));
    let answer = ask(&mut sender, request("GET", &long, full(""))).await;
    assert_eq!(refusal(&answer), (414, "uri_too_long"));
    let mut many = request("GET", "/", full(""));
    for n in 0..=HEADERS_MAX {
        let name = HeaderName::try_from(format!("x-{n}")).unwrap();
        many.headers_mut().insert(name, HeaderValue::from_static("1"));
    }
    let answer = ask(&mut sender, many).await;
    assert_eq!(refusal(&answer), (431, "too_many_fields"));
    assert_eq!((rig.refused(Limit::UriLength), rig.refused(Limit::HeadSize)), (1, 1));
    // The library answers this one by itself.
    let mut large = request("GET", "/", full(""));
    large.headers_mut().insert("x", HeaderValue::try_from("y".repeat(HEAD_BYTES_MAX)).unwrap());
    assert_eq!(ask(&mut sender, large).await.status(), 431);
    assert_eq!(ask(&mut sender, request("GET", "/", full(""))).await.status(), 200, "the connection goes on");
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn slow_heads_are_closed_and_counted() {
    let backend = Backend::new(|_| ok("warm")).await;
    let settings = Settings { head_timeout: Duration::from_millis(150), ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[]).await;
    neighbour(&rig, &backend).await;
    for (n, begin) in ["PRI * HT", "GET / HT", "GET / HTTP/1.1\r\nhost: svc.default\r\nx: "].into_iter().enumerate() {
        let mut slow = rig.client().await;
        slow.send(begin).await;
        neighbour_is_served(&rig).await;
        assert!(slow.closes().await, "{begin:?}");
        assert_eq!(rig.refused(Limit::SlowHead), n as u64 + 1, "{begin:?}");
    }
    let mut idle = rig.client().await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nhost: warm.default\r\n\r\n").await.status(), 200);
    drop(idle);
    assert_eq!(rig.refused(Limit::SlowHead), 3, "who is idle is not slow");
}

#[tokio::test]
async fn slow_bodies_are_counted_before_and_after_the_head() {
    let backend = Backend::script(|mut wire, _, _| async move {
        let Some(head) = wire.head().await else { return };
        if head.target() == "/early" {
            let _ = wire.stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while wire.stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        wire.rest().await;
    })
    .await;
    let rig = Rig::new(limits(|l| l.idle_timeout = set(Some(Duration::from_millis(150)))), &[backend.address]).await;
    let well = Backend::new(|_| ok("warm")).await;
    neighbour(&rig, &well).await;
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5\r\n\r\nabc");
    let mut slow = rig.client().await;
    slow.send(post("/")).await;
    neighbour_is_served(&rig).await;
    assert_eq!(slow.answer().await.status(), 408);
    assert_eq!(rig.refused(Limit::SlowBody), 1);
    let mut client = rig.client().await;
    client.send(post("/early")).await;
    neighbour_is_served(&rig).await;
    soon(client.rest()).await;
    eventually("counted too", || rig.refused(Limit::SlowBody) == 2).await;
}

/// Further streams wait at the client, who was told how many it may open.
#[tokio::test]
async fn streams_of_a_connection_are_bounded() {
    let backend = Backend::new(|_| ok("warm")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[]).await;
    neighbour(&rig, &backend).await;
    let (mut sender, _tasks) = client(rig.addresses[0]).await;
    let warm = || Request::get("http://warm.default/").body(full("")).unwrap();
    assert_eq!(ask(&mut sender, warm()).await.status(), 200);
    let mut calls = Vec::new();
    for _ in 0..H2_STREAMS_MAX + 20 {
        let mut call = Box::pin(sender.send_request(request("GET", "/", full(""))));
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        calls.push(call);
    }
    eventually("as many as may", || rig.waiting() == H2_STREAMS_MAX).await;
    let (mut other, _other_tasks) = client(rig.addresses[0]).await;
    assert_eq!(ask(&mut other, warm()).await.status(), 200, "a neighbour with a connection of its own");
    assert_eq!(rig.waiting(), H2_STREAMS_MAX);
    rig.replicas(&[backend.address]).await;
    for call in calls {
        assert_eq!(soon(call).await.unwrap().status(), 200, "those that waited at the client too");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// "Rapid reset": streams that are opened and reset in one breath cost their sender nothing and us much.
#[tokio::test]
async fn a_flood_of_resets_ends_its_connection() {
    let backend = Backend::new(|_| ok("warm")).await;
    let rig = Rig::new(Limits::default(), &[]).await;
    neighbour(&rig, &backend).await;
    // GET / at svc.default: three fields of the static table and a literal (RFC 7541 appendix A).
    let head = [&[0x82, 0x86, 0x84, 0x41, 11][..], b"svc.default"].concat();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    for n in 0..10 * u32::try_from(H2_PENDING_RESETS_MAX).unwrap() {
        flood.extend(frame(1, 5, 2 * n + 1, &head));
        flood.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    let mut client = rig.client().await;
    client.send(flood).await;
    let said = soon(client.rest()).await;
    let calm = frame(7, 0, 0, &[])[3..5].to_vec();
    assert!(said.windows(2).any(|two| two == calm), "no GOAWAY in {said:?}");
    eventually("counted", || rig.refused(Limit::Resets) == 1).await;
    rig.at_rest().await;
    neighbour_is_served(&rig).await;
}

/// A listener of a process that is out of descriptors at times.
struct Exhausted {
    listener: TcpListener,
    out: Arc<AtomicBool>,
    tries: Arc<AtomicU32>,
}

/// "Too many open files" on Linux.
const EMFILE: i32 = 24;

impl Listener for Exhausted {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.out.load(Relaxed) {
            self.tries.fetch_add(1, Relaxed);
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Listener::accept(&mut self.listener).await
    }
}

#[tokio::test]
async fn out_of_descriptors_accepting_pauses_and_nothing_else_does() {
    let backend = Backend::new(|_| ok("served")).await;
    let (out, tries) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
    let rig = Rig::behind(Settings::default(), 1, Tcp, |listener| Exhausted {
        listener,
        out: Arc::clone(&out),
        tries: Arc::clone(&tries),
    })
    .await;
    rig.apply(&svc(), Limits::default()).await;
    rig.tell(Change::Synced).await;
    rig.replicas(&[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(GET).await.text(), "served");

    out.store(true, Relaxed);
    eventually("it was noticed", || tries.load(Relaxed) > 0).await;
    let began = Instant::now();
    let mut late = rig.client().await;
    late.send(GET).await;
    let is_over = || began.elapsed() >= 6 * ACCEPT_PAUSE && tries.load(Relaxed) >= 3;
    while !is_over() {
        assert_eq!(client.ask(GET).await.text(), "served", "who is in is served");
        assert!(began.elapsed() < PATIENCE, "{} tries", tries.load(Relaxed));
    }
    let (tried, most) = (tries.load(Relaxed), 3 + began.elapsed().as_millis() / ACCEPT_PAUSE.as_millis());
    assert!(u128::from(tried) <= most, "{tried} tries in {:?}", began.elapsed());
    assert_eq!(rig.refused(Limit::OpenFiles), u64::from(tried));

    out.store(false, Relaxed);
    assert_eq!(late.answer().await.text(), "served", "it waited in the backlog");
    soon(rig.activator.drain()).await;
}

/// Draining with no descriptor left ends all the same.
#[tokio::test]
async fn out_of_descriptors_draining_ends() {
    let out = Arc::<AtomicBool>::default();
    let rig = Rig::behind(Settings::default(), 1, Tcp, |listener| Exhausted {
        listener,
        out: Arc::clone(&out),
        tries: Arc::default(),
    })
    .await;
    rig.tell(Change::Synced).await;
    out.store(true, Relaxed);
    soon(rig.activator.drain()).await;
    let closed = async {
        while TcpStream::connect(rig.addresses[0]).await.is_ok() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    };
    soon(closed).await;
}

#[tokio::test]
async fn refusals_and_stocks_are_metrics() {
    let rig = Rig::new(limits(|l| l.queue_depth = set(1)), &[]).await;
    let mut held = rig.client().await;
    held.send(GET).await;
    eventually("one waits", || rig.waiting() == 1).await;
    let mut refused = rig.client().await;
    assert_eq!(refused.ask(GET).await.status(), 503);
    let mut page = String::new();
    activator::metrics::render(rig.activator.revisions(), rig.activator.workers()[0].base.clock, &mut page);
    for line in [
        "activator_refused_total{limit=\"queue_depth\"} 1",
        "activator_refused_total{limit=\"connections\"} 0",
        "activator_connections 2",
        "activator_held_requests 1",
        "activator_held_body_bytes 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in {page}");
    }
    drop((held, refused));
}
