//! The EndpointSlice controller: the pods that a Service selects, as slices of addresses with their ports.
//!
//! Invariant: Services without a selector, and slices that somebody else manages, are left alone.

mod endpoints;
mod pack;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::controller::{Answer, Controller};
use super::expectations::Expectations;
use super::object::{Id, Object, Typed, id, namespace};
use super::selector::service_selects;
use super::world::{Change, World};
use super::write::{Outcome, Write};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// What a real controller manager is started with.
pub(crate) const ENDPOINTS_PER_SLICE: usize = 100;

#[derive(Debug)]
pub(crate) struct EndpointSlices {
    per_slice: usize,
    expectations: Expectations,
    /// Which Services a pod was in, to tell them when its labels change or it goes.
    selected_by: BTreeMap<Id, Vec<Id>>,
}

/// The writes that bring the slices of one Service up to date. `slices`: those that this controller manages for it.
pub(crate) fn endpoint_slices(
    service: &Service,
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    slices: &[Arc<EndpointSlice>],
    per_slice: usize,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let families = endpoints::families(service);
    for family in &families {
        let wanted = endpoints::by_ports(service, pods, nodes, family);
        let existing = slices.iter().filter(|slice| slice.address_type == *family).cloned().collect();
        writes.extend(pack::pack(service, family, wanted, existing, per_slice));
    }
    let outdated = slices.iter().filter(|slice| !families.contains(&slice.address_type));
    writes.extend(outdated.map(|slice| pack::deletion(slice)));
    writes
}

impl EndpointSlices {
    /// `per_slice`: at least 1.
    pub(crate) fn new(per_slice: usize) -> Self {
        Self { per_slice: per_slice.max(1), expectations: Expectations::default(), selected_by: BTreeMap::new() }
    }

    fn is_managed(slice: &EndpointSlice) -> bool {
        let manager = slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        manager.is_some_and(|manager| manager == MANAGER)
    }

    fn service_of(slice: &EndpointSlice) -> Option<&String> {
        slice.metadata.labels.as_ref()?.get(SERVICE_NAME)
    }

    fn key_of(slice: &EndpointSlice) -> Option<Id> {
        Some(Id {
            resource: Service::RESOURCE,
            namespace: namespace(&slice.metadata).to_owned(),
            name: Self::service_of(slice)?.clone(),
        })
    }

    fn services_of(&mut self, world: &World, pod: &Pod, change: &Change) -> Vec<Id> {
        let selecting: Vec<Id> = world
            .list::<Service>(Some(namespace(&pod.metadata)))
            .filter(|service| {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector.is_some_and(|selector| service_selects(selector, pod.metadata.labels.as_ref()))
            })
            .map(|service| id(&**service))
            .collect();
        let before = match change {
            Change::Deleted(_) => self.selected_by.remove(&id(pod)),
            Change::Added(_) | Change::Modified(_) => self.selected_by.insert(id(pod), selecting.clone()),
        };
        let mut keys = selecting;
        keys.extend(before.into_iter().flatten());
        keys.sort();
        keys.dedup();
        keys
    }
}

impl Controller for EndpointSlices {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        match change.object() {
            Object::Service(service) => vec![id(&**service)],
            Object::Pod(pod) => self.services_of(world, pod, change),
            Object::EndpointSlice(slice) if Self::is_managed(slice) => {
                let key = Self::key_of(slice);
                if let (Some(key), Change::Added(_)) = (&key, change) {
                    self.expectations.created(key);
                }
                key.into_iter().collect()
            }
            Object::EndpointSlice(_)
            | Object::Namespace(_)
            | Object::Node(_)
            | Object::Deployment(_)
            | Object::ReplicaSet(_)
            | Object::PodDisruptionBudget(_)
            | Object::Other(_) => Vec::new(),
        }
    }

    fn reconcile(&mut self, now: Timestamp, world: &World, key: &Id) -> Outcome {
        let service = world.get::<Service>(&key.namespace, &key.name);
        let Some(service) = service.filter(|service| service.metadata.deletion_timestamp.is_none()) else {
            // Its slices have it as owner: garbage collection takes them.
            self.expectations.forget(key);
            return Outcome::default();
        };
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Outcome::default();
        };
        if !self.expectations.met(now, key) {
            // The cache does not show a slice that was just made: it would be made again.
            return Outcome { writes: Vec::new(), again_in: self.expectations.give_up_in(now, key) };
        }
        let pods: Vec<Arc<Pod>> = world
            .list::<Pod>(Some(&key.namespace))
            .filter(|pod| service_selects(selector, pod.metadata.labels.as_ref()))
            .cloned()
            .collect();
        let nodes: Vec<Arc<Node>> = world.list::<Node>(None).cloned().collect();
        let slices: Vec<Arc<EndpointSlice>> = world
            .list::<EndpointSlice>(Some(&key.namespace))
            .filter(|slice| Self::service_of(slice) == Some(&key.name) && Self::is_managed(slice))
            .cloned()
            .collect();
        let writes = endpoint_slices(service, &pods, &nodes, &slices, self.per_slice);
        let creations = writes.iter().filter(|write| matches!(write, Write::Create(_))).count();
        self.expectations.expect(now, key, creations, []);
        Outcome::writes(writes)
    }

    fn settle(&mut self, _: Timestamp, _: &World, key: &Id, writes: &[Write], answers: &[Answer]) -> Vec<Write> {
        for (index, write) in writes.iter().enumerate() {
            if matches!((write, answers.get(index)), (Write::Create(_), Some(Err(_)) | None)) {
                self.expectations.created(key);
            }
        }
        Vec::new()
    }
}
