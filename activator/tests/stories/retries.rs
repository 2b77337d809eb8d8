//! What is tried again, and what never is.

use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Wire, eventually, ok, post};
use domain::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpSocket;

/// An address where nobody listens, kept from being given to others.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn usable(rig: &Rig, address: SocketAddr) -> bool {
    let endpoints = rig.handle().gate.endpoints();
    endpoints.iter().any(|(endpoint, usable)| endpoint.address == address && *usable)
}

#[tokio::test]
async fn a_replica_that_refuses_is_passed_over_and_comes_back() {
    let alive = Backend::new(|_| ok("alive")).await;
    let (socket, address) = nobody();
    let rig = Rig::new(Limits::default(), &[address, alive.address]).await;
    let mut client = rig.client().await;
    for n in 0..10 {
        let answer = client.ask(if n % 2 == 0 { GET.to_owned() } else { post("once") }).await;
        assert_eq!((answer.status(), answer.text()), (200, "alive"));
    }
    assert_eq!(alive.count(), 10);
    assert!(!usable(&rig, address), "it is a suspect");
    let back = Backend::script_on(socket.listen(16).unwrap(), |mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
            wire.send(ok("back")).await;
        }
    });
    eventually("a probe clears it", || usable(&rig, address)).await;
    while back.count() == 0 {
        assert_eq!(client.ask(post("again")).await.status(), 200);
    }
    rig.at_rest().await;
}

#[tokio::test]
async fn a_warm_service_whose_replicas_all_refuse_is_waited_for() {
    let (rig, mut client, place) = answered_once(Duration::from_secs(60)).await;
    client.send(post("patient")).await;
    eventually("it was tried", || rig.in_flight() == 1).await;
    let began = tokio::time::Instant::now();
    eventually("several rounds passed", || began.elapsed() > Duration::from_millis(200)).await;
    let backend = Backend::script_on(place.listen(16).unwrap(), |mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
            wire.send(ok("back")).await;
        }
    });
    assert_eq!(client.answer().await.text(), "back");
    assert_eq!((backend.count(), backend.last().text()), (1, "patient"));
    rig.at_rest().await;
}

#[tokio::test]
async fn and_is_unreachable_when_the_queue_timeout_is_over() {
    let (rig, mut client, _place) = answered_once(Duration::from_millis(150)).await;
    let began = tokio::time::Instant::now();
    let answer = client.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (502, Some("unreachable")));
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    rig.at_rest().await;
}

