//! What is counted and what is there: the same, whatever clients and replicas do; and a count that is wrong is found.

use crate::disconnects::Leaving;
use crate::h2;
use crate::retries::nobody;
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok};
use activator::Settings;
use activator::error::Outcome;
use activator::local::Permit;
use activator::local::watchdog::What;
use activator::upstream::exchange::InFlight;
use domain::{Change, Limits, OnDisconnect};
use runtime::Tasks;
use runtime::net::Tcp;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// What was told of `what` so far.
fn told(rig: &Rig, what: What) -> u64 {
    rig.handle().counters().iter().map(|counters| counters.differences[what as usize].load(Relaxed)).sum()
}

#[tokio::test]
async fn a_permit_or_a_count_that_nobody_has_is_found_and_told_once() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(GET).await.status(), 200);
    let worker = &rig.activator.workers()[0];
    let local = worker.named(&svc()).unwrap();
    // No turn of a task lies between two looks, so the worker's own looks change nothing.
    let looks = |count: u32| (0..count).for_each(|_| worker.watch());
    let both = || [What::InFlight, What::Permits].map(|what| told(&rig, what));
    looks(3);
    assert_eq!(both(), [0, 0]);

    std::mem::forget(Permit::new(local.choose(None).unwrap(), None));
    looks(1);
    assert_eq!(both(), [0, 0], "it may be over in a moment");
    looks(3);
    assert_eq!(both(), [0, 1]);
    let now = worker.base.clock.now();
    std::mem::forget(InFlight::enter(Arc::clone(&local), now));
    looks(3);
    assert_eq!(both(), [1, 1]);
    assert_eq!(rig.in_flight(), 1, "it stays as it is");

    // Too few of them.
    (0..2).for_each(|_| local.counters.meter.exit(now));
    looks(3);
    assert_eq!(both(), [2, 1]);
    let mut page = String::new();
    activator::metrics::render(rig.activator.revisions(), worker.base.clock, &mut page);
    for (what, count) in [("in_flight", 2), ("permits", 1), ("slots", 0)] {
        let line = format!(
            "activator_count_differences_total{{namespace=\"default\",revision=\"svc\",what=\"{what}\"}} {count}\n"
        );
        assert!(page.contains(&line), "{page}");
    }
}

/// A replica that goes takes its load with it: what it carried counts to the end.
#[tokio::test]
async fn what_runs_on_a_replica_that_is_gone_is_there() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        let Some(request) = wire.request().await else { return };
        backend.note(request);
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
        // Until the client has seen enough.
        drop(wire.rest().await);
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    assert_eq!(client.head().await.unwrap().status(), 200);
    rig.replicas(&[]).await;
    let worker = &rig.activator.workers()[0];
    (0..3).for_each(|_| {
        worker.tidy();
        worker.watch();
    });
    assert_eq!((rig.in_flight(), told(&rig, What::InFlight), told(&rig, What::Permits)), (1, 0, 0));
    drop(client);
    rig.at_rest().await;
    (0..3).for_each(|_| worker.watch());
    assert_eq!((told(&rig, What::InFlight), told(&rig, What::Permits)), (0, 0));
}

/// Random numbers that follow from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        domain::hash::mix(self.0) % sides
    }
}

const TARGETS: [&str; 8] = ["/ok", "/ok", "/pieces", "/broken", "/close", "/hang", "/early", "/ws"];

/// A replica that does to a request what its target says.
async fn moody() -> Backend {
    Backend::script(|mut wire: Wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            let target = request.target().to_owned();
            backend.note(request);
            let answer = match target.as_str() {
                "/ok" => ok("fine"),
                "/pieces" => {
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n".to_vec()
                }
                "/early" => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome".to_vec(),
                "/broken" => {
                    let _ = tokio::io::AsyncWriteExt::write_all(
                        &mut wire.stream,
                        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome",
                    )
                    .await;
                    return;
                }
                "/ws" => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n".to_vec(),
                "/hang" => Vec::new(),
                _ => return,
            };
            let gone = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &answer).await.is_err();
            if gone || ["/early", "/ws", "/hang"].contains(&target.as_str()) {
                // Where nobody tells it that its client has left, it ends by itself.
                drop(tokio::time::timeout(Duration::from_millis(400), wire.rest()).await);
                return;
            }
        }
    })
    .await
}

