//! Services that lead to the activators: who may have one, and what it is owed (kpa-behaviour 11.2).
//!
//! Invariant: pure and level-triggered. No step is taken before the one before it is seen to be done, so that the Service
//! has endpoints at every moment; our slices, by which it is known that something is to be given back, go last.

use crate::objects::{MANAGED_BY, Published, WORKLOAD_LABEL};
use crate::peers::Door;
use crate::picture::Picture;
use crate::trim::{Behind, Key, SERVICE_NAME, SLICE_MANAGER};
use crate::wanted::{Write, label, service_name};
use domain::{Mode, Problem, Severity};
use k8s_openapi::api::core::v1::Service;
use platform::manifest::Adopted;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Who manages our slices, as the label of a slice says it.
pub const OUR_SLICES: &str = "kpa.dev";
/// The annotation of a Service that keeps its selector, as JSON, while it leads to the activators.
pub const KEPT_SELECTOR: &str = "kpa.dev/selector";
/// Endpoints of one slice: what the API server takes at most. Activators beyond that get no requests this way.
pub const SLICE_ENDPOINTS_MAX: usize = 1000;
/// What a Service that has lost its selector keeps of its own endpoints, because nobody cleans up after these.
const CONTROLLERS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
const KEY: &str = "kpa.dev/take-over";
const STAYS: &str = "the Service stays as it is";

/// What becomes of the Service that a workload names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// The Service that leads to the activators, or is to.
    pub taken: Option<String>,
    /// The Service whose names mean the workload: also while it is given back.
    pub named: Option<String>,
    /// The pods are listed by a Service of our own, although the workload names another.
    pub own: bool,
    /// What stands in the way.
    pub problems: Vec<Problem>,
}

/// Judges what a workload asks for, beside everything else in its namespace.
#[must_use]
pub fn judge(picture: &Picture, key: &Key) -> Judged {
    let Some(adopted) = picture.adopted(key) else { return Judged::default() };
    let mut judged = match adopted.service.as_deref().filter(|_| adopted.take_over) {
        Some(name) => asking(picture, key, adopted, name),
        None if picture.takes_over() => beside(picture, key, adopted),
        None => Judged::default(),
    };
    judged.named = judged.taken.clone().or_else(|| marked(picture, key).into_iter().next());
    judged
}

fn asking(picture: &Picture, key: &Key, adopted: &Adopted, name: &str) -> Judged {
    if !picture.takes_over() {
        let expected = "the component take-over (deploy/components/take-over, or takeOver: true in the chart)";
        return refused(key, "this installation of kpa has no right to".into(), expected, STAYS, false);
    }
    let Some(service) = picture.service(&key.0, name) else {
        let consequence = "nothing is taken over; other names of the workload work";
        return refused(key, format!("there is no Service {name}"), "the name of a Service", consequence, true);
    };
    if let Some(called) = called(picture, key, name) {
        let what = format!("the workload {}/{} is called {name} too, and has that name", called.0, called.1);
        return refused(key, what, "a Service that is not called like another workload", STAYS, false);
    }
    if let Some(holder) = holder(picture, &key.0, service).filter(|holder| *holder != key) {
        let what = format!("Service {name} belongs to the older workload {}/{}", holder.0, holder.1);
        let led = taken_by(picture, holder, service);
        let consequence = if led { "the Service leads to that one" } else { STAYS };
        return refused(key, what, "a Service for each workload", consequence, led);
    }
    if let Some((what, expected)) = unfit(service, !ours(picture, key, name).is_empty()) {
        return refused(key, format!("Service {name} {what}"), expected, STAYS, false);
    }
    if matches!(adopted.revision.mode, Mode::Refused(_) | Mode::Removed) {
        return Judged::default();
    }
    let mut judged = Judged { taken: Some(name.to_owned()), own: true, ..Judged::default() };
    if kept_selector(service).is_some() && has_selector(service) {
        let what = format!("somebody has put the selector of Service {name} back");
        let consequence = "it is taken off again, at most once a minute; until then some requests pass us by";
        judged.problems.push(problem(key, what, "no selector there, or no kpa.dev/take-over here", consequence));
    }
    judged
}

