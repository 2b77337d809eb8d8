//! Limits that a client of HTTP/2 meets by being slow, and replicas of HTTP/2 that reset what they were asked.

use crate::case::{others_are_served, rig};
use crate::frames::*;
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, eventually, soon};
use activator::Settings;
use activator::bounds::{Limit, Stock};
use activator::connection::H2_SMALL_FRAMES_BYTES_MAX;
use domain::{Change, Endpoint, EndpointId, EndpointState, Limits, Protocol, RevisionId};
use http::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Less than a head is no request: its connection is idle.
#[tokio::test]
async fn half_a_head_is_closed_after_the_keep_alive_time() {
    let (_plain, backend) = rig().await;
    let settings = Settings { keep_alive: Duration::from_millis(300), ..Settings::default() };
    let rig = Rig::with(settings, limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let begun = block(&head("GET", "/"));
    for (what, sent) in [
        ("a preface", PREFACE.to_vec()),
        ("half a frame", [PREFACE, &settings_and(&get(1, "/")[..12])].concat()),
        ("half a head", [PREFACE, &settings_and(&frame(HEADERS, END_STREAM, 1, &begun[..5]))].concat()),
    ] {
        let mut client = Client::bare(rig.addresses[0]).await;
        client.send(sent).await;
        others_are_served(&rig).await;
        assert!(client.ends().await.is_none_or(|code| code == NO_ERROR), "{what}");
    }
    eventually("all have ended", || rig.bounds().stock(Stock::Connections) == 0).await;
    assert_eq!(rig.in_flight(), 0);
}

fn settings_and(rest: &[u8]) -> Vec<u8> {
    [&settings(&[])[..], rest].concat()
}

#[tokio::test]
async fn a_slow_body_is_408_on_its_stream_alone() {
    let (_plain, backend) = rig().await;
    let short = Some(Duration::from_millis(150));
    let limits = limits(|l| {
        l.protocol = set(Protocol::Http1);
        l.idle_timeout = set(short);
    });
    let rig = Rig::new(limits, &[backend.address]).await;
    let mut client = Client::new(rig.addresses[0]).await;
    client.send([post(1, "/"), data(0, 1, b"some")].concat()).await;
    others_are_served(&rig).await;
    let answer = client.until(|frame| frame.kind == HEADERS).await;
    assert_eq!((answer.stream, answer.status()), (1, 408));
    assert_eq!(rig.refused(Limit::SlowBody), 1);
    assert!(client.is_served(3).await, "its neighbours do not notice");
    rig.at_rest().await;
}

/// A replica that takes every stream and resets it breaks off its own answers and nobody else's.
#[tokio::test]
async fn a_replica_that_resets_every_stream_breaks_its_own_answers_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, seen) = (runtime::Tasks::new(), Arc::new(Semaphore::new(0)));
    let (streams, arrived) = (tasks.clone(), Arc::clone(&seen));
    tasks.spawn("replica", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/" {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data("hello".into(), true).unwrap();
                } else if request.uri().path() == "/begun" {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data("hel".into(), false).unwrap();
                    // A reset overtakes what was not yet sent.
                    let go = Arc::clone(&arrived);
                    streams.spawn("stream", async move {
                        go.acquire().await.unwrap().forget();
                        body.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                    });
                } else {
                    respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                }
            }
        }
    });
    let rig = Rig::new(Limits { protocol: set(Protocol::H2c), ..Limits::default() }, &[address]).await;
    let mut client = Client::new(rig.addresses[0]).await;
    for n in 0..50 {
        client.send(get(4 * n + 1, "/never")).await;
        let refused = client.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM)).await;
        assert!(refused.kind == HEADERS && refused.payload[0] != 0x88, "{refused:?}");
        client.send(get(4 * n + 3, "/begun")).await;
        client.until(|frame| frame.kind == DATA && frame.payload == b"hel").await;
        seen.add_permits(1);
        let broken = client.until(|frame| frame.kind == RST_STREAM).await;
        assert_eq!((broken.stream, broken.code()), (4 * n + 3, ENHANCE_YOUR_CALM), "half an answer never looks whole");
    }
    assert_eq!(soon(rig.client()).await.ask(GET).await.text(), "hello");
    others_are_served(&rig).await;
    assert!(client.is_served(0x1001).await);
    rig.at_rest().await;
}

