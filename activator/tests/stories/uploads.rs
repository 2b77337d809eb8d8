//! Uploads that do not end well: answered before they have ended, and stalled (engineering notes 18).

use crate::h2::{ask, client, full, request};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Message, Wire, eventually, ok, soon};
use domain::{Limits, Protocol};
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use runtime::watched::{LINGER, LINGER_BYTES_MAX};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const UPLOAD_BYTES: usize = 10 << 20;

/// Both framings of HTTP/1.1: the head's field, and what stands before the content.
const FRAMINGS: [(&str, &str); 2] = [("content-length: 10485760", ""), ("transfer-encoding: chunked", "a00000\r\n")];

/// A replica that wants no upload and says so at its head.
async fn strict() -> Backend {
    Backend::script(|mut wire, _, backend| async move {
        while let Some(head) = wire.head().await {
            let has_body = head.field("content-length").is_some() || head.field("transfer-encoding").is_some();
            backend.note(head);
            if has_body {
                wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmuch").await;
                wire.rest().await;
                return;
            }
            wire.send(ok("small")).await;
        }
    })
    .await
}

/// What a simple client is told: it sends all it has, stops at the first error, and reads only then.
async fn told_afterwards(mut client: Wire, host: &str, (field, before): (&str, &str)) -> Message {
    client.send(format!("POST / HTTP/1.1\r\nhost: {host}\r\n{field}\r\n\r\n{before}")).await;
    let sent = soon(client.stream.write_all(&vec![b'x'; UPLOAD_BYTES])).await;
    assert!(sent.is_err(), "nobody read all of it");
    client.answer().await
}

#[tokio::test]
async fn a_large_upload_that_is_refused_at_once_is_told_so() {
    let backend = strict().await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    for framing in FRAMINGS {
        let clients = [rig.client().await, rig.client().await, rig.client().await, rig.client().await];
        for answer in join_all(clients.map(|client| told_afterwards(client, "svc.default", framing))).await {
            assert_eq!((answer.status(), answer.text()), (413, "much"), "{framing:?}");
        }
    }
    rig.at_rest().await;
}

#[tokio::test]
async fn our_own_refusals_reach_a_client_that_is_still_sending() {
    let rig = Rig::new(limits(|l| l.queue_depth = set(1)), &[]).await;
    let mut held = rig.client().await;
    held.send(GET).await;
    eventually("one waits", || rig.waiting() == 1).await;
    for framing in FRAMINGS {
        let refusals = [("svc.default", 503, "queue_full"), ("nobody.default", 404, "unknown_host")];
        for (host, status, code) in refusals {
            let answer = told_afterwards(rig.client().await, host, framing).await;
            assert_eq!((answer.status(), answer.field("x-kpa-reason")), (status, Some(code)), "{framing:?}");
        }
    }
    assert_eq!(rig.waiting(), 1);
}

/// A socket that is closed with unread data in it is reset, and a reset can destroy an answer at the client.
#[tokio::test]
async fn an_early_answer_ends_in_peace_and_the_reset_comes_later() {
    let backend = strict().await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 10485760\r\n\r\n").await;
    client.send(vec![b'x'; 64 * 1024]).await;
    assert_eq!(client.answer().await.status(), 413);
    let answered = Instant::now();
    // It goes on for a while, as somebody who has not looked yet.
    for _ in 0..4 {
        client.send(vec![b'x'; LINGER_BYTES_MAX / 8]).await;
        let end = soon(client.stream.read(&mut [0; 8])).await;
        assert_eq!(end.expect("no reset while the rest is read"), 0);
    }
    let rest = soon(client.stream.write_all(&vec![b'x'; UPLOAD_BYTES])).await;
    assert!(rest.is_err(), "the rest is bounded");
    let took = answered.elapsed();
    assert!(took > LINGER - Duration::from_millis(500) && took < LINGER + Duration::from_secs(2), "{took:?}");
}

/// Over HTTP/2 nobody can send without reading; the stream alone ends, and its neighbours and successors do not notice.
#[tokio::test]
async fn an_early_answer_over_http2_ends_its_stream_only() {
    let backend = strict().await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let (mut client, _tasks) = client(rig.addresses[0]).await;
    let big: &'static str = Box::leak("x".repeat(UPLOAD_BYTES).into_boxed_str());
    for _ in 0..20 {
        let response = ask(&mut client, request("POST", "/", full(big))).await;
        assert_eq!(response.status(), 413);
        assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "much");
        let unknown = Request::post("http://nobody.default/").body(full(big)).unwrap();
        assert_eq!(ask(&mut client, unknown).await.status(), 404);
        let response = ask(&mut client, request("GET", "/", full(""))).await;
        assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "small");
    }
    rig.at_rest().await;
}

#[tokio::test]
async fn a_stalled_upload_is_408_before_the_answer_has_begun_and_ends_both_connections() {
    let backend = Backend::new(|_| ok("")).await;
    let limits = limits(|l| l.idle_timeout = set(Some(Duration::from_millis(100))));
    let rig = Rig::new(limits, &[backend.address]).await;
    for framing in ["content-length: 5\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = rig.client().await;
        let answer = client.ask(format!("POST / HTTP/1.1\r\nhost: svc.default\r\n{framing}")).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (408, Some("request_stalled")));
        assert_eq!(answer.field("connection"), Some("close"));
        // What was missing and another request come too late: they are no request of anybody.
        client.send(format!("de{GET}")).await;
        assert!(client.closes().await);
        rig.at_rest().await;
        let used = backend.accepted.load(Relaxed);
        assert_eq!(rig.client().await.ask(GET).await.status(), 200);
        assert_eq!(backend.accepted.load(Relaxed), used + 1, "the replica's connection had half a request on it");
    }
    assert_eq!(backend.count(), 2);
}

/// The replica speaks all the while, so that it is the client's silence alone that ends it.
#[tokio::test]
async fn a_stalled_upload_is_reset_after_the_answer_has_begun() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        let Some(head) = wire.head().await else { return };
        let has_body = head.field("content-length").is_some();
        backend.note(head);
        if !has_body {
            return wire.send(ok("next")).await;
        }
        let _ = wire.stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while wire.stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        backend.note(Message::default());
    })
    .await;
    let limits = limits(|l| l.idle_timeout = set(Some(Duration::from_millis(200))));
    let rig = Rig::new(limits, &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5\r\n\r\nabc").await;
    let mut head = soon(client.head()).await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(soon(client.body(&mut head, false)).await.is_none(), "half an answer never looks like a whole one");
    rig.at_rest().await;
    eventually("the replica's connection is closed", || backend.count() == 2).await;
    assert_eq!(rig.client().await.ask(GET).await.text(), "next");
    assert_eq!(backend.accepted.load(Relaxed), 2, "on a new connection");
}
