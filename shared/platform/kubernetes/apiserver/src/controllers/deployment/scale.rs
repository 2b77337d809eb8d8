//! A changed number of replicas, spread over the ReplicaSets that have pods.
//!
//! Invariant: in the middle of a rollout each ReplicaSet changes in proportion to its size, and what rounding leaves goes to
//! the largest.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::revisions::{age_key, desired_of, max_of, note_sizes};
use super::{Look, numbers};

/// Whether it changed.
pub(super) fn resize(set: &mut ReplicaSet, size: i32, deployment: &Deployment) -> bool {
    if numbers::size(set) == size {
        return false;
    }
    set_size(set, size, deployment);
    true
}

fn set_size(set: &mut ReplicaSet, size: i32, deployment: &Deployment) {
    set.spec.get_or_insert_default().replicas = Some(size);
    note_sizes(set, deployment);
}

impl Look<'_> {
    /// Whether the wanted number changed since the ReplicaSets were last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let desired = numbers::desired(self.deployment);
        self.all().filter(|set| numbers::size(set) > 0).any(|set| desired_of(set).is_some_and(|last| last != desired))
    }

    pub(super) fn scale(&mut self) {
        let (desired, deployment) = (numbers::desired(self.deployment), self.deployment);
        if let Some(only) = self.active_or_latest() {
            // The annotations too: with the right size by chance and old annotations every look would find a scaling to do,
            // and the rollout would stand still.
            set_size(only, desired, deployment);
            return;
        }
        let saturated = self.new.as_ref().is_some_and(|new| {
            numbers::size(new) == desired && desired_of(new) == Some(desired) && numbers::available(new) == desired
        });
        if saturated {
            for set in &mut self.old {
                resize(set, 0, deployment);
            }
        } else if numbers::is_rolling(deployment) {
            self.spread();
        }
    }

    /// The only ReplicaSet with pods; without any, the newest.
    fn active_or_latest(&mut self) -> Option<&mut ReplicaSet> {
        let active = self.all().filter(|set| numbers::size(set) > 0).count();
        match active {
            0 => self.new.as_mut().or_else(|| self.old.iter_mut().max_by_key(|set| age_key(set))),
            1 => self.old.iter_mut().chain(&mut self.new).find(|set| numbers::size(set) > 0),
            _ => None,
        }
    }

    fn spread(&mut self) {
        let desired = numbers::desired(self.deployment);
        let allowed = if desired > 0 { desired + numbers::max_surge(self.deployment) } else { 0 };
        let to_add = allowed - numbers::total(self.all());
        let (deployment, before) = (self.deployment, self.status.replicas.unwrap_or(0));
        let mut active: Vec<&mut ReplicaSet> =
            self.old.iter_mut().chain(&mut self.new).filter(|set| numbers::size(set) > 0).collect();
        // Largest first; of equal ones the newer first when growing, the older when shrinking.
        active.sort_by(|a, b| {
            let by_age = if to_add > 0 { age_key(b).cmp(&age_key(a)) } else { age_key(a).cmp(&age_key(b)) };
            numbers::size(b).cmp(&numbers::size(a)).then(by_age)
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for set in &active {
            let share = share(set, deployment, before, to_add, added);
            added += share;
            sizes.push(numbers::size(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (set, size) in active.into_iter().zip(sizes) {
            // Also without a new size: the annotations tell that this scaling is done.
            set_size(set, size, deployment);
        }
    }
}

/// What one ReplicaSet takes of `to_add`, of which `added` are given already.
fn share(set: &ReplicaSet, deployment: &Deployment, pods_before: i32, to_add: i32, added: i32) -> i32 {
    if to_add == 0 || to_add == added {
        return 0;
    }
    let (fraction, allowed) = (fraction(set, deployment, pods_before), to_add - added);
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment, pods_before: i32) -> i32 {
    let (size, desired) = (numbers::size(set), numbers::desired(deployment));
    if desired == 0 {
        return -size;
    }
    let most = desired + numbers::max_surge(deployment);
    let most_before = max_of(set).filter(|most| *most != 0).unwrap_or(pods_before);
    if most_before == 0 {
        return 0;
    }
    // Half away from zero, in whole numbers: sizes are not negative.
    let (product, divisor) =
        (2 * i64::from(size) * i64::from(most) + i64::from(most_before), 2 * i64::from(most_before));
    i32::try_from(product / divisor).unwrap_or(i32::MAX) - size
}
