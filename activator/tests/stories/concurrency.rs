//! `container-concurrency` is a promise to the replica, also when clients leave early (engineering notes on
//! `on-disconnect`).

use crate::disconnects::Leaving;
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok, soon};
use activator::Settings;
use activator::upstream::exchange::ABORT_GRACE;
use domain::{Change, Limits, OnDisconnect};
use runtime::net::Tcp;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;

pub(crate) fn limited(cc: u32, on_disconnect: OnDisconnect) -> Limits {
    limits(|l| {
        l.container_concurrency = set(NonZeroU32::new(cc));
        l.on_disconnect = set(on_disconnect);
    })
}

/// Counts what runs at once, and the most that ever did.
#[derive(Default)]
pub(crate) struct Running {
    now: AtomicU32,
    pub(crate) most: AtomicU32,
}

impl Running {
    pub(crate) fn enter(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.most.fetch_max(now, Relaxed);
    }

    pub(crate) fn exit(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

/// A replica that works on after its client has left, as model servers do, and counts.
async fn worker(running: Arc<Running>) -> Backend {
    Backend::script(move |mut wire, _, backend| {
        let running = Arc::clone(&running);
        async move {
            use tokio::io::AsyncWriteExt;
            while let Some(request) = wire.request().await {
                running.enter();
                tokio::time::sleep(Duration::from_millis(3)).await;
                let _ = wire.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
                tokio::time::sleep(Duration::from_millis(3)).await;
                running.exit();
                backend.note(request);
                if wire.stream.write_all(b"lf").await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A server without threads serves a connection to its end: an idle one of ours, of whichever worker, would keep it from
/// every other.
#[tokio::test]
async fn no_replica_has_more_connections_than_it_may_run_requests() {
    for cc in [1, 2] {
        let threads = Arc::new(Semaphore::new(cc as usize));
        let backend = Backend::script(move |mut wire, _, backend| {
            let threads = Arc::clone(&threads);
            async move {
                let _thread = threads.acquire().await;
                while let Some(request) = wire.request().await {
                    backend.note(request);
                    wire.send(ok("hi")).await;
                }
            }
        })
        .await;
        let rig = Rig::bare(Settings::default(), 2, Tcp).await;
        let mut limits = limited(cc, OnDisconnect::Finish);
        limits.upstream_idle_timeout = set(Duration::from_secs(3600));
        rig.apply(&svc(), limits).await;
        rig.tell(Change::Synced).await;
        rig.replicas(&[backend.address]).await;
        for round in 0..6 {
            let mut clients = Vec::new();
            for _ in 0..cc {
                let mut client = Wire::connect(rig.addresses[round % 2]).await;
                client.send(GET).await;
                clients.push(client);
            }
            for mut client in clients {
                assert_eq!(client.answer().await.status(), 200, "limit {cc}, round {round}");
            }
        }
        rig.at_rest().await;
    }
}

#[tokio::test]
async fn a_replica_never_runs_more_than_it_may_whoever_leaves() {
    for (cc, on_disconnect) in
        [1, 3].into_iter().flat_map(|cc| [OnDisconnect::Finish, OnDisconnect::Cancel].map(|how| (cc, how)))
    {
        let running = Arc::<Running>::default();
        let backend = worker(Arc::clone(&running)).await;
        let rig = Rig::bare(Settings::default(), 2, Tcp).await;
        rig.apply(&svc(), limited(cc, on_disconnect)).await;
        rig.tell(Change::Synced).await;
        rig.replicas(&[backend.address]).await;
        let (left, answered) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let clients = (0..50).map(|n| {
            let (address, left, answered) = (rig.addresses[n % 2], Arc::clone(&left), Arc::clone(&answered));
            async move {
                for round in 0..4 {
                    let mut client = Wire::connect(address).await;
                    client.send(GET).await;
                    if (n + round) % 3 == 0 {
                        // Some leave while they wait, some half way through their answer.
                        let _ = tokio::time::timeout(Duration::from_millis(n as u64 * 2), client.head()).await;
                        left.fetch_add(1, Relaxed);
                        drop(Leaving::ALL[(n + round) / 3 % 3].leave(client).await);
                    } else {
                        assert_eq!(client.answer().await.text(), "half");
                        answered.fetch_add(1, Relaxed);
                    }
                }
            }
        });
        futures_util::future::join_all(clients).await;
        rig.at_rest().await;
        assert!(running.most.load(Relaxed) <= cc, "{} ran at once, {cc} may", running.most.load(Relaxed));
        assert_eq!(running.most.load(Relaxed), cc, "room was used");
        assert!(left.load(Relaxed) > 50 && answered.load(Relaxed) > 100);
    }
}

/// A replica that takes a request, says half of its answer, and the other half when it is told to.
async fn stepwise(go: Arc<Semaphore>) -> Backend {
    Backend::script(move |mut wire, _, backend| {
        let go = Arc::clone(&go);
        async move {
            while let Some(request) = wire.request().await {
                backend.note(request);
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
                go.acquire().await.unwrap().forget();
                wire.send("lf").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn finish_reads_the_answer_to_its_end_before_the_slot_falls() {
    let go = Arc::new(Semaphore::new(0));
    let backend = stepwise(Arc::clone(&go)).await;
    let rig = Rig::new(limited(1, OnDisconnect::Finish), &[backend.address]).await;
    let mut first = rig.client().await;
    first.send(GET).await;
    soon(first.head()).await.unwrap();
    drop(first);
    eventually("the load falls at once", || rig.in_flight() == 0).await;
    assert_eq!(rig.permits(), 1, "the slot does not");
    let mut second = rig.client().await;
    second.send(GET).await;
    eventually("the next one waits", || rig.waiting() == 1).await;
    assert_eq!(backend.count(), 1);
    go.add_permits(2);
    assert_eq!(second.answer().await.text(), "half");
    assert_eq!(backend.accepted.load(Relaxed), 1, "the connection was whole and went back");
    rig.at_rest().await;
}

#[tokio::test]
async fn finish_holds_before_the_head_too() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let backend = Backend::script(move |mut wire, _, backend| {
        let gate = Arc::clone(&gate);
        async move {
            while let Some(request) = wire.request().await {
                backend.note(request);
                gate.acquire().await.unwrap().forget();
                wire.send(ok("")).await;
            }
        }
    })
    .await;
    let rig = Rig::new(limited(1, OnDisconnect::Finish), &[backend.address]).await;
    let mut first = rig.client().await;
    first.send(GET).await;
    eventually("the replica has it", || backend.count() == 1).await;
    drop(first);
    eventually("the load falls at once", || rig.in_flight() == 0).await;
    let mut second = rig.client().await;
    second.send(GET).await;
    eventually("the next one waits", || rig.waiting() == 1).await;
    assert_eq!((rig.permits(), backend.count()), (1, 1));
    go.add_permits(2);
    assert_eq!(second.answer().await.status(), 200);
    rig.at_rest().await;
}

#[tokio::test]
async fn cancel_frees_the_slot_when_the_replica_closes() {
    let close = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&close);
    let backend = Backend::script(move |mut wire, number, backend| {
        let gate = Arc::clone(&gate);
        async move {
            while let Some(request) = wire.request().await {
                backend.note(request);
                if number == 0 {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
                    wire.rest().await; // It sees the half-close,
                    gate.acquire().await.unwrap().forget(); // and takes its time.
                    return;
                }
                wire.send(ok("")).await;
            }
        }
    })
    .await;
    let rig = Rig::new(limited(1, OnDisconnect::Cancel), &[backend.address]).await;
    let mut first = rig.client().await;
    first.send(GET).await;
    soon(first.head()).await.unwrap();
    drop(first);
    eventually("the load falls at once", || rig.in_flight() == 0).await;
    let mut second = rig.client().await;
    second.send(GET).await;
    eventually("the next one waits", || rig.waiting() == 1).await;
    assert_eq!(rig.permits(), 1);
    close.add_permits(1);
    assert_eq!(second.answer().await.status(), 200);
    rig.at_rest().await;
}

#[tokio::test]
async fn cancel_waits_no_longer_than_the_grace() {
    let backend = Backend::script(|mut wire, number, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
            if number == 0 {
                wire.rest().await;
                std::future::pending::<()>().await;
            }
            wire.send(ok("")).await;
        }
    })
    .await;
    let rig = Rig::new(limited(1, OnDisconnect::Cancel), &[backend.address]).await;
    let mut first = rig.client().await;
    first.send(GET).await;
    eventually("the replica has it", || backend.count() == 1).await;
    drop(first);
    let left = tokio::time::Instant::now();
    let mut second = rig.client().await;
    assert_eq!(second.ask(GET).await.status(), 200);
    let took = left.elapsed();
    assert!(took > Duration::from_millis(4500) && took < Duration::from_millis(7000), "{took:?}");
    rig.at_rest().await;
}

/// A handler that never reads its body does not learn that the rest of it will not come.
#[tokio::test]
async fn finish_waits_for_the_replica_when_an_upload_was_cut_off() {
    let done = Arc::new(Semaphore::new(0));
    let go = Arc::clone(&done);
    let backend = Backend::script(move |mut wire, number, _| {
        let go = Arc::clone(&go);
        async move {
            if number == 0 {
                go.acquire().await.unwrap().forget();
                return;
            }
            while wire.request().await.is_some() {
                wire.send(ok("next")).await;
            }
        }
    })
    .await;
    let rig = Rig::new(limited(1, OnDisconnect::Finish), &[backend.address]).await;
    let mut first = rig.client().await;
    first.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 100\r\n\r\npart").await;
    eventually("it is at the replica", || backend.accepted.load(Relaxed) == 1).await;
    drop(first);
    eventually("its load has fallen", || rig.in_flight() == 0).await;
    let mut second = rig.client().await;
    second.send(GET).await;
    let left = tokio::time::Instant::now();
    let longer = ABORT_GRACE + Duration::from_millis(500);
    eventually("more than what cancel waits has passed", || left.elapsed() > longer).await;
    assert_eq!((rig.waiting(), rig.permits(), backend.accepted.load(Relaxed)), (1, 1, 1));
    done.add_permits(1);
    assert_eq!(second.answer().await.text(), "next");
    rig.at_rest().await;
}

/// A body that breaks off ends our side at once; the replica learns of it when it next reads, and is busy until then.
#[tokio::test]
async fn a_client_that_leaves_in_its_body_frees_the_slot_when_the_replica_closes() {
    let early = [false, true];
    for (on_disconnect, early) in
        [OnDisconnect::Finish, OnDisconnect::Cancel].into_iter().flat_map(|how| early.map(|early| (how, early)))
    {
        let closes = Arc::new(Semaphore::new(0));
        let go = Arc::clone(&closes);
        let backend = Backend::script(move |mut wire, number, _| {
            let go = Arc::clone(&go);
            async move {
                if number == 0 {
                    if early {
                        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
                    }
                    go.acquire().await.unwrap().forget();
                    return;
                }
                while wire.request().await.is_some() {
                    wire.send(ok("next")).await;
                }
            }
        })
        .await;
        let rig = Rig::new(limited(1, on_disconnect), &[backend.address]).await;
        let mut first = rig.client().await;
        first.send("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 100\r\n\r\npart").await;
        eventually("it is at the replica", || backend.accepted.load(Relaxed) == 1).await;
        if early {
            soon(first.head()).await.unwrap();
        }
        drop(first);
        eventually("its load has fallen", || rig.in_flight() == 0).await;
        let mut second = rig.client().await;
        second.send(GET).await;
        eventually("the second waits", || rig.waiting() == 1).await;
        assert_eq!((rig.permits(), backend.accepted.load(Relaxed)), (1, 1), "{on_disconnect:?} {early}");
        closes.add_permits(1);
        assert_eq!(second.answer().await.text(), "next", "{on_disconnect:?} {early}");
        rig.at_rest().await;
    }
}