/// A workload that asks for nothing, and whose pods a Service of another had.
fn beside(picture: &Picture, key: &Key, adopted: &Adopted) -> Judged {
    let labels = picture.labels(key);
    let led = |service: &&Service| {
        let concerns = adopted.service.as_deref() == Some(name_of(service)) || selects(service, labels);
        let holder = || holder(picture, &key.0, service).filter(|holder| *holder != key);
        concerns && holder().is_some_and(|holder| taken_by(picture, holder, service))
    };
    let Some(service) = picture.wanted_services(&key.0).find(led) else { return Judged::default() };
    let what = format!("Service {} leads to another workload, which has kpa.dev/take-over", name_of(service));
    let own = adopted.service.as_deref() == Some(name_of(service)) && has_labels_only(adopted);
    refused(key, what, "a Service for each workload", "no request comes to this one by it", own)
}

fn has_labels_only(adopted: &Adopted) -> bool {
    adopted.selector.match_expressions.iter().flatten().next().is_none()
}

/// A workload of this name that is another.
fn called(picture: &Picture, key: &Key, name: &str) -> Option<Key> {
    let other = (key.0.clone(), name.to_owned());
    (other != *key && picture.adopted(&other).is_some()).then_some(other)
}

/// The oldest of the workloads that name a Service or have pods that it selects.
fn holder<'a>(picture: &'a Picture, namespace: &'a str, service: &Service) -> Option<&'a Key> {
    let claims = picture.neighbours(namespace).filter(|(_, adopted, labels)| {
        adopted.service.as_deref() == Some(name_of(service)) || selects(service, *labels)
    });
    let oldest = claims.min_by_key(|(key, adopted, _)| (adopted.revision.route.age_rank, (*key).clone()));
    oldest.map(|(key, ..)| key)
}

/// Whether its holder takes it over.
fn taken_by(picture: &Picture, holder: &Key, service: &Service) -> bool {
    let Some(adopted) = picture.adopted(holder) else { return false };
    picture.takes_over()
        && adopted.take_over
        && adopted.service.as_deref() == Some(name_of(service))
        && called(picture, holder, name_of(service)).is_none()
        && unfit(service, !ours(picture, holder, name_of(service)).is_empty()).is_none()
        && !matches!(adopted.revision.mode, Mode::Refused(_) | Mode::Removed)
}

/// Whether a Service selects pods with these labels, or did before it lost its selector.
fn selects(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    let kept = || kept_selector(service).map(Cow::Owned);
    let current = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let (Some(selector), Some(labels)) = (current.map(Cow::Borrowed).or_else(kept), labels) else { return false };
    !selector.is_empty() && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// Why a Service cannot lead to the activators, and what could. `is_ours`: it does already.
fn unfit(service: &Service, is_ours: bool) -> Option<(String, &'static str)> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(("is an ExternalName".into(), "type ClusterIP, NodePort or LoadBalancer"));
    }
    if spec.cluster_ip.as_deref().is_none_or(|address| address.is_empty() || address == "None") {
        return Some((
            "is headless: clients would connect to the activators' own port".into(),
            "one with a cluster IP",
        ));
    }
    let ports: Vec<_> = spec.ports.iter().flatten().collect();
    let [port] = ports.as_slice() else {
        return Some((format!("has {} ports", ports.len()), "exactly one port"));
    };
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return Some((format!("has a port of {}", port.protocol.as_deref().unwrap_or_default()), "a port of TCP"));
    }
    if !is_ours && !has_selector(service) && kept_selector(service).is_none() {
        return Some(("has no selector: somebody else writes its endpoints".into(), "a Service that selects pods"));
    }
    None
}

fn has_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

/// The selector that it had; `None` where none is kept, or none that can be read.
pub(crate) fn kept_selector(service: &Service) -> Option<BTreeMap<String, String>> {
    let kept = service.metadata.annotations.as_ref()?.get(KEPT_SELECTOR)?;
    serde_json::from_str(kept).ok()
}

