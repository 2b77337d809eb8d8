//! A replica that takes no notice of a client's leaving never runs more than it may: every way to leave, at every moment,
//! over both protocols on either side (kpa-behaviour 2, `on-disconnect`).

use crate::concurrency::{Running, limited};
use crate::h2::{client, full, request};
use crate::rig::{Backend, Rig, limits, set};
use crate::wire::{GET, Message, Wire, eventually, soon};
use bytes::Bytes;
use domain::{Limits, OnDisconnect, Protocol};
use http::Response;
use runtime::Tasks;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How an HTTP/1.1 client leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaving {
    Closed,
    Reset,
    HalfClosed,
}

impl Leaving {
    pub(crate) const ALL: [Self; 3] = [Self::Closed, Self::Reset, Self::HalfClosed];

    /// What of the client is still there afterwards.
    pub(crate) async fn leave(self, mut client: Wire) -> Option<Wire> {
        match self {
            Self::Closed => None,
            Self::Reset => {
                client.stream.set_zero_linger().unwrap();
                None
            }
            Self::HalfClosed => {
                // Whose answer has been cut off meanwhile is gone already.
                let _ = client.stream.shutdown().await;
                Some(client)
            }
        }
    }
}

/// When it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Held,
    BeforeTheHead,
    InTheAnswer,
    InItsUpload,
}

impl When {
    const ALL: [Self; 4] = [Self::Held, Self::BeforeTheHead, Self::InTheAnswer, Self::InItsUpload];

    /// Its request: to `/early` a replica gives the head of its answer at once.
    const fn request(self) -> &'static str {
        match self {
            Self::Held | Self::BeforeTheHead => GET,
            Self::InTheAnswer => "GET /early HTTP/1.1\r\nhost: svc.default\r\n\r\n",
            Self::InItsUpload => "POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 100\r\n\r\npart",
        }
    }
}

/// What a story holds of a replica.
#[derive(Clone)]
struct Stubborn {
    running: Arc<Running>,
    /// A permit ends a request.
    go: Arc<Semaphore>,
}

