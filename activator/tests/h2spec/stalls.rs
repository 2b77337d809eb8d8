//! Clients that ask and do not take what they asked for.

use crate::case::{others_are_served, rig};
use crate::frames::*;
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{eventually, soon};
use activator::Settings;
use activator::bounds::Limit;
use activator::connection::H2_STREAMS_MAX;
use activator::upstream::h2::STREAM_WINDOW;
use domain::{Limits, Protocol};
use http::Response;
use runtime::Tasks;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::io::InspectWriter;

const SHORT: Duration = Duration::from_millis(200);

/// A replica whose answer under `/long` has no end; all others are five bytes.
async fn endless() -> Backend {
    Backend::script(|mut wire, _, backend| async move {
        use tokio::io::AsyncWriteExt;
        while let Some(request) = wire.request().await {
            let long = request.target() == "/long";
            backend.note(request);
            if !long {
                wire.send(crate::wire::ok("hello")).await;
                continue;
            }
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while wire.stream.write_all(b"400\r\n").await.is_ok() {
                let chunk = [&[b'x'; 1024][..], b"\r\n"].concat();
                if wire.stream.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            return;
        }
    })
    .await
}

/// Settings for replicas of HTTP/1.1.
fn http1(change: impl FnOnce(&mut Limits)) -> Limits {
    limits(|l| {
        l.protocol = set(Protocol::Http1);
        change(l);
    })
}

#[tokio::test]
async fn an_answer_that_its_client_has_no_window_for_ends_with_the_idle_timeout() {
    let backend = endless().await;
    let rig = Rig::new(http1(|l| l.idle_timeout = set(Some(SHORT))), &[backend.address]).await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 0)]).await;
    client.send(get(1, "/long")).await;
    let reset = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    assert_eq!(rig.refused(Limit::SlowBody), 1);
    others_are_served(&rig).await;
    rig.at_rest().await;
}

#[tokio::test]
async fn the_clock_over_the_whole_runs_on_while_the_client_has_no_window() {
    let backend = endless().await;
    let rig = Rig::new(http1(|l| l.timeout = set(Some(SHORT))), &[backend.address]).await;
    let mut client = Client::new(rig.addresses[0]).await;
    client.send(get(1, "/long")).await;
    let reset = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    assert_eq!(rig.refused(Limit::SlowBody), 0, "that is no silence of the client's");
    others_are_served(&rig).await;
    rig.at_rest().await;
}

/// A byte now and then is slow, not silent.
#[tokio::test]
async fn a_client_that_makes_a_little_room_again_and_again_is_not_silent() {
    let backend = endless().await;
    let rig = Rig::new(http1(|l| l.idle_timeout = set(Some(4 * SHORT))), &[backend.address]).await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 1)]).await;
    client.send(get(1, "/long")).await;
    let began = Instant::now();
    while began.elapsed() < 8 * SHORT {
        let came = client.until(|frame| matches!(frame.kind, DATA | RST_STREAM)).await;
        assert_eq!((came.kind, came.payload.len()), (DATA, 1));
        let at = Instant::now();
        eventually("some time passes", || at.elapsed() > SHORT / 4).await;
        client.send(window_update(1, 1)).await;
    }
    drop(client);
    rig.at_rest().await;
}

/// Streams whose replica has long been done cost no slot, but what they were answered with is kept; not for ever.
#[tokio::test]
async fn answers_that_nobody_comes_for_are_given_up_after_the_keep_alive_time() {
    let backend = endless().await;
    let settings = Settings { keep_alive: 2 * SHORT, ..Settings::default() };
    let rig = Rig::with(settings, http1(|_| {}), &[backend.address]).await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let many: Vec<u8> = (0..H2_STREAMS_MAX).flat_map(|n| get(2 * n + 1, "/")).collect();
    client.send(many).await;
    eventually("all were answered", || backend.count() == H2_STREAMS_MAX as usize).await;
    rig.at_rest().await;
    others_are_served(&rig).await;
    for _ in 0..H2_STREAMS_MAX {
        assert_eq!(client.until(|frame| frame.kind == RST_STREAM).await.code(), CANCEL);
    }
    assert_eq!(rig.refused(Limit::SlowBody), u64::from(H2_STREAMS_MAX));
    let _ = soon(client.ends()).await;
    others_are_served(&rig).await;
}

/// Without clocks of its own, too, nobody keeps a replica for an answer that is not taken.
#[tokio::test]
async fn without_clocks_an_answer_that_is_not_taken_ends_with_the_keep_alive_time() {
    let backend = endless().await;
    let settings = Settings { keep_alive: 2 * SHORT, ..Settings::default() };
    let rig = Rig::with(settings, http1(|_| {}), &[backend.address]).await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 0)]).await;
    client.send(get(1, "/long")).await;
    let reset = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!((reset.stream, reset.code(), rig.refused(Limit::SlowBody)), (1, CANCEL, 1));
    others_are_served(&rig).await;
    rig.at_rest().await;
}

#[tokio::test]
async fn one_answer_without_a_window_leaves_others_alone() {
    let (rig, _backend) = rig().await;
    let backend = endless().await;
    rig.replicas(&[backend.address]).await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 0)]).await;
    client.send(get(1, "/long")).await;
    client.until(|frame| frame.kind == HEADERS).await;
    others_are_served(&rig).await;
    client.send(reset(1)).await;
    rig.at_rest().await;
}

/// A replica of HTTP/2 whose answer under `/long` has no end and comes in frames of `size` bytes, and how many bytes it has
/// written in all. All others are five bytes.
async fn endless_streams(size: usize) -> (SocketAddr, Arc<AtomicU64>, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks, written) = (listener.local_addr().unwrap(), Tasks::new(), Arc::<AtomicU64>::default());
    let (streams, counter) = (tasks.clone(), Arc::clone(&written));
    tasks.spawn("replica", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tasks, counter) = (streams.clone(), Arc::clone(&counter));
            let stream = InspectWriter::new(stream, move |bytes| {
                counter.fetch_add(bytes.len() as u64, Relaxed);
            });
            streams.spawn("connection", async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    if request.uri().path() == "/" {
                        body.send_data("hello".into(), true).unwrap();
                        continue;
                    }
                    tasks.spawn("stream", async move {
                        loop {
                            body.reserve_capacity(size);
                            let Some(Ok(room)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return };
                            if body.send_data(vec![b'x'; room.min(size)].into(), false).is_err() {
                                return;
                            }
                        }
                    });
                }
            });
        }
    });
    (address, written, tasks)
}

/// Clients that take nothing of long answers, whole or token by token, share a replica's connection with all others.
#[tokio::test]
async fn answers_that_nobody_takes_leave_the_rest_of_their_replicas_connection_alone() {
    const STREAMS: u32 = 40;
    for size in [16 * 1024, 50] {
        let (address, written, _tasks) = endless_streams(size).await;
        let rig = Rig::new(limits(|l| l.protocol = set(Protocol::H2c)), &[address]).await;
        let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 0)]).await;
        client.send((0..STREAMS).flat_map(|n| get(2 * n + 1, "/long")).collect::<Vec<_>>()).await;
        let full = u64::from(STREAMS) * u64::from(STREAM_WINDOW);
        eventually("their windows are full", || written.load(Relaxed) >= full).await;
        // Its answer comes behind all that.
        others_are_served(&rig).await;
        assert_eq!(rig.in_flight(), STREAMS, "none was broken off");
        drop(client);
        rig.at_rest().await;
    }
}