/// An activator whose usual service is at zero, and `warm` beside it with a replica.
async fn beside_a_warm_one(change: impl FnOnce(&mut Limits)) -> (Rig, Backend) {
    let (_plain, backend) = rig().await;
    let rig = Rig::new(limits(change), &[]).await;
    let warm = RevisionId::new("default", "warm");
    rig.apply(&warm, limits(|l| l.protocol = set(Protocol::Http1))).await;
    let endpoint = Endpoint {
        id: EndpointId::new("w-1"),
        address: backend.address,
        state: EndpointState::Ready,
        early_probe: None,
    };
    rig.tell(Change::Endpoints { revision: warm, version: 1, endpoints: [endpoint].into() }).await;
    (rig, backend)
}

/// `warm` is served, over HTTP/1.1 and on stream `number` of `client`.
async fn warm_is_served(rig: &Rig, client: &mut Client, number: u32) {
    let answer = rig.client().await.ask("GET / HTTP/1.1\r\nhost: warm.default\r\n\r\n").await;
    assert_eq!(answer.text(), "hello", "over HTTP/1.1");
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "warm.default"), (":path", "/")];
    client.send(frame(HEADERS, WHOLE, number, &block(&fields))).await;
    let body = client.until(|frame| frame.stream == number && frame.kind == DATA).await;
    assert_eq!(body.payload, b"hello", "over HTTP/2");
}

/// A service's queue is its own: one that is full refuses, and the service beside it is served.
#[tokio::test]
async fn a_full_queue_refuses_and_the_service_beside_it_is_served() {
    let (rig, _backend) = beside_a_warm_one(|l| l.queue_depth = set(1)).await;
    let mut held = rig.client().await;
    held.send(GET).await;
    eventually("one waits", || rig.waiting() == 1).await;
    let answer = rig.client().await.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("queue_full")));
    let mut client = Client::new(rig.addresses[0]).await;
    client.send(get(1, "/")).await;
    assert_eq!(client.until(|frame| frame.kind == HEADERS).await.status(), 503);
    assert_eq!(rig.refused(Limit::QueueDepth), 2);
    // On the connection that was refused.
    warm_is_served(&rig, &mut client, 3).await;
    assert_eq!(rig.waiting(), 1, "who was let in goes on waiting");
}

/// A held byte in a frame of its own costs many times what the window counts for it.
#[tokio::test]
async fn bodies_of_held_requests_that_come_a_byte_at_a_time_have_a_bound() {
    const STREAMS: u32 = 50;
    let (rig, _backend) = beside_a_warm_one(|_| ()).await;
    let mut patient = Client::new(rig.addresses[0]).await;
    let mut client = Client::new(rig.addresses[0]).await;
    let numbers = || (0..STREAMS).map(|n| 2 * n + 1);
    client.send(numbers().flat_map(|n| post(n, "/")).collect::<Vec<_>>()).await;
    eventually("all wait", || rig.waiting() == STREAMS).await;
    let bytes = |count: u32| numbers().flat_map(|n| data(0, n, b"x").repeat(count as usize)).collect::<Vec<_>>();
    let some = u32::try_from(H2_SMALL_FRAMES_BYTES_MAX).unwrap() / 255 / STREAMS;
    client.send(bytes(some)).await;
    warm_is_served(&rig, &mut client, 2 * STREAMS + 1).await;
    assert_eq!((rig.waiting(), rig.refused(Limit::Resets)), (STREAMS, 0), "as many as that are held");
    client.send(bytes(1)).await;
    assert_eq!(client.ends().await, Some(ENHANCE_YOUR_CALM));
    eventually("it is counted", || rig.refused(Limit::Resets) == 1).await;
    eventually("its requests are gone", || rig.waiting() == 0).await;
    warm_is_served(&rig, &mut patient, 1).await;
    rig.at_rest().await;
}
