//! What the outside is told of a revision's replicas, and why there are fewer ready ones than asked for.
//!
//! Invariant: derived from the replicas alone; a replica that was told to end, or has no process, is shown to people only,
//! never as an endpoint.

use super::View;
use super::group::{Group, Shortage};
use super::replica::{Replica, State};
use crate::operate::{ReplicaState, ReplicaStatus};
use domain::{Endpoint, EndpointState, Replicas, RevisionId, Timestamp, Trouble};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

impl Group {
    pub(super) fn view(&self, gpus: u32) -> View {
        let endpoints: Vec<Endpoint> = self.replicas.iter().filter_map(endpoint).collect();
        let count = |of: fn(&Replica) -> bool| {
            let count = self.replicas.iter().filter(|replica| of(replica)).count();
            Replicas::new(u32::try_from(count).unwrap_or(u32::MAX))
        };
        View {
            endpoints,
            requested: self.requested,
            ready: count(|replica| replica.state == State::Ready),
            terminating: count(|replica| matches!(replica.state, State::Stopping { .. } | State::Killed)),
            trouble: self.trouble(gpus),
        }
    }

    pub(super) fn replica_statuses(&self, now: Timestamp, revision: &RevisionId) -> Vec<ReplicaStatus> {
        let mut statuses: Vec<ReplicaStatus> =
            self.replicas.iter().map(|replica| self.replica_status(now, revision, replica)).collect();
        statuses.sort_by_key(|status| status.slot);
        statuses
    }

    fn replica_status(&self, now: Timestamp, revision: &RevisionId, replica: &Replica) -> ReplicaStatus {
        let (state, retry_at) = match replica.state {
            State::Backoff { until } if until > now => (ReplicaState::Backoff, Some(until)),
            State::Backoff { .. } => (ReplicaState::Pending, None),
            State::Starting => (ReplicaState::Starting, None),
            State::Ready => (ReplicaState::Ready, None),
            State::Draining { .. } => (ReplicaState::Draining, None),
            State::Stopping { .. } | State::Killed => (ReplicaState::Stopping, None),
        };
        let shortage = match (state, self.shortage) {
            (ReplicaState::Pending, Some(Shortage::Ports)) => Some("waits for a free port".to_owned()),
            (ReplicaState::Pending, Some(Shortage::Gpus)) => Some("waits for free GPUs".to_owned()),
            _ => None,
        };
        ReplicaStatus {
            name: format!("{}-{}", revision.name(), replica.slot),
            service: revision.clone(),
            slot: replica.slot,
            id: replica.id.clone(),
            state,
            address: replica.fixed_port.or(replica.port).map(|port| (Ipv4Addr::LOCALHOST, port).into()),
            pid: replica.pid,
            restarts: replica.crashes.total(),
            age_seconds: now.since(replica.since).as_secs(),
            outdated: replica.generation != self.generation,
            retry_after_seconds: retry_at.map(|at| at.since(now).as_secs_f64()),
            reason: shortage.or_else(|| replica.crashes.last().map(|last| last.message.clone())),
            labels: BTreeMap::new(),
        }
    }

    /// The most telling reason why there are fewer ready replicas than asked for.
    fn trouble(&self, gpus: u32) -> Option<Trouble> {
        let looping = self
            .members()
            .filter(|replica| replica.state != State::Ready)
            .filter(|replica| replica.crashes.count() > 1 || replica.crashes.is_permanent())
            .max_by_key(|replica| replica.crashes.count());
        if let Some((replica, last)) = looping.and_then(|replica| Some((replica, replica.crashes.last()?))) {
            let (slot, count, wait) = (replica.slot, replica.crashes.count(), replica.crashes.wait());
            return Some(Trouble {
                reason: last.reason.unwrap_or("CrashLoopBackOff").into(),
                message: format!(
                    "replica {slot} {} ({count} times in a row); tried again {} s after that",
                    last.message,
                    wait.as_secs()
                ),
                permanent: replica.crashes.is_permanent(),
            });
        }
        let trouble =
            |reason: &str, message: String, permanent| Some(Trouble { reason: reason.into(), message, permanent });
        let asked = u64::from(self.requested.get()) * u64::from(self.workload.gpus);
        if self.shortage == Some(Shortage::Gpus) || asked > u64::from(gpus) {
            let message = format!("{asked} GPUs are asked for; this machine has {gpus}, some may be in use");
            return trouble("InsufficientGpus", message, self.workload.gpus > gpus);
        }
        if self.shortage == Some(Shortage::Ports) {
            return trouble("NoFreePort", "every port of the range is in use or rests after use".into(), false);
        }
        match self.fixed_port {
            Some(port) if self.requested > Replicas::ONE => trouble(
                "FixedPort",
                format!(
                    "it listens on {port} and not on $PORT, so only one replica can run; pass $(PORT) to the program"
                ),
                true,
            ),
            Some(_) | None => None,
        }
    }
}

/// How a replica is shown outside; one that was told to end, or has no process, is not.
fn endpoint(replica: &Replica) -> Option<Endpoint> {
    let state = match replica.state {
        State::Starting => EndpointState::Starting,
        State::Ready => EndpointState::Ready,
        State::Draining { .. } => EndpointState::Draining,
        State::Backoff { .. } | State::Stopping { .. } | State::Killed => return None,
    };
    let port = replica.fixed_port.or(replica.port)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Some(Endpoint { id: replica.id.clone(), address, state, early_probe: None })
}
