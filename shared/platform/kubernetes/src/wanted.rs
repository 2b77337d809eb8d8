//! The objects that each workload of ours needs, and what it is owed when it is ours no more.
//!
//! Invariant: pure and level-triggered; a workload that we let go of gets its replicas back before anything of ours is
//! taken away (kpa-behaviour 1.8).

use crate::objects::{MANAGED_BY, Published, Released, ScaledWorkloadSpec, TargetRef, WORKLOAD_LABEL};
use crate::picture::Picture;
use crate::takeover;
use crate::trim::Key;
use domain::annotations::Upstream;
use domain::{Mode, Refusal, Replicas, ScaleTargetRef};
use k8s_openapi::api::core::v1::Service;
use platform::manifest::Adopted;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Something to be written.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Write {
    /// Server-side apply of a Service.
    Service(Value),
    /// Server-side apply of a ScaledWorkload.
    Workload(Value),
    /// Ask for at least so many replicas.
    Restore(ScaleTargetRef, Replicas),
    /// Delete the Service of this name, if it is ours.
    DeleteService(String),
    /// Delete the ScaledWorkload of the same name.
    DeleteWorkload,
    /// Server-side apply of an EndpointSlice.
    Slice(Value),
    /// Delete the EndpointSlice of this name.
    DeleteSlice(String),
    /// Delete the Endpoints object of this name.
    DeleteEndpoints(String),
    /// Take its selector off a Service, and keep it there as an annotation.
    TakeSelector {
        /// The Service.
        service: String,
        /// Its resourceVersion, as it was seen.
        version: Option<String>,
        /// The selector as JSON.
        kept: String,
        /// It was taken off before, and somebody has put one back.
        again: bool,
    },
    /// Take the annotation off a Service, and put its selector back.
    GiveSelector {
        /// The Service.
        service: String,
        /// Its resourceVersion, as it was seen.
        version: Option<String>,
        /// `None`: it has one again, which stays.
        selector: Option<BTreeMap<String, String>>,
    },
}

