//! Endpoints into slices with as few writes as possible: what stands somewhere stays there.
//!
//! Invariant: no slice holds more than its bound, and no endpoint stands in two.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::object::{controller_reference, id, name, uid};
use super::super::write::{Propagation, Write};
use super::endpoints::{Groups, is_headless, port_key};
use super::{MANAGED_BY, MANAGER, SERVICE_NAME};

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// An endpoint's identity: a pod that came back under its name with another uid is another one.
fn identity(endpoint: &Endpoint) -> (Vec<String>, Option<String>, Option<String>) {
    let target = endpoint.target_ref.as_ref();
    (
        endpoint.addresses.clone(),
        target.and_then(|target| target.name.clone()),
        target.and_then(|target| target.uid.clone()),
    )
}

/// One slice on its way: as it was, and what it shall hold.
struct Draft {
    before: Option<Arc<EndpointSlice>>,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    touched: bool,
}

pub(super) fn pack(
    service: &Service,
    family: &str,
    mut wanted: Groups,
    existing: Vec<Arc<EndpointSlice>>,
    per_slice: usize,
) -> Vec<Write> {
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        by_ports.entry(port_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
    }
    if wanted.is_empty() {
        // A Service without endpoints keeps one empty slice, so that watchers see that there are none.
        wanted.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let (mut drafts, mut free) = (Vec::new(), Vec::new());
    for (key, (ports, endpoints)) in wanted {
        let slices = by_ports.remove(&key).unwrap_or_default();
        let is_placeholder = endpoints.is_empty();
        let (mut filled, emptied) = place(ports.clone(), endpoints, slices, per_slice);
        free.extend(emptied);
        if is_placeholder && filled.is_empty() {
            filled.push(Draft { before: free.pop(), ports, endpoints: Vec::new(), touched: true });
        }
        drafts.extend(filled);
    }
    free.extend(by_ports.into_values().flatten());
    // A slice that would go is used for one that would come: one write instead of two.
    for draft in drafts.iter_mut().filter(|draft| draft.before.is_none()) {
        draft.before = free.pop();
        draft.touched = true;
    }
    let mut writes: Vec<Write> = drafts.into_iter().filter_map(|draft| draft.write(service, family)).collect();
    writes.extend(free.iter().map(|slice| deletion(slice)));
    writes
}

/// Puts the endpoints of one group into its slices: (slices that hold some, slices that hold none any more).
fn place(
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
    per_slice: usize,
) -> (Vec<Draft>, Vec<Arc<EndpointSlice>>) {
    let mut left: BTreeMap<_, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for slice in slices {
        let kept: Vec<Endpoint> =
            slice.endpoints.iter().filter_map(|endpoint| left.remove(&identity(endpoint))).take(per_slice).collect();
        let touched = kept != slice.endpoints;
        drafts.push(Draft { ports: ports.clone(), endpoints: kept, touched, before: Some(slice) });
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    // Slices that are written anyway take what they can.
    for draft in drafts.iter_mut().filter(|draft| draft.touched && !draft.endpoints.is_empty()) {
        let room = per_slice.saturating_sub(draft.endpoints.len()).min(left.len());
        draft.endpoints.extend(left.drain(..room));
    }
    // What remains goes whole into the fullest slice that has room for it, else into new ones.
    while !left.is_empty() {
        let fits = drafts
            .iter_mut()
            .filter(|draft| !draft.touched && draft.endpoints.len() + left.len() <= per_slice)
            .max_by_key(|draft| draft.endpoints.len());
        if let Some(draft) = fits {
            draft.endpoints.append(&mut left);
            draft.touched = true;
        } else {
            let rest = left.split_off(left.len().min(per_slice));
            drafts.push(Draft { before: None, ports: ports.clone(), endpoints: left, touched: true });
            left = rest;
        }
    }
    let (filled, emptied): (Vec<Draft>, Vec<Draft>) =
        drafts.into_iter().partition(|draft| !draft.endpoints.is_empty() || !draft.touched);
    (filled, emptied.into_iter().filter_map(|draft| draft.before).collect())
}

impl Draft {
    fn write(self, service: &Service, family: &str) -> Option<Write> {
        let labels = labels(service);
        let Some(before) = self.before else {
            let slice = EndpointSlice {
                address_type: family.to_owned(),
                endpoints: self.endpoints,
                metadata: ObjectMeta {
                    generate_name: Some(format!("{}-", name(&service.metadata))),
                    namespace: service.metadata.namespace.clone(),
                    labels: Some(labels),
                    owner_references: Some(vec![controller_reference(service)]),
                    ..ObjectMeta::default()
                },
                ports: Some(self.ports),
            };
            return Some(Write::Create(slice.into()));
        };
        let relabelled = before.metadata.labels.as_ref() != Some(&labels);
        if !self.touched && !relabelled {
            return None;
        }
        let mut slice = EndpointSlice::clone(&before);
        slice.endpoints = self.endpoints;
        slice.ports = Some(self.ports);
        slice.metadata.labels = Some(labels);
        Some(Write::Update(slice.into()))
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels
}

pub(super) fn deletion(slice: &EndpointSlice) -> Write {
    Write::Delete {
        id: id(slice),
        uid: uid(&slice.metadata).to_owned(),
        grace: None,
        propagation: Propagation::Background,
    }
}
