//! The objects that each workload of ours needs, and what it is owed when it is ours no more.
//!
//! Invariant: pure and level-triggered; a workload that we let go of gets its replicas back before anything of ours is
//! taken away (kpa-behaviour 1.8).

use crate::objects::{MANAGED_BY, Published, Released, ScaledWorkloadSpec, TargetRef, WORKLOAD_LABEL};
use crate::picture::Picture;
use crate::trim::Key;
use domain::annotations::Upstream;
use domain::{Mode, Refusal, Replicas, ScaleTargetRef};
use k8s_openapi::api::core::v1::Service;
use platform::manifest::Adopted;
use serde_json::{Value, json};

/// Something to be written.
#[derive(Debug, Clone, PartialEq)]
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
        _ => published.map(|published| let_go(key, published)).unwrap_or_default(),
    }
}

fn ours(picture: &Picture, key: &Key, adopted: &Adopted, uid: &str, published: Option<&Published>) -> Vec<Write> {
    if let Some(published) = published.filter(|published| published.released == Released::ForGood) {
        // The object stays: it is what says so, and goes with its kind.
        let done = published.status.restored && picture.service(&key.0, &service_name(key)).is_none();
        return if done { Vec::new() } else { vec![restore(key, published), Write::DeleteService(service_name(key))] };
    }
    let mut writes = Vec::new();
    let own = service_name(key);
    match &adopted.service {
        None => {
            let wanted = service(key, &own, adopted, uid);
            if !picture.service(&key.0, &own).is_some_and(|service| agrees(service, adopted)) {
                writes.push(Write::Service(wanted));
            }
        }
        Some(_) if picture.service(&key.0, &own).is_some() => writes.push(Write::DeleteService(own.clone())),
        Some(_) => {}
    }
    let spec = spec(picture, key, adopted, &own);
    let current = published
        .is_some_and(|published| published.owner.as_deref() == Some(uid) && published.spec.as_ref() == Ok(&spec));
    if !current {
        writes.push(Write::Workload(workload(key, uid, &spec)));
    }
    // Another autoscaler may not wake what we put to sleep: it gets its replicas back once.
    let handed_over =
        matches!(&adopted.revision.mode, Mode::Refused(Refusal::AnotherAutoscaler(_) | Refusal::Released));
    let asleep = picture.requested(key).is_some_and(|(requested, _)| requested == 0);
    if let Some(published) = published.filter(|published| handed_over && asleep && !published.status.restored) {
        writes.push(restore(key, published));
    }
    writes
}

fn let_go(key: &Key, published: &Published) -> Vec<Write> {
    vec![restore(key, published), Write::DeleteService(service_name(key)), Write::DeleteWorkload]
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

fn spec(picture: &Picture, key: &Key, adopted: &Adopted, own: &str) -> ScaledWorkloadSpec {
    let service = adopted.service.clone().unwrap_or_else(|| own.to_owned());
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
fn label(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}
