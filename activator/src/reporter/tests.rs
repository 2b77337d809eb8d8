use super::urgent::URGENT_PAUSE;
use super::*;
use crate::local::Counters;
use bytes::Bytes;
use crossbeam_utils::CachePadded;
use domain::Frame;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use platform::trust::Token;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::DuplexStream;

/// What one autoscaler heard, and when: milliseconds since the reporter's start, urgent, load.
type Heard = Arc<Mutex<Vec<(u64, bool, u32)>>>;

/// Autoscalers by port. Each answers after a time of its own.
#[derive(Debug, Clone)]
struct Autoscalers {
    clock: Clock,
    tasks: Tasks,
    heard: Arc<Vec<(Duration, Heard)>>,
}

impl Connect for Autoscalers {
    type Stream = DuplexStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (clock, (delay, heard)) = (self.clock, self.heard[usize::from(to.port())].clone());
        self.tasks.spawn("autoscaler", async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let heard = Arc::clone(&heard);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let frame: Frame = serde_json::from_slice(&body).unwrap();
                    let load = frame.rows.iter().map(Row::load).sum();
                    heard.lock().push((clock.now().as_millis(), frame.urgent, load));
                    tokio::time::sleep(delay).await;
                    let ack = serde_json::to_vec(&Ack { seq: frame.seq, ..Ack::default() }).unwrap();
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(ack))))
                }
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(far), service).await);
        });
        Ok(near)
    }
}

/// A reporter with one revision, one worker, and autoscalers that answer after `delays` milliseconds. Paused clock.
struct Bench {
    clock: Clock,
    revisions: Arc<Revisions>,
    handle: Arc<Handle>,
    counters: Arc<CachePadded<Counters>>,
    heard: Arc<Vec<(Duration, Heard)>>,
    _peers: watch::Sender<Vec<Peer>>,
    _leave: Leave,
}

impl Bench {
    async fn new(delays: &[u64]) -> Self {
        let (clock, tasks, revisions) = (Clock::start(), Tasks::new(), Revisions::new(1, Arc::default()));
        let revision = platform::fixed::default_revision(RevisionId::new("default", "svc"));
        let handle = revisions.apply(Arc::new(revision));
        let counters = Arc::<CachePadded<Counters>>::default();
        handle.register(Arc::clone(&counters));
        let heard = Arc::new(delays.iter().map(|delay| (Duration::from_millis(*delay), Heard::default())).collect());
        let autoscalers = Autoscalers { clock, tasks: tasks.clone(), heard: Arc::clone(&heard) };
        let peers = (0..).zip(delays).map(|(port, _)| Peer {
            id: ReporterId::new(&format!("s-{port}")),
            address: ([127, 0, 0, 1], port).into(),
        });
        let (peers, list) = watch::channel(peers.collect());
        let settings = ReporterSettings { id: ReporterId::new("a"), boot: 7, shown: Shown::Nothing };
        let (reporter, leave) =
            Reporter::new(settings, autoscalers, Arc::clone(&revisions), clock, 1, list, tasks.clone());
        tasks.spawn("reporter", reporter.run());
        let bench = Self { clock, revisions, handle, counters, heard, _peers: peers, _leave: leave };
        // Past the first regular frames, which introduce everything.
        bench.until(2_500).await;
        bench.heard.iter().for_each(|(_, heard)| heard.lock().clear());
        bench
    }

    /// Requests arrive, as a worker counts them.
    fn enter(&self, requests: u32) {
        for _ in 0..requests {
            let in_flight = self.counters.meter.enter(self.clock.now());
            if in_flight >= self.counters.alarm_at.load(Relaxed) {
                self.counters.alarm_at.store(u32::MAX, Relaxed);
                self.handle.raise();
            }
        }
    }

    fn exit(&self, requests: u32) {
        (0..requests).for_each(|_| self.counters.meter.exit(self.clock.now()));
    }

    async fn until(&self, millis: u64) {
        tokio::time::sleep_until(self.clock.instant(Timestamp::from_millis(millis))).await;
    }