/// The merge patch that gives a Service its selector back; without one, it has one again, which stays.
pub(crate) fn given(version: Option<&str>, selector: Option<&BTreeMap<String, String>>) -> Value {
    let mut patch = json!({"metadata": {"resourceVersion": version, "annotations": {KEPT_SELECTOR: null}}});
    if let Some(selector) = selector {
        patch["spec"] = json!({"selector": selector});
    }
    patch
}

fn name_of(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}

fn refused(key: &Key, what: String, expected: &str, consequence: &str, own: bool) -> Judged {
    Judged { own, problems: vec![problem(key, what, expected, consequence)], ..Judged::default() }
}

fn problem((namespace, name): &Key, what: String, expected: &str, consequence: &str) -> Problem {
    Problem {
        severity: Severity::Warning,
        place: format!("Deployment {namespace}/{name}"),
        key: KEY.into(),
        what,
        expected: expected.into(),
        consequence: consequence.into(),
    }
}

/// Our slices of a Service that were made for a workload.
fn ours<'a>(picture: &'a Picture, key: &Key, service: &str) -> Vec<&'a Behind> {
    let is_its = |slice: &&Behind| slice.workload.as_deref() == Some(&key.1);
    picture.behind(&key.0, service).filter(is_its).collect()
}

/// Services that carry marks of a workload: slices of ours.
fn marked(picture: &Picture, key: &Key) -> BTreeSet<String> {
    let said = picture.published(key).and_then(said);
    said.into_iter().chain(picture.marked(key)).filter(|name| is_marked(picture, key, name)).collect()
}

/// The Service that was last said to lead to the activators.
fn said(published: &Published) -> Option<String> {
    published.spec.as_ref().ok()?.resolved.route.taken_over.clone()
}

/// Something of ours is left at it: a slice, or a kept selector where our object says that it was taken over.
fn is_marked(picture: &Picture, key: &Key, name: &str) -> bool {
    let kept = picture.service(&key.0, name).is_some_and(|service| kept_selector(service).is_some());
    !ours(picture, key, name).is_empty() || kept
}

/// What is to be given back, and whether anything still is.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Giving {
    pub(crate) writes: Vec<Write>,
    /// Something of ours is left, even if nothing can be done now.
    pub(crate) pending: bool,
}

/// Gives back every Service that was taken for a workload, `taken` apart: its selector first, then, as soon as pods stand
/// behind it, our slices go.
pub(crate) fn give_back(picture: &Picture, key: &Key, taken: Option<&str>) -> Giving {
    let mut giving = Giving::default();
    for name in marked(picture, key).into_iter().filter(|name| Some(name.as_str()) != taken) {
        giving.pending = true;
        let gone = ours(picture, key, &name).into_iter().map(|slice| Write::DeleteSlice(slice.key.1.clone()));
        let Some(service) = picture.service(&key.0, &name) else {
            giving.writes.extend(gone);
            continue;
        };
        // It is taken again, and our slices become those of the other workload.
        if holder(picture, &key.0, service).is_some_and(|other| other != key && taken_by(picture, other, service)) {
            continue;
        }
        let pods = picture.behind(&key.0, &name).any(|slice| slice.ready && slice.manager != OUR_SLICES);
        // Without our object nothing is routed, and nobody who comes to an activator is served.
        let unrouted = picture.published(key).is_none();
        match kept_selector(service) {
            Some(kept) => giving.writes.push(Write::GiveSelector {
                version: service.metadata.resource_version.clone(),
                selector: (!has_selector(service)).then_some(kept),
                service: name,
            }),
            None if pods || unrouted || !has_selector(service) => giving.writes.extend(gone),
            None => {}
        }
    }
    giving
}

