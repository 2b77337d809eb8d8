//! The runner's part of what a person does by hand.
//!
//! Invariant: what was asked for is answered in the turn in which it is done; a floor that has ended is taken back by
//! itself, whatever happened to the clocks meanwhile.

use super::Runner;
use crate::operate::{FloorSet, Operate, OperateError, ReleaseDone, ReplicaStatus, RestartBegun};
use crate::overrides::Overrides;
use domain::{Mode, Replicas, Revision, RevisionId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest time until the wall clock is looked at again while a floor lasts: it may have been set, or the machine may
/// have slept.
const WALL_LOOK: Duration = Duration::from_secs(30);

impl Runner {
    pub(super) fn operate(&mut self, asked: Operate) {
        // Whoever asked may have given up; what was done stands.
        match asked {
            Operate::Replicas(reply) => drop(reply.send(self.replicas())),
            Operate::Floor { service, floor, reply } => drop(reply.send(self.set_floor(&service, floor))),
            Operate::Restart { service, reply } => drop(reply.send(self.restart(service))),
            Operate::Release { service, let_go: true, reply } => drop(reply.send(self.release(&service))),
            Operate::Release { service, let_go: false, reply } => drop(reply.send(self.take_back(&service))),
        }
    }

    fn replicas(&self) -> Vec<ReplicaStatus> {
        let mut all = self.supervisor.replicas(self.now());
        for replica in &mut all {
            replica.labels = self.labels.get(&replica.service).cloned().unwrap_or_default();
        }
        all
    }

    fn declared(&self, id: &RevisionId) -> Result<Arc<Revision>, OperateError> {
        let found = self.revisions.get(id).filter(|revision| revision.mode != Mode::Removed);
        found.cloned().ok_or_else(|| OperateError::NotFound(id.clone()))
    }

    /// Changes what was set by hand, and what is shown because of it.
    fn set<T>(&mut self, id: &RevisionId, change: impl FnOnce(&mut Overrides) -> T) -> T {
        let mut overrides = self.memory.borrow().overrides.clone();
        let result = change(&mut overrides);
        self.memory.send_if_modified(|memory| {
            let changed = memory.overrides != overrides;
            memory.overrides = overrides;
            changed
        });
        self.show(id);
        result
    }

    fn set_floor(&mut self, id: &RevisionId, floor: Option<(Replicas, Duration)>) -> Result<FloorSet, OperateError> {
        let (declared, now) = (self.declared(id)?, (self.wall_clock)());
        let floor = match floor {
            Some((min, span)) => {
                let floor = self.set(id, |overrides| overrides.set_floor(&declared, min, span, now))?;
                tracing::info!("{id}: at least {min} until {:.0} (kpa scale)", floor.until);
                Some(floor)
            }
            None => {
                if self.set(id, |overrides| overrides.clear_floor(id)).is_some() {
                    tracing::info!("{id}: the floor of kpa scale was cleared");
                }
                None
            }
        };
        let min_scale =
            self.published.get(id).map_or(declared.scaling.min_scale, |shown| shown.scaling.min_scale).value;
        Ok(FloorSet { floor, min_scale })
    }

    /// When the wall clock should be looked at.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let end = self.memory.borrow().overrides.next_end()?;
        Some(Instant::now() + end.since((self.wall_clock)()).min(WALL_LOOK))
    }

    /// Takes back the floors that have ended.
    pub(super) fn end_floors(&mut self) {
        let now = (self.wall_clock)();
        if self.memory.borrow().overrides.next_end().is_none_or(|end| end > now) {
            return;
        }
        let mut ended = Vec::new();
        self.memory.send_modify(|memory| ended = memory.overrides.expire(now));
        for (id, floor) in ended {
            tracing::info!("{id}: the floor of {} (kpa scale) has ended", floor.min);
            self.show(&id);
        }
    }

    fn restart(&mut self, id: RevisionId) -> Result<RestartBegun, OperateError> {
        let Some(replaces) = self.supervisor.restart(&id) else { return Err(OperateError::NotFound(id)) };
        tracing::info!("{id}: restarting {} (kpa restart)", replaces.len());
        Ok(RestartBegun { replaces })
    }

    fn release(&mut self, id: &RevisionId) -> Result<ReleaseDone, OperateError> {
        let declared = self.declared(id)?;
        let before = self.published.get(id).map_or_else(|| Arc::clone(&declared), Arc::clone);
        let changed = self.set(id, |overrides| overrides.release(&declared))?;
        let current = self.supervisor.requested(id).unwrap_or_default();
        if !changed {
            return Ok(ReleaseDone { released: true, changed, replicas: current });
        }
        let last = self.memory.borrow().last_nonzero.get(id).copied().unwrap_or_default();
        let replicas = count_at_release(&before, current, last);
        if replicas > current {
            let now = self.now();
            self.supervisor.scale(now, id, current, replicas, &[]).map_err(|_| OperateError::NotFound(id.clone()))?;
            self.remember(id, Some(replicas));
        }
        tracing::info!("{id}: released at {replicas}; it is routed and not scaled (kpa release)");
        Ok(ReleaseDone { released: true, changed, replicas })
    }

    fn take_back(&mut self, id: &RevisionId) -> Result<ReleaseDone, OperateError> {
        self.declared(id)?;
        let changed = self.set(id, |overrides| overrides.take_back(id));
        if changed {
            tracing::info!("{id}: taken back (kpa release --undo)");
        }
        Ok(ReleaseDone { released: false, changed, replicas: self.supervisor.requested(id).unwrap_or_default() })
    }
}

/// max(1, min-scale, last count other than zero), within max-scale; never fewer than there are (kpa-behaviour 1.8).
fn count_at_release(revision: &Revision, current: Replicas, last: Replicas) -> Replicas {
    let scaling = &revision.scaling;
    let before = if current.is_zero() { last } else { current };
    let wanted = Replicas::ONE.max(*scaling.min_scale).max(before);
    scaling.max_scale.value.map_or(wanted, |max| wanted.min(max)).max(current)
}
