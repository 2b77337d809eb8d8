//! The replicas of one revision.
//!
//! Invariant: a replica that leaves keeps its slot number, port and GPUs until its process is gone.

use super::replica::{Replica, State};
use super::{Action, Failure, Launch, PORT_CHANGES_MAX, Resources, Seen};
use domain::{EndpointId, Replicas, RevisionId, Timestamp};
use platform::manifest::Workload;
use std::sync::Arc;
use std::time::Duration;

/// Why a replica that may start does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// Every port is in use or rests.
    Ports,
    /// Fewer GPUs are free than it needs.
    Gpus,
}

/// One revision.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) workload: Arc<Workload>,
    /// Grows with every edit that needs other processes, and with every restart.
    pub(super) generation: u64,
    pub(super) requested: Replicas,
    /// Its object is gone: nothing is started, and what runs drains.
    pub(super) removed: bool,
    /// How long a replica that is replaced or removed may finish what it has.
    pub(super) drain_timeout: Duration,
    /// There is no room for more processes than asked for, not even while one takes another's place.
    pub(super) exclusive: bool,
    pub(super) replicas: Vec<Replica>,
    /// Its program ignores `PORT` and listens here, so there can be only one.
    pub(super) fixed_port: Option<u16>,
    pub(super) shortage: Option<Shortage>,
}

impl Group {
    pub(super) const fn new(workload: Arc<Workload>, requested: Replicas) -> Self {
        Self {
            workload,
            generation: 0,
            requested,
            removed: false,
            drain_timeout: Duration::ZERO,
            exclusive: false,
            replicas: Vec::new(),
            fixed_port: None,
            shortage: None,
        }
    }

    pub(super) fn apply(&mut self, workload: Arc<Workload>, first: Replicas) {
        if self.removed {
            self.removed = false;
            self.requested = first;
        }
        // `spec.replicas` is a wish for the count, not a property of the process.
        if (Workload { replicas: self.workload.replicas, ..(*workload).clone() }) != *self.workload {
            self.generation += 1;
        }
        self.workload = workload;
    }

