//! The kubelets' side of the store: bound pods are started, reports become statuses, pods that have ended are removed.
//!
//! Invariant: what is written of a pod is written of that very pod, not of one that took its name.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::super::kubelet::{Lives, PodKey, Seen, Told};
use super::super::object::{Object, Typed, id, uid};
use super::super::pods::{is_finished, node as node_of};
use super::super::world::Change;
use super::super::write::{Propagation, Write};
use super::store::Store;

/// How often a status is written again after somebody else changed the pod in between.
const STATUS_TRIES_MAX: usize = 5;

pub(super) struct Pods(Lives);

impl Pods {
    pub(super) fn new(lives: Lives) -> Self {
        Self(lives)
    }

    /// Follows one change of a pod.
    pub(super) fn follow(&mut self, store: &Store, change: &Change) {
        let Some(pod) = Pod::of(change.object()) else { return };
        if let Change::Deleted(_) = change {
            self.0.gone(pod);
        } else if self.0.follow(pod) {
            remove(store, pod);
        }
    }

    pub(super) async fn next(&mut self) -> Told {
        self.0.next().await
    }

    pub(super) fn write(&mut self, store: &Store, told: &Told) {
        match told {
            Told::Status(key, seen) => self.report(store, key, seen),
            Told::Ended(key) => {
                if let Some(pod) = read(store, key)
                    && pod.metadata.deletion_timestamp.is_some()
                {
                    remove(store, &pod);
                }
            }
        }
    }

    fn report(&self, store: &Store, key: &PodKey, seen: &Seen) {
        for _ in 0..STATUS_TRIES_MAX {
            let Some(pod) = read(store, key) else { return };
            let Some(status) = self.0.status(key, seen, &pod) else { return };
            let written = Pod { status: Some(status), ..Pod::clone(&pod) };
            match store.write(&Write::Status(written.into())) {
                Err(why) if why.code == 409 => {}
                Err(why) => {
                    tracing::warn!(pod = key.name, "status was refused and stays as it was: {why}");
                    return;
                }
                Ok(_) => return,
            }
        }
        tracing::warn!(pod = key.name, "status was changed by others {STATUS_TRIES_MAX} times, and stays as it was");
    }

    pub(super) fn kill_node(&mut self, node: &str) {
        self.0.kill_node(node);
    }

    /// Pods that are still bound to the node start again.
    pub(super) fn revive_node(&mut self, store: &Store, node: &str) {
        self.0.revive_node(node);
        let bound: Vec<Arc<Pod>> = store
            .latest
            .list::<Pod>(None)
            .filter(|pod| node_of(pod) == Some(node) && !is_finished(pod))
            .cloned()
            .collect();
        for pod in bound.iter().filter(|pod| self.0.follow(pod)) {
            remove(store, pod);
        }
    }
}

/// The pod as it is stored now, if it is still that one.
fn read(store: &Store, key: &PodKey) -> Option<Arc<Pod>> {
    let json = store.server.object("", "pods", &key.namespace, &key.name)?;
    let found = Object::read(&Pod::RESOURCE, &json).ok()?;
    Pod::of(&found).filter(|pod| uid(&pod.metadata) == key.uid).cloned()
}

/// Takes a pod that has ended out of the store.
fn remove(store: &Store, pod: &Pod) {
    let write = Write::Delete {
        id: id(pod),
        uid: uid(&pod.metadata).to_owned(),
        grace: Some(0),
        propagation: Propagation::Background,
    };
    if let Err(why) = store.write(&write)
        && !why.is_not_found()
    {
        tracing::warn!(pod = pod.metadata.name, "could not be removed after its end: {why}");
    }
}
