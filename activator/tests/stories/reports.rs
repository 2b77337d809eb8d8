//! What the autoscaler hears, and what its answers do.

use crate::rig::{Backend, Rig, limits, set, svc};
use crate::wire::{GET, Wire, eventually, ok, soon};
use activator::Settings;
use domain::{Ack, Change, EndpointId, Frame, Limits, Millis, Peer, ReporterId, RevisionId, StartFailed};
use parking_lot::Mutex;
use runtime::net::Tcp;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// An autoscaler that writes frames down and answers what it is told to.
#[derive(Clone)]
struct Autoscaler {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<(Instant, Frame)>>>,
    answer: Arc<Mutex<Ack>>,
}

impl Autoscaler {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leads = Ack { leader: Some(ReporterId::new("s")), ..Ack::default() };
        let answer = Arc::new(Mutex::new(leads));
        let this = Self { address: listener.local_addr().unwrap(), heard: Arc::default(), answer };
        let (tasks, it) = (runtime::Tasks::new(), this.clone());
        tasks.clone().spawn("autoscaler", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let it = it.clone();
                tasks.spawn("reports", async move { it.listen(Wire::new(stream)).await });
            }
        });
        this
    }

    async fn listen(&self, mut wire: Wire) {
        while let Some(request) = wire.request().await {
            assert_eq!((request.target(), request.field("authorization")), ("/v1/frames", Some("Bearer secret")));
            assert_eq!(request.field("content-type"), Some(domain::report::FRAME_MEDIA_TYPE));
            let frame: Frame = serde_json::from_slice(&request.body).unwrap();
            let ack = {
                let mut answer = self.answer.lock();
                let ack = Ack { seq: frame.seq, ..answer.clone() };
                answer.resync = false;
                ack
            };
            self.heard.lock().push((Instant::now(), frame));
            let body = serde_json::to_string(&ack).unwrap();
            wire.send(ok(&body)).await;
        }
    }

    fn frames(&self) -> Vec<Frame> {
        self.heard.lock().iter().map(|(_, frame)| frame.clone()).collect()
    }

    fn regular(&self) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| !frame.urgent).collect()
    }

    fn urgent(&self) -> Vec<(Instant, Frame)> {
        self.heard.lock().iter().filter(|(_, frame)| frame.urgent).cloned().collect()
    }
}

async fn reported(limits: Limits, replicas: &[SocketAddr]) -> (Rig, Autoscaler) {
    let rig = Rig::new(limits, replicas).await;
    let autoscaler = Autoscaler::start().await;
    let peer = Peer { id: ReporterId::new("s"), address: autoscaler.address };
    rig.tell(Change::Autoscalers(vec![peer])).await;
    (rig, autoscaler)
}

#[tokio::test]
async fn the_first_frame_is_complete_and_idle_rows_are_told_once() {
    let backend = Backend::new(|_| ok("")).await;
    let (rig, autoscaler) = reported(Limits::default(), &[backend.address]).await;
    rig.client().await.ask(GET).await;
    rig.at_rest().await;
    eventually("three frames", || autoscaler.regular().len() >= 3).await;
    let frames = autoscaler.regular();
    let first = &frames[0];
    assert_eq!((first.v, first.reporter.as_str(), first.boot, first.complete), (1, "a", 7, true));
    assert_eq!(first.names, [(first.rows[0].n, svc())]);
    assert_eq!((first.rows[0].requests, first.rows[0].load(), first.rows[0].endpoints_version), (1, 0, 1));
    for (before, after) in frames.iter().zip(&frames[1..]) {
        assert_eq!((after.complete, after.names.len(), after.rows.len()), (false, 0, 0), "{after:?}");
        assert_eq!((after.tick, after.seq > before.seq), (before.tick + 1, true), "ticks are numbered without a gap");
        assert!(after.at > before.at);
    }

    rig.client().await.ask(GET).await;
    let known = frames.len();
    eventually("the change is told", || {
        autoscaler.regular()[known..].iter().any(|frame| frame.rows.iter().any(|row| row.requests == 2))
    })
    .await;
    autoscaler.answer.lock().resync = true;
    let asked = autoscaler.regular().len();
    eventually("everything again", || {
        autoscaler.regular()[asked..]
            .iter()
            .any(|frame| frame.complete && frame.names.len() == 1 && frame.rows.len() == 1)
    })
    .await;
}