/// The steps by which a Service comes to lead to the activators, and stays so. `own`: our Service, which lists the pods.
pub(crate) fn take(picture: &Picture, key: &Key, name: &str, own: &str) -> Vec<Write> {
    let told = picture.published(key).and_then(|published| published.spec.as_ref().ok());
    let heard = told.is_some_and(|spec| spec.service == own && spec.resolved.route.taken_over.as_deref() == Some(name));
    let Some(service) = picture.service(&key.0, name).filter(|_| heard) else { return Vec::new() };
    let (mut writes, existing) = (Vec::new(), ours(picture, key, name));
    let wanted = slices(key, service, picture.doors());
    if wanted.is_empty() {
        // No activator is ready: the last ones stay, and without any nothing is begun.
        if existing.is_empty() {
            return writes;
        }
    } else {
        let is_there = |slice: &Value| existing.iter().any(|there| there.says(slice));
        writes.extend(wanted.values().filter(|slice| !is_there(slice)).cloned().map(Write::Slice));
        let outdated = existing.iter().filter(|slice| !wanted.contains_key(&slice.key.1));
        writes.extend(outdated.map(|slice| Write::DeleteSlice(slice.key.1.clone())));
    }
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        writes.push(Write::TakeSelector {
            service: name.to_owned(),
            version: service.metadata.resource_version.clone(),
            kept: json!(selector).to_string(),
            again: kept_selector(service).is_some(),
        });
        return writes;
    }
    let left: Vec<&Behind> =
        picture.behind(&key.0, name).filter(|slice| CONTROLLERS.contains(&slice.manager.as_str())).collect();
    if !left.is_empty() {
        // First what the mirroring controller would make slices of again.
        writes.push(Write::DeleteEndpoints(name.to_owned()));
        writes.extend(left.into_iter().map(|slice| Write::DeleteSlice(slice.key.1.clone())));
    }
    writes
}

/// The slices of the ready activators, by name: one for each address family, and for each port where they differ.
fn slices(key: &Key, service: &Service, doors: &[Door]) -> BTreeMap<String, Value> {
    let mut grouped: BTreeMap<(&str, u16), Vec<Value>> = BTreeMap::new();
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    for door in doors {
        let family = if door.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let endpoints = grouped.entry((family, door.address.port())).or_default();
        let is_served = families.is_none_or(|families| families.iter().any(|served| served == family));
        if is_served && endpoints.len() < SLICE_ENDPOINTS_MAX {
            endpoints.push(endpoint(door));
        }
    }
    grouped.retain(|_, endpoints| !endpoints.is_empty());
    let port = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first());
    let named = port.and_then(|port| port.name.as_deref()).unwrap_or_default();
    let made = grouped.into_iter().map(|((family, number), endpoints)| {
        // Named after the Service: whoever takes it over from another workload takes the slices too.
        let of = service_name(&(key.0.clone(), name_of(service).to_owned()));
        let name = format!("{of}-{}-{number}", family.to_ascii_lowercase());
        let mut served = json!({"name": named, "port": number, "protocol": "TCP"});
        if let Some(protocol) = port.and_then(|port| port.app_protocol.as_ref()) {
            served["appProtocol"] = json!(protocol);
        }
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": key.0,
                "labels": {
                    SERVICE_NAME: name_of(service),
                    SLICE_MANAGER: OUR_SLICES,
                    MANAGED_BY.0: MANAGED_BY.1,
                    WORKLOAD_LABEL: label(&key.1),
                },
                // A name may be longer than a label.
                "annotations": {WORKLOAD_LABEL: key.1},
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": name_of(service),
                    "uid": service.metadata.uid.as_deref().unwrap_or_default(),
                }],
            },
            "addressType": family,
            "ports": [served],
            "endpoints": endpoints,
        });
        (name, slice)
    });
    made.collect()
}

fn endpoint(door: &Door) -> Value {
    let mut endpoint = json!({
        "addresses": [door.address.ip().to_string()],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "namespace": door.namespace, "name": door.name, "uid": door.id.as_str()},
    });
    // By its node an endpoint is local to whoever wants only such.
    for (field, value) in [("nodeName", &door.node), ("zone", &door.zone)] {
        if let Some(value) = value {
            endpoint[field] = json!(value);
        }
    }
    endpoint
}

#[cfg(test)]
mod tests;