    /// How many replicas there should be: what was asked for, within what the machine can run.
    fn wanted(&self, gpus: u32) -> usize {
        let by_gpu = gpus.checked_div(self.workload.gpus).unwrap_or(u32::MAX);
        let by_port = if self.fixed_port.is_some() { 1 } else { u32::MAX };
        self.requested.get().min(by_gpu).min(by_port) as usize
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.is_member())
    }

    /// Brings the replicas nearer to what is wanted.
    pub(super) fn converge(
        &mut self,
        now: Timestamp,
        revision: &RevisionId,
        resources: &mut Resources,
        actions: &mut Vec<Action>,
    ) {
        let wanted = self.wanted(resources.gpus);
        let surge = self.replace_old(now, wanted, resources, actions);
        while self.members().count() > wanted + surge {
            let Some(last) =
                self.members().min_by_key(|replica| replica.leaving_order()).map(|replica| replica.id.clone())
            else {
                break;
            };
            self.leave(now, &last, actions);
        }
        let current = |group: &Self| group.members().filter(|replica| replica.generation == group.generation).count();
        while current(self) < wanted && self.members().count() < wanted + surge {
            self.add(now, revision, resources);
        }
        self.start_due(now, resources, actions);
    }

    /// Lets replicas of an earlier generation leave as their successors become ready; gives how many more than wanted may
    /// exist meanwhile: a quarter, rounded up, as a Deployment's default.
    fn replace_old(
        &mut self,
        now: Timestamp,
        wanted: usize,
        resources: &Resources,
        actions: &mut Vec<Action>,
    ) -> usize {
        let generation = self.generation;
        let unready_old: Vec<EndpointId> = self
            .members()
            .filter(|replica| replica.generation != generation && replica.state != State::Ready)
            .map(|replica| replica.id.clone())
            .collect();
        for id in unready_old {
            self.drain(now, &id, actions);
        }
        let (mut old, new): (Vec<&Replica>, Vec<&Replica>) =
            self.members().partition(|replica| replica.generation != generation);
        if old.is_empty() {
            return 0;
        }
        let new_ready = new.iter().filter(|replica| replica.state == State::Ready).count();
        // A successor that cannot run beside the old one needs its place first, one at a time.
        let settled =
            new.iter().all(|replica| replica.state != State::Starting) && self.replicas.iter().all(Replica::is_member);
        let needs_place = self.exclusive
            || self.fixed_port.is_some()
            || self.workload.gpus as usize > resources.gpus_free.len() && settled;
        let keep = wanted.saturating_sub(new_ready + usize::from(needs_place));
        old.sort_by_key(|replica| replica.born);
        let leaving = old.len().saturating_sub(keep);
        let drained: Vec<EndpointId> = old.iter().take(leaving).map(|replica| replica.id.clone()).collect();
        for id in drained {
            self.drain(now, &id, actions);
        }
        if needs_place { 0 } else { wanted.div_ceil(4) }
    }

    fn add(&mut self, now: Timestamp, revision: &RevisionId, resources: &mut Resources) {
        let slot = (0..).find(|slot| self.replicas.iter().all(|replica| replica.slot != *slot)).unwrap_or_default();
        let (id, born) = resources.name(revision, slot);
        self.replicas.push(Replica {
            id,
            slot,
            generation: self.generation,
            port: None,
            fixed_port: None,
            gpus: Vec::new(),
            state: State::Backoff { until: now },
            born,
            started: now,
            since: now,
            pid: None,
            port_changes: 0,
            served: false,
            grace: self.workload.termination_grace,
            crashes: super::backoff::Crashes::default(),
        });
    }

    /// Starts what is due, as far as there are ports and GPUs.
    fn start_due(&mut self, now: Timestamp, resources: &mut Resources, actions: &mut Vec<Action>) {
        self.shortage = None;
        for index in 0..self.replicas.len() {
            if !matches!(self.replicas[index].state, State::Backoff { until } if until <= now) {
                continue;
            }
            let processes = self.replicas.iter().filter(|replica| replica.has_process()).count();
            if self.fixed_port.is_some() && processes > 0 || self.exclusive && processes >= self.wanted(resources.gpus)
            {
                return;
            }
            if (self.workload.gpus as usize) > resources.gpus_free.len() {
                self.shortage = Some(Shortage::Gpus);
                return;
            }
            let Some(port) = resources.ports.take(now) else {
                self.shortage = Some(Shortage::Ports);
                return;
            };
            let replica = &mut self.replicas[index];
            replica.port = Some(port);
            replica.gpus = (0..self.workload.gpus).filter_map(|_| resources.gpus_free.pop_first()).collect();
            replica.state = State::Starting;
            replica.started = now;
            actions.push(Action::Start(Launch {
                id: replica.id.clone(),
                slot: replica.slot,
                port,
                gpus: replica.gpus.clone(),
                workload: Arc::clone(&self.workload),
            }));
        }
    }

    pub(super) fn seen(
        &mut self,
        now: Timestamp,
        revision: &RevisionId,
        index: usize,
        seen: Seen,
        resources: &mut Resources,
        actions: &mut Vec<Action>,
    ) {
        let replica = &mut self.replicas[index];
        match seen {
            Seen::Started(pid) => replica.pid = Some(pid),
            Seen::Ready => {
                if replica.state == State::Starting {
                    replica.state = State::Ready;
                    replica.served = true;
                    replica.port_changes = 0;
                    if replica.fixed_port.is_none() {
                        self.fixed_port = None;
                    }
                }
            }
            Seen::Unready => {
                if replica.state == State::Ready {
                    replica.state = State::Starting;
                }
            }
            Seen::FixedPort(port) => {
                replica.fixed_port = Some(port);
                self.fixed_port = Some(port);
            }
            Seen::Unhealthy(failure) => self.replace_unhealthy(now, revision, index, failure, resources, actions),
            Seen::PortTaken => self.gone(now, revision, index, None, resources),
            Seen::Exited(failure) => self.gone(now, revision, index, Some(failure), resources),
        }
    }

    /// A process is gone: one that was leaving takes its slot with it, any other is started again.
    fn gone(
        &mut self,
        now: Timestamp,
        revision: &RevisionId,
        index: usize,
        failure: Option<Failure>,
        resources: &mut Resources,
    ) {
        resources.free(now, &mut self.replicas[index]);
        self.replicas[index].pid = None;
        if !self.replicas[index].is_member() {
            self.replicas.remove(index);
            return;
        }
        let replica = &mut self.replicas[index];
        replica.port_changes += 1;
        let crash = failure.or_else(|| {
            (replica.port_changes > PORT_CHANGES_MAX).then(|| Failure {
                reason: Some("PortsTaken"),
                message: format!("{PORT_CHANGES_MAX} ports in a row were taken by others"),
                permanent: false,
            })
        });
        let until = match crash {
            Some(failure) => {
                replica.port_changes = 0;
                replica.crashes.note(now, replica.started, replica.served, failure)
            }
            None => now,
        };
        replica.state = State::Backoff { until };
        replica.served = false;
        (replica.id, replica.born) = resources.name(revision, replica.slot);
    }

    /// The failing process leaves in its own time; a successor with its crash record takes its place.
    fn replace_unhealthy(
        &mut self,
        now: Timestamp,
        revision: &RevisionId,
        index: usize,
        failure: Failure,
        resources: &mut Resources,
        actions: &mut Vec<Action>,
    ) {
        let replica = &self.replicas[index];
        if !replica.is_member() {
            return;
        }
        let (id, generation, mut crashes) = (replica.id.clone(), replica.generation, replica.crashes.clone());
        let until = crashes.note(now, replica.started, replica.served, failure);
        self.leave(now, &id, actions);
        self.add(now, revision, resources);
        if let Some(successor) = self.replicas.last_mut() {
            successor.generation = generation;
            successor.crashes = crashes;
            successor.state = State::Backoff { until };
        }
    }

    pub(super) fn waits_for_a_port(&self) -> bool {
        self.shortage == Some(Shortage::Ports)
    }

    pub(super) fn next_check(&self, now: Timestamp) -> Option<Timestamp> {
        self.replicas
            .iter()
            .filter_map(|replica| match replica.state {
                State::Backoff { until } | State::Draining { until } => Some(until),
                State::Stopping { kill_at } => Some(kill_at),
                State::Starting | State::Ready | State::Killed => None,
            })
            .filter(|at| *at > now)
            .min()
    }
}
