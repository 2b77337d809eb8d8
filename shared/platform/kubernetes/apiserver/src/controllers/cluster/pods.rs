//! The kubelets' side of the store: bound pods are started, reports become statuses, pods that have ended are removed.
//!
//! Invariant: a pod's entry lives from its start to its removal from the store or the death of its node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::super::kubelet::{Clock, Kubelet, Orders, Report, Reports, pod_status};
use super::super::object::{Id, Object, Typed, id, uid};
use super::super::pods::{is_active, is_finished, node};
use super::super::world::Change;
use super::super::write::{Propagation, Write};
use super::store::Store;

/// Most reports that wait; kubelets wait for room.
pub(super) const REPORTS_MAX: usize = 1024;
/// How often a status is written again after somebody else changed the pod in between.
const STATUS_TRIES_MAX: usize = 5;

struct Entry {
    id: Id,
    node: String,
    stop: watch::Sender<Option<Duration>>,
    abort: AbortHandle,
}

pub(super) struct Pods {
    kubelet: Arc<dyn Kubelet>,
    clock: Clock,
    sender: mpsc::Sender<Report>,
    entries: BTreeMap<String, Entry>,
    /// Give back their uid.
    lives: JoinSet<String>,
    dead_nodes: BTreeSet<String>,
}

impl Pods {
    pub(super) fn new(kubelet: Arc<dyn Kubelet>, clock: Clock, sender: mpsc::Sender<Report>) -> Self {
        let (entries, lives, dead_nodes) = (BTreeMap::new(), JoinSet::new(), BTreeSet::new());
        Self { kubelet, clock, sender, entries, lives, dead_nodes }
    }

    /// Follows one change of a pod.
    pub(super) fn follow(&mut self, store: &Store, change: &Change) {
        let Some(pod) = Pod::of(change.object()) else { return };
        if let Change::Deleted(_) = change {
            if let Some(entry) = self.entries.get(uid(&pod.metadata)) {
                entry.stop.send_replace(Some(Duration::ZERO));
            }
            return;
        }
        self.attend(store, pod);
    }

    fn attend(&mut self, store: &Store, pod: &Arc<Pod>) {
        let Some(on) = node(pod) else { return };
        // A node that died or never was runs nothing.
        if self.dead_nodes.contains(on) {
            return;
        }
        let leaving = pod.metadata.deletion_timestamp.is_some();
        match self.entries.get(uid(&pod.metadata)) {
            Some(entry) if leaving => {
                let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
                let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                entry.stop.send_if_modified(|asked| {
                    let shorter = asked.is_none_or(|asked| grace < asked);
                    if shorter {
                        *asked = Some(grace);
                    }
                    shorter
                });
            }
            Some(_) => {}
            None if leaving => remove(store, pod),
            None if is_active(pod) => self.start(Arc::clone(pod), on.to_owned()),
            None => {}
        }
    }

    fn start(&mut self, pod: Arc<Pod>, node: String) {
        let uid = uid(&pod.metadata).to_owned();
        let (stop, orders) = Orders::channel();
        let reports = Reports { uid: uid.clone(), sender: self.sender.clone(), clock: self.clock };
        let life = self.kubelet.run(Arc::clone(&pod), orders, reports);
        let called = uid.clone();
        let abort = self.lives.spawn(async move {
            life.await;
            called
        });
        self.entries.insert(uid, Entry { id: id(&*pod), node, stop, abort });
    }

    /// A pod has ended: what is left of it goes.
    pub(super) fn ended(&mut self, store: &Store, ended: Result<String, JoinError>) {
        let uid = match ended {
            Ok(uid) => uid,
            Err(error) if error.is_panic() => {
                tracing::error!("a kubelet panicked; its pod stays as it was: {error}");
                return;
            }
            // Of a node that was killed.
            Err(_) => return,
        };
        let Some(entry) = self.entries.remove(&uid) else { return };
        let found = store.server.object("", "pods", &entry.id.namespace, &entry.id.name);
        let found = found.and_then(|json| Object::read(&Pod::RESOURCE, &json).ok());
        if let Some(pod) = found.as_ref().and_then(Pod::of)
            && self::uid(&pod.metadata) == uid
            && pod.metadata.deletion_timestamp.is_some()
        {
            remove(store, pod);
        }
    }

    pub(super) fn report(&mut self, store: &Store, report: Report) {
        let Some(entry) = self.entries.get(&report.uid) else { return };
        for _ in 0..STATUS_TRIES_MAX {
            let found = store.server.object("", "pods", &entry.id.namespace, &entry.id.name);
            let found = found.and_then(|json| Object::read(&Pod::RESOURCE, &json).ok());
            let Some(pod) = found.as_ref().and_then(Pod::of) else { return };
            if uid(&pod.metadata) != report.uid {
                return;
            }
            let status = pod_status(self.clock.now(), pod, &report.seen);
            if pod.status.as_ref() == Some(&status) {
                return;
            }
            let written = Pod { status: Some(status), ..Pod::clone(pod) };
            match store.write(&Write::Status(written.into())) {
                Err(why) if why.code == 409 => {}
                Err(why) => {
                    tracing::warn!(pod = entry.id.name, "status was refused and stays as it was: {why}");
                    return;
                }
                Ok(_) => return,
            }
        }
        tracing::warn!(
            pod = entry.id.name,
            "status was changed by others {STATUS_TRIES_MAX} times, and stays as it was"
        );
    }

    pub(super) async fn next_end(&mut self) -> Result<String, JoinError> {
        match self.lives.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Everything on the node ends, and nobody reports it.
    pub(super) fn kill_node(&mut self, node: &str) {
        self.dead_nodes.insert(node.to_owned());
        self.entries.retain(|_, entry| {
            let stays = entry.node != node;
            if !stays {
                entry.abort.abort();
            }
            stays
        });
    }

    pub(super) fn revive_node(&mut self, store: &Store, node: &str) {
        self.dead_nodes.remove(node);
        let bound: Vec<Arc<Pod>> = store
            .latest
            .list::<Pod>(None)
            .filter(|pod| super::super::pods::node(pod) == Some(node) && !is_finished(pod))
            .cloned()
            .collect();
        for pod in bound {
            self.attend(store, &pod);
        }
    }
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
