//! What is kept in memory of the cluster's objects: the fields that are used, and no others (kpa-behaviour 11).
//!
//! Invariant: pure; what is trimmed away here is read nowhere.

use crate::objects::WORKLOAD_LABEL;
use crate::takeover::{KEPT_SELECTOR, OUR_SLICES};
use domain::EndpointId;
use domain::annotations::keys::{KNATIVE_PREFIX, KPA_PREFIX};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{self as core, Container, PodTemplateSpec, Service};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The annotation by which a pod says how cheap its loss is.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A namespaced name.
pub type Key = (String, String);

/// The namespace and name of an object.
#[must_use]
pub fn key(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// A Deployment that carries an annotation of ours, or whose class names us.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Without what is not used.
    pub deployment: Deployment,
    /// `spec.replicas`.
    pub requested: u32,
    /// Who last wrote `spec.replicas`, by its managed fields.
    pub writer: Option<String>,
    /// Why its ReplicaSet cannot make pods: the condition `ReplicaFailure`.
    pub failure: Option<(String, String)>,
}

/// Whether any annotation, of the object or of its template, is one of ours.
#[must_use]
pub fn is_annotated(deployment: &Deployment) -> bool {
    let ours = |metadata: Option<&ObjectMeta>| {
        metadata
            .and_then(|metadata| metadata.annotations.as_ref())
            .is_some_and(|map| map.keys().any(|key| is_ours(key)))
    };
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    ours(Some(&deployment.metadata)) || ours(template)
}

fn is_ours(key: &str) -> bool {
    key.starts_with(KNATIVE_PREFIX) || key.starts_with(KPA_PREFIX)
}

/// What is kept of a Deployment.
#[must_use]
pub fn workload(deployment: Deployment) -> Workload {
    let Deployment { metadata, spec, status } = deployment;
    let writer = metadata.managed_fields.as_deref().and_then(replicas_writer);
    let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
    let failure = conditions
        .into_iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
        .map(|condition| (condition.reason.unwrap_or_default(), condition.message.unwrap_or_default()));
    let spec = spec.unwrap_or_default();
    let requested = spec.replicas.map_or(1, |replicas| u32::try_from(replicas).unwrap_or(0));
    let kept = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        creation_timestamp: metadata.creation_timestamp,
        deletion_timestamp: metadata.deletion_timestamp,
        owner_references: metadata.owner_references,
        annotations: annotations(metadata.annotations),
        ..ObjectMeta::default()
    };
    let template_meta = spec.template.metadata.unwrap_or_default();
    let pod = spec.template.spec.map(|pod| core::PodSpec {
        containers: pod.containers.into_iter().map(container).collect(),
        ..core::PodSpec::default()
    });
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            annotations: annotations(template_meta.annotations),
            labels: template_meta.labels,
            ..ObjectMeta::default()
        }),
        spec: pod,
    };
    let spec = k8s_openapi::api::apps::v1::DeploymentSpec {
        selector: spec.selector,
        template,
        ..k8s_openapi::api::apps::v1::DeploymentSpec::default()
    };
    let deployment = Deployment { metadata: kept, spec: Some(spec), status: None };
    Workload { deployment, requested, writer, failure }
}

fn annotations(all: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let kept: BTreeMap<_, _> = all?.into_iter().filter(|(key, _)| is_ours(key) || key == DEFAULT_CONTAINER).collect();
    (!kept.is_empty()).then_some(kept)
}

fn container(container: Container) -> Container {
    Container {
        name: container.name,
        ports: container.ports,
        readiness_probe: container.readiness_probe,
        startup_probe: container.startup_probe,
        ..Container::default()
    }
}

/// Who owns `spec.replicas`: of several the one that wrote last.
fn replicas_writer(fields: &[ManagedFieldsEntry]) -> Option<String> {
    let owns = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    };
    let last = fields.iter().filter(owns).max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.clone()
}

/// What is kept of a Service.
#[must_use]
pub fn service(service: Service) -> Service {
    let Service { metadata, spec, status: _ } = service;
    let spec = spec.map(|spec| core::ServiceSpec {
        cluster_ip: spec.cluster_ip,
        ip_families: spec.ip_families,
        ports: spec.ports,
        selector: spec.selector,
        type_: spec.type_,
        ..core::ServiceSpec::default()
    });
    let metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        labels: metadata.labels,
        annotations: kept_annotations(metadata.annotations),
        owner_references: metadata.owner_references,
        ..ObjectMeta::default()
    };
    Service { metadata, spec, status: None }
}

/// Of a Service's annotations the one that is ours.
fn kept_annotations(all: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let kept: BTreeMap<_, _> = all?.into_iter().filter(|(key, _)| key == KEPT_SELECTOR).collect();
    (!kept.is_empty()).then_some(kept)
}

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Its uid: what activators know it by.
    pub id: EndpointId,
    /// Its namespace and name.
    pub key: Key,
    /// Its labels; equal sets are shared.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Where it is; `None` before it has an address.
    pub address: Option<IpAddr>,
    /// The kubelet says that it serves.
    pub ready: bool,
    /// It was told to end.
    pub leaving: bool,
    /// It ended, well or badly, and will not serve again.
    pub ended: bool,
    /// The cost of its deletion, as annotated.
    pub cost: Option<String>,
    /// Why a container of it does not run: reason and message.
    pub waiting: Option<(String, String)>,
    /// Most restarts of a container.
    pub restarts: u32,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
}

