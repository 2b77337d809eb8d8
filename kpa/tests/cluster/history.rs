//! Every count that a Deployment was given, as a watch of the API server tells it.

use crate::support::wait_for;
use crate::world::World;
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::runtime::watcher::{Config, Event, watcher};
use parking_lot::Mutex;
use std::sync::Arc;

/// Counts in the order in which they were written, from the one that there was.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<Vec<i32>>);

impl Counts {
    pub(crate) fn so_far(&self) -> Vec<i32> {
        self.0.lock().clone()
    }

    fn take(&self, deployment: &Deployment) {
        let count = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap();
        let mut counts = self.0.lock();
        if counts.last() != Some(&count) {
            counts.push(count);
        }
    }
}

impl World {
    /// Watches a Deployment from now on, for as long as this cluster lives.
    pub(crate) fn counts(&self, name: &str) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        let (noted, client) = (Arc::clone(&counts), self.client());
        let only = Config::default().fields(&format!("metadata.name={name}"));
        drop(self.runtime.spawn(async move {
            let deployments = Api::<Deployment>::namespaced(client, "default");
            let mut events = std::pin::pin!(watcher(deployments, only));
            // An error is followed by a list; a watch ends with the cluster.
            while let Some(event) = events.next().await {
                if let Ok(Event::InitApply(deployment) | Event::Apply(deployment)) = event {
                    noted.take(&deployment);
                }
            }
        }));
        wait_for("the first count", || counts.so_far().first().copied());
        counts
    }
}
