//! What happened, and what must not have.
//!
//! Invariants kept here: counts stay within the bounds; only the leader writes; nothing shrinks while data is missing or
//! below what the replicas are measured to need; no replica is stopped while it has a request, or has more than its limit.

use domain::{Ack, EndpointId, Frame, Replicas, ReporterId, Revision};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// One scale call that reached the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) at: Duration,
    pub(crate) caller: Option<usize>,
    pub(crate) before: u32,
    pub(crate) to: u32,
    pub(crate) remove_first: Vec<EndpointId>,
    pub(crate) accepted: bool,
}

/// One request of a client, from its sending to the last byte of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Which activator.
    pub(crate) via: usize,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    /// The status, or what broke.
    pub(crate) outcome: Result<u16, String>,
}

impl Call {
    pub(crate) fn answered(&self) -> bool {
        self.outcome == Ok(200)
    }
}

/// What one replica does and did.
#[derive(Debug, Default)]
struct Served {
    now: u32,
    most: u32,
}

/// Samples of the replicas' load that a need is averaged over: one stable window of ticks.
const SAMPLES: usize = 600;

/// Everything noted.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Bounds of the count.
    bounds: (u32, u32),
    /// Requests that one replica should have.
    target: f64,
    /// Most requests one replica may have, if limited.
    limit: Option<u32>,
    /// Who may write now.
    pub(crate) leader: Option<usize>,
    /// Reports are missing: nothing may shrink.
    pub(crate) blind: bool,
    /// The load is constant: nothing may shrink below its need.
    pub(crate) steady: bool,
    /// A replica may lose a request now: somebody that carried it was killed.
    pub(crate) lossy: bool,
    pub(crate) writes: Vec<Write>,
    pub(crate) calls: Vec<Call>,
    pub(crate) sent: u64,
    /// Acknowledged frames that carried a drain directive back.
    pub(crate) drains: u32,
    /// What `GET /v1/revisions` of an autoscaler said last.
    pub(crate) statuses: BTreeMap<usize, serde_json::Value>,
    /// Cancelled when a task of a living program dies.
    pub(crate) failed: BTreeMap<String, CancellationToken>,
    /// Tells a program to leave, by its name.
    pub(crate) stops: BTreeMap<String, CancellationToken>,
    /// Requests counted, by autoscaler, reporter and boot.
    told: BTreeMap<(usize, ReporterId, u64), u64>,
    replicas: BTreeMap<EndpointId, Served>,
    samples: VecDeque<u32>,
    violations: Vec<String>,
}

impl Ledger {
    /// Nothing has happened yet to `revision`.
    pub(crate) fn of(revision: &Revision) -> Self {
        let scaling = &revision.scaling;
        Self {
            bounds: (scaling.min_scale.get(), scaling.max_scale.map_or(u32::MAX, Replicas::get)),
            target: scaling.signals[0].target(),
            limit: revision.limits.container_concurrency.map(NonZeroU32::get),
            ..Self::default()
        }
    }

    /// An autoscaler sends a scale call.
    pub(crate) fn about_to_write(&mut self, caller: Option<usize>, to: Replicas) {
        if caller.is_none() || caller != self.leader {
            self.violation(format!("{caller:?} writes {to} while {:?} leads", self.leader));
        }
    }

    /// A scale call has arrived.
    pub(crate) fn written(&mut self, write: Write) {
        let (min, max) = self.bounds;
        let Write { before, to, accepted, .. } = write;
        if to < min || to > max {
            self.violation(format!("{to} is outside {min}..={max}"));
        }
        if accepted && to < before {
            let need = self.need();
            if self.blind {
                self.violation(format!("{before} -> {to} while reports are missing"));
            }
            if self.steady && to < need {
                self.violation(format!("{before} -> {to} while {need} are needed"));
            }
        }
        self.writes.push(write);
    }

    /// Replicas that the load of the last window needs, measured where it is served.
    pub(crate) fn need(&self) -> u32 {
        let sum: u64 = self.samples.iter().copied().map(u64::from).sum();
        let average = sum as f64 / SAMPLES as f64;
        Replicas::ceil(average / self.target).get()
    }

    /// One tick has passed.
    pub(crate) fn sample(&mut self) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(self.replicas.values().map(|served| served.now).sum());
    }

    /// A replica takes a request.
    pub(crate) fn begin(&mut self, replica: &EndpointId) {
        let served = self.replicas.entry(replica.clone()).or_default();
        served.now += 1;
        served.most = served.most.max(served.now);
        if let (now, Some(limit)) = (served.now, self.limit)
            && now > limit
        {
            self.violation(format!("{replica} has {now} requests, and {limit} is its limit"));
        }
    }

    /// It has answered it, or was stopped before.
    pub(crate) fn end(&mut self, replica: &EndpointId, answered: bool) {
        if let Some(served) = self.replicas.get_mut(replica) {
            served.now -= 1;
        }
        if !answered && !self.lossy {
            self.violation(format!("{replica} was stopped, or left by its activator, while it had a request"));
        }
    }

    /// Most requests any replica ever had at once.
    pub(crate) fn most(&self) -> u32 {
        self.replicas.values().map(|served| served.most).max().unwrap_or(0)
    }

    /// An autoscaler has acknowledged a frame.
    pub(crate) fn told(&mut self, autoscaler: usize, frame: &Frame, ack: &Ack) {
        self.drains += u32::from(!ack.drain.is_empty());
        let told = self.told.entry((autoscaler, frame.reporter.clone(), frame.boot)).or_default();
        for row in &frame.rows {
            *told = row.requests.max(*told);
        }
    }

    /// Requests that an autoscaler was told of, over all activators and their lives.
    pub(crate) fn counted(&self, autoscaler: usize) -> u64 {
        self.told.iter().filter(|((number, ..), _)| *number == autoscaler).map(|(_, told)| told).sum()
    }

    /// Requests of one reporter, over all its lives, that an autoscaler was told of.
    pub(crate) fn counted_by(&self, autoscaler: usize, reporter: &str) -> u64 {
        let of = |(number, name, _): &(usize, ReporterId, u64)| *number == autoscaler && name.as_str() == reporter;
        self.told.iter().filter(|(key, _)| of(key)).map(|(_, told)| told).sum()
    }

    /// Accepted calls that changed the count, as `(before, to)`.
    pub(crate) fn steps(&self) -> Vec<(u32, u32)> {
        self.writes
            .iter()
            .filter(|write| write.accepted && write.before != write.to)
            .map(|write| (write.before, write.to))
            .collect()
    }

    /// Requests whose answer is not 200.
    pub(crate) fn failures(&self) -> Vec<&Call> {
        self.calls.iter().filter(|call| !call.answered()).collect()
    }

    /// Notes what must not happen.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(format!("at {:?}: {what}", crate::cluster::now()));
    }

    /// What must not have happened and did.
    pub(crate) fn violations(&self) -> Vec<String> {
        let dead = self.failed.iter().filter(|(_, failed)| failed.is_cancelled());
        self.violations.iter().cloned().chain(dead.map(|(name, _)| format!("a task of {name} died"))).collect()
    }
}
