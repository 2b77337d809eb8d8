//! What HTTP/1.x has that HTTP/2 has not: old clients, requests in a row, and asking before sending.

use crate::h2;
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{Wire, eventually, ok, soon};
use domain::Protocol;
use http::Response;
use std::num::NonZeroU32;

/// A replica that says what it was asked, in chunks where the target says so.
async fn echo() -> Backend {
    Backend::new(|request| {
        let said = format!("{} {}", request.first.split(' ').next().unwrap(), request.target());
        if request.target().starts_with("/chunked") {
            let chunk = format!("{:x}\r\n{said}\r\n0\r\n\r\n", said.len());
            return format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}").into_bytes();
        }
        ok(&said)
    })
    .await
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_its_answer_and_a_close_through_a_cold_start() {
    let backend = echo().await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[]).await;
    let mut client = rig.client().await;
    client.send("GET /old HTTP/1.0\r\nHost: svc.default\r\n\r\n").await;
    eventually("it waits", || rig.waiting() == 1).await;
    rig.replicas(&[backend.address]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text()), (200, "GET /old"));
    assert!(client.closes().await);
    assert_eq!(backend.last().first, "GET /old HTTP/1.1", "replicas are spoken to as we speak");
    rig.at_rest().await;
}

/// Chunks would be content to it (RFC 9112 section 7.1): the close says where the answer ends.
#[tokio::test]
async fn a_client_of_http_1_0_is_sent_no_chunks() {
    let h2 = h2::h2_backend(|_| Response::new(h2::with_trailers("GET /chunked", "x-end", "1"))).await;
    for (protocol, address) in [(Protocol::Http1, echo().await.address), (Protocol::H2c, h2.address)] {
        let rig = Rig::new(limits(|l| l.protocol = set(protocol)), &[address]).await;
        for connection in ["close", "keep-alive"] {
            let mut client = rig.client().await;
            let request = format!("GET /chunked HTTP/1.0\r\nhost: svc.default\r\nconnection: {connection}\r\n\r\n");
            let answer = client.ask(request).await;
            assert_eq!((answer.field("transfer-encoding"), answer.text()), (None, "GET /chunked"), "{protocol:?}");
            assert!(answer.field("content-length").is_some() || client.closes().await);
        }
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_may_ask_to_go_on() {
    let backend = echo().await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client = rig.client().await;
    for n in 0..3 {
        let request = format!("GET /{n} HTTP/1.0\r\nhost: svc.default\r\nconnection: keep-alive\r\n\r\n");
        let answer = client.ask(request).await;
        assert_eq!(answer.text(), format!("GET /{n}"));
        assert_eq!(answer.field("connection").map(str::to_lowercase).as_deref(), Some("keep-alive"));
    }
    let answer = client.ask("GET /last HTTP/1.0\r\nhost: svc.default\r\n\r\n").await;
    assert_eq!(answer.text(), "GET /last");
    assert!(client.closes().await);
    rig.at_rest().await;
}

#[tokio::test]
async fn requests_sent_in_a_row_are_answered_in_a_row_through_a_cold_start() {
    let backend = echo().await;
    let rig = Rig::new(
        limits(|l| {
            l.protocol = set(Protocol::Http1);
            l.container_concurrency = set(NonZeroU32::new(1));
        }),
        &[],
    )
    .await;
    let mut client = rig.client().await;
    let row: String = (0..50)
        .map(|n| match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nhost: svc.default\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5\r\n\r\nhello"),
            _ => format!("PUT /chunked/{n} HTTP/1.1\r\nhost: svc.default\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        })
        .collect();
    client.send(row + "HEAD /head HTTP/1.1\r\nhost: svc.default\r\nconnection: close\r\n\r\n").await;
    eventually("the first waits, and only it", || rig.waiting() == 1).await;
    rig.replicas(&[backend.address]).await;
    for n in 0..50 {
        let expected = match n % 3 {
            0 => format!("GET /{n}"),
            1 => format!("POST /{n}"),
            _ => format!("PUT /chunked/{n}"),
        };
        assert_eq!(client.answer().await.text(), expected);
    }
    assert_eq!(client.bare_answer().await.status(), 200);
    assert!(client.closes().await);
    assert_eq!(backend.count(), 51);
    rig.at_rest().await;
}

/// hyper says it when the body is first read: a client that waits for it sends nothing before there is a replica.
#[tokio::test]
async fn who_asks_before_sending_is_told_to_when_there_is_a_replica() {
    let backend = Backend::new(|request| ok(request.text())).await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[]).await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    eventually("it waits", || rig.waiting() == 1).await;
    let mut nothing = [0; 1];
    assert!(client.stream.try_read(&mut nothing).is_err(), "no word before there is a replica");
    rig.replicas(&[backend.address]).await;
    assert_eq!(soon(client.head()).await.unwrap().first, "HTTP/1.1 100 Continue");
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    assert_eq!(backend.last().field("expect"), None, "it was answered here");
    rig.at_rest().await;
}

/// RFC 9110 section 10.1.1: a final answer instead of 100 saves the client the body.
#[tokio::test]
async fn who_asks_before_sending_and_is_refused_sends_nothing() {
    let rig = Rig::new(limits(|l| l.queue_depth = set(1)), &[]).await;
    let mut held = rig.client().await;
    held.send("GET / HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
    eventually("one waits", || rig.waiting() == 1).await;
    let mut client = rig.client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 5000000\r\nexpect: 100-continue\r\n\r\n")
        .await;
    let answer = soon(client.head()).await.unwrap();
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("queue_full")));
    drop((held, client));
    rig.at_rest().await;
}

#[tokio::test]
async fn other_methods_go_as_they_are() {
    let backend = echo().await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client: Wire = rig.client().await;
    for method in ["OPTIONS", "DELETE", "PATCH", "PROPFIND", "M-SEARCH", "X", "get"] {
        let answer = client.ask(format!("{method} /m HTTP/1.1\r\nhost: svc.default\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.text()), (200, format!("{method} /m").as_str()));
    }
    client.send("HEAD /m HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
    let answer = client.bare_answer().await;
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("7")));
    rig.at_rest().await;
}
