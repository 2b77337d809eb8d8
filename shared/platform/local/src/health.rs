//! Watches whether one replica answers, from its first millisecond to its end.
//!
//! Invariants: nothing is called ready before a listener of the replica's own was found on its port; one check at a time,
//! and ready is seen within 10 ms or 2 % of the start time (kpa-behaviour 10.2).

use crate::probe::{Prober, listens};
use crate::procs::{Mark, Owner, port_owner};
use crate::supervisor::{Failure, Seen};
use domain::Probe;
use domain::probe::{CONNECT_PAUSE, pause};
use platform::manifest::Workload;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often it is looked whether the program listens on the manifest's port instead of `PORT`.
const FIXED_PORT_LOOK: Duration = Duration::from_secs(1);

/// What ends the watching before the replica ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A stranger listens on its port.
    PortTaken,
    /// Its startup or liveness probe failed for good.
    Unhealthy(Failure),
}

/// What is needed to watch one replica.
#[derive(Debug)]
pub(crate) struct Health {
    /// Makes the checks.
    pub(crate) prober: Prober,
    /// The leader of its group.
    pub(crate) leader: i32,
    /// What its processes carry.
    pub(crate) mark: Mark,
    /// Its probes.
    pub(crate) workload: Arc<Workload>,
}

impl Health {
    /// Watches until something is wrong for good. `tell` is called with each change.
    pub(crate) async fn watch<F: Future<Output = ()>>(mut self, tell: impl Fn(Seen) -> F) -> Verdict {
        let started = Instant::now();
        let workload = Arc::clone(&self.workload);
        let deadline = workload.startup.as_ref().map(|probe| probe.period.saturating_mul(probe.failure_threshold));
        let became_ready = async {
            if let Some(fixed) = self.listening(started).await? {
                tell(Seen::FixedPort(fixed)).await;
            }
            if let Some(startup) = &workload.startup {
                self.succeeds(startup, started).await;
            }
            Ok(())
        };
        let startup = match deadline {
            Some(limit) => timeout(limit, became_ready).await,
            None => Ok(became_ready.await),
        };
        match startup {
            Ok(Ok(())) => {}
            Ok(Err(verdict)) => return verdict,
            Err(_) => {
                let limit = deadline.unwrap_or_default().as_secs();
                return unhealthy("StartupProbeFailed", format!("did not pass its startup probe within {limit} s"));
            }
        }
        if let Some(readiness) = &workload.readiness {
            self.succeeds(readiness, started).await;
        }
        tell(Seen::Ready).await;
        let readiness = async {
            match &workload.readiness {
                Some(probe) => self.follow_readiness(probe, &tell).await,
                None => std::future::pending().await,
            }
        };
        let liveness = async {
            match &workload.liveness {
                Some(probe) => self.follow_liveness(probe).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            verdict = liveness => verdict,
            () = readiness => std::future::pending().await,
        }
    }

    /// Waits until the replica listens; gives the port if it is not the one it was told.
    async fn listening(&mut self, started: Instant) -> Result<Option<u16>, Verdict> {
        let told = self.prober.port;
        let usual = self.workload.port.filter(|port| *port != told);
        let mut look = started + FIXED_PORT_LOOK;
        loop {
            if listens(told).await {
                match self.owner(told).await {
                    Owner::Replica => return Ok(None),
                    Owner::Stranger => return Err(Verdict::PortTaken),
                    Owner::Unknown => {
                        tracing::info!(replica = ?self.mark.replica, port = told, "cannot see who listens; taken to be the replica");
                        return Ok(None);
                    }
                }
            }
            if let Some(port) = usual.filter(|_| Instant::now() >= look) {
                look = Instant::now() + FIXED_PORT_LOOK;
                if listens(port).await && self.owner(port).await == Owner::Replica {
                    self.prober.port = port;
                    return Ok(Some(port));
                }
            }
            sleep(CONNECT_PAUSE).await;
        }
    }

    /// Who listens on `port`. Reads /proc, so not on the thread that carries everything else.
    async fn owner(&self, port: u16) -> Owner {
        let (leader, mark) = (self.leader, self.mark.clone());
        tokio::task::spawn_blocking(move || port_owner(port, leader, &mark)).await.unwrap_or(Owner::Unknown)
    }

    /// Checks until it has succeeded often enough, soon and seldom enough.
    async fn succeeds(&self, probe: &Probe, started: Instant) {
        let mut successes = 0;
        loop {
            let begun = Instant::now();
            successes = if self.prober.check(probe).await { successes + 1 } else { 0 };
            if successes >= probe.success_threshold.max(1) {
                return;
            }
            sleep(pause(started.elapsed(), begun.elapsed())).await;
        }
    }

    /// Once ready: the manifest's own period and thresholds.
    async fn follow_readiness<F: Future<Output = ()>>(&self, probe: &Probe, tell: &impl Fn(Seen) -> F) {
        loop {
            self.fails(probe).await;
            tell(Seen::Unready).await;
            let mut successes = 0;
            while successes < probe.success_threshold.max(1) {
                sleep(probe.period).await;
                successes = if self.prober.check(probe).await { successes + 1 } else { 0 };
            }
            tell(Seen::Ready).await;
        }
    }

    async fn follow_liveness(&self, probe: &Probe) -> Verdict {
        self.fails(probe).await;
        unhealthy(
            "LivenessProbeFailed",
            format!("failed its liveness probe {} times in a row", probe.failure_threshold),
        )
    }

    /// Waits until the check has failed as often in a row as the manifest allows.
    async fn fails(&self, probe: &Probe) {
        let mut failures = 0;
        while failures < probe.failure_threshold.max(1) {
            sleep(probe.period).await;
            failures = if self.prober.check(probe).await { 0 } else { failures + 1 };
        }
    }
}

fn unhealthy(reason: &'static str, message: String) -> Verdict {
    Verdict::Unhealthy(Failure { reason: Some(reason), message, permanent: false })
}
