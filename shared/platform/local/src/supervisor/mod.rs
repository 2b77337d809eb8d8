//! Which processes to start and stop: the rule, without any process.
//!
//! Invariant: pure. It is told what was asked for and what was seen, with the time, and [`Supervisor::next`] gives what
//! to do; asking again without news gives nothing. At most what is wanted plus the surge of a rollout runs, nothing is
//! started before its back-off has passed, and everything that was started is stopped when it is no longer wanted.

mod backoff;
mod group;
mod leaving;
mod replica;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use backoff::Failure;
use group::Group;
use replica::Replica;

use crate::operate::ReplicaStatus;
use crate::ports::Ports;
use domain::{Endpoint, EndpointId, Replicas, RevisionId, Timestamp, Trouble};
use platform::ScaleError;
use platform::manifest::Workload;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How much longer than its drain-timeout a replica waits to be let go: whoever counts its requests ends the drain, and
/// this only bounds it if nobody does.
pub(crate) const LET_GO_GRACE: Duration = Duration::from_secs(10);
/// Starts in a row that may find their port taken before that counts as a crash.
const PORT_CHANGES_MAX: u32 = 5;

/// Something that was seen of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its process was started and has this id.
    Started(i32),
    /// It answers on its port.
    Ready,
    /// It stopped answering.
    Unready,
    /// It ignores `PORT` and listens on this port.
    FixedPort(u16),
    /// It lives and has failed its liveness or startup probe for good.
    Unhealthy(Failure),
    /// Somebody else has its port. Its process is gone.
    PortTaken,
    /// Its process is gone.
    Exited(Failure),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start this process.
    Start(Launch),
    /// Run its preStop, then send TERM.
    Stop(EndpointId),
    /// Send KILL.
    Kill(EndpointId),
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Its name.
    pub(crate) id: EndpointId,
    /// Its slot among the replicas of its revision.
    pub(crate) slot: u32,
    /// Where it should listen.
    pub(crate) port: u16,
    /// The GPUs it may use.
    pub(crate) gpus: Vec<u32>,
    /// What it is.
    pub(crate) workload: Arc<Workload>,
}

/// What the outside is told of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// All replicas that have a process and are not told to end yet.
    pub(crate) endpoints: Vec<Endpoint>,
    /// What was last asked for.
    pub(crate) requested: Replicas,
    /// How many answer.
    pub(crate) ready: Replicas,
    /// How many were told to end and have not ended.
    pub(crate) terminating: Replicas,
    /// Why replicas do not become ready.
    pub(crate) trouble: Option<Trouble>,
}

/// The replicas of every revision.
#[derive(Debug)]
pub(crate) struct Supervisor {
    groups: BTreeMap<RevisionId, Group>,
    resources: Resources,
    actions: Vec<Action>,
    stopping: bool,
}

/// What replicas share, and what makes their names unique.
#[derive(Debug)]
struct Resources {
    ports: Ports,
    gpus_free: BTreeSet<u32>,
    gpus: u32,
    boot: u64,
    born: u64,
}

impl Resources {
    /// A name and a rank that no process had before, in this life or an earlier one.
    fn name(&mut self, revision: &RevisionId, slot: u32) -> (EndpointId, u64) {
        self.born += 1;
        (EndpointId::new(&format!("{}-{slot}-{}-{}", revision.name(), self.boot, self.born)), self.born)
    }

    /// Takes back what `replica` held.
    fn free(&mut self, now: Timestamp, replica: &mut Replica) {
        if let Some(port) = replica.port.take() {
            self.ports.release(now, port);
        }
        self.gpus_free.extend(replica.gpus.drain(..));
        replica.fixed_port = None;
    }
}

impl Supervisor {
    /// No revision yet. `boot` differs in every life of this state directory; the machine has `gpus` GPUs.
    pub(crate) fn new(ports: Ports, gpus: u32, boot: u64) -> Self {
        let resources = Resources { ports, gpus_free: (0..gpus).collect(), gpus, boot, born: 0 };
        Self { groups: BTreeMap::new(), resources, actions: Vec::new(), stopping: false }
    }

    /// A revision is new or its workload was edited. `first` is what is asked for if it is new.
    pub(crate) fn apply(&mut self, workload: Arc<Workload>, first: Replicas) {
        match self.groups.get_mut(&workload.id) {
            Some(group) => group.apply(workload, first),
            None => {
                self.groups.insert(workload.id.clone(), Group::new(workload, first));
            }
        }
    }

    /// How long replicas of `revision` that are replaced or removed may finish what they have.
    pub(crate) fn set_drain_timeout(&mut self, revision: &RevisionId, drain_timeout: Duration) {
        if let Some(group) = self.groups.get_mut(revision) {
            group.drain_timeout = drain_timeout;
        }
    }

