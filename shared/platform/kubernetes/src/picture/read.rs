//! What others look up in the picture.
//!
//! Invariant: only reads; what was last settled is given, not what a new object would come to.

use super::Picture;
use crate::objects::{FIELD_MANAGER, Published};
use crate::trim::{Key, Workload};
use domain::change::TRAFFIC_NOT_SEEN;
use domain::{EndpointId, Foreign, Problem};
use k8s_openapi::api::core::v1::Service;
use platform::manifest::{Adopted, NotAdopted};
use std::collections::BTreeMap;

/// Who wrote the count of `workload`, if somebody else did. `before`: what an earlier autoscaler has said of it.
pub(super) fn foreign(workload: &Workload, before: Option<&Published>) -> Option<Foreign> {
    let by = workload.writer.as_deref().unwrap_or("somebody unknown");
    let stands = before.is_some_and(|before| {
        let status = &before.status;
        u32::try_from(status.replicas) == Ok(workload.requested)
            && status
                .conditions
                .iter()
                .any(|condition| condition.type_ == Foreign::CONDITION && condition.reason == Foreign::LEFT_ALONE)
    });
    (by != FIELD_MANAGER).then(|| Foreign { by: by.into(), stands })
}

/// Whether an earlier autoscaler has published that requests of the workload came through an activator.
pub(super) fn traffic_seen(before: &Published) -> bool {
    before.status.conditions.iter().any(|condition| condition.type_ == TRAFFIC_NOT_SEEN && condition.status == "False")
}

impl Picture {
    /// What a workload was read as, when it was last settled; `None` for one without annotations of ours.
    #[must_use]
    pub fn reading(&self, key: &Key) -> Option<Result<&Adopted, &NotAdopted>> {
        self.workloads.get(key).map(|known| known.adopted.as_ref())
    }

    /// Every workload that carries annotations of ours.
    pub fn annotated_keys(&self) -> impl Iterator<Item = &Key> {
        self.workloads.keys()
    }

    /// What is known of a workload that is ours, as it was last settled.
    #[must_use]
    pub fn adopted(&self, key: &Key) -> Option<&Adopted> {
        self.workloads.get(key)?.adopted.as_ref().ok()
    }

    /// The uid of a workload's Deployment.
    #[must_use]
    pub fn uid(&self, key: &Key) -> Option<&str> {
        self.workloads.get(key)?.workload.deployment.metadata.uid.as_deref()
    }

    /// The count last asked for, and who asked; `None` for a workload without annotations of ours.
    #[must_use]
    pub fn requested(&self, key: &Key) -> Option<(u32, Option<&str>)> {
        self.workloads.get(key).map(|known| (known.workload.requested, known.workload.writer.as_deref()))
    }

    /// Our own object of a workload.
    #[must_use]
    pub fn published(&self, key: &Key) -> Option<&Published> {
        self.published.get(key)
    }

    /// Every key of which there is an object of ours.
    pub fn published_keys(&self) -> impl Iterator<Item = &Key> {
        self.published.keys()
    }

    /// Every workload that is ours.
    pub fn adopted_keys(&self) -> impl Iterator<Item = &Key> {
        self.workloads.iter().filter(|(_, known)| known.adopted.is_ok()).map(|(key, _)| key)
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.get(namespace, name)
    }

    /// The Services of a namespace that select pods with `labels`, by name.
    #[must_use]
    pub fn services_selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Service> {
        self.services.selecting(namespace, labels)
    }

    /// The pods of a workload that is ours.
    pub fn pods(&self, key: &Key) -> impl Iterator<Item = &crate::trim::Pod> {
        self.pods.of(key)
    }

    /// Whether there is a pod of this name.
    #[must_use]
    pub fn has_pod(&self, pod: &Key) -> bool {
        self.pods.has(pod)
    }

    /// The pod of a workload by its uid.
    #[must_use]
    pub fn pod(&self, key: &Key, id: &EndpointId) -> Option<&crate::trim::Pod> {
        self.pods.of(key).find(|pod| pod.id == *id)
    }

    /// Workloads that ask to be scaled and are not, each with its reason.
    pub fn ignored(&self) -> impl Iterator<Item = (&Key, &NotAdopted)> {
        self.workloads.iter().filter_map(|(key, known)| known.adopted.as_ref().err().map(|why| (key, why)))
    }

    /// What is wrong with `config-autoscaler`.
    #[must_use]
    pub fn config_problems(&self) -> &[Problem] {
        &self.config_problems
    }
}
