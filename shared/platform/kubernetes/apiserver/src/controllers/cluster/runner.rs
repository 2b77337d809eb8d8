//! One task that drives every controller and every kubelet on a server's store.
//!
//! Invariant: it alone owns controllers and pods; it waits for changes, reports and times, and polls nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::super::controller::{Controller, Hook};
use super::super::deployment::Deployments;
use super::super::disruption::Disruption;
use super::super::endpointslice::EndpointSlices;
use super::super::garbage::Garbage;
use super::super::kubelet::{Clock, Lives};
use super::super::node::NodeLifecycle;
use super::super::replicaset::ReplicaSets;
use super::super::scheduler::Scheduler;
use super::pods::Pods;
use super::store::Store;
use super::worker::Worker;
use super::{ClusterOptions, Order, Part};
use crate::Server;

pub(super) struct Runner {
    store: Store,
    changes: watch::Receiver<u64>,
    workers: BTreeMap<Part, Worker>,
    pods: Pods,
    clock: Clock,
}

impl Runner {
    pub(super) fn new(server: Server, options: &ClusterOptions) -> Self {
        let clock = Clock { started: server.now(), origin: Instant::now() };
        let kubelet = Arc::clone(&options.kubelet);
        let judge = Arc::clone(&kubelet);
        let scheduler = Scheduler::new(Arc::new(move |pod| judge.refuses(pod)));
        let controllers: [(Part, Box<dyn Controller>); 7] = [
            (Part::Deployments, Box::new(Deployments)),
            (Part::ReplicaSets, Box::new(ReplicaSets::default())),
            (Part::EndpointSlices, Box::new(EndpointSlices::new(options.endpoints_per_slice))),
            (Part::Garbage, Box::new(Garbage)),
            (Part::Disruption, Box::new(Disruption)),
            (Part::Nodes, Box::new(NodeLifecycle::default())),
            (Part::Scheduler, Box::new(scheduler)),
        ];
        let mut seed = options.seed;
        let workers = controllers.into_iter().map(|(part, controller)| {
            // One source for each, so that a change of one controller's work leaves the others' delays as they were.
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            (part, Worker::new(controller, seed, options.cache_lag.clone(), options.work_delay.clone()))
        });
        let nodes = options.nodes.iter().map(|node| node.name.clone()).collect();
        Self {
            changes: server.changes(),
            workers: workers.collect(),
            pods: Pods::new(Lives::new(kubelet, nodes, clock.started)),
            store: Store::new(server),
            clock,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<(Order, oneshot::Sender<()>)>) {
        self.take_in();
        loop {
            let due = self.workers.values().filter_map(Worker::due).min();
            // Orders first: a test that pauses something means it. Changes before work: a cache is as fresh as it can be.
            tokio::select! {
                biased;
                order = orders.recv() => {
                    let Some((order, done)) = order else { return };
                    self.obey(order);
                    // Who ordered may have stopped waiting.
                    let _ = done.send(());
                }
                // The server is held by the store, so this does not end.
                _ = self.changes.changed() => self.take_in(),
                told = self.pods.next() => self.pods.write(&self.store, &told),
                () = wait(due) => self.work(),
            }
        }
    }

    fn take_in(&mut self) {
        let now = Instant::now();
        for change in self.store.news() {
            self.pods.follow(&self.store, &change);
            let change = Arc::new(change);
            for worker in self.workers.values_mut() {
                worker.hear(now, &change);
            }
        }
    }

    fn work(&mut self) {
        let (now, wall) = (Instant::now(), self.clock.now());
        for worker in self.workers.values_mut() {
            worker.work(now, wall, &self.store);
        }
    }

    fn obey(&mut self, order: Order) {
        let hook = match order {
            Order::Pause(part) => return self.with(part, |worker| worker.paused = true),
            Order::Resume(part) => return self.with(part, |worker| worker.paused = false),
            Order::Slow(part, factor) => return self.with(part, |worker| worker.factor = factor.max(0.0)),
            Order::KillNode(node) => {
                self.pods.kill_node(&node);
                Hook::Silent { node, since: Some(self.clock.now()) }
            }
            Order::ReviveNode(node) => {
                self.pods.revive_node(&self.store, &node);
                Hook::Silent { node, since: None }
            }
            Order::WrongVictim { namespace, pod } => Hook::WrongVictim { namespace, pod },
            Order::Quota { namespace, pods } => return self.store.limit(namespace, pods),
            Order::WrongVictims(wrong) => Hook::WrongVictims(wrong),
        };
        let now = Instant::now();
        for worker in self.workers.values_mut() {
            worker.hook(now, &hook);
        }
    }

    fn with(&mut self, part: Part, change: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&part) {
            change(worker);
        }
    }
}

async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
