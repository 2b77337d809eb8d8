//! WebSocket (RFC 6455) over HTTP/1.1, with tungstenite on both sides.

use crate::rig::{Rig, limits};
use crate::wire::{eventually, soon};
use futures_util::{SinkExt, StreamExt};
use http::header::{CONTENT_LENGTH, HeaderValue};
use runtime::Tasks;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame, coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async, client_async};

/// A replica that sends every message back, and closes with a reason of its own when it is told "bye".
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
    tasks.clone().spawn("WebSocket server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn("WebSocket connection", converse(stream));
        }
    });
    address
}

#[expect(clippy::result_large_err, reason = "the library's own type")]
fn judge(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() != "/secret" {
        return Ok(response);
    }
    let mut refused = ErrorResponse::new(Some("not for you".to_owned()));
    *refused.status_mut() = http::StatusCode::FORBIDDEN;
    // The client of this library reads no chunks.
    refused.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("11"));
    Err(refused)
}

async fn converse(stream: TcpStream) {
    let Ok(mut socket) = accept_hdr_async(stream, judge).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && message.to_text().is_ok_and(|text| text == "bye") {
            let farewell = CloseFrame { code: CloseCode::Library(4000), reason: "you said so".into() };
            let _ = socket.close(Some(farewell)).await;
        } else if message.is_text() || message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

async fn open(rig: &Rig, path: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = TcpStream::connect(rig.addresses[0]).await.unwrap();
    client_async(format!("ws://svc.default{path}"), stream).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    soon(socket.next()).await.expect("it goes on").unwrap()
}

#[tokio::test]
async fn a_conversation_begins_at_zero_and_counts_until_it_ends() {
    let rig = Rig::new(limits(|_| {}), &[]).await;
    let start = async {
        eventually("it waits", || rig.waiting() == 1).await;
        rig.replicas(&[echo().await]).await;
    };
    let (socket, ()) = soon(async { tokio::join!(open(&rig, "/ws"), start) }).await;
    let mut socket = socket.unwrap();
    // Sent at once after the handshake, text and binary, and one message larger than any buffer on the way.
    let messages = [
        Message::text("hello ü"),
        Message::binary(vec![0, 1, 254, 255]),
        Message::text(""),
        Message::binary((0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>()),
    ];
    let (mut write, mut read) = socket.split();
    let send = async {
        for message in &messages {
            write.send(message.clone()).await.unwrap();
        }
    };
    let receive = async {
        for message in &messages {
            assert_eq!(read.next().await.unwrap().unwrap(), *message);
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
    socket = write.reunite(read).unwrap();
    assert_eq!((rig.in_flight(), rig.permits()), (1, 1), "a conversation is one request");

    socket.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("are you there".into()));

    // One message in three frames, with a ping between them, as the protocol allows.
    let part = |text: &'static str, opcode, last| Message::Frame(Frame::message(text, OpCode::Data(opcode), last));
    for frame in [
        part("in ", Data::Text, false),
        part("three ", Data::Continue, false),
        Message::Ping("between".into()),
        part("parts", Data::Continue, true),
    ] {
        socket.send(frame).await.unwrap();
    }
    assert_eq!(next(&mut socket).await, Message::Pong("between".into()));
    assert_eq!(next(&mut socket).await, Message::text("in three parts"));

    socket.send(Message::text("bye")).await.unwrap();
    let farewell = CloseFrame { code: CloseCode::Library(4000), reason: "you said so".into() };
    assert_eq!(next(&mut socket).await, Message::Close(Some(farewell)));
    assert!(soon(socket.next()).await.is_none(), "and both sides are done");
    // Though the client, for one, keeps its side open.
    rig.at_rest().await;
    drop(socket);
}

#[tokio::test]
async fn a_client_closes_with_its_own_reason_or_without_a_word() {
    let rig = Rig::new(limits(|_| {}), &[echo().await]).await;
    let mut polite = open(&rig, "/").await.unwrap();
    let farewell = CloseFrame { code: CloseCode::Away, reason: "going".into() };
    polite.close(Some(farewell.clone())).await.unwrap();
    assert_eq!(next(&mut polite).await, Message::Close(Some(farewell)), "echoed by the replica");
    rig.at_rest().await;
    let rude = open(&rig, "/").await.unwrap();
    assert_eq!(rig.in_flight(), 1);
    drop(rude);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_replica_that_refuses_is_heard() {
    let rig = Rig::new(limits(|_| {}), &[echo().await]).await;
    match soon(open(&rig, "/secret")).await {
        Err(Error::Http(answer)) => {
            assert_eq!(answer.status(), http::StatusCode::FORBIDDEN);
            assert_eq!(answer.body().as_deref(), Some(b"not for you".as_slice()));
        }
        other => panic!("it was let in: {other:?}"),
    }
    rig.at_rest().await;
}
