//! How replicas of one revision leave: drained until they are let go, told to end, killed after their grace.
//!
//! Invariant: one that may have requests is shown as draining before it is told to end, unless somebody named it or asked
//! for the end of everything; one without a process is simply dropped.

use super::group::Group;
use super::replica::{Replica, State};
use super::{Action, LET_GO_GRACE};
use domain::{EndpointId, Timestamp};

impl Group {
    /// Lets `remove_first` leave, as far as there are more replicas than asked for.
    pub(super) fn remove(&mut self, now: Timestamp, remove_first: &[EndpointId], actions: &mut Vec<Action>) {
        let surplus = self.members().count().saturating_sub(self.requested.get() as usize);
        let named: Vec<EndpointId> = remove_first
            .iter()
            .filter(|id| self.members().any(|replica| replica.id == **id))
            .take(surplus)
            .cloned()
            .collect();
        for id in named {
            self.leave(now, &id, actions);
        }
    }

    /// Ends those of `idle` that drain: whoever sends requests has said that they have none left.
    pub(super) fn let_go(&mut self, now: Timestamp, idle: &[EndpointId], actions: &mut Vec<Action>) {
        let drains = |replica: &&Replica| matches!(replica.state, State::Draining { .. }) && idle.contains(&replica.id);
        let ids: Vec<_> = self.replicas.iter().filter(drains).map(|replica| replica.id.clone()).collect();
        for id in ids {
            self.leave(now, &id, actions);
        }
    }

    /// Shows one replica as draining until it is let go; one that nobody was ever sent to ends at once.
    pub(super) fn drain(&mut self, now: Timestamp, id: &EndpointId, actions: &mut Vec<Action>) {
        let until = now + self.drain_timeout + LET_GO_GRACE;
        match self.replicas.iter_mut().find(|replica| replica.id == *id) {
            Some(replica) if replica.served => replica.state = State::Draining { until },
            Some(_) => self.leave(now, id, actions),
            None => {}
        }
    }

    /// Lets everything drain.
    pub(super) fn drain_all(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for id in self.members().map(|replica| replica.id.clone()).collect::<Vec<_>>() {
            self.drain(now, &id, actions);
        }
    }

    /// Tells one replica to end; one without a process is simply dropped.
    pub(super) fn leave(&mut self, now: Timestamp, id: &EndpointId, actions: &mut Vec<Action>) {
        let Some(index) = self.replicas.iter().position(|replica| replica.id == *id) else { return };
        let replica = &mut self.replicas[index];
        match replica.state {
            State::Backoff { .. } => {
                self.replicas.remove(index);
            }
            State::Starting | State::Ready | State::Draining { .. } => {
                replica.state = State::Stopping { kill_at: now + replica.grace };
                actions.push(Action::Stop(id.clone()));
            }
            State::Stopping { .. } | State::Killed => {}
        }
    }

    pub(super) fn stop_all(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for id in self.replicas.iter().map(|replica| replica.id.clone()).collect::<Vec<_>>() {
            self.leave(now, &id, actions);
        }
    }

    pub(super) fn kill_all(&mut self, actions: &mut Vec<Action>) {
        self.replicas.retain(Replica::has_process);
        for replica in &mut self.replicas {
            if replica.state != State::Killed {
                replica.state = State::Killed;
                actions.push(Action::Kill(replica.id.clone()));
            }
        }
    }

    /// Moves on what waits for a moment that has come.
    pub(super) fn timers(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let due: Vec<EndpointId> = self
            .replicas
            .iter()
            .filter(|replica| matches!(replica.state, State::Draining { until } if until <= now))
            .map(|replica| replica.id.clone())
            .collect();
        for id in due {
            self.leave(now, &id, actions);
        }
        for replica in &mut self.replicas {
            if matches!(replica.state, State::Stopping { kill_at } if kill_at <= now) {
                replica.state = State::Killed;
                actions.push(Action::Kill(replica.id.clone()));
            }
        }
    }
}
