//! Server-sent events: each reaches the client when the replica has said it, and not with the next.

use crate::h2::{self, Sent};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{Wire, eventually, soon};
use bytes::Bytes;
use domain::Protocol;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

const EVENTS: [&str; 4] = ["data: one\n\n", "id: 2\ndata: two ü\n\n", ": a comment\n\n", "data: [DONE]\n\n"];

/// What the test wants said next.
type Say = mpsc::Sender<&'static str>;

/// A replica that says what it is told when it is told; over HTTP/1.1 in chunks.
async fn replica() -> (SocketAddr, Say) {
    let (say, told) = mpsc::channel::<&'static str>(1);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let backend = Backend::script(move |mut wire: Wire, _, _| {
        let told = Arc::clone(&told);
        async move {
            while wire.request().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await;
                let mut told = told.lock().await;
                while let Some(event) = told.recv().await {
                    wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
                }
                wire.send("0\r\n\r\n").await;
            }
        }
    })
    .await;
    (backend.address, say)
}

/// The same over HTTP/2.
async fn h2_replica() -> (SocketAddr, Say) {
    let (say, told) = mpsc::channel::<&'static str>(1);
    let told = Mutex::new(Some(told));
    let backend = h2::h2_backend(move |_| {
        let told = told.lock().take().expect("one request");
        let events = stream::unfold(told, async |mut told| {
            let event: &'static str = told.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(event.as_bytes()))), told))
        });
        let body: Sent = StreamBody::new(events).boxed();
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    })
    .await;
    (backend.address, say)
}

#[tokio::test]
async fn each_event_arrives_by_itself_through_a_cold_start() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let (address, say) = if protocol == Protocol::H2c { h2_replica().await } else { replica().await };
        let rig = Rig::new(limits(|l| l.protocol = set(protocol)), &[]).await;
        let mut client = rig.client().await;
        client.send("GET /events HTTP/1.1\r\nhost: svc.default\r\naccept: text/event-stream\r\n\r\n").await;
        eventually("it waits", || rig.waiting() == 1).await;
        rig.replicas(&[address]).await;
        // The head comes before the first event is said.
        let head = soon(client.head()).await.unwrap();
        assert_eq!((head.status(), head.field("content-type")), (200, Some("text/event-stream")));
        for event in EVENTS {
            say.send(event).await.unwrap();
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            assert_eq!(soon(client.take(chunk.len())).await, chunk.as_bytes(), "{protocol:?}");
        }
        assert_eq!(rig.in_flight(), 1, "an open stream is one request");
        drop(say);
        assert_eq!(soon(client.take(5)).await, b"0\r\n\r\n");
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn each_event_arrives_by_itself_over_http2() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let (address, say) = if protocol == Protocol::H2c { h2_replica().await } else { replica().await };
        let rig = Rig::new(limits(|l| l.protocol = set(protocol)), &[address]).await;
        let (mut client, _tasks) = h2::client(rig.addresses[0]).await;
        let mut answer = h2::ask(&mut client, h2::request("GET", "/events", h2::full(""))).await;
        for event in EVENTS {
            say.send(event).await.unwrap();
            let frame = soon(answer.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event, "{protocol:?}");
        }
        drop(say);
        assert!(soon(answer.frame()).await.is_none_or(|frame| frame.unwrap().into_data().unwrap().is_empty()));
        rig.at_rest().await;
    }
}

/// A reader that stops reading an endless stream holds one request and bounded memory; when it goes, the replica hears.
#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_it_at_the_replica() {
    let (gone, mut heard) = mpsc::channel(1);
    let backend = Backend::script(move |mut wire: Wire, _, _| {
        let gone = gone.clone();
        async move {
            while wire.request().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n").await;
                let rest = wire.rest().await;
                gone.send(rest.is_empty()).await.unwrap();
            }
        }
    })
    .await;
    let rig = Rig::new(limits(|l| l.protocol = set(Protocol::Http1)), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send("GET /events HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
    assert_eq!(soon(client.head()).await.unwrap().status(), 200);
    assert_eq!(soon(client.take(11)).await, b"6\r\nfirst\n\r\n");
    drop(client);
    assert_eq!(soon(heard.recv()).await, Some(true), "its connection closes without another word");
    rig.at_rest().await;
}
