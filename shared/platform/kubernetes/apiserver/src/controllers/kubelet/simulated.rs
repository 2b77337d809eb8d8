//! Pods without anything behind them: ready after a while, and whatever else a script wants.
//!
//! Invariant: times come from tokio's clock and a seed, so a paused clock and the same seed give the same story.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::{BackOff, Ended, Kubelet, Life, Orders, Reports, Seen, State, crash_loop};

/// Addresses before they are used again: 10.244.0.0/16.
const ADDRESSES: u32 = 65_534;

/// What happens to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Script {
    /// Ready after a time from the options.
    #[default]
    Ready,
    /// Ready after exactly this time.
    ReadyAfter(Duration),
    /// Runs and is never ready.
    NeverReady,
    /// Runs for this time, ends with 1, and again after the pauses of a kubelet; never ready.
    CrashLoop {
        /// How long each run lasts.
        runs_for: Duration,
    },
    /// Its image cannot be pulled.
    ImagePullBackOff,
    /// No node takes it, for this reason.
    Unschedulable(String),
    /// Ready and not ready in turn, beginning with ready.
    Flapping {
        /// How long each turn lasts.
        every: Duration,
    },
}

/// How long things take.
#[derive(Debug, Clone)]
pub struct SimulatedOptions {
    /// Where the times come from. Default 0.
    pub seed: u64,
    /// From being bound to being ready; each pod has its own. Default 0.5 s to 2 s.
    pub ready_after: Range<Duration>,
    /// From being asked to stop to being gone, at most its grace. Default 1 s.
    pub stops_in: Duration,
    /// Whether pods have an IPv6 address too. Default false.
    pub dual_stack: bool,
}

impl Default for SimulatedOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            ready_after: Duration::from_millis(500)..Duration::from_secs(2),
            stops_in: Duration::from_secs(1),
            dual_stack: false,
        }
    }
}

type ScriptOf = Arc<dyn Fn(&Pod) -> Script + Send + Sync>;

/// A kubelet that only pretends.
pub struct Simulated {
    options: SimulatedOptions,
    random: Mutex<StdRng>,
    script: ScriptOf,
    addresses: AtomicU32,
}

impl Simulated {
    /// Every pod gets ready.
    #[must_use]
    pub fn new(options: SimulatedOptions) -> Self {
        Self::scripted(options, |_| Script::Ready)
    }

    /// `script` says what happens to each pod. For a pod that no node takes it is asked again and again.
    pub fn scripted(options: SimulatedOptions, script: impl Fn(&Pod) -> Script + Send + Sync + 'static) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(options.seed));
        Self { options, random, script: Arc::new(script), addresses: AtomicU32::new(0) }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        // In a circle: an address is used again as late as possible.
        let number = self.addresses.fetch_add(1, Ordering::Relaxed) % ADDRESSES + 1;
        let [_, _, high, low] = number.to_be_bytes();
        let mut all = vec![IpAddr::V4(Ipv4Addr::new(10, 244, high, low))];
        if self.options.dual_stack {
            let number = u16::from_be_bytes([high, low]);
            all.push(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number)));
        }
        all
    }

    fn ready_after(&self) -> Duration {
        let range = &self.options.ready_after;
        if range.is_empty() { range.start } else { self.random.lock().random_range(range.clone()) }
    }
}

impl Kubelet for Simulated {
    fn run(&self, pod: Arc<Pod>, mut orders: Orders, reports: Reports) -> Life {
        let (script, ips, after) = ((self.script)(&pod), self.addresses(), self.ready_after());
        let stops_in = self.options.stops_in;
        Box::pin(async move {
            let mut seen = Seen { ips, state: creating(), ready: false, restarts: 0, last: None };
            let grace = tokio::select! {
                biased;
                grace = orders.stop() => grace,
                () = play(script, &pod, after, &mut seen, &reports) => Duration::ZERO,
            };
            // What is ready stays so until it is gone, as a server that finishes its requests.
            tokio::select! {
                biased;
                () = orders.kill() => {}
                () = sleep(stops_in.min(grace)) => {}
            }
        })
    }

    fn refuses(&self, pod: &Pod) -> Option<String> {
        match (self.script)(pod) {
            Script::Unschedulable(why) => Some(why),
            Script::Ready
            | Script::ReadyAfter(_)
            | Script::NeverReady
            | Script::CrashLoop { .. }
            | Script::ImagePullBackOff
            | Script::Flapping { .. } => None,
        }
    }
}

fn creating() -> State {
    State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() }
}

/// The story of a pod; it has no end of its own.
async fn play(script: Script, pod: &Pod, after: Duration, seen: &mut Seen, reports: &Reports) {
    reports.tell(seen).await;
    match script {
        Script::Ready | Script::Unschedulable(_) => run_ready(after, seen, reports).await,
        Script::ReadyAfter(after) => run_ready(after, seen, reports).await,
        Script::NeverReady => {
            seen.state = State::Running(reports.now());
            reports.tell(seen).await;
        }
        Script::ImagePullBackOff => {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
            seen.state = State::Waiting {
                reason: "ImagePullBackOff".to_owned(),
                message: format!("Back-off pulling image {image:?}"),
            };
            reports.tell(seen).await;
        }
        Script::CrashLoop { runs_for } => crash(runs_for, pod, seen, reports).await,
        Script::Flapping { every } => {
            run_ready(after, seen, reports).await;
            loop {
                sleep(every).await;
                seen.ready = !seen.ready;
                reports.tell(seen).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

async fn run_ready(after: Duration, seen: &mut Seen, reports: &Reports) {
    sleep(after / 2).await;
    seen.state = State::Running(reports.now());
    reports.tell(seen).await;
    sleep(after - after / 2).await;
    seen.ready = true;
    reports.tell(seen).await;
}

async fn crash(runs_for: Duration, pod: &Pod, seen: &mut Seen, reports: &Reports) {
    let mut back_off = BackOff::new();
    loop {
        let started = reports.now();
        seen.state = State::Running(started);
        reports.tell(seen).await;
        sleep(runs_for).await;
        let pause = back_off.after(runs_for);
        seen.last = Some(Ended { exit_code: 1, started, finished: reports.now() });
        seen.state = crash_loop(pod, pause);
        reports.tell(seen).await;
        sleep(pause).await;
        seen.restarts = seen.restarts.saturating_add(1);
    }
}