impl Stubborn {
    fn new() -> Self {
        Self { running: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    /// Works on a request until it is told that it is done, whatever its connection says meanwhile.
    async fn work(&self) {
        self.running.enter();
        self.go.acquire().await.unwrap().forget();
        self.running.exit();
    }
}

/// A replica of HTTP/1.1.
async fn stubborn(heart: &Stubborn) -> Backend {
    let heart = heart.clone();
    Backend::script(move |mut wire, _, backend| {
        let heart = heart.clone();
        async move {
            while let Some(head) = wire.head().await {
                let (early, uploads) = (head.target() == "/early", head.field("content-length").is_some());
                backend.note(head);
                let parts: [&[u8]; 2] = match early {
                    true => [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha", b"lf"],
                    false => [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhalf"],
                };
                let _ = wire.stream.write_all(parts[0]).await;
                heart.work().await;
                if wire.stream.write_all(parts[1]).await.is_err() || uploads {
                    return;
                }
            }
        }
    })
    .await
}

/// The first request is at the replica, its client has left: nobody else gets there before the replica is done.
async fn second_waits_for_the_first(rig: &Rig, heart: &Stubborn, count: impl Fn() -> usize, what: &str) {
    eventually("its load has fallen", || rig.in_flight() == 0).await;
    let mut second = rig.client().await;
    second.send(GET).await;
    eventually("the second waits", || rig.waiting() == 1).await;
    assert_eq!((rig.permits(), count()), (1, 1), "{what}");
    heart.go.add_permits(2);
    assert_eq!(second.answer().await.text(), "half", "{what}");
    assert_eq!((heart.running.most.load(Relaxed), count()), (1, 2), "{what}");
    rig.at_rest().await;
}

#[tokio::test]
async fn a_replica_of_http1_never_runs_two_whoever_leaves_it_and_how() {
    for on_disconnect in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        for when in When::ALL {
            for how in Leaving::ALL {
                let what = format!("{on_disconnect:?}, {when:?}, {how:?}");
                let heart = Stubborn::new();
                let backend = stubborn(&heart).await;
                let rig = Rig::new(limited(1, on_disconnect), &[backend.address]).await;
                let mut first = rig.client().await;
                first.send(when.request()).await;
                eventually("the replica has it", || backend.count() == 1).await;
                if when == When::InTheAnswer {
                    assert_eq!(soon(first.head()).await.map(|head| head.status()), Some(200), "{what}");
                }
                if when != When::Held {
                    let _rest = how.leave(first).await;
                    second_waits_for_the_first(&rig, &heart, || backend.count(), &what).await;
                    continue;
                }
                let mut held = rig.client().await;
                held.send(GET).await;
                eventually("one waits", || rig.waiting() == 1).await;
                let _rest = how.leave(held).await;
                eventually("it has left", || rig.waiting() == 0).await;
                assert_eq!((rig.in_flight(), rig.permits(), backend.count()), (1, 1, 1), "{what}");
                heart.go.add_permits(1);
                assert_eq!(first.answer().await.text(), "half", "{what}");
                rig.at_rest().await;
                assert_eq!(backend.count(), 1, "who left the queue never came to the replica: {what}");
            }
        }
    }
}

/// A client of HTTP/2 resets its stream and keeps its connection.
#[tokio::test]
async fn a_reset_stream_is_no_way_around_it() {
    for on_disconnect in [OnDisconnect::Finish, OnDisconnect::Cancel] {
        for when in When::ALL {
            let what = format!("{on_disconnect:?}, {when:?}");
            let heart = Stubborn::new();
            let backend = stubborn(&heart).await;
            let limits = Limits { protocol: set(Protocol::Http1), ..limited(1, on_disconnect) };
            let rig = Rig::new(limits, &[backend.address]).await;
            let (mut sender, _tasks) = client(rig.addresses[0]).await;
            sender.ready().await.unwrap();
            let path = if when == When::InTheAnswer { "/early" } else { "/" };
            let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
            let body = if when == When::InItsUpload { full(big) } else { full("") };
            let method = if when == When::InItsUpload { "POST" } else { "GET" };
            let mut call = Box::pin(sender.send_request(request(method, path, body)));
            assert!(futures_util::poll!(call.as_mut()).is_pending());
            eventually("the replica has it", || backend.count() == 1).await;
            match when {
                When::Held => {
                    let mut held = Box::pin(sender.send_request(request("GET", "/", full(""))));
                    assert!(futures_util::poll!(held.as_mut()).is_pending());
                    eventually("one waits", || rig.waiting() == 1).await;
                    drop(held);
                    eventually("it has left", || rig.waiting() == 0).await;
                    assert_eq!((rig.in_flight(), rig.permits(), backend.count()), (1, 1, 1), "{what}");
                    drop(call);
                }
                When::InTheAnswer => drop(soon(call).await.unwrap()),
                When::BeforeTheHead | When::InItsUpload => drop(call),
            }
            second_waits_for_the_first(&rig, &heart, || backend.count(), &what).await;
        }
    }
}

/// A replica of HTTP/2, and how many requests came to it.
async fn stubborn_h2(heart: &Stubborn) -> (SocketAddr, Arc<Running>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, heart, came) = (Tasks::new(), heart.clone(), Arc::<Running>::default());
    let count = Arc::clone(&came);
    tasks.clone().spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tasks, heart, count) = (tasks.clone(), heart.clone(), Arc::clone(&count));
            tasks.clone().spawn("backend connection", async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    count.enter();
                    let heart = heart.clone();
                    tasks.spawn("backend stream", async move {
                        let mut early = None;
                        if request.uri().path() == "/early" {
                            early = respond.send_response(Response::new(()), false).ok();
                        }
                        heart.work().await;
                        let body = early.or_else(|| respond.send_response(Response::new(()), false).ok());
                        if let Some(mut body) = body {
                            let _ = body.send_data(Bytes::from("half"), true);
                        }
                    });
                }
            });
        }
    });
    (address, came)
}

#[tokio::test]
async fn a_replica_of_http2_never_runs_two_where_answers_are_finished() {
    for when in [When::BeforeTheHead, When::InTheAnswer] {
        for how in Leaving::ALL {
            let what = format!("{when:?}, {how:?}");
            let heart = Stubborn::new();
            let (address, came) = stubborn_h2(&heart).await;
            let limits = Limits { protocol: set(Protocol::H2c), ..limited(1, OnDisconnect::Finish) };
            let rig = Rig::new(limits, &[address]).await;
            let count = || came.most.load(Relaxed) as usize;
            let mut first = rig.client().await;
            first.send(when.request()).await;
            eventually("the replica has it", || count() == 1).await;
            if when == When::InTheAnswer {
                assert_eq!(soon(first.head()).await.map(|head| head.status()), Some(200), "{what}");
            }
            let _rest = how.leave(first).await;
            second_waits_for_the_first(&rig, &heart, count, &what).await;
        }
    }
}

/// Nothing in HTTP/2 tells when a replica has taken notice of a reset: the slot is free at once, and that it runs one at a
/// time is then the replica's own promise.
#[tokio::test]
async fn over_http2_cancel_resets_the_stream_and_the_slot_is_free() {
    let heart = Stubborn::new();
    let (address, came) = stubborn_h2(&heart).await;
    let limits = limits(|l| {
        l.container_concurrency = set(NonZeroU32::new(1));
        l.on_disconnect = set(OnDisconnect::Cancel);
        l.protocol = set(Protocol::H2c);
    });
    let rig = Rig::new(limits, &[address]).await;
    let mut first = rig.client().await;
    first.send(GET).await;
    eventually("the replica has it", || came.most.load(Relaxed) == 1).await;
    drop(first);
    rig.at_rest().await;
    heart.go.add_permits(2);
    let answer: Message = rig.client().await.ask(GET).await;
    assert_eq!(answer.text(), "half");
}
