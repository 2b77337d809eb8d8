//! Clients that hang up while their request is held: the table of kpa-behaviour 4.1, and what comes back when all leave.

use crate::rig::{Rig, limits, set};
use crate::wire::{GET, eventually, soon};
use activator::bounds::Stock;
use bytes::Bytes;
use domain::Limits;
use http::Request;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A client that left is out of the queue within a second (kpa-behaviour 4.1), and some for a busy machine.
const NOTICED: Duration = Duration::from_millis(1500);

/// What `leave` does ends the only request that is held.
async fn leaves(rig: &Rig, what: &str, leave: impl Future<Output = ()>) {
    eventually(what, || rig.waiting() == 1).await;
    leave.await;
    let left = Instant::now();
    eventually(what, || rig.waiting() == 0 && rig.in_flight() == 0).await;
    let took = left.elapsed();
    assert!(took < NOTICED, "{what}: noticed after {took:?}");
}

/// hyper alone notices only the first two of those that close; everybody else would hold a place until the queue's clock
/// runs out.
#[tokio::test]
async fn a_client_that_hangs_up_leaves_the_queue() {
    let start = |framing: &str| format!("POST / HTTP/1.1\r\nhost: svc.default\r\n{framing}\r\n\r\n");
    let whole = "x".repeat(20_000);
    let requests = [
        ("no body", GET.to_owned()),
        ("a complete body", start("content-length: 3") + "abc"),
        ("three of five bytes", start("content-length: 5") + "abc"),
        ("20 000 bytes, complete", start("content-length: 20000") + &whole),
        ("a tiny chunked body", start("transfer-encoding: chunked") + "1\r\nx\r\n0\r\n\r\n"),
        ("half a chunked body", start("transfer-encoding: chunked") + "1\r\nx\r\n"),
        ("Expect: 100-continue", start("content-length: 5\r\nexpect: 100-continue")),
        ("a pipelined second request", GET.repeat(2)),
    ];
    let rig = Rig::new(Limits::default(), &[]).await;
    for (what, request) in requests {
        let mut client = rig.client().await;
        client.send(&request).await;
        leaves(&rig, what, async { drop(client) }).await;

        // Closed with a reset: unread data is thrown away, which the reactor reports in another way than an end.
        let mut client = rig.client().await;
        client.send(&request).await;
        client.stream.set_zero_linger().unwrap();
        leaves(&rig, &format!("{what}, reset"), async { drop(client) }).await;

        // Half-closed: it could still read. As in nginx that is a hang-up.
        let mut client = rig.client().await;
        client.send(&request).await;
        leaves(&rig, &format!("{what}, half-closed"), async { client.stream.shutdown().await.unwrap() }).await;
    }
}

#[tokio::test]
async fn a_stream_or_a_connection_of_http2_that_ends_leaves_the_queue() {
    let rig = Rig::new(Limits::default(), &[]).await;
    for (what, length) in [("nothing of the body", 0), ("some of it", 5), ("a full window of it", 1 << 20)] {
        for reset in [true, false] {
            let stream = TcpStream::connect(rig.addresses[0]).await.unwrap();
            let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
            let request = Request::post("http://svc.default/").body(()).unwrap();
            let (answer, mut upload) = sender.send_request(request, false).unwrap();
            upload.send_data(Bytes::from(vec![0; length]), false).unwrap();
            // Nothing of the connection moves but by this.
            let held = tokio::select! {
                biased;
                ended = &mut connection => panic!("the connection ended: {ended:?}"),
                () = eventually(what, || rig.waiting() == 1) => (answer, upload),
            };
            if reset {
                let (answer, mut upload) = held;
                upload.send_reset(h2::Reason::CANCEL);
                drop(answer);
                let ending = leaves(&rig, what, async {});
                tokio::select! {
                    biased;
                    ended = &mut connection => panic!("the connection ended: {ended:?}"),
                    () = ending => {}
                }
            } else {
                leaves(&rig, &format!("{what}, connection closed"), async { drop(connection) }).await;
            }
            drop(sender);
        }
    }
}

/// Nothing stays behind: no place in the queue, no connection, no count.
#[tokio::test]
async fn when_everybody_leaves_everything_comes_back() {
    const CLIENTS: u64 = 2_000;
    runtime::rlimit::raise_open_files().unwrap();
    let rig = Rig::new(Limits::default(), &[]).await;
    let stocks = || {
        let connections = rig.activator.workers()[0].connections.load(Relaxed);
        let count = |stock| rig.bounds().stock(stock);
        (u64::from(connections), count(Stock::Connections), count(Stock::HeldRequests), u64::from(rig.waiting()))
    };
    for round in 0..2 {
        let mut clients = Vec::new();
        for n in 0..CLIENTS {
            let mut client = rig.client().await;
            // Half of them in a way that hyper alone does not notice.
            let body = if n % 2 == 0 { "content-length: 3\r\n\r\nab" } else { "\r\n" };
            client.send(format!("POST / HTTP/1.1\r\nhost: svc.default\r\n{body}")).await;
            clients.push(client);
        }
        eventually("all wait", || stocks() == (CLIENTS, CLIENTS, CLIENTS, CLIENTS)).await;
        drop(clients);
        let left = Instant::now();
        eventually("all have left", || stocks() == (0, 0, 0, 0) && rig.in_flight() == 0).await;
        let took = left.elapsed();
        assert!(took < Duration::from_secs(5), "round {round}: {took:?}");
    }
}

/// The end of its stream stands behind data that nobody reads, so nobody can see it: the queue's clock is the bound.
#[tokio::test]
async fn behind_a_full_receive_window_the_queues_clock_is_the_bound() {
    const DEADLINE: Duration = Duration::from_millis(2500);
    let rig = Rig::new(limits(|l| l.start_deadline = set(DEADLINE)), &[]).await;
    let mut client = rig.client().await;
    let began = Instant::now();
    client.send(format!("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: {}\r\n\r\n", 64 << 20)).await;
    eventually("it waits", || rig.waiting() == 1).await;
    // Until nothing more is taken: the window is full.
    let chunk = vec![0_u8; 1 << 20];
    let mut taken = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(100), client.stream.write_all(&chunk)).await {
        taken += chunk.len();
    }
    assert!(taken < 32 << 20, "{taken} bytes were taken of a body that nobody reads");
    drop(client);
    let blind = Instant::now() + Duration::from_millis(1000);
    eventually("a hang-up would have been seen", || Instant::now() > blind).await;
    assert_eq!(rig.waiting(), 1, "nobody can know");
    soon(rig.at_rest()).await;
    let took = began.elapsed();
    assert!(took > DEADLINE && took < DEADLINE + NOTICED, "{took:?}");
}
