//! What runs a pod once it is bound to a node: the seam between pods and whatever stands behind them.
//!
//! Invariant: a pod's whole life is one future; dropping it leaves nothing behind.

mod command;
mod lives;
mod probe;
mod processes;
mod simulated;
mod status;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};

pub use lives::{Lives, PodKey, Told};
pub use processes::{ProcessOptions, Processes};
pub use simulated::{Script, Simulated, SimulatedOptions};
use status::pod_status;

/// The life of one pod.
pub type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs pods.
pub trait Kubelet: Send + Sync + 'static {
    /// Runs a bound pod. The future ends when the pod has ended after [`Orders::stop`] asked for it; until then it reports
    /// whatever changes. Dropping it ends the pod at once.
    fn run(&self, pod: Arc<Pod>, orders: Orders, reports: Reports) -> Life;

    /// Why the pod may not be put on any node now; absent: it may.
    fn refuses(&self, _pod: &Pod) -> Option<String> {
        None
    }

    /// Ends everything at once, from a place that cannot wait.
    fn end_now(&self) {}
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not running, for a reason as a kubelet gives it, like `CrashLoopBackOff`.
    Waiting {
        /// One word.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// Running since then.
    Running(Timestamp),
    /// It ended and is not started again.
    Ended(Ended),
}

/// How a container's last run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// As a shell reports it: 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// When it had started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// A pod as its kubelet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its addresses, the first one of the primary family; at most one of each family.
    pub ips: Vec<IpAddr>,
    /// How its containers are; they share one fate.
    pub state: State,
    /// Whether its readiness probe says yes.
    pub ready: bool,
    /// How often its containers were started again.
    pub restarts: i32,
    /// How the run before this one ended.
    pub last: Option<Ended>,
}

/// What is asked of a running pod.
#[derive(Debug, Clone)]
pub struct Orders(watch::Receiver<Option<Duration>>);

impl Orders {
    pub(crate) fn channel() -> (watch::Sender<Option<Duration>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Waits until the pod is to stop; the answer is its grace. Also when nobody can ask any more: then there is none.
    pub async fn stop(&mut self) -> Duration {
        match self.0.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }

    /// Waits until the pod is to stop without any grace.
    pub async fn kill(&mut self) {
        // An error is that nobody can ask any more, which asks for the same.
        let _ = self.0.wait_for(|grace| *grace == Some(Duration::ZERO)).await;
    }
}

/// One report of a kubelet.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) uid: String,
    pub(crate) seen: Seen,
}

/// Where a pod reports to, and the clock of its cluster.
#[derive(Debug, Clone)]
pub struct Reports {
    pub(crate) uid: String,
    pub(crate) sender: mpsc::Sender<Report>,
    pub(crate) clock: Clock,
}

impl Reports {
    /// Tells how the pod is now. Waits while the cluster has not yet taken in earlier reports.
    pub async fn tell(&self, seen: &Seen) {
        let report = Report { uid: self.uid.clone(), seen: seen.clone() };
        // Nobody listens when the cluster is being dropped.
        let _ = self.sender.send(report).await;
    }

    /// The wall clock of the cluster.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A wall clock that follows tokio's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) started: Timestamp,
    pub(crate) origin: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
        self.started.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// The pause before a container is started again: 10 s, doubled up to 5 minutes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackOff {
    next: Duration,
}

impl BackOff {
    const FIRST: Duration = Duration::from_secs(10);
    const MOST: Duration = Duration::from_secs(300);
    /// A run of this length makes the next pause the first one again.
    const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause after a run of this length.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Self::FORGIVEN_AFTER {
            self.next = Self::FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(Self::MOST);
        pause
    }
}

/// What a kubelet says while it waits before a restart.
pub(crate) fn crash_loop(pod: &Pod, pause: Duration) -> State {
    let name = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map_or("", |container| &container.name);
    State::Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: format!("back-off {}s restarting failed container={name}", pause.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_minutes_and_a_long_run_forgives() {
        let mut back_off = BackOff::new();
        let seconds: Vec<u64> = (0..7).map(|_| back_off.after(Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.after(Duration::from_secs(600)).as_secs(), 10);
    }
}
