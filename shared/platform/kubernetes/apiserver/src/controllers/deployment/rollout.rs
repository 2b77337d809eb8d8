//! The two ways from an old template to a new one: rolling, and everything at once.
//!
//! Invariant: one look either grows or shrinks, never both; pods that are not available are the first to be given up.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::super::object::is_controlled_by;
use super::super::pods::is_finished;
use super::{Look, numbers};

impl Look<'_> {
    pub(super) fn roll(&mut self) {
        self.sync_new(true);
        if self.grow_new() || self.shrink_old() {
            return;
        }
        if self.is_complete(self.deployment.status.as_ref()) {
            self.clean_up();
        }
    }

    /// How large the new ReplicaSet may be now.
    pub(super) fn size_of_new(&self, new: &ReplicaSet) -> i32 {
        let desired = numbers::desired(self.deployment);
        if !numbers::is_rolling(self.deployment) {
            return desired;
        }
        let most = desired + numbers::max_surge(self.deployment);
        let pods = numbers::total(self.old.iter()) + numbers::size(new);
        if pods >= most {
            return numbers::size(new);
        }
        numbers::size(new) + (most - pods).min(desired - numbers::size(new))
    }

    /// Whether the new ReplicaSet was resized.
    fn grow_new(&mut self) -> bool {
        let Some(new) = &self.new else { return false };
        let desired = numbers::desired(self.deployment);
        // One that was just made has its first size already.
        if numbers::size(new) == desired || new.metadata.uid.is_none() {
            return false;
        }
        let size = if numbers::size(new) > desired { desired } else { self.size_of_new(new) };
        let deployment = self.deployment;
        self.new.as_mut().is_some_and(|new| super::scale::resize(new, size, deployment))
    }

    fn shrink_old(&mut self) -> bool {
        if numbers::total(self.old.iter()) == 0 {
            return false;
        }
        let least = numbers::desired(self.deployment) - numbers::max_unavailable(self.deployment);
        let missing = self.new.as_ref().map_or(0, |new| numbers::size(new) - numbers::available(new));
        let spare = numbers::total(self.all()) - least - missing;
        if spare <= 0 {
            return false;
        }
        let given_up = self.give_up_unavailable(spare);
        // What was given up was not available, so it does not count here.
        let available: i32 = self.all().map(numbers::available).sum();
        let mut surplus = available - least;
        let mut shrunk = given_up > 0;
        for set in &mut self.old {
            let count = numbers::size(set).min(surplus);
            if count > 0 {
                surplus -= count;
                shrunk |= super::scale::resize(set, numbers::size(set) - count, self.deployment);
            }
        }
        shrunk
    }

    /// Takes up to `most` pods that are not available away from the old ReplicaSets, oldest first.
    fn give_up_unavailable(&mut self, most: i32) -> i32 {
        let mut given_up = 0;
        for set in &mut self.old {
            let count = (numbers::size(set) - numbers::available(set)).min(most - given_up);
            if numbers::size(set) > 0 && count > 0 {
                super::scale::resize(set, numbers::size(set) - count, self.deployment);
                given_up += count;
            }
        }
        given_up
    }

    pub(super) fn recreate(&mut self, pods: &[Arc<Pod>]) {
        self.sync_new(false);
        let mut shrunk = false;
        for set in &mut self.old {
            shrunk |= super::scale::resize(set, 0, self.deployment);
        }
        if shrunk || self.old_pods_run(pods) {
            return;
        }
        self.sync_new(true);
        let (desired, deployment) = (numbers::desired(self.deployment), self.deployment);
        if let Some(new) = &mut self.new {
            super::scale::resize(new, desired, deployment);
        }
        if self.is_complete(self.deployment.status.as_ref()) {
            self.clean_up();
        }
    }

    fn old_pods_run(&self, pods: &[Arc<Pod>]) -> bool {
        let is_new = |pod: &Pod| self.new.as_ref().is_some_and(|new| is_controlled_by(&pod.metadata, new));
        self.old.iter().any(|set| numbers::actual(set) > 0) || pods.iter().any(|pod| !is_new(pod) && !is_finished(pod))
    }
}
