//! A whole cluster on a server: controllers with delays of their own, nodes, a kubelet, and a test's hands on all of them.
//!
//! Invariant: it acts on the store as the control plane does, beside the faults that strike clients; dropping it ends all.

mod node;
mod pods;
mod runner;
mod store;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::endpointslice::ENDPOINTS_PER_SLICE;
use super::kubelet::{Kubelet, Simulated, SimulatedOptions};
use crate::Server;

/// Most orders of a test that wait for the runner.
const COMMANDS_MAX: usize = 64;

/// The parts of a control plane that can be paused and slowed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Deployments to ReplicaSets.
    Deployments,
    /// ReplicaSets to pods.
    ReplicaSets,
    /// Pods to EndpointSlices.
    EndpointSlices,
    /// Dependents follow their owners.
    Garbage,
    /// The statuses of PodDisruptionBudgets.
    Disruption,
    /// What follows from silent nodes.
    Nodes,
    /// Pods to nodes.
    Scheduler,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Its name.
    pub name: String,
    /// What it has, like `nvidia.com/gpu: "2"`; cpu and memory are unlimited when they are not named.
    pub allocatable: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// How a cluster is set up.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Where all delays come from. Default 0.
    pub seed: u64,
    /// Default: node-0 to node-2.
    pub nodes: Vec<NodeOptions>,
    /// How long a change takes to a controller's cache. Default 1 ms to 20 ms.
    pub cache_lag: Range<Duration>,
    /// From seeing a change to acting on it. Default 1 ms to 20 ms.
    pub work_delay: Range<Duration>,
    /// Most endpoints of an EndpointSlice, at least 1. Default 100.
    pub endpoints_per_slice: usize,
    /// What runs the pods. Default: [`Simulated`] with its defaults.
    pub kubelet: Arc<dyn Kubelet>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let node = |number| NodeOptions { name: format!("node-{number}"), ..NodeOptions::default() };
        let delay = Duration::from_millis(1)..Duration::from_millis(20);
        Self {
            seed: 0,
            nodes: (0..3).map(node).collect(),
            cache_lag: delay.clone(),
            work_delay: delay,
            endpoints_per_slice: ENDPOINTS_PER_SLICE,
            kubelet: Arc::new(Simulated::new(SimulatedOptions::default())),
        }
    }
}

/// What a test orders.
#[derive(Debug)]
enum Order {
    Pause(Part),
    Resume(Part),
    Slow(Part, f64),
    KillNode(String),
    ReviveNode(String),
    WrongVictim { namespace: String, pod: String },
    WrongVictims(bool),
    Quota { namespace: String, pods: Option<usize> },
}

/// A running cluster. Dropping it ends its controllers and its pods.
pub struct Cluster {
    server: Server,
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    kubelet: Arc<dyn Kubelet>,
    /// Aborted with the handle.
    tasks: JoinSet<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An aborted task is dropped when its runtime next looks; processes are not to wait for that.
        self.kubelet.end_now();
    }
}

impl Cluster {
    /// Makes the nodes and starts everything. Needs a tokio runtime with its timer.
    #[must_use]
    pub fn start(server: Server, options: ClusterOptions) -> Self {
        for node in &options.nodes {
            node::join(&server, node);
        }
        let (orders, inbox) = mpsc::channel(COMMANDS_MAX);
        let kubelet = Arc::clone(&options.kubelet);
        let mut tasks = JoinSet::new();
        tasks.spawn(runner::Runner::new(server.clone(), &options).run(inbox));
        Self { server, orders, kubelet, tasks }
    }

    /// The server that this cluster stands on.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until something is true of the server; looked at after every change.
    pub async fn until(&self, mut is_true: impl FnMut(&Server) -> bool) {
        let mut changes = self.server.changes();
        loop {
            changes.mark_unchanged();
            if is_true(&self.server) {
                return;
            }
            // The sender lives as long as the server, which we hold.
            let _ = changes.changed().await;
        }
    }

    /// A controller stops looking and acting; what happens meanwhile it sees when it is resumed.
    pub async fn pause(&self, part: Part) {
        self.order(Order::Pause(part)).await;
    }

    /// A paused controller goes on.
    pub async fn resume(&self, part: Part) {
        self.order(Order::Resume(part)).await;
    }

    /// All delays of a controller from now on are this many times those of the options.
    pub async fn slow(&self, part: Part, factor: f64) {
        self.order(Order::Slow(part, factor)).await;
    }

    /// A node dies with everything on it: its pods end at once, and nobody reports it.
    pub async fn kill_node(&self, node: &str) {
        self.order(Order::KillNode(node.to_owned())).await;
    }

    /// A node that was killed comes back; pods that are still bound to it start again.
    pub async fn revive_node(&self, node: &str) {
        self.order(Order::ReviveNode(node.to_owned())).await;
    }

    /// The next time a ReplicaSet removes one of its pods it removes this one, if it is its own, whatever the ranking says.
    pub async fn wrong_victim(&self, namespace: &str, pod: &str) {
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        self.order(Order::WrongVictim { namespace, pod }).await;
    }

    /// Whether from now on those pods leave first that should leave last.
    pub async fn wrong_victims(&self, wrong: bool) {
        self.order(Order::WrongVictims(wrong)).await;
    }

    /// Controllers may have at most this many pods in a namespace; more are refused as by a ResourceQuota. Absent: any number.
    pub async fn quota(&self, namespace: &str, pods: Option<usize>) {
        self.order(Order::Quota { namespace: namespace.to_owned(), pods }).await;
    }

    /// Evicts a pod through the API, as `kubectl drain` does.
    ///
    /// # Errors
    /// Status and text of the refusal: 429 when a budget forbids it.
    pub fn evict(&self, namespace: &str, pod: &str) -> Result<(), (StatusCode, String)> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let body =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}});
        let (status, answer) = self.server.request(&Method::POST, &path, Some(&body));
        if status.is_success() {
            return Ok(());
        }
        Err((status, answer["message"].as_str().unwrap_or_default().to_owned()))
    }

    /// Ends everything and waits until it has ended.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.kubelet.end_now();
    }

    async fn order(&self, order: Order) {
        let (done, answer) = oneshot::channel();
        // Without a runner there is nothing to order; its task ends only with this handle.
        if self.orders.send((order, done)).await.is_ok() {
            let _ = answer.await;
        }
    }
}
