//! The pods that a kubelet runs: which are started, which are told to stop, and what is to be written of them.
//!
//! Invariant: a pod's entry lives from its start to its end or the death of its node; whoever asks does the writing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::super::object::uid;
use super::super::pods::{is_active, node};
use super::{Clock, Kubelet, Orders, Report, Reports, Seen, pod_status};

/// Most reports that wait; kubelets wait for room.
const REPORTS_MAX: usize = 1024;

/// Which pod: names come again, uids do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl PodKey {
    /// Of a pod that was read.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        Self { namespace: text(&metadata.namespace), name: text(&metadata.name), uid: text(&metadata.uid) }
    }
}

/// What is to be written.
#[derive(Debug)]
pub enum Told {
    /// A pod's status: what [`Lives::status`] makes of the pod as it is read now.
    Status(PodKey, Seen),
    /// The pod has ended: once it has a deletion timestamp it is to be removed, without grace.
    Ended(PodKey),
}

struct Entry {
    key: PodKey,
    node: String,
    stop: watch::Sender<Option<Duration>>,
    abort: AbortHandle,
}

/// The pods of some nodes. Dropping it ends all.
pub struct Lives {
    kubelet: Arc<dyn Kubelet>,
    clock: Clock,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    entries: BTreeMap<String, Entry>,
    /// Give back their uid.
    running: JoinSet<String>,
    /// A node that died or never was runs nothing.
    nodes: BTreeSet<String>,
}

impl Lives {
    /// Nothing runs yet. `now` is the wall clock, which goes on with tokio's.
    #[must_use]
    pub fn new(kubelet: Arc<dyn Kubelet>, nodes: BTreeSet<String>, now: Timestamp) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let clock = Clock { started: now, origin: Instant::now() };
        let (entries, running) = (BTreeMap::new(), JoinSet::new());
        Self { kubelet, clock, sender, reports, entries, running, nodes }
    }

    /// Takes in a pod as it is now. True: it is to be removed, for it is leaving and nothing of it runs.
    pub fn follow(&mut self, pod: &Arc<Pod>) -> bool {
        let Some(on) = node(pod) else { return false };
        if !self.nodes.contains(on) {
            return false;
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
            None if leaving => return true,
            None if is_active(pod) => self.start(Arc::clone(pod), on.to_owned()),
            None => {}
        }
        false
    }

    /// A pod is no longer there: it ends at once.
    pub fn gone(&mut self, pod: &Pod) {
        if let Some(entry) = self.entries.get(uid(&pod.metadata)) {
            entry.stop.send_replace(Some(Duration::ZERO));
        }
    }

    fn start(&mut self, pod: Arc<Pod>, node: String) {
        let key = PodKey::of(&pod);
        let (stop, orders) = Orders::channel();
        let reports = Reports { uid: key.uid.clone(), sender: self.sender.clone(), clock: self.clock };
        let life = self.kubelet.run(pod, orders, reports);
        let uid = key.uid.clone();
        let abort = self.running.spawn(async move {
            life.await;
            uid
        });
        self.entries.insert(key.uid.clone(), Entry { key, node, stop, abort });
    }

    /// Waits for what is to be written next; for ever when nothing runs. May be dropped while it waits.
    pub async fn next(&mut self) -> Told {
        loop {
            tokio::select! {
                biased;
                // The sender is held by this.
                Some(report) = self.reports.recv() => {
                    if let Some(entry) = self.entries.get(&report.uid) {
                        return Told::Status(entry.key.clone(), report.seen);
                    }
                }
                Some(ended) = self.running.join_next() => match ended {
                    Ok(uid) => {
                        if let Some(entry) = self.entries.remove(&uid) {
                            return Told::Ended(entry.key);
                        }
                    }
                    Err(error) if error.is_panic() => {
                        tracing::error!("a kubelet panicked; its pod stays as it was: {error}");
                    }
                    // Of a node that was killed.
                    Err(_) => {}
                },
            }
        }
    }

    /// The status to write of a pod as it was read now; absent when it is as it should be, or another pod by now.
    #[must_use]
    pub fn status(&self, key: &PodKey, seen: &Seen, pod: &Pod) -> Option<PodStatus> {
        let status = pod_status(self.clock.now(), pod, seen);
        (uid(&pod.metadata) == key.uid && pod.status.as_ref() != Some(&status)).then_some(status)
    }

    /// Everything on the node ends, and nobody reports it.
    pub(crate) fn kill_node(&mut self, node: &str) {
        self.nodes.remove(node);
        self.entries.retain(|_, entry| {
            let stays = entry.node != node;
            if !stays {
                entry.abort.abort();
            }
            stays
        });
    }

    /// From now on pods run there.
    pub(crate) fn revive_node(&mut self, node: &str) {
        self.nodes.insert(node.to_owned());
    }
}
