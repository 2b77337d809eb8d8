//! The replicas of one revision of the fake.
//!
//! Invariant: one that was told to leave does not count and never comes back; it is listed until it is gone.

use crate::board::Board;
use domain::{Change, Endpoint, EndpointId, EndpointState, Probe, Replicas, RevisionId, ScaleTargetRef, Trouble};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Running {
    pub(super) target: ScaleTargetRef,
    pub(super) requested: Replicas,
    pub(super) replicas: Vec<Replica>,
    pub(super) version: u64,
    pub(super) start_delay: Duration,
    pub(super) trouble: Option<Trouble>,
    pub(super) early_probe: Option<Probe>,
}

pub(super) struct Replica {
    pub(super) id: EndpointId,
    pub(super) address: SocketAddr,
    pub(super) ready_at: Instant,
    pub(super) ready: bool,
    /// Told to leave: when it is gone.
    pub(super) gone_at: Option<Instant>,
}

impl Running {
    /// Those that were not told to leave.
    pub(super) fn staying(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.gone_at.is_none())
    }

    /// Whether a replica became ready, or is gone.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let before = self.replicas.len();
        self.replicas.retain(|replica| replica.gone_at.is_none_or(|at| at > now));
        let mut changed = self.replicas.len() != before;
        for replica in &mut self.replicas {
            if !replica.ready && replica.ready_at <= now {
                replica.ready = true;
                changed = true;
            }
        }
        changed
    }

    /// Down to the count asked for: the named ones, then those that are not ready, then the newest.
    pub(super) fn shrink(&mut self, remove_first: &[EndpointId], gone_at: Instant) {
        for _ in self.requested.get() as usize..self.staying().count() {
            let named = |replica: &Replica| replica.gone_at.is_none() && remove_first.contains(&replica.id);
            let unready = |replica: &Replica| replica.gone_at.is_none() && !replica.ready;
            let victim = self.replicas.iter().position(named);
            let victim = victim.or_else(|| self.replicas.iter().rposition(unready));
            let victim = victim.or_else(|| self.replicas.iter().rposition(|replica| replica.gone_at.is_none()));
            if let Some(replica) = victim.and_then(|victim| self.replicas.get_mut(victim)) {
                replica.gone_at = Some(gone_at);
            }
        }
    }

    pub(super) fn tell(&mut self, id: &RevisionId, board: &Board) {
        let count = |replicas: usize| Replicas::new(u32::try_from(replicas).unwrap_or(u32::MAX));
        let ready = self.staying().filter(|replica| replica.ready).count();
        board.tell(Change::Replicas {
            revision: id.clone(),
            requested: self.requested,
            ready: count(ready),
            terminating: count(self.replicas.len() - self.staying().count()),
            trouble: self.trouble.clone(),
            foreign: None,
        });
        self.version += 1;
        board.tell(Change::Endpoints {
            revision: id.clone(),
            version: self.version,
            endpoints: self.replicas.iter().map(|replica| replica.endpoint(self.early_probe.as_ref())).collect(),
        });
    }
}

impl Replica {
    /// When it becomes ready or is gone, whatever is next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.gone_at.or_else(|| (!self.ready).then_some(self.ready_at))
    }

    fn endpoint(&self, early_probe: Option<&Probe>) -> Endpoint {
        Endpoint {
            id: self.id.clone(),
            address: self.address,
            state: match (self.gone_at, self.ready) {
                (Some(_), _) => EndpointState::Draining,
                (None, true) => EndpointState::Ready,
                (None, false) => EndpointState::Starting,
            },
            early_probe: early_probe.filter(|_| !self.ready && self.gone_at.is_none()).cloned(),
        }
    }
}
