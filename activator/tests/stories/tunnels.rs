//! Connections that become tunnels.

use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{eventually, soon};
use domain::Limits;
use std::num::NonZeroU32;

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nhost: svc.default\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";

async fn agreeing_to(protocol: &'static str) -> Backend {
    Backend::script(move |mut wire, _, backend| async move {
        let Some(request) = wire.request().await else { return };
        backend.note(request);
        wire.send(format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"))
            .await;
        loop {
            let bytes = wire.take(4).await;
            if bytes.is_empty() {
                return;
            }
            wire.send(bytes).await;
        }
    })
    .await
}

#[tokio::test]
async fn bytes_go_both_ways_and_count_as_a_request_until_the_end() {
    for cc in [None, NonZeroU32::new(1)] {
        let backend = agreeing_to("WebSocket").await;
        let rig = Rig::new(limits(|l| l.container_concurrency = set(cc)), &[backend.address]).await;
        let mut client = rig.client().await;
        let answer = client.ask(UPGRADE).await;
        assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("WebSocket")));
        assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
        let seen = backend.last();
        assert_eq!((seen.field("upgrade"), seen.field("connection")), (Some("websocket"), Some("upgrade")));
        for word in ["ping", "pong"] {
            client.send(word).await;
            assert_eq!(soon(client.take(4)).await, word.as_bytes());
        }
        assert_eq!((rig.in_flight(), rig.permits()), (1, 1));
        drop(client);
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn another_protocol_than_was_asked_for_is_502() {
    let backend = agreeing_to("h2c").await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let answer = rig.client().await.ask(UPGRADE).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (502, Some("broken")));
    rig.at_rest().await;
}

#[tokio::test]
async fn a_replica_may_decline() {
    let backend =
        Backend::new(|_| b"HTTP/1.1 200 OK\r\nkeep-alive: x\r\ncontent-length: 5\r\n\r\nplain".to_vec()).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        let answer = client.ask(UPGRADE).await;
        assert_eq!((answer.status(), answer.text(), answer.field("keep-alive")), (200, "plain", None));
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn a_tunnel_waits_for_a_start_too() {
    let backend = agreeing_to("websocket").await;
    let rig = Rig::new(Limits::default(), &[]).await;
    let mut client = rig.client().await;
    client.send(UPGRADE).await;
    eventually("it waits", || rig.waiting() == 1).await;
    rig.replicas(&[backend.address]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("x-kpa-cold")), (101, Some("true")));
    client.send("ping").await;
    assert_eq!(soon(client.take(4)).await, b"ping");
}

/// A tunnel is refused by one replica and opened by the next, as any request would be.
#[tokio::test]
async fn a_replica_that_refuses_is_passed_over() {
    let backend = agreeing_to("websocket").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let rig = Rig::new(Limits::default(), &[socket.local_addr().unwrap(), backend.address]).await;
    for _ in 0..4 {
        assert_eq!(rig.client().await.ask(UPGRADE).await.status(), 101);
    }
}
