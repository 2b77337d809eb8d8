//! Requests that wait: from zero, at a full replica, and how they stop waiting.

use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok};
use activator::Settings;
use activator_core::Ask;
use domain::{Change, Limits, RevisionId, Trouble};
use platform::fixed::default_revision;
use runtime::net::Tcp;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

fn trouble(permanent: bool) -> Trouble {
    Trouble { reason: "ImagePullBackOff".into(), message: "no such image".into(), permanent }
}

/// One was asked for and none is ready.
fn replicas(trouble: Option<Trouble>) -> Change {
    Change::Replicas {
        revision: svc(),
        requested: domain::Replicas::ONE,
        ready: domain::Replicas::ZERO,
        terminating: domain::Replicas::ZERO,
        trouble,
        foreign: None,
    }
}

fn numbered(n: usize) -> String {
    format!("GET /{n} HTTP/1.1\r\nhost: svc.default\r\n\r\n")
}

#[tokio::test]
async fn from_zero_everybody_waits_and_is_answered_in_order() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.container_concurrency = set(NonZeroU32::new(1))), &[]).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = rig.client().await;
        client.send(numbered(n)).await;
        eventually("it waits", || rig.waiting() as usize == n + 1).await;
        clients.push(client);
    }
    assert_eq!((rig.in_flight(), rig.permits()), (20, 0), "what waits is load");
    rig.replicas(&[backend.address]).await;
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.field("x-kpa-cold")), (200, Some("true")));
        let waited = answer.field("x-kpa-queue-wait").unwrap();
        assert!(waited.ends_with('s') && waited.trim_end_matches('s').parse::<f64>().unwrap() > 0.0, "{waited}");
    }
    let order: Vec<String> = backend.seen.lock().iter().map(|request| request.target().to_owned()).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    assert_eq!(order, expected);
    rig.at_rest().await;
    let warm = clients[0].ask(GET).await;
    assert_eq!((warm.field("x-kpa-queue-wait"), warm.field("x-kpa-cold")), (None, None));
}

/// The first of several replicas is not flooded with all that waited (knative/serving#9888).
#[tokio::test]
async fn a_queue_is_shared_with_the_replicas_that_start_a_little_later() {
    const HELD: usize = 100;
    let silent = Backend::script(|mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
        }
    })
    .await;
    let rig = Rig::new(Limits::default(), &[]).await;
    let mut clients = Vec::new();
    for n in 0..HELD {
        let mut client = rig.client().await;
        client.send(numbered(n)).await;
        clients.push(client);
    }
    eventually("all wait", || rig.waiting() as usize == HELD).await;
    rig.replicas(&[silent.address]).await;
    eventually("it has a first few", || silent.count() >= 8).await;
    let quick = Backend::new(|_| ok("")).await;
    rig.replicas(&[silent.address, quick.address]).await;
    eventually("everybody went", || rig.waiting() == 0).await;
    eventually("the other answered the rest", || silent.count() + quick.count() == HELD).await;
    assert!(silent.count() < HELD / 2, "{} went to the first", silent.count());
    drop(clients);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let rig = Rig::new(limits(|l| l.queue_depth = set(2)), &[]).await;
    let mut held = [rig.client().await, rig.client().await];
    for client in &mut held {
        client.send(GET).await;
    }
    eventually("two wait", || rig.waiting() == 2).await;
    let answer = rig.client().await.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("queue_full")));
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(rig.waiting(), 2);
}

#[tokio::test]
async fn waiting_at_a_warm_service_ends_with_the_queue_timeout() {
    let busy = Backend::script(|mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
        }
    })
    .await;
    let rig = Rig::new(
        limits(|l| {
            l.container_concurrency = set(NonZeroU32::new(1));
            l.queue_timeout = set(Duration::from_millis(150));
        }),
        &[busy.address],
    )
    .await;
    let mut first = rig.client().await;
    first.send(GET).await;
    eventually("the replica is busy", || busy.count() == 1).await;
    let began = tokio::time::Instant::now();
    let answer = rig.client().await.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("queue_timeout")));
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    assert_eq!(rig.waiting(), 0);
    assert_eq!(busy.count(), 1);
}

