//! What a Deployment says of itself: its counts, and whether it is available, progressing or failing.
//!
//! Invariant: a condition's transition time changes only when its status does.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::super::object::name;
use super::super::pods::{seconds, since_then};
use super::{Look, numbers};

const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// A deadline of the largest number means none.
const NO_DEADLINE: i32 = i32::MAX;

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = find(status, &condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time.clone_from(&current.last_transition_time);
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// Pods that are not of the newest template.
fn outdated(status: &DeploymentStatus) -> i32 {
    status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
}

impl Look<'_> {
    pub(super) fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        find(&self.status, kind)
    }

    pub(super) fn set_condition(&mut self, condition: DeploymentCondition) {
        set(&mut self.status, condition);
    }

    fn deadline(&self) -> Option<Duration> {
        let deadline = numbers::spec(self.deployment).and_then(|spec| spec.progress_deadline_seconds);
        deadline.filter(|deadline| *deadline != NO_DEADLINE).map(seconds)
    }

    pub(super) fn has_deadline(&self) -> bool {
        self.deadline().is_some()
    }

    /// A pause stops the clock of the deadline, except when it has passed already.
    pub(super) fn note_pause(&mut self) {
        if !self.has_deadline() {
            return;
        }
        let reason = self.condition(PROGRESSING).and_then(|condition| condition.reason.clone()).unwrap_or_default();
        if reason == TIMED_OUT {
            return;
        }
        let paused = numbers::spec(self.deployment).and_then(|spec| spec.paused).unwrap_or(false);
        let (reason, text) = match (paused, reason == "DeploymentPaused") {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            (true, true) | (false, false) => return,
        };
        self.set_condition(self.new_condition(PROGRESSING, "Unknown", reason, text.to_owned()));
    }

    /// The status with the counts of now, and the condition `Available`.
    pub(super) fn counted(&self) -> DeploymentStatus {
        let available: i32 = self.all().map(numbers::available).sum();
        // As on a real cluster a zero is not written at all.
        let shown = |count: i32| (count != 0).then_some(count);
        let mut status = DeploymentStatus {
            available_replicas: shown(available),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
            observed_generation: self.deployment.metadata.generation,
            ready_replicas: shown(self.all().map(numbers::ready).sum()),
            replicas: shown(self.all().map(numbers::actual).sum()),
            terminating_replicas: None,
            unavailable_replicas: shown((numbers::total(self.all()) - available).max(0)),
            updated_replicas: shown(self.new.as_ref().map_or(0, numbers::actual)),
        };
        let least = numbers::desired(self.deployment) - numbers::max_unavailable(self.deployment);
        let (is, reason, text) = if available >= least {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set(&mut status, self.new_condition("Available", is, reason, text.to_owned()));
        status
    }

    pub(super) fn is_complete(&self, status: Option<&DeploymentStatus>) -> bool {
        let desired = numbers::desired(self.deployment);
        status.is_some_and(|status| {
            [status.updated_replicas, status.replicas, status.available_replicas]
                .iter()
                .all(|count| count.unwrap_or(0) == desired)
                && status.observed_generation.unwrap_or(0) >= self.deployment.metadata.generation.unwrap_or(0)
        })
    }

    pub(super) fn sync_rollout_status(&mut self) {
        let before = self.deployment.status.clone().unwrap_or_default();
        let mut status = self.counted();
        let current = self.condition(PROGRESSING).cloned();
        let done = current.as_ref().is_some_and(|current| current.reason.as_deref() == Some(NEW_AVAILABLE))
            && status.replicas == status.updated_replicas;
        if !self.has_deadline() {
            remove(&mut status, PROGRESSING);
        } else if !done {
            let subject = match &self.new {
                Some(new) => format!("ReplicaSet \"{}\"", name(&new.metadata)),
                None => format!("Deployment \"{}\"", name(&self.deployment.metadata)),
            };
            if self.is_complete(Some(&status)) {
                let text = format!("{subject} has successfully progressed.");
                set(&mut status, self.new_condition(PROGRESSING, "True", NEW_AVAILABLE, text));
            } else if Self::progresses(&before, &status) {
                let text = format!("{subject} is progressing.");
                let mut condition = self.new_condition(PROGRESSING, "True", "ReplicaSetUpdated", text);
                if let Some(current) = current.filter(|current| current.status == "True") {
                    condition.last_transition_time = current.last_transition_time;
                }
                // Taken out first: the same reason again still moves the time of the last update.
                remove(&mut status, PROGRESSING);
                set(&mut status, condition);
            } else if self.timed_out(&status) {
                let text = format!("{subject} has timed out progressing.");
                set(&mut status, self.new_condition(PROGRESSING, "False", TIMED_OUT, text));
            }
        }
        self.note_failures(&mut status);
        self.status = status;
    }

    fn progresses(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
        let grew = |count: fn(&DeploymentStatus) -> Option<i32>| count(after).unwrap_or(0) > count(before).unwrap_or(0);
        grew(|status| status.updated_replicas)
            || outdated(after) < outdated(before)
            || grew(|status| status.ready_replicas)
            || grew(|status| status.available_replicas)
    }

    fn timed_out(&self, status: &DeploymentStatus) -> bool {
        let (Some(deadline), Some(condition)) = (self.deadline(), find(status, PROGRESSING)) else { return false };
        match condition.reason.as_deref() {
            Some(NEW_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => condition.last_update_time.as_ref().is_some_and(|from| since_then(from.0, self.now) > deadline),
        }
    }

    /// The failure of the newest ReplicaSet, else of any.
    fn note_failures(&self, status: &mut DeploymentStatus) {
        let failure = self.new.iter().chain(&self.old).find_map(|set| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE)
        });
        match failure {
            Some(failure) => set(
                status,
                DeploymentCondition {
                    last_transition_time: failure.last_transition_time.clone(),
                    last_update_time: failure.last_transition_time.clone(),
                    message: failure.message.clone(),
                    reason: failure.reason.clone(),
                    status: failure.status.clone(),
                    type_: failure.type_.clone(),
                },
            ),
            None => remove(status, REPLICA_FAILURE),
        }
    }

    /// How long until an unfinished rollout misses its deadline.
    pub(super) fn deadline_in(&self) -> Option<Duration> {
        let (deadline, condition) = (self.deadline()?, self.condition(PROGRESSING)?);
        if self.is_complete(Some(&self.status))
            || matches!(condition.reason.as_deref(), Some(NEW_AVAILABLE | TIMED_OUT))
        {
            return None;
        }
        let passed = since_then(condition.last_update_time.as_ref()?.0, self.now);
        Some(deadline.saturating_sub(passed) + Duration::from_secs(1))
    }
}
