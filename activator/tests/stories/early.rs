//! Replicas that answer before their platform says so, on a paused clock and a network in memory.

use crate::memory::{Accepts, Network, Pipe};
use crate::rig::svc;
use activator::prober::COLD_PER_REVISION_MAX;
use activator::reporter::ReporterSettings;
use activator::{Activator, Settings, Setup};
use domain::{Probe, ProbeCheck, Replicas, ReporterId};
use parking_lot::Mutex;
use platform::contract::View;
use platform::fake::Fake;
use platform::fixed::default_revision;
use platform::trust::Shown;
use runtime::net::{Connect, Listener};
use runtime::{Clock, PhaseSender, Tasks, WakeLog};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

/// When the platform says that a replica is ready, from when it was asked for.
pub(crate) const READY: Duration = secs(60);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn probe(check: ProbeCheck) -> Probe {
    Probe { check, timeout: secs(1), period: secs(10), failure_threshold: 3, success_threshold: 1 }
}

fn http() -> Probe {
    probe(ProbeCheck::Http { port: None, path: "/ready".into(), headers: Vec::new() })
}

fn tcp() -> Probe {
    probe(ProbeCheck::Tcp { port: None })
}

/// Where the platform puts replica number `n`.
pub(crate) fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 8080))
}

/// An activator whose platform, network and clock are the test's.
pub(crate) struct World {
    pub(crate) began: Instant,
    clock: Clock,
    pub(crate) network: Network,
    fake: Fake,
    activator: Activator<Network>,
    pub(crate) tasks: Tasks,
}

impl World {
    /// The usual service is asked for `replicas` now.
    pub(crate) async fn new(early_probe: Option<Probe>, replicas: u32) -> Self {
        let (network, fake, tasks, clock) = (Network::default(), Fake::new(), Tasks::new(), Clock::start());
        fake.apply(default_revision(svc()), READY);
        fake.set_early_probe(&svc(), early_probe);
        fake.set_replicas(&svc(), Replicas::new(replicas));
        let setup = Setup {
            connector: network.clone(),
            platform: Arc::new(fake.clone()),
            settings: Settings::default(),
            reporter: ReporterSettings { id: ReporterId::new("a"), boot: 7, shown: Shown::Nothing },
            clock,
            wakes: Arc::new(WakeLog::new()),
            phase: PhaseSender::new(),
            seed: 1,
            neighbours: None,
        };
        let (activator, runs) = Activator::start(setup, 1, &tasks);
        for run in runs {
            tasks.spawn("worker", run.serve(network.listen(Self::front()), None));
        }
        let world = Self { began: Instant::now(), clock, network, fake, activator, tasks };
        while !world.activator.revisions().is_synced() {
            tokio::task::yield_now().await;
        }
        world
    }

    /// Where clients connect.
    pub(crate) fn front() -> SocketAddr {
        SocketAddr::from(([10, 255, 0, 0], 80))
    }

    pub(crate) async fn at(&self, since_the_start: Duration) {
        sleep_until(self.began + since_the_start).await;
    }

    /// Asks the usual service, with a body that must arrive once; when it was answered, and how.
    async fn ask(&self) -> (Duration, String) {
        let mut stream = self.network.connect(Self::front()).await.unwrap();
        let request = "POST /ask HTTP/1.1\r\nhost: svc.default\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (self.began.elapsed(), answer.lines().next().unwrap_or_default().to_owned())
    }