    /// Whether replicas of `revision` have no more room than was asked for: none is started before another is gone.
    pub(crate) fn set_exclusive(&mut self, revision: &RevisionId, exclusive: bool) {
        if let Some(group) = self.groups.get_mut(revision) {
            group.exclusive = exclusive;
        }
    }

    /// The object of a revision is gone: nothing of it is started any more, and its replicas drain.
    pub(crate) fn remove(&mut self, revision: &RevisionId) {
        if let Some(group) = self.groups.get_mut(revision) {
            group.removed = true;
            group.requested = Replicas::ZERO;
        }
    }

    /// Lets every process of `revision` be replaced as an edit would; gives which, and `None` if there is no such revision.
    pub(crate) fn restart(&mut self, revision: &RevisionId) -> Option<Vec<EndpointId>> {
        let group = self.groups.get_mut(revision).filter(|group| !group.removed)?;
        group.generation += 1;
        let running = group.replicas.iter().filter(|replica| replica.has_process());
        Some(running.map(|replica| replica.id.clone()).collect())
    }

    /// Every replica, by revision and slot. Their labels are not known here.
    pub(crate) fn replicas(&self, now: Timestamp) -> Vec<ReplicaStatus> {
        self.groups.iter().flat_map(|(revision, group)| group.replica_statuses(now, revision)).collect()
    }

    /// What is asked for, if the revision exists.
    pub(crate) fn requested(&self, revision: &RevisionId) -> Option<Replicas> {
        self.groups.get(revision).map(|group| group.requested)
    }

    /// Asks for `to` replicas of `revision`. Lowering is a compare-and-set on `from`; of `remove_first`, as many leave as
    /// the count is lowered by, and those that drain because they are replaced or removed.
    pub(crate) fn scale(
        &mut self,
        now: Timestamp,
        revision: &RevisionId,
        from: Replicas,
        to: Replicas,
        remove_first: &[EndpointId],
    ) -> Result<(), ScaleError> {
        let group = self.groups.get_mut(revision).ok_or_else(|| {
            ScaleError::NotFound(domain::ScaleTargetRef::deployment(revision.namespace(), revision.name()))
        })?;
        let current = group.requested;
        if to < current && from != current {
            return Err(ScaleError::Changed { now: current });
        }
        if group.removed && !to.is_zero() {
            return Err(ScaleError::Refused("its object is gone".into()));
        }
        group.let_go(now, remove_first, &mut self.actions);
        group.requested = to;
        if to < current {
            group.remove(now, remove_first, &mut self.actions);
        }
        Ok(())
    }

    /// Notes what was seen of a replica. News of one that is gone is ignored.
    pub(crate) fn seen(&mut self, now: Timestamp, id: &EndpointId, seen: Seen) {
        let found = self.groups.iter_mut().find_map(|(revision, group)| {
            group.replicas.iter().position(|replica| replica.id == *id).map(|index| (revision, group, index))
        });
        if let Some((revision, group, index)) = found {
            group.seen(now, revision, index, seen, &mut self.resources, &mut self.actions);
        }
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Timestamp) -> Vec<Action> {
        for (revision, group) in &mut self.groups {
            if self.stopping {
                group.stop_all(now, &mut self.actions);
            } else if group.removed {
                group.drain_all(now, &mut self.actions);
            } else {
                group.converge(now, revision, &mut self.resources, &mut self.actions);
            }
            group.timers(now, &mut self.actions);
        }
        self.groups.retain(|_, group| !(group.removed && group.replicas.is_empty()));
        std::mem::take(&mut self.actions)
    }

    /// When [`Supervisor::next`] may have something to do although nothing was seen.
    pub(crate) fn next_check(&self, now: Timestamp) -> Option<Timestamp> {
        let port =
            self.groups.values().any(Group::waits_for_a_port).then(|| self.resources.ports.next_free()).flatten();
        self.groups.values().filter_map(|group| group.next_check(now)).chain(port).min()
    }

    /// What the outside is told of `revision`; `None` when it is gone.
    pub(crate) fn view(&self, revision: &RevisionId) -> Option<View> {
        Some(self.groups.get(revision)?.view(self.resources.gpus))
    }

    /// Stops everything, and starts nothing ever after.
    pub(crate) fn stop_all(&mut self) {
        self.stopping = true;
    }

    /// Kills everything that still runs, and starts nothing ever after.
    pub(crate) fn kill_all(&mut self) {
        self.stopping = true;
        for group in self.groups.values_mut() {
            group.kill_all(&mut self.actions);
        }
    }

    /// Processes that exist, leaving ones included.
    pub(crate) fn processes(&self) -> usize {
        self.groups.values().flat_map(|group| &group.replicas).filter(|replica| replica.has_process()).count()
    }
}