#[tokio::test]
async fn the_first_waiting_request_cannot_wait() {
    let (rig, autoscaler) = reported(Limits::default(), &[]).await;
    eventually("a first regular frame", || !autoscaler.regular().is_empty()).await;
    let mut clients = Vec::new();
    let began = Instant::now();
    for _ in 0..50 {
        let mut client = rig.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually("it is told", || !autoscaler.urgent().is_empty()).await;
    let (at, frame) = autoscaler.urgent().swap_remove(0);
    assert!(at - began < Duration::from_millis(100), "told after {:?}", at - began);
    assert!(frame.rows[0].queued > 0 && !frame.complete, "{frame:?}");
    assert_eq!(frame.names, [(frame.rows[0].n, svc())], "it may overtake the frame that introduces the name");
    eventually("all wait", || rig.waiting() == 50).await;
    eventually("the last word is kept", || {
        autoscaler.frames().iter().any(|frame| frame.rows.iter().any(|row| row.queued == 50))
    })
    .await;
    let told = autoscaler.urgent();
    for pair in told.windows(2) {
        // Sent at least 50 ms apart; on their way they may come closer.
        assert!(pair[1].0 - pair[0].0 > Duration::from_millis(25), "{:?}", pair[1].0 - pair[0].0);
    }
}

#[tokio::test]
async fn a_surge_on_a_warm_service_is_told_at_once() {
    let backend = Backend::script(|mut wire, _, backend| async move {
        while let Some(request) = wire.request().await {
            backend.note(request);
        }
    })
    .await;
    let (rig, autoscaler) = reported(Limits::default(), &[backend.address]).await;
    let mut clients = Vec::new();
    let mut hold = async |count: usize| {
        for _ in 0..count {
            let mut client = rig.client().await;
            client.send(GET).await;
            clients.push(client);
        }
        Instant::now()
    };
    hold(4).await;
    eventually("four are known", || {
        autoscaler.regular().iter().any(|frame| frame.rows.iter().any(|row| row.in_flight == 4))
    })
    .await;
    let known = autoscaler.urgent().len();
    let began = hold(8).await;
    eventually("the doubling is told", || {
        autoscaler.urgent()[known..].iter().any(|(_, frame)| frame.rows[0].in_flight >= 8)
    })
    .await;
    assert!(began.elapsed() < Duration::from_millis(200), "told after {:?}", began.elapsed());
}

/// Three connects in a row, over three seconds: the prober goes on after the requests that were refused.
#[tokio::test]
async fn a_ready_endpoint_that_refuses_connections_is_named_until_it_takes_one() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let open = Backend::new(|_| ok("")).await;
    let (rig, autoscaler) = reported(Limits::default(), &[address, open.address]).await;
    let mut client = rig.client().await;
    let named = |frame: &Frame| frame.rows.iter().any(|row| row.unreachable == [EndpointId::new(&address.to_string())]);
    for _ in 0..50 {
        assert_eq!(client.ask(GET).await.status(), 200, "the other one serves");
    }
    eventually("it is named", || autoscaler.frames().iter().any(named)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    eventually("it is named no more", || rig.handle().gate.unreachable().is_empty()).await;
    drop(listener);
    eventually("that is told", || autoscaler.regular().last().is_some_and(|frame| !named(frame))).await;
}

#[tokio::test]
async fn an_endpoint_that_is_drained_gets_nothing_new_and_is_named() {
    let (one, two) = (Backend::new(|_| ok("one")).await, Backend::new(|_| ok("two")).await);
    let (rig, autoscaler) = reported(Limits::default(), &[one.address, two.address]).await;
    let victim = EndpointId::new(&one.address.to_string());
    let mut client = rig.client().await;
    while one.count() == 0 {
        client.ask(GET).await;
    }
    autoscaler.answer.lock().drain = vec![(svc(), vec![victim.clone()])];
    autoscaler.answer.lock().load_of = vec![svc()];
    eventually("it is named", || {
        autoscaler
            .frames()
            .iter()
            .any(|frame| frame.rows.iter().any(|row| row.drained == [victim.clone()] && row.endpoints.len() == 2))
    })
    .await;
    let before = one.count();
    for _ in 0..20 {
        assert_eq!(client.ask(GET).await.text(), "two");
    }
    assert_eq!(one.count(), before);
    // The answer of a follower changes nothing: it names nobody as leaving, and often nobody as leader.
    *autoscaler.answer.lock() = Ack::default();
    let frames = autoscaler.regular().len();
    eventually("it was answered", || autoscaler.regular().len() > frames + 1).await;
    assert_eq!(rig.handle().gate.drained(), [victim]);
    // The directive of one that has fallen silent does not hold for ever.
    eventually("it may be used again", || rig.handle().gate.drained().is_empty()).await;
    autoscaler.answer.lock().leader = Some(ReporterId::new("s"));
    autoscaler.answer.lock().drain = vec![(svc(), vec![EndpointId::new(&one.address.to_string())])];
    eventually("it is named again", || !rig.handle().gate.drained().is_empty()).await;
    // The drain is complete each time: one that is no longer named is used again.
    *autoscaler.answer.lock() = Ack { leader: Some(ReporterId::new("s")), ..Ack::default() };
    eventually("it may be used again", || rig.handle().gate.drained().is_empty()).await;
    while one.count() == before {
        client.ask(GET).await;
    }
}

#[tokio::test]
async fn a_failed_start_comes_with_its_reason_and_its_patience() {
    let (rig, autoscaler) = reported(Limits::default(), &[]).await;
    let failed = StartFailed { revision: svc(), reason: "no such file".into(), retry_after: Millis(20_000) };
    autoscaler.answer.lock().start_failed = vec![failed];
    let mut client = rig.client().await;
    let answer = client.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
    assert!(answer.text().contains("no such file"));
    let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((18..=20).contains(&seconds), "{seconds}");
    assert_eq!(client.ask(GET).await.status(), 503, "and newcomers, without waiting");
    rig.at_rest().await;
}

#[tokio::test]
async fn the_last_frame_says_leaving_with_final_counts() {
    let backend = Backend::new(|_| ok("")).await;
    let (rig, autoscaler) = reported(Limits::default(), &[backend.address]).await;
    rig.client().await.ask(GET).await;
    soon(rig.activator.drain()).await;
    let last = autoscaler.frames().pop().unwrap();
    assert!(last.leaving, "{last:?}");
    assert!(last.rows.iter().all(|row| row.load() == 0));
    assert_eq!(autoscaler.frames().iter().filter(|frame| frame.leaving).count(), 1);
}

/// Traffic never depends on an autoscaler, and readings never go back when a service is declared again.
#[tokio::test]
async fn a_service_that_comes_back_counts_on() {
    let backend = Backend::new(|_| ok("")).await;
    let (rig, autoscaler) = reported(Limits::default(), &[backend.address]).await;
    for _ in 0..5 {
        rig.client().await.ask(GET).await;
    }
    let requests = |frame: &Frame| frame.rows.first().map(|row| row.requests);
    eventually("five are told", || autoscaler.regular().iter().any(|frame| requests(frame) == Some(5))).await;
    rig.tell(Change::Deleted(svc())).await;
    eventually("it is gone", || rig.activator.revisions().get(&svc()).is_none()).await;
    rig.apply(&svc(), limits(|l| l.container_concurrency = set(NonZeroU32::new(3)))).await;
    rig.replicas(&[backend.address]).await;
    eventually("it is served again", || rig.activator.revisions().find("svc.default").len() == 1).await;
    assert_eq!(rig.client().await.ask(GET).await.status(), 200);
    eventually("six are told", || autoscaler.regular().iter().any(|frame| requests(frame) == Some(6))).await;
    let mut areas: Vec<_> =
        autoscaler.frames().iter().flat_map(|frame| frame.rows.clone()).map(|row| row.area).collect();
    let told = areas.clone();
    areas.sort();
    assert_eq!(told, areas);
    assert!(areas.last().unwrap().0 < 60_000, "no jump: {areas:?}");
}

#[tokio::test]
async fn an_autoscaler_that_is_gone_stops_nothing() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::bare(Settings::default(), 1, Tcp).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { id: ReporterId::new("s"), address: silent.local_addr().unwrap() };
    rig.tell(Change::Autoscalers(vec![peer])).await;
    rig.apply(&RevisionId::new("default", "svc"), Limits::default()).await;
    rig.tell(Change::Synced).await;
    rig.replicas(&[backend.address]).await;
    assert_eq!(rig.client().await.ask(GET).await.status(), 200);
    // It accepts and never answers: the last frame is given up, not waited for.
    let began = Instant::now();
    soon(rig.activator.drain()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