    /// A replica on `listener`: `/ready` passes from `ready` on, everything else is answered at once.
    fn replica(&self, mut listener: Accepts, ready: Duration) -> Seen {
        let (seen, began, tasks) = (Seen::default(), self.began, self.tasks.clone());
        let noted = seen.clone();
        self.tasks.spawn("replica", async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn("replica connection", answer(stream, noted.clone(), began, ready));
            }
        });
        seen
    }

    fn waiting(&self) -> u32 {
        self.activator.revisions().get(&svc()).unwrap().gate.waiting()
    }

    /// The value of a metric of the usual service.
    fn metric(&self, name: &str) -> usize {
        let mut text = String::new();
        activator::metrics::render(self.activator.revisions(), self.clock, &mut text);
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// Requests of a replica: when, and for what.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Duration, String)>>>);

impl Seen {
    fn count(&self, target: &str, from: Duration) -> usize {
        self.0.lock().iter().filter(|(at, seen)| seen == target && *at >= from).count()
    }
}

async fn answer(mut stream: Pipe, seen: Seen, began: Instant, ready: Duration) {
    let mut text = Vec::new();
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut text).await.is_ok_and(|count| count > 0) {
            continue;
        }
        return;
    }
    let target = String::from_utf8(text).unwrap().split(' ').nth(1).unwrap().to_owned();
    let status = if target != "/ready" || began.elapsed() >= ready { "200 OK" } else { "503 Loading" };
    seen.0.lock().push((began.elapsed(), target));
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_as_soon_as_the_replica_answers() {
    let world = World::new(Some(http()), 1).await;
    let script = async {
        world.at(secs(3)).await;
        assert!(world.network.connects(address(1)) > 250, "a connect every 10 ms");
        let seen = world.replica(world.network.listen(address(1)), secs(5));
        world.at(Duration::from_millis(4_999)).await;
        assert_eq!((world.waiting(), seen.count("/ask", secs(0))), (1, 0));
        assert!((10..=100).contains(&seen.count("/ready", secs(0))), "now in 50 of the time since the start");
        seen
    };
    let ((answered, status), seen) = tokio::join!(world.ask(), script);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!((secs(5)..Duration::from_millis(5_120)).contains(&answered), "{answered:?}");
    assert_eq!(
        (seen.count("/ask", secs(0)), seen.count("/ready", secs(5))),
        (1, 1),
        "it passed once, and was left alone"
    );
    // The platform's own word changes nothing any more.
    world.at(READY + secs(1)).await;
    assert_eq!(seen.count("/ready", secs(5)), 1);
    assert_eq!(world.ask().await.1, "HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_an_early_probe_waits_for_its_platform() {
    let world = World::new(None, 1).await;
    let seen = world.replica(world.network.listen(address(1)), secs(0));
    let script = async {
        world.at(READY - Duration::from_millis(1)).await;
        assert_eq!((world.waiting(), world.network.connects(address(1))), (1, 0));
    };
    let ((answered, status), ()) = tokio::join!(world.ask(), script);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(answered >= READY, "{answered:?}");
    assert_eq!((seen.count("/ask", READY), seen.count("/ready", secs(0))), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_keeps_requests_held() {
    let world = World::new(Some(http()), 1).await;
    let seen = world.replica(world.network.listen(address(1)), secs(3600));
    let script = async {
        world.at(READY - Duration::from_millis(1)).await;
        assert_eq!((world.waiting(), seen.count("/ask", secs(0))), (1, 0));
        let probes = seen.count("/ready", READY - secs(10));
        assert!((39..=41).contains(&probes), "every 250 ms by now: {probes}");
    };
    let ((answered, status), ()) = tokio::join!(world.ask(), script);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(answered >= READY, "{answered:?}");
    world.at(READY + secs(10)).await;
    assert_eq!(seen.count("/ready", READY + secs(1)), 0, "a ready replica is the platform's affair");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_is_no_longer_probed() {
    let world = World::new(Some(tcp()), 1).await;
    world.at(secs(2)).await;
    assert_eq!(world.metric("activator_replicas_probed"), 1);
    world.fake.set_replicas(&svc(), Replicas::ZERO);
    world.at(Duration::from_millis(2_020)).await;
    let connects = world.network.connects(address(1));
    assert!((150..=210).contains(&connects), "{connects}");
    assert_eq!(world.metric("activator_replicas_probed"), 0);
    world.at(secs(20)).await;
    assert_eq!(world.network.connects(address(1)), connects);
}

/// What a pass promised does not hold: the request keeps its place, and the replica has to pass again.
#[tokio::test(start_paused = true)]
async fn a_replica_that_passes_and_then_refuses_is_probed_again() {
    let world = World::new(Some(tcp()), 1).await;
    let script = async {
        world.at(secs(3)).await;
        // One connect finds the port, one is the probe; the request finds nobody.
        let _accepts = world.network.listen_for(address(1), 2);
        world.at(secs(6)).await;
        assert_eq!((world.waiting(), world.metric("activator_replicas_usable")), (1, 0));
        assert!(world.network.connects(address(1)) > 550, "it is asked as before");
        world.replica(world.network.listen(address(1)), secs(0))
    };
    let ((answered, status), seen) = tokio::join!(world.ask(), script);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!((secs(6)..Duration::from_millis(6_200)).contains(&answered), "{answered:?}");
    assert_eq!(seen.count("/ask", secs(0)), 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_probed_at_once_and_the_others_follow() {
    const OVER: u8 = 4;
    let count = u8::try_from(COLD_PER_REVISION_MAX).unwrap() + OVER;
    let world = World::new(Some(tcp()), u32::from(count)).await;
    world.at(secs(1)).await;
    let cold = || (world.metric("activator_replicas_probed"), world.metric("activator_replicas_unprobed"));
    assert_eq!(cold(), (COLD_PER_REVISION_MAX, usize::from(OVER)));
    let untouched = || (1..=count).filter(|n| world.network.connects(address(*n)) == 0).count();
    assert_eq!(untouched(), usize::from(OVER));
    let _accepts: Vec<_> = (1..=count).map(|n| world.network.listen(address(n))).collect();
    world.at(secs(2)).await;
    assert_eq!((cold(), untouched()), ((0, 0), 0), "each pass made room for another");
    assert_eq!(world.metric("activator_replicas_usable"), usize::from(count));
    let mut view = View::of(&world.fake);
    view.until(|view| view.requested(&svc()) == u32::from(count)).await;
    assert_eq!(view.ready(&svc()), 0, "long before the platform's word");
}
