//! Requests whose bodies cannot be understood or break off, on every kind of line to a replica: the client is the reason, no
//! replica is blamed, and nothing behind such a body is a request.

use crate::h2;
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Wire, eventually, ok, soon};
use activator::bounds::Stock;
use activator::error::Outcome;
use domain::{Limits, Protocol};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a request must say to go to its replica on each kind of line.
const LINES: [(Protocol, &str); 3] =
    [(Protocol::Http1, ""), (Protocol::H2c, ""), (Protocol::Http1, "connection: upgrade\r\nupgrade: websocket\r\n")];

/// A replica of either protocol, and the targets of the requests whose heads it saw.
async fn replica(protocol: Protocol) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let targets = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&targets);
    if protocol == Protocol::H2c {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), runtime::Tasks::new());
        tasks.clone().spawn("backend", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                let service = service_fn(move |request: Request<Incoming>| {
                    noted.lock().push(request.uri().path().to_owned());
                    async move {
                        let read = http_body_util::BodyExt::collect(request.into_body()).await;
                        read.map(|_| Response::new(h2::full("fine")))
                    }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tasks.spawn("backend connection", async move { drop(connection.await) });
            }
        });
        return (address, targets);
    }
    let backend = Backend::script(move |mut wire, _, _| {
        let noted = Arc::clone(&noted);
        async move {
            while let Some(mut head) = wire.head().await {
                noted.lock().push(head.target().to_owned());
                if wire.body(&mut head, false).await.is_none() {
                    return;
                }
                wire.send(ok("fine")).await;
            }
        }
    })
    .await;
    (backend.address, targets)
}

async fn rig(protocol: Protocol) -> (Rig, Arc<Mutex<Vec<String>>>) {
    let (address, targets) = replica(protocol).await;
    (Rig::new(limits(|l| l.protocol = set(protocol)), &[address]).await, targets)
}

/// No replica is suspect, and the usual request is served.
async fn is_well(rig: &Rig) {
    assert_eq!(rig.ended(Outcome::Broken), 0);
    assert_eq!(rig.client().await.ask(GET).await.text(), "fine");
    rig.at_rest().await;
}

#[tokio::test]
async fn what_stands_behind_a_body_that_cannot_be_understood_is_no_request() {
    const BROKEN: [(&str, &str); 3] = [
        ("trailers that are none", "2\r\nhi\r\n0\r\nno trailer\r\n\r\n"),
        ("a chunk longer than its size", "2\r\nhi!\r\n0\r\n\r\n"),
        ("a size that is none", "2\r\nhi\r\nx\r\n\r\n"),
    ];
    for (protocol, fields) in LINES {
        let (rig, targets) = rig(protocol).await;
        for (what, body) in BROKEN {
            let mut client = rig.client().await;
            client
                .send(format!(
                    "POST /first HTTP/1.1\r\nhost: svc.default\r\n{fields}transfer-encoding: chunked\r\n\r\n{body}\
                     GET /hidden HTTP/1.1\r\nhost: svc.default\r\n\r\n"
                ))
                .await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), 400, "{what}, {protocol:?} {fields:?}");
            assert!(client.closes().await, "{what}, {protocol:?} {fields:?}");
        }
        is_well(&rig).await;
        assert!(!targets.lock().iter().any(|target| target == "/hidden"), "{protocol:?} {fields:?}");
    }
}

/// More often than a replica may break off before it is passed over.
#[tokio::test]
async fn a_client_that_hangs_up_in_its_body_is_not_its_replicas_fault() {
    for (protocol, fields) in LINES {
        let (rig, targets) = rig(protocol).await;
        for count in 1..=5 {
            let mut client = rig.client().await;
            client
                .send(format!("POST / HTTP/1.1\r\nhost: svc.default\r\n{fields}content-length: 9\r\n\r\nhello"))
                .await;
            eventually("the replica has it", || targets.lock().len() == count).await;
            drop(client);
            soon(rig.at_rest()).await;
        }
        assert_eq!(rig.ended(Outcome::ClientGone), 5, "{protocol:?} {fields:?}");
        is_well(&rig).await;
    }
}

/// Its place is given back when the tunnel ends, not when the connection has become one.
#[tokio::test]
async fn a_tunnel_is_a_connection() {
    let backend = Backend::script(|mut wire, _, _| async move {
        if wire.head().await.is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
            wire.rest().await;
        }
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    let upgrade = "GET / HTTP/1.1\r\nhost: svc.default\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    assert_eq!(client.ask(upgrade).await.status(), 101);
    // What served it is over.
    let worker = &rig.activator.workers()[0];
    eventually("it is a tunnel", || worker.connections.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
    assert_eq!(rig.bounds().stock(Stock::Connections), 1);
    drop(client);
    eventually("its place is free", || rig.bounds().stock(Stock::Connections) == 0).await;
}

/// Fields that may be no trailers would be taken for part of the head by somebody (RFC 9110 section 6.5.1).
#[tokio::test]
async fn a_replica_of_http2_has_no_more_to_say_in_trailers_than_another() {
    let backend = h2::h2_backend(|seen| {
        let (name, value) = if seen.head.uri.path() == "/good" { ("x-sum", "1") } else { ("set-cookie", "a=b") };
        Response::new(h2::with_trailers("hi", name, value))
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[backend.address]).await;
    let mut client = rig.client().await;
    for (target, told) in [("/good", 1), ("/evil", 0)] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\nte: trailers\r\n\r\n");
        let answer = client.ask(request).await;
        assert_eq!((answer.text(), answer.trailers.len()), ("hi", told), "{target}: {:?}", answer.trailers);
    }
    rig.at_rest().await;
}

/// Who is told nothing sends its next request into a connection that closes.
#[tokio::test]
async fn an_answer_that_ends_before_its_request_says_that_it_is_the_last() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go_on);
    let backend = Backend::script(move |mut wire, _, _| {
        let told = Arc::clone(&told);
        async move {
            if wire.head().await.is_some() {
                wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmu").await;
                told.notified().await;
                wire.send("ch").await;
                wire.rest().await;
            }
        }
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 100\r\n\r\nhello").await;
    let mut head = soon(client.head()).await.unwrap();
    assert_eq!((head.status(), head.field("connection")), (413, Some("close")));
    go_on.notify_one();
    soon(client.body(&mut head, false)).await.unwrap();
    assert_eq!(head.text(), "much");
    assert!(client.closes().await);
    rig.at_rest().await;
}

/// The close of the connection is the end of such an answer, so that half of one would look whole.
#[tokio::test]
async fn half_an_answer_to_a_client_of_http_1_0_ends_with_a_reset() {
    use tokio::io::AsyncReadExt as _;
    let go_on = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go_on);
    let backend = Backend::script(move |mut wire: Wire, _, _| {
        let told = Arc::clone(&told);
        async move {
            if wire.head().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
                told.notified().await;
            }
        }
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.0\r\nhost: svc.default\r\n\r\n").await;
    soon(client.head()).await.unwrap();
    assert_eq!(client.take(5).await, b"hello");
    go_on.notify_one();
    let end = soon(client.stream.read(&mut [0; 8])).await;
    assert_eq!(end.expect_err("no proper end").kind(), std::io::ErrorKind::ConnectionReset);
    rig.at_rest().await;
}