/// One client's rounds over HTTP/1.1: a request each, and some way to leave it, at some moment.
async fn rounds(to: std::net::SocketAddr, seed: u64) {
    let mut dice = Dice(seed);
    let mut kept = None;
    for _ in 0..30 {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Wire::connect(to).await,
        };
        let target = TARGETS[usize::try_from(dice.roll(8)).unwrap()];
        let upgrade = if target == "/ws" { "connection: Upgrade\r\nupgrade: echo\r\n" } else { "" };
        let (method, body) = match dice.roll(4) {
            0 if upgrade.is_empty() => ("POST", "content-length: 9\r\n\r\npart"),
            1 if upgrade.is_empty() => ("POST", "content-length: 4\r\n\r\npart"),
            _ => ("GET", "\r\n"),
        };
        client.send(format!("{method} {target} HTTP/1.1\r\nhost: svc.default\r\n{upgrade}{body}")).await;
        let is_cut = body.contains(": 9");
        match dice.roll(5) {
            // The whole answer, where there is one; clocks end the others.
            0 | 1 if !is_cut && target != "/ws" => {
                let answer = client.maybe_answer().await;
                let closes = answer.as_ref().is_none_or(|answer| answer.field("connection") == Some("close"));
                kept = (!closes).then_some(client);
            }
            2 => drop(crate::wire::soon(client.head()).await),
            _ => {
                let leaving = Leaving::ALL[usize::try_from(dice.roll(3)).unwrap()];
                drop(leaving.leave(client).await);
            }
        }
    }
}

/// The same over HTTP/2: streams that are reset, or whose answers nobody reads.
async fn streams(to: std::net::SocketAddr, seed: u64) {
    let mut dice = Dice(seed);
    let (mut client, _tasks) = h2::client(to).await;
    for _ in 0..30 {
        let target = TARGETS[usize::try_from(dice.roll(7)).unwrap()];
        let sent = client.send_request(h2::request("GET", target, h2::full("")));
        match dice.roll(3) {
            0 => drop(crate::wire::soon(sent).await),
            1 => {
                if let Ok(answer) = crate::wire::soon(sent).await {
                    let body = http_body_util::BodyExt::collect(answer.into_body());
                    drop(crate::wire::soon(body).await);
                }
            }
            _ => drop(sent),
        }
    }
}

#[tokio::test]
async fn nothing_differs_whatever_clients_and_replicas_do() {
    let mut seen = [0; 5];
    for (cc, on_disconnect) in [
        (0, OnDisconnect::Cancel),
        (1, OnDisconnect::Finish),
        (1, OnDisconnect::Cancel),
        (3, OnDisconnect::Finish),
        (3, OnDisconnect::Cancel),
    ] {
        let (first, second) = (moody().await, moody().await);
        let (_socket, dead) = nobody();
        let limits = limits(|limits| {
            limits.container_concurrency = set(NonZeroU32::new(cc));
            limits.on_disconnect = set(on_disconnect);
            limits.queue_depth = set(12);
            limits.queue_timeout = set(Duration::from_millis(150));
            limits.timeout = set(Some(Duration::from_millis(200)));
            limits.response_start_timeout = set(Some(Duration::from_millis(100)));
        });
        let rig = Rig::bare(Settings::default(), 2, Tcp).await;
        rig.apply(&svc(), limits).await;
        rig.tell(Change::Synced).await;
        rig.replicas(&[first.address, dead, second.address]).await;
        let (tasks, ended) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        for number in 0..16 {
            let (to, ended) = (rig.addresses[number % 2], Arc::clone(&ended));
            tasks.spawn("client", async move {
                let seed = u64::from(cc) << 8 | number as u64;
                if number % 4 == 3 {
                    streams(to, seed).await
                } else {
                    rounds(to, seed).await
                }
                ended.fetch_add(1, Relaxed);
            });
        }
        let look = || assert_eq!(rig.differences(), [0; What::COUNT + 1], "limit {cc}, {on_disconnect:?}");
        eventually("all clients are done", || {
            look();
            ended.load(Relaxed) == 16
        })
        .await;
        rig.at_rest().await;
        // What each gets depends on how long those before it hang there: with one slot, up to 400 ms each.
        let counts = (first.count(), second.count());
        assert!(counts.0 > 5 && counts.1 > 5, "limit {cc}, {on_disconnect:?}: {counts:?}");
        assert!(rig.requests() > 16 * 15, "{}", rig.requests());
        let outcomes =
            [Outcome::Success, Outcome::ClientGone, Outcome::Timeout, Outcome::Broken, Outcome::QueueTimeout];
        for (seen, outcome) in seen.iter_mut().zip(outcomes) {
            *seen += rig.ended(outcome);
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "each of these was among them: {seen:?}");
}