/// The name of the headless Service of a workload: letters of a hash, because the name of a Service is short.
#[must_use]
pub fn service_name((namespace, name): &Key) -> String {
    // FNV-1a, 64 bits: stable over releases and machines.
    let bytes = namespace.bytes().chain([b'/']).chain(name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("kpa-{hash:016x}")
}

/// What is to be written for a workload, in this order; nothing when all is as it should be.
#[must_use]
pub fn owed(picture: &Picture, key: &Key) -> Vec<Write> {
    let published = picture.published(key);
    match (picture.adopted(key), picture.uid(key)) {
        (Some(adopted), Some(uid)) => ours(picture, key, adopted, uid, published),
        _ => let_go(picture, key, published),
    }
}

fn ours(picture: &Picture, key: &Key, adopted: &Adopted, uid: &str, published: Option<&Published>) -> Vec<Write> {
    let judged = picture.judged(key);
    let taken = judged.and_then(|judged| judged.taken.as_deref());
    let giving = takeover::give_back(picture, key, taken);
    if let Some(published) = published.filter(|published| published.released == Released::ForGood) {
        // The object stays: it is what says so, and goes with its kind.
        let own = picture.service(&key.0, &service_name(key)).is_some();
        let mut writes = Vec::new();
        if !published.status.restored || own || giving.pending {
            writes.push(restore(key, published));
        }
        writes.extend(giving.writes);
        if own && !giving.pending {
            writes.push(Write::DeleteService(service_name(key)));
        }
        return writes;
    }
    let mut writes = Vec::new();
    let own = service_name(key);
    let lists_own = adopted.service.is_none() || judged.is_some_and(|judged| judged.own) || giving.pending;
    let source = source(picture, key, adopted, lists_own, published);
    let there = picture.service(&key.0, &own);
    if lists_own && !there.is_some_and(|service| agrees(service, adopted)) {
        writes.push(Write::Service(service(key, &own, adopted, uid)));
    }
    let spec = spec(picture, key, adopted, source);
    let current = published
        .is_some_and(|published| published.owner.as_deref() == Some(uid) && published.spec.as_ref() == Ok(&spec));
    if !current {
        writes.push(Write::Workload(workload(key, uid, &spec)));
    } else if !lists_own && there.is_some() {
        // Only now does no activator look at it any more.
        writes.push(Write::DeleteService(own.clone()));
    }
    // Another autoscaler may not wake what we put to sleep: it gets its replicas back once.
    let handed_over =
        matches!(&adopted.revision.mode, Mode::Refused(Refusal::AnotherAutoscaler(_) | Refusal::Released));
    let asleep = picture.requested(key).is_some_and(|(requested, _)| requested == 0);
    if let Some(published) = published.filter(|published| handed_over && asleep && !published.status.restored) {
        writes.push(restore(key, published));
    }
    writes.extend(giving.writes);
    if let Some(taken) = taken {
        writes.extend(takeover::take(picture, key, taken, &own));
    }
    writes
}

/// The Service from which activators have the pods. They move to our own when it lists some, and never to nothing.
fn source(picture: &Picture, key: &Key, adopted: &Adopted, lists_own: bool, published: Option<&Published>) -> String {
    let own = service_name(key);
    let Some(named) = adopted.service.as_ref() else { return own };
    let before = published.and_then(|published| published.spec.as_ref().ok()).map(|spec| spec.service.as_str());
    let moved = before.is_none_or(|before| before == own) || picture.behind(&key.0, &own).next().is_some();
    if lists_own && moved { own } else { named.clone() }
}

fn let_go(picture: &Picture, key: &Key, published: Option<&Published>) -> Vec<Write> {
    let giving = takeover::give_back(picture, key, None);
    let mut writes: Vec<Write> = published.map(|published| restore(key, published)).into_iter().collect();
    writes.extend(giving.writes);
    if published.is_some() && !giving.pending {
        writes.extend([Write::DeleteService(service_name(key)), Write::DeleteWorkload]);
    }
    writes
}

fn restore(key: &Key, published: &Published) -> Write {
    Write::Restore(ScaleTargetRef::deployment(&key.0, &key.1), given_back(published))
}

/// What a workload gets back when we let go of it: max(1, min-scale, the last count that was not zero).
#[must_use]
pub fn given_back(published: &Published) -> Replicas {
    let least = published.spec.as_ref().map_or(Replicas::ZERO, |spec| *spec.resolved.scaling.min_scale);
    let last = published.status.last_replicas.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    Replicas::new(last).max(least).max(Replicas::ONE)
}

fn spec(picture: &Picture, key: &Key, adopted: &Adopted, service: String) -> ScaledWorkloadSpec {
    let upstream = match adopted.upstream {
        Upstream::Pods => None,
        Upstream::Service => picture.service(&key.0, &service).and_then(cluster_address),
    };
    // What is wrong with its settings is shown in the status; it is nothing that an activator needs.
    let mut resolved = (*adopted.revision).clone();
    resolved.problems = Vec::new();
    if let Mode::Invalid(problems) = &mut resolved.mode {
        problems.clear();
    }
    ScaledWorkloadSpec {
        scale_target_ref: TargetRef { api_version: "apps/v1".into(), kind: "Deployment".into(), name: key.1.clone() },
        service,
        port: i32::from(adopted.port),
        upstream,
        early_probe: adopted.early_probe.clone(),
        resolved,
    }
}

/// The cluster IP with the first port; none of a headless Service.
fn cluster_address(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let address: std::net::IpAddr = spec.cluster_ip.as_ref()?.parse().ok()?;
    let port = u16::try_from(spec.ports.as_ref()?.first()?.port).ok()?;
    Some(std::net::SocketAddr::new(address, port).to_string())
}

fn service((namespace, name): &Key, own: &str, adopted: &Adopted, uid: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": own,
            "namespace": namespace,
            "labels": {MANAGED_BY.0: MANAGED_BY.1, WORKLOAD_LABEL: label(name)},
            "ownerReferences": [owner(name, uid)],
        },
        "spec": {
            "clusterIP": "None",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": adopted.selector.match_labels,
            "ports": [{"name": "http", "port": adopted.port, "targetPort": adopted.port, "protocol": "TCP"}],
        },
    })
}

/// Whether a Service of ours says what it should.
fn agrees(service: &Service, adopted: &Adopted) -> bool {
    let Some(spec) = &service.spec else { return false };
    let port = spec.ports.iter().flatten().next().map(|port| port.port);
    spec.selector == adopted.selector.match_labels && port == Some(i32::from(adopted.port))
}

fn workload((namespace, name): &Key, uid: &str, spec: &ScaledWorkloadSpec) -> Value {
    json!({
        "apiVersion": "kpa.dev/v1alpha1",
        "kind": "ScaledWorkload",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY.0: MANAGED_BY.1},
            "ownerReferences": [owner(name, uid)],
        },
        "spec": spec,
    })
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid})
}

/// The name, or as much of it as a label holds.
pub(crate) fn label(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}
