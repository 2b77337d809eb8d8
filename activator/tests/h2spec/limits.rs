//! Limits that a client of HTTP/2 meets by being slow, and replicas of HTTP/2 that reset what they were asked.

use crate::case::{others_are_served, rig};
use crate::frames::*;
use crate::rig::{Rig, limits, set};
use crate::wire::{GET, eventually, soon};
use activator::Settings;
use activator::bounds::{Limit, Stock};
use domain::{Limits, Protocol};
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