#[tokio::test]
async fn a_start_may_take_longer_than_the_queue_timeout() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(limits(|l| l.queue_timeout = set(Duration::from_millis(20))), &[]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    let arrived = tokio::time::Instant::now();
    eventually("the queue timeout is over", || arrived.elapsed() > Duration::from_millis(100)).await;
    rig.replicas(&[backend.address]).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_given_up() {
    let rig = Rig::new(limits(|l| l.start_deadline = set(Duration::from_millis(100))), &[]).await;
    let answer = rig.client().await.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
    assert!(answer.text().contains("within 100ms (kpa.dev/start-deadline)"), "{}", answer.text());

    rig.tell(replicas(Some(trouble(false)))).await;
    eventually("it is known", || rig.handle().gate.trouble().is_some()).await;
    let answer = rig.client().await.ask(GET).await;
    assert!(answer.text().contains("(kpa.dev/start-deadline); ImagePullBackOff: no such image"), "{}", answer.text());
    rig.at_rest().await;
}

#[tokio::test]
async fn a_failed_start_refuses_those_who_wait_with_the_reason() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    rig.tell(replicas(Some(trouble(false)))).await;
    rig.tell(replicas(Some(trouble(true)))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
    assert!(answer.text().contains("ImagePullBackOff: no such image"), "{}", answer.text());
    assert!(answer.field("retry-after").is_some());
    rig.at_rest().await;
}

#[tokio::test]
async fn a_removed_revision_refuses_those_who_wait_and_is_unknown_afterwards() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let handle = rig.handle();
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    rig.tell(Change::Deleted(svc())).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
    assert_eq!(handle.gate.waiting(), 0);
    assert_eq!(client.ask(GET).await.status(), 404);
}

/// Its replica is gone, nobody will start another: a request that has to be sent again must not wait for one.
#[tokio::test]
async fn nobody_waits_at_the_door_of_a_removed_revision() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let handle = rig.handle();
    rig.tell(Change::Deleted(svc())).await;
    eventually("it is removed", || rig.activator.revisions().get(&svc()).is_none()).await;
    let again = handle.gate.reenter(rig.activator.workers()[0].base.clock.now(), Ask::default());
    assert!(matches!(again, activator::gate::Entry::StartFailed(_)), "{again:?}");
}

#[tokio::test]
async fn probes_and_scrapers_neither_count_nor_wake() {
    let backend = Backend::new(|_| ok("alive")).await;
    let rig = Rig::new(Limits::default(), &[]).await;
    let probe = "GET / HTTP/1.1\r\nhost: svc.default\r\nuser-agent: kube-probe/1.33\r\n\r\n";
    let answer = rig.client().await.ask(probe).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("no_capacity")));
    rig.replicas(&[backend.address]).await;
    assert_eq!(rig.client().await.ask(probe).await.text(), "alive");
    assert_eq!(rig.requests(), 0);
    rig.at_rest().await;
}

#[tokio::test]
async fn an_unknown_host_is_404_only_once_everything_is_known() {
    let rig = Rig::bare(Settings::default(), 1, Tcp).await;
    let health = "GET /.kpa/healthz HTTP/1.1\r\nhost: any\r\n\r\n";
    let mut client = Wire::connect(rig.addresses[0]).await;
    let early = client.ask(GET).await;
    assert_eq!((early.status(), early.field("x-kpa-reason")), (503, Some("starting")));
    assert_eq!(early.field("retry-after"), Some("1"));
    assert_eq!(client.ask(health).await.status(), 503);
    rig.apply(&svc(), Limits::default()).await;
    rig.tell(Change::Synced).await;
    eventually("synced", || rig.activator.revisions().is_synced()).await;
    assert_eq!(client.ask(health).await.status(), 200);
    let late = client.ask("GET / HTTP/1.1\r\nhost: svd.default\r\naccept: application/json\r\n\r\n").await;
    assert_eq!((late.status(), late.field("content-type")), (404, Some("application/json")));
    assert!(late.text().contains("svc.default") && late.text().contains("unknown_host"), "{}", late.text());
}

#[tokio::test]
async fn localhost_is_the_default_route() {
    let (one, two) = (Backend::new(|_| ok("one")).await, Backend::new(|_| ok("two")).await);
    let rig = Rig::new(Limits::default(), &[one.address]).await;
    let local = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", rig.addresses[0]);
    let mut client = rig.client().await;
    assert_eq!(client.ask(&local).await.text(), "one", "the only service there is");

    let other = RevisionId::new("default", "other");
    let mut revision = default_revision(other.clone());
    revision.route.default_route = true;
    rig.tell(Change::Applied(Arc::new(revision))).await;
    let endpoints = [domain::Endpoint {
        id: domain::EndpointId::new("o-1"),
        address: two.address,
        state: domain::EndpointState::Ready,
        early_probe: None,
    }];
    rig.tell(Change::Endpoints { revision: other.clone(), version: 1, endpoints: endpoints.into() }).await;
    eventually("the other is there", || {
        rig.activator.revisions().get(&other).is_some_and(|handle| handle.gate.endpoints_version() == 1)
    })
    .await;
    for host in ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80"] {
        assert_eq!(client.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await.text(), "two", "{host}");
    }
    assert_eq!(client.ask(GET).await.text(), "one");
}
