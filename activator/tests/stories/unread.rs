//! Clients of HTTP/1.1 that ask and do not take what they asked for, or take it slowly.

use crate::pki::{Authority, Visitor};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Wire, eventually, ok, soon};
use activator::Settings;
use activator::bounds::Limit;
use activator::tls::server::Server;
use domain::Limits;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const SHORT: Duration = Duration::from_millis(200);
const LONG: &str = "GET /long HTTP/1.1\r\nhost: svc.default\r\n\r\n";

/// A replica whose answer under `/long` has no end, and whose answer under `/much` is 32 MiB; all others are five bytes.
async fn endless() -> Backend {
    Backend::script(|mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            let target = request.target().to_owned();
            backend.note(request);
            if target == "/long" {
                wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                let chunk = [b"400\r\n", &[b'x'; 1024][..], b"\r\n"].concat();
                while wire.stream.write_all(&chunk).await.is_ok() {}
                return;
            }
            if target == "/much" {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n").await;
                drop(wire.stream.write_all(&vec![b'x'; 32 << 20]).await);
                continue;
            }
            wire.send(ok("hello")).await;
        }
    })
    .await
}

/// A client whose kernel takes little for it.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

async fn others_are_served(rig: &Rig) {
    assert_eq!(rig.client().await.ask(GET).await.text(), "hello");
}

/// The client gets what its kernel and ours held, and then the end of the connection, before the end of the answer.
async fn is_cut_off(mut client: Wire) {
    let rest = client.rest().await;
    assert!(rest.starts_with(b"HTTP/1.1 200") && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
}

#[tokio::test]
async fn an_answer_that_its_client_does_not_take_ends_with_the_idle_timeout() {
    let backend = endless().await;
    let rig = Rig::new(limits(|l| l.idle_timeout = set(Some(SHORT))), &[backend.address]).await;
    let mut client = Wire::new(narrow(rig.addresses[0]));
    client.send(LONG).await;
    eventually("it is under way", || rig.in_flight() == 1).await;
    others_are_served(&rig).await;
    eventually("it is given up", || rig.refused(Limit::SlowBody) == 1).await;
    others_are_served(&rig).await;
    rig.at_rest().await;
    is_cut_off(client).await;
}

#[tokio::test]
async fn the_clock_over_the_whole_runs_on_while_nothing_is_taken() {
    let backend = endless().await;
    let rig = Rig::new(limits(|l| l.timeout = set(Some(SHORT))), &[backend.address]).await;
    let mut client = Wire::new(narrow(rig.addresses[0]));
    client.send(LONG).await;
    eventually("it is under way", || rig.in_flight() == 1).await;
    rig.at_rest().await;
    assert_eq!(rig.refused(Limit::SlowBody), 0, "that is no silence of the client's");
    others_are_served(&rig).await;
    is_cut_off(client).await;
}

/// Without clocks of its own, too, nobody keeps a replica for an answer that is not taken.
#[tokio::test]
async fn without_clocks_it_ends_with_the_keep_alive_time() {
    let backend = endless().await;
    let settings = Settings { keep_alive: 2 * SHORT, ..Settings::default() };
    let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
    let mut client = Wire::new(narrow(rig.addresses[0]));
    client.send(LONG).await;
    eventually("it is under way", || rig.in_flight() == 1).await;
    others_are_served(&rig).await;
    eventually("it is given up", || rig.refused(Limit::SlowBody) == 1).await;
    rig.at_rest().await;
    others_are_served(&rig).await;
    is_cut_off(client).await;
}

/// The kernel says that there is room only when a third of its buffer is free, which a slow client takes long to read.
async fn takes_a_little_again_and_again<S: AsyncRead + AsyncWrite + Unpin>(rig: &Rig, mut client: Wire<S>) {
    client.send("GET /much HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
    soon(client.head()).await.unwrap();
    let began = Instant::now();
    let mut taken = 0;
    while began.elapsed() < 12 * SHORT {
        taken += client.take(16 * 1024).await.len();
        let at = Instant::now();
        eventually("some time passes", || at.elapsed() > SHORT / 8).await;
    }
    assert!(taken < 4 << 20, "{taken} bytes are no slow client's");
    assert_eq!((rig.in_flight(), rig.refused(Limit::SlowBody)), (1, 0));
    // All of it arrives.
    soon(client.take((32 << 20) - taken)).await;
    assert_eq!(client.ask(GET).await.text(), "hello");
    drop(client);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_client_that_takes_a_little_again_and_again_is_not_silent() {
    let backend = endless().await;
    let rig = Rig::new(limits(|l| l.idle_timeout = set(Some(3 * SHORT))), &[backend.address]).await;
    takes_a_little_again_and_again(&rig, Wire::new(narrow(rig.addresses[0]))).await;
}

#[tokio::test]
async fn nor_is_it_behind_tls() {
    let (backend, authority) = (endless().await, Authority::new());
    let server = Arc::new(Server::new(authority.sign(&["svc.default"]).credentials()));
    let limits = limits(|l| l.idle_timeout = set(Some(3 * SHORT)));
    let rig = Rig::secured(Settings::default(), limits, &[backend.address], server).await;
    let stream = Visitor::default().visit_over(&authority, narrow(rig.secure[0])).await.unwrap();
    takes_a_little_again_and_again(&rig, Wire::over(stream)).await;
}