/// What is kept of a pod.
#[must_use]
pub fn pod(pod: core::Pod) -> Pod {
    let status = pod.status.unwrap_or_default();
    let condition = |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let containers = || status.container_statuses.iter().flatten();
    let waiting = containers().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason =
            waiting.reason.clone().filter(|reason| reason != "ContainerCreating" && reason != "PodInitializing")?;
        Some((reason, waiting.message.clone().unwrap_or_default()))
    });
    let unschedulable = condition("PodScheduled")
        .filter(|condition| condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable"))
        .map(|condition| condition.message.clone().unwrap_or_default());
    Pod {
        id: EndpointId::new(pod.metadata.uid.as_deref().unwrap_or_default()),
        key: key(&pod.metadata),
        address: status.pod_ip.as_deref().and_then(|address| address.parse().ok()),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        cost: pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST)).cloned(),
        waiting,
        restarts: containers().map(|container| u32::try_from(container.restart_count).unwrap_or(0)).max().unwrap_or(0),
        unschedulable,
        labels: Arc::new(pod.metadata.labels.unwrap_or_default()),
    }
}

/// Another autoscaler: what it scales, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its namespace and name.
    pub key: Key,
    /// Kind and name of its target.
    pub target: (String, String),
    /// Kind and name, for people.
    pub called: String,
}

/// What is kept of a HorizontalPodAutoscaler.
#[must_use]
pub fn hpa(hpa: HorizontalPodAutoscaler) -> Rival {
    let key = key(&hpa.metadata);
    let target = hpa.spec.map(|spec| (spec.scale_target_ref.kind, spec.scale_target_ref.name)).unwrap_or_default();
    Rival { called: format!("HorizontalPodAutoscaler {}", key.1), key, target }
}

/// A slice of a Service's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Its own namespace and name.
    pub key: Key,
    /// The Service it belongs to.
    pub service: String,
    /// Its TCP ports, the one named `http` first.
    pub ports: Vec<u16>,
    /// Those with an address.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One pod in a slice.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceEndpoint {
    /// The pod's uid.
    pub id: EndpointId,
    /// The pod's name.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// It passes its readiness probe, leaving or not.
    pub serving: bool,
    /// It was told to end.
    pub terminating: bool,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// The zone of that node.
    pub zone: Option<Arc<str>>,
}

/// The label by which a slice names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is kept of an EndpointSlice. Endpoints without a pod are known by their address.
#[must_use]
pub fn slice(slice: EndpointSlice) -> Slice {
    let key = key(&slice.metadata);
    let service =
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).cloned().unwrap_or_default();
    let ports = slice.ports.unwrap_or_default();
    let tcp = ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let (named, others): (Vec<_>, Vec<_>) = tcp.partition(|port| port.name.as_deref() == Some("http"));
    let number = |port: &EndpointPort| port.port.and_then(|port| u16::try_from(port).ok());
    let ports = named.into_iter().chain(others).filter_map(number).collect();
    let endpoints = slice.endpoints.into_iter().filter_map(|endpoint| {
        // Consumers take the first address only (discovery.k8s.io/v1).
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        let pod = endpoint.target_ref.unwrap_or_default();
        let name = pod.name.unwrap_or_else(|| address.to_string());
        Some(SliceEndpoint {
            id: EndpointId::new(pod.uid.as_deref().unwrap_or(&name)),
            name,
            address,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.map(Arc::from),
            zone: endpoint.zone.map(Arc::from),
        })
    });
    Slice { key, service, ports, endpoints: endpoints.collect() }
}

/// The label by which a slice names who manages it.
pub const SLICE_MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// Whether a slice lists activators in place of pods (kpa-behaviour 11.2): whoever takes it for pods sends in a circle.
#[must_use]
pub fn is_our_slice(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(SLICE_MANAGER)).is_some_and(|by| by == OUR_SLICES)
}

/// A slice behind a Service of a namespace that is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Behind {
    /// Its own namespace and name.
    pub key: Key,
    /// The Service it belongs to.
    pub service: String,
    /// Who manages it; empty where nobody says so.
    pub manager: String,
    /// Of one of ours: the workload whose requests it leads to the activators.
    pub workload: Option<String>,
    /// Something in it serves.
    pub ready: bool,
    /// Of one of ours: what it says.
    said: Option<EndpointSlice>,
}

impl Behind {
    /// Whether it is one of ours that says what `wanted` does.
    #[must_use]
    pub fn says(&self, wanted: &serde_json::Value) -> bool {
        let wanted = serde_json::from_value::<EndpointSlice>(wanted.clone()).ok().map(behind);
        wanted.is_some_and(|wanted| self.said.is_some() && wanted == *self)
    }
}

/// What is kept of a slice: of one of ours everything that we wrote, of others no endpoint.
#[must_use]
pub fn behind(slice: EndpointSlice) -> Behind {
    let key = key(&slice.metadata);
    let label = |name: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let (service, manager) = (label(SERVICE_NAME).unwrap_or_default(), label(SLICE_MANAGER).unwrap_or_default());
    let ready = slice
        .endpoints
        .iter()
        .any(|endpoint| endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true)));
    let is_ours = manager == OUR_SLICES;
    let annotations = slice.metadata.annotations.as_ref().filter(|_| is_ours);
    let workload = annotations.and_then(|annotations| annotations.get(WORKLOAD_LABEL)).cloned();
    let said = is_ours.then(|| EndpointSlice { metadata: owners(slice.metadata), ..slice });
    Behind { key, service, manager, workload, ready, said }
}

fn owners(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta { owner_references: metadata.owner_references, ..ObjectMeta::default() }
}