/// A service with one replica, which has answered one request and then closed its listener; the socket keeps its address
/// from being given to others.
async fn answered_once(queue_timeout: Duration) -> (Rig, Wire, TcpSocket) {
    let shared = |address: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    };
    let first = shared("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let (place, listener) = (shared(address), first.listen(16).unwrap());
    let rig = Rig::new(limits(|l| l.queue_timeout = set(queue_timeout)), &[address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut wire = Wire::new(stream);
    wire.request().await.unwrap();
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
    (rig, client, place)
}

/// Whatever the platform says, a replica that has never answered is still starting.
#[tokio::test]
async fn a_cold_replica_that_refuses_at_first_is_waited_for() {
    let (socket, address) = nobody();
    let rig = Rig::new(Limits::default(), &[address]).await;
    let mut client = rig.client().await;
    client.send(post("patient")).await;
    eventually("it was tried", || !rig.handle().counters().is_empty() && rig.in_flight() == 1).await;
    let began = tokio::time::Instant::now();
    eventually("several rounds passed", || began.elapsed() > Duration::from_millis(200)).await;
    let backend = Backend::script_on(socket.listen(16).unwrap(), |mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
            wire.send(ok("at last")).await;
        }
    });
    assert_eq!(client.answer().await.text(), "at last");
    assert_eq!(backend.last().text(), "patient");
    rig.at_rest().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_at_a_cold_replica_is_noticed() {
    let (_socket, address) = nobody();
    let rig = Rig::new(Limits::default(), &[address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5\r\n\r\nabc").await;
    eventually("it was tried", || rig.requests() == 1).await;
    drop(client);
    let left = tokio::time::Instant::now();
    rig.at_rest().await;
    assert!(left.elapsed() < Duration::from_millis(2500), "{:?}", left.elapsed());
}

/// The commonest 502 in front of Python servers.
#[tokio::test]
async fn idle_connections_are_closed_before_the_server_does_it() {
    const PATIENCE: Duration = Duration::from_millis(250);
    let backend = Backend::script(|mut wire, _, backend| async move {
        while let Ok(Some(request)) = tokio::time::timeout(PATIENCE, wire.request()).await {
            backend.note(request);
            wire.send(ok("")).await;
        }
    })
    .await;
    let limits = limits(|l| l.upstream_idle_timeout = set(Duration::from_millis(120)));
    let rig = Rig::new(limits, &[backend.address]).await;
    let mut client = rig.client().await;
    for gap in [0, 60, 110, 119, 121, 130, 200, 245, 250, 255, 300] {
        tokio::time::sleep(Duration::from_millis(gap)).await;
        assert_eq!(client.ask(post("x")).await.status(), 200, "after {gap} ms");
    }
    assert_eq!(backend.count(), 11);
}

#[tokio::test]
async fn the_servers_own_word_on_idle_connections_counts() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        while let Ok(Some(request)) = tokio::time::timeout(Duration::from_secs(1), wire.request()).await {
            backend.note(request);
            wire.send("HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let limits = limits(|l| l.upstream_idle_timeout = set(Duration::from_secs(60)));
    let rig = Rig::new(limits, &[backend.address]).await;
    let mut client = rig.client().await;
    for gap in [0, 700, 850, 990] {
        tokio::time::sleep(Duration::from_millis(gap)).await;
        assert_eq!(client.ask(post("x")).await.status(), 200, "after {gap} ms");
    }
}

/// It closes after each answer without saying so: the next request finds out before it is sent.
#[tokio::test]
async fn a_server_that_closes_without_a_word_loses_no_post() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        if let Some(request) = wire.request().await {
            backend.note(request);
            wire.send(ok("")).await;
        }
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for n in 0..50 {
        let before = backend.count();
        assert_eq!(client.ask(post("x")).await.status(), 200, "request {n}");
        assert_eq!(backend.count(), before + 1);
    }
}

/// Reads a request, answers the first ones, and then breaks the connection instead of answering.
async fn breaks_after(answers: usize) -> Backend {
    Backend::script(move |mut wire, _, backend| async move {
        let mut answered = 0;
        while let Some(request) = wire.request().await {
            backend.note(request);
            if answered == answers {
                return;
            }
            answered += 1;
            wire.send(ok("")).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_may_have_been_executed_is_not_sent_twice() {
    let backend = breaks_after(1).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(post("first")).await.status(), 200);
    // Idle for long enough that the connection is no longer trusted: a replay would be possible.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let answer = client.ask(post("second")).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (502, Some("broken")));
    let bodies: Vec<String> = backend.seen.lock().iter().map(|request| request.text().to_owned()).collect();
    assert_eq!(bodies, ["first", "second"]);
    rig.at_rest().await;
}

#[tokio::test]
async fn what_is_idempotent_is_sent_once_more_on_another_connection() {
    let keyed = "POST / HTTP/1.1\r\nhost: svc.default\r\nidempotency-key: 1\r\ncontent-length: 3\r\n\r\nabc";
    for request in [GET.to_owned(), keyed.to_owned(), post("abc").replacen("POST", "PUT", 1)] {
        let backend = breaks_after(1).await;
        let rig = Rig::new(Limits::default(), &[backend.address]).await;
        let mut client = rig.client().await;
        assert_eq!(client.ask(GET).await.status(), 200);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(client.ask(&request).await.status(), 200, "{request}");
        assert_eq!(backend.count(), 3, "the first, and the second twice");
        let seen = backend.seen.lock().clone();
        assert_eq!((seen[1].first.as_str(), seen[1].text()), (seen[2].first.as_str(), seen[2].text()));
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let backend = breaks_after(0).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    assert_eq!(rig.client().await.ask(GET).await.status(), 502);
    assert_eq!(backend.count(), 1);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_drained_replica_gets_nothing_new() {
    let (one, two) = (Backend::new(|_| ok("one")).await, Backend::new(|_| ok("two")).await);
    let rig = Rig::new(Limits::default(), &[one.address, two.address]).await;
    let mut client = rig.client().await;
    while one.count() == 0 || two.count() == 0 {
        client.ask(GET).await;
    }
    let now = rig.activator.workers()[0].base.clock.now();
    let drain = [domain::EndpointId::new(&one.address.to_string())];
    rig.handle().gate.set_drain(now, drain.into());
    let before = one.count();
    for _ in 0..20 {
        assert_eq!(client.ask(GET).await.text(), "two");
    }
    assert_eq!(one.count(), before);
    rig.handle().gate.set_drain(now, std::collections::BTreeSet::new());
    while one.count() == before {
        client.ask(GET).await;
    }
}
