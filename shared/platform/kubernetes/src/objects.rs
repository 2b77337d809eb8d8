//! Our own kind, ScaledWorkload: what autoscalers tell activators of a workload, and what kubectl shows of it.
//!
//! Invariant: one per adopted Deployment, of the same name and owned by it; the leading autoscaler alone writes it. A
//! field that a later release adds is ignored by an earlier one (kpa-behaviour 11.1).

use crate::trim::{Key, key};
use domain::{Probe, Revision, Trouble};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is resolved of one workload.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kpa.dev",
    version = "v1alpha1",
    kind = "ScaledWorkload",
    plural = "scaledworkloads",
    singular = "scaledworkload",
    shortname = "skw",
    category = "kpa",
    namespaced,
    status = "ScaledWorkloadStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Reference","type":"string","jsonPath":".status.reference"}"#,
    printcolumn = r#"{"name":"Targets","type":"string","jsonPath":".status.targets"}"#,
    printcolumn = r#"{"name":"MinPods","type":"integer","jsonPath":".status.minPods"}"#,
    printcolumn = r#"{"name":"MaxPods","type":"string","jsonPath":".status.maxPods"}"#,
    printcolumn = r#"{"name":"Replicas","type":"integer","jsonPath":".status.replicas"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.readyReplicas"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".status.mode"}"#,
    printcolumn = r#"{"name":"In-Flight","type":"integer","jsonPath":".status.inFlight","priority":1}"#,
    printcolumn = r#"{"name":"Queued","type":"integer","jsonPath":".status.queued","priority":1}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ScaledWorkloadSpec {
    /// What is scaled.
    pub scale_target_ref: TargetRef,
    /// The Service whose EndpointSlices list the pods.
    pub service: String,
    /// Where the pods serve, 1 to 65535.
    pub port: i32,
    /// `kpa.dev/upstream: service`: requests go to this address and port as one endpoint, not to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// How an activator finds out earlier than the kubelet that a pod answers. Missing: it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub early_probe: Option<Probe>,
    /// Every setting in force, each with its origin.
    #[schemars(schema_with = "anything")]
    pub resolved: Revision,
}

/// What is scaled, in the namespace of the object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What the leading autoscaler sees and decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaledWorkloadStatus {
    /// Such as `Deployment/model`.
    pub reference: String,
    /// Per signal the average of a ready replica over its target, such as `7.5/7`.
    pub targets: String,
    /// `min-scale`.
    pub min_pods: i32,
    /// `max-scale`, or `unlimited`.
    pub max_pods: String,
    /// What was last asked for (`spec.replicas`).
    pub replicas: i32,
    /// How many are ready.
    pub ready_replicas: i32,
    /// What is wanted.
    pub wanted_replicas: i32,
    /// The last count that was not zero: what it gets back when we let go of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_replicas: Option<i32>,
    /// It got its replicas back because another autoscaler, or nobody, scales it now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// What it is doing: `stable`, `panic`, `asleep`, …
    pub mode: String,
    /// Requests running on a replica.
    pub in_flight: i32,
    /// Requests waiting.
    pub queued: i32,
    /// The last decision as a sentence.
    pub reason: String,
    /// The last decision's arithmetic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub last_decision: Option<serde_json::Value>,
    /// Why replicas do not become ready, as far as the cluster says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub trouble: Option<Trouble>,
    /// What is wrong with its settings, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Ready, AbleToScale, ScalingActive, ScalingLimited, and what else matters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// An object of which the API server keeps every field: its form is that of the release that wrote it.
fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// metav1.Condition, merged by type.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string" },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64" },
                "reason": { "type": "string" },
                "message": { "type": "string" }
            }
        }
    })
}

/// The CustomResourceDefinition as it is installed.
#[must_use]
pub fn definition() -> serde_json::Value {
    serde_json::to_value(ScaledWorkload::crd()).unwrap_or_default()
}

/// One of our objects as it was read: what of it can be.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its namespace and name.
    pub key: Key,
    /// Who owns it: the uid of a Deployment.
    pub owner: Option<String>,
    /// What it says to activators, or why that cannot be read.
    pub spec: Result<ScaledWorkloadSpec, String>,
    /// What it shows; nothing of it where it cannot be read.
    pub status: ScaledWorkloadStatus,
    /// Whether somebody let go of the workload by hand.
    pub released: Released,
}

/// Whether somebody let go of a workload by hand (kpa-behaviour 1.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Released {
    /// Nobody did.
    #[default]
    No,
    /// `kpa release NAME`: it is routed, and no longer scaled.
    Yes,
    /// `kpa release --all`: nothing of ours stays with it.
    ForGood,
}

impl Released {
    /// The value of the annotation; `None` where there is none.
    #[must_use]
    pub const fn annotation(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Yes => Some("true"),
            Self::ForGood => Some("for-good"),
        }
    }

    fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let value = annotations.and_then(|annotations| annotations.get(RELEASED)).map(String::as_str);
        [Self::Yes, Self::ForGood].into_iter().find(|released| released.annotation() == value).unwrap_or_default()
    }
}

/// Reads one of our objects. One bad field hides no other object, and neither its status nor who owns it.
#[must_use]
pub fn published(object: DynamicObject) -> Published {
    let DynamicObject { metadata, mut data, .. } = object;
    let mut part = |name: &str| data.get_mut(name).map(serde_json::Value::take).unwrap_or_default();
    let spec = serde_json::from_value(part("spec")).map_err(|error| error.to_string());
    Published {
        key: key(&metadata),
        spec,
        status: serde_json::from_value(part("status")).unwrap_or_default(),
        released: Released::of(metadata.annotations.as_ref()),
        owner: metadata.owner_references.into_iter().flatten().next().map(|owner| owner.uid),
    }
}

/// What marks objects that we made: who made them.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kpa");
/// The label of our headless Services: the name of the Deployment, or what fits into a label of it.
pub const WORKLOAD_LABEL: &str = "kpa.dev/workload";
/// The annotation of a ScaledWorkload that says that somebody let go of it by hand (kpa-behaviour 1.8).
pub const RELEASED: &str = "kpa.dev/released";
/// Who we are where fields have owners.
pub const FIELD_MANAGER: &str = "kpa-autoscaler";

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed where an error would hide: a definition that cannot be made must not be installed empty.
    #[test]
    fn the_definition_is_whole() {
        let crd = definition();
        assert_eq!(crd["metadata"]["name"], "scaledworkloads.kpa.dev");
        assert_eq!(crd["spec"]["names"]["shortNames"], serde_json::json!(["skw"]));
        let version = &crd["spec"]["versions"][0];
        assert!(version["subresources"]["status"].is_object());
        let schema = &version["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(schema["spec"]["properties"]["resolved"]["x-kubernetes-preserve-unknown-fields"], true);
        let columns: Vec<&str> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        let shown = "Reference Targets MinPods MaxPods Replicas Ready Mode In-Flight Queued Reason Age";
        assert_eq!(columns.join(" "), shown);
    }
}