    /// Urgent frames to one autoscaler: when and what load.
    fn urgent(&self, autoscaler: usize) -> Vec<(u64, u32)> {
        let heard = self.heard[autoscaler].1.lock();
        heard.iter().filter(|(_, urgent, _)| *urgent).map(|(at, _, load)| (*at, *load)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_ramp_that_was_caught_in_the_middle_is_completed() {
    let bench = Bench::new(&[0]).await;
    bench.enter(35);
    bench.until(2_510).await;
    bench.enter(15);
    bench.until(2_900).await;
    assert_eq!(bench.urgent(0), [(2_500, 35), (2_550, 50)], "and nothing once the load has stopped growing");
    // Long after the pause: less than a doubling is no surge.
    bench.enter(10);
    bench.until(4_000).await;
    assert_eq!(bench.urgent(0).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_goes_on_growing_is_told_once_in_each_pause() {
    let bench = Bench::new(&[0]).await;
    let pause = URGENT_PAUSE.as_millis() as u64;
    // One more each 10 ms, for 200 ms.
    for step in 0..20 {
        bench.until(2_500 + 10 * step).await;
        bench.enter(1);
    }
    bench.until(4_000).await;
    let told = bench.urgent(0);
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= pause && pair[1].1 > pair[0].1), "{told:?}");
    assert_eq!((told.len(), told.last()), (5, Some(&(2_700, 20))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn fifty_surges_within_one_pause_are_two_frames() {
    let bench = Bench::new(&[0, 0]).await;
    for _ in 0..50 {
        bench.enter(1);
        bench.handle.raise();
        tokio::task::yield_now().await;
    }
    bench.until(3_400).await;
    for autoscaler in [0, 1] {
        let told = bench.urgent(autoscaler);
        assert!(told.len() <= 2 && told.last().is_some_and(|last| last.1 == 50), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_falls_is_not_told_again() {
    let bench = Bench::new(&[0]).await;
    bench.enter(40);
    bench.until(2_510).await;
    bench.exit(20);
    bench.until(3_900).await;
    assert_eq!(bench.urgent(0), [(2_500, 40)]);
}

/// What is missed while a frame is on its way goes with the next one, to whom it is owed and to nobody else.
#[tokio::test(start_paused = true)]
async fn growth_behind_a_slow_answer_goes_with_the_next_frame() {
    let bench = Bench::new(&[0, 300, 120]).await;
    bench.enter(35);
    bench.until(2_510).await;
    bench.enter(15);
    bench.until(4_400).await;
    assert_eq!(bench.urgent(0), [(2_500, 35), (2_550, 50)]);
    assert_eq!(bench.urgent(1), [(2_500, 35), (2_800, 50)], "after its answer");
    assert_eq!(bench.urgent(2), [(2_500, 35), (2_620, 50)], "after its own, and once");
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_of_a_removed_service_is_forgotten() {
    let bench = Bench::new(&[300]).await;
    bench.enter(35);
    bench.until(2_510).await;
    bench.enter(15);
    bench.until(2_600).await;
    bench.revisions.remove(bench.clock.now(), &bench.handle.id);
    bench.until(4_400).await;
    assert_eq!(bench.urgent(0), [(2_500, 35)]);
}

/// A file that is renewed, in short.
#[derive(Debug, Default)]
struct Renewed(std::sync::atomic::AtomicU32);

impl platform::trust::Shows for Renewed {
    fn token(&self) -> Option<Token> {
        Some(Token::new(&format!("token-{}", self.0.fetch_add(1, Relaxed))))
    }
}

#[test]
fn each_frame_shows_the_token_of_its_moment() {
    let shown = Shown::Fresh(Arc::new(Renewed::default()));
    for expected in ["Bearer token-0", "Bearer token-1"] {
        let value = authorization(&shown).unwrap();
        assert!(value == expected && value.is_sensitive(), "{value:?}");
    }
    assert_eq!(authorization(&Shown::Fixed(Token::new("s"))).unwrap(), "Bearer s");
    assert_eq!(authorization(&Shown::Nothing), None);
    assert_eq!(authorization(&Shown::Fixed(Token::new("two\nlines"))), None);
}
