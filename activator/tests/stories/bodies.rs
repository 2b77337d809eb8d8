//! Bodies in all their framings, and what falls when they end.

use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Wire, eventually, ok, post, soon};
use domain::{Limits, Protocol};
use std::num::NonZeroU32;
use std::time::Duration;

const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: svc.default\r\n\r\n";

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let backend = Backend::new(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 99\r\n\r\n".to_vec(),
        "/0" => ok(""),
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n".to_vec(),
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for (target, status) in [("/204", 204), ("/304", 304), ("/0", 200)] {
        let answer = client.ask(format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.body.len()), (status, 0), "{target}");
        rig.at_rest().await;
    }
    client.send(HEAD).await;
    let answer = client.bare_answer().await;
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("77")));
    rig.at_rest().await;
    assert_eq!(backend.accepted.load(std::sync::atomic::Ordering::Relaxed), 1, "the connection went back each time");
    assert_eq!(rig.requests(), 4);
}

/// The length of what a GET would give is not known, so none may be made up.
#[tokio::test]
async fn head_of_a_chunked_answer_gets_no_length() {
    let backend = Backend::new(|_| b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        client.send(HEAD).await;
        let answer = client.bare_answer().await;
        assert_eq!((answer.status(), answer.field("content-length")), (200, None));
    }
}

#[tokio::test]
async fn chunked_both_ways_with_trailers() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 5\r\n\r\n"
            .to_vec()
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    for (method, announced) in [("POST", "trailer: x-check\r\n"), ("GET", "")] {
        let mut client = rig.client().await;
        let answer = client
            .ask(format!(
                "{method} / HTTP/1.1\r\nhost: svc.default\r\nte: trailers\r\n{announced}\
                 transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nx-check: 4\r\n\r\n"
            ))
            .await;
        let seen = backend.last();
        assert_eq!((seen.text(), seen.field("transfer-encoding")), ("abcd", Some("chunked")), "{method}");
        assert_eq!(seen.trailers, [("x-check".to_owned(), "4".to_owned())]);
        assert_eq!((answer.text(), answer.field("trailer")), ("hello", Some("x-sum")));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "5".to_owned())]);
        assert_eq!(answer.field("connection"), None, "another request may follow");
        let answer = client.ask("GET / HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
        assert_eq!((answer.text(), &answer.trailers[..]), ("hello", &[][..]), "trailers are for who takes them");
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let backend = Backend::script(|mut wire, _, _| async move {
        if wire.request().await.is_some() {
            wire.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
        }
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(GET).await.text(), "until the end");
    assert_eq!(client.ask(GET).await.text(), "until the end", "the client's own connection is kept");
    rig.at_rest().await;
}

/// Half an answer must never look like a whole one.
#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_for_the_client() {
    for half in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let backend = Backend::script(move |mut wire, _, _| async move {
            wire.request().await;
            wire.send(format!("HTTP/1.1 200 OK\r\n{half}")).await;
        })
        .await;
        let rig = Rig::new(Limits::default(), &[backend.address]).await;
        let mut client = rig.client().await;
        client.send(GET).await;
        assert!(client.maybe_answer().await.is_none(), "{half:?}");
        rig.at_rest().await;
    }
}

/// A backend that sends the beginning of an answer and then waits for its peer to leave.
async fn endless() -> Backend {
    Backend::script(|mut wire, _, backend| async move {
        let Some(request) = wire.request().await else { return };
        backend.note(request);
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
        wire.rest().await;
        backend.note(crate::wire::Message::default());
    })
    .await
}

#[tokio::test]
async fn a_client_that_leaves_half_way_gives_everything_back() {
    let backend = endless().await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    let head = soon(client.head()).await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!((rig.in_flight(), rig.permits()), (1, 1), "a request ends when its answer ends");
    drop(client);
    rig.at_rest().await;
    eventually("the replica sees the hang-up", || backend.count() == 2).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_gives_everything_back() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        let Some(request) = wire.request().await else { return };
        backend.note(request);
        wire.rest().await;
        backend.note(crate::wire::Message::default());
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("the replica has it", || backend.count() == 1).await;
    assert_eq!((rig.in_flight(), rig.permits()), (1, 1));
    drop(client);
    rig.at_rest().await;
    eventually("the replica sees the hang-up", || backend.count() == 2).await;
}

#[tokio::test]
async fn silence_longer_than_the_idle_timeout_ends_an_answer() {
    let backend = endless().await;
    let limits = limits(|l| l.idle_timeout = set(Some(Duration::from_millis(100))));
    let rig = Rig::new(limits, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    assert!(client.maybe_answer().await.is_none(), "reset, with nothing appended");
    rig.at_rest().await;
}

#[tokio::test]
async fn the_first_byte_and_the_whole_have_clocks() {
    let silent = Backend::script(|mut wire, _, _| async move {
        wire.rest().await;
    })
    .await;
    let short = Some(Duration::from_millis(100));
    for (limits, code) in [
        (limits(|l| l.response_start_timeout = set(short)), "response_start_timeout"),
        (limits(|l| l.timeout = set(short)), "timeout"),
        (
            limits(|l| {
                l.response_start_timeout = set(short);
                l.container_concurrency = set(NonZeroU32::new(9));
            }),
            "response_start_timeout",
        ),
    ] {
        let rig = Rig::new(limits, &[silent.address]).await;
        let mut client = rig.client().await;
        let answer = client.ask(GET).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (504, Some(code)));
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn the_whole_has_a_clock_over_the_body_too() {
    let backend = endless().await;
    let rig = Rig::new(limits(|l| l.timeout = set(Some(Duration::from_millis(200)))), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    assert!(client.maybe_answer().await.is_none());
    rig.at_rest().await;
}

/// A client that stops reading holds up the replica, not the activator's memory.
#[tokio::test]
async fn back_pressure_reaches_the_replica() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    const TOTAL: u64 = 256 << 20;
    let written = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&written);
    let backend = Backend::script(move |mut wire: Wire, _, _| {
        let counter = Arc::clone(&counter);
        async move {
            use tokio::io::AsyncWriteExt;
            wire.request().await;
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n")).await;
            let chunk = vec![0_u8; 64 << 10];
            while counter.load(Relaxed) < TOTAL {
                let Ok(count) = wire.stream.write(&chunk).await else { return };
                counter.fetch_add(count as u64, Relaxed);
            }
        }
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    soon(client.head()).await.unwrap();
    // It stands still when nothing more was taken for a while.
    let mut before = u64::MAX;
    while before != written.load(Relaxed) {
        before = written.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 16 << 20, "{before} bytes were taken for a client that reads nothing");
    assert_eq!(rig.in_flight(), 1);
    drop(client);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_replica_may_be_spoken_to_in_http2_alone() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[backend.address]).await;
    let answer = rig.client().await.ask(post("x")).await;
    assert_eq!(answer.status(), 502, "an HTTP/1.1 server is told apart from a slow one");
}
