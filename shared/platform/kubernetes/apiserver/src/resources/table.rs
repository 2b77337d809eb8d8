//! The built-in kinds of Kubernetes 1.33 that the server serves, one row each.
//!
//! Invariant: a row says what the real server's strategy for the kind says; nothing here is a preference of ours.

use super::{Form, Generation, ScalePaths, Type, typed};
use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v2 as autoscaling, coordination::v1 as coordination,
    core::v1 as core, discovery::v1 as discovery, events::v1 as events, networking::v1 as networking,
    policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use serde_json::Value;

/// A kind whose objects are namespaced, have no subresource and can be written without a version.
fn plain(api: &str, plural: &str, kind: &str, form: fn(Value) -> Result<Value, String>) -> Type {
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    Type {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced: true,
        short: Vec::new(),
        categories: Vec::new(),
        has_status: false,
        scale: None,
        subresources: &[],
        is_question: false,
        generation: Generation::Never,
        unconditional_update: true,
        create_on_update: false,
        select: Vec::new(),
        bucket: format!("{group}/{plural}").into(),
        form: Form::Typed(form),
    }
}

impl Type {
    fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    fn short(mut self, names: &[&str]) -> Self {
        self.short = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    fn in_all(mut self) -> Self {
        self.categories = vec!["all".to_owned()];
        self
    }

    fn status(mut self) -> Self {
        self.has_status = true;
        self
    }

    fn generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    fn scale(mut self) -> Self {
        self.scale = Some(ScalePaths {
            spec: ".spec.replicas".to_owned(),
            status: ".status.replicas".to_owned(),
            selector: Some(".spec.selector".to_owned()),
        });
        self
    }

    fn subresources(mut self, names: &'static [&'static str]) -> Self {
        self.subresources = names;
        self
    }

    fn question(mut self) -> Self {
        self.is_question = true;
        self
    }

    fn conditional(mut self) -> Self {
        self.unconditional_update = false;
        self
    }

    fn put_creates(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    fn select(mut self, fields: &[&str]) -> Self {
        self.select = fields.iter().map(|&field| field.to_owned()).collect();
        self
    }
}

/// Fields by which Events are selected, of both groups.
const EVENT_SELECT: [&str; 12] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "reportingController",
    "source",
    "type",
];

/// Every built-in kind.
pub(super) fn builtin() -> Vec<Type> {
    [core_group(), workloads(), others(), access(), questions()].into_iter().flatten().collect()
}

fn core_group() -> Vec<Type> {
    vec![
        plain("v1", "pods", "Pod", typed::<core::Pod>)
            .short(&["po"])
            .in_all()
            .status()
            .subresources(&["eviction", "binding"])
            .select(&[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ]),
        plain("v1", "services", "Service", typed::<core::Service>)
            .short(&["svc"])
            .in_all()
            .status()
            .select(&["spec.clusterIP", "spec.type"]),
        plain("v1", "endpoints", "Endpoints", typed::<core::Endpoints>).short(&["ep"]),
        plain("v1", "configmaps", "ConfigMap", typed::<core::ConfigMap>).short(&["cm"]),
        plain("v1", "secrets", "Secret", typed::<core::Secret>).select(&["type"]),
        plain("v1", "serviceaccounts", "ServiceAccount", typed::<core::ServiceAccount>)
            .short(&["sa"])
            .subresources(&["token"]),
        plain("v1", "namespaces", "Namespace", typed::<core::Namespace>)
            .cluster()
            .short(&["ns"])
            .status()
            .subresources(&["finalize"])
            .select(&["status.phase", "name"]),
        plain("v1", "nodes", "Node", typed::<core::Node>)
            .cluster()
            .short(&["no"])
            .status()
            .select(&["spec.unschedulable"]),
        plain("v1", "events", "Event", typed::<core::Event>).short(&["ev"]).put_creates().select(&EVENT_SELECT),
    ]
}

fn workloads() -> Vec<Type> {
    vec![
        plain("apps/v1", "deployments", "Deployment", typed::<apps::Deployment>)
            .short(&["deploy"])
            .in_all()
            .status()
            .scale()
            .generation(Generation::SpecAndAnnotations),
        plain("apps/v1", "replicasets", "ReplicaSet", typed::<apps::ReplicaSet>)
            .short(&["rs"])
            .in_all()
            .status()
            .scale()
            .generation(Generation::Spec)
            .select(&["status.replicas"]),
        plain("apps/v1", "statefulsets", "StatefulSet", typed::<apps::StatefulSet>)
            .short(&["sts"])
            .in_all()
            .status()
            .scale()
            .generation(Generation::Spec),
        plain(
            "autoscaling/v2",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            typed::<autoscaling::HorizontalPodAutoscaler>,
        )
        .short(&["hpa"])
        .in_all()
        .status(),
        plain("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", typed::<policy::PodDisruptionBudget>)
            .short(&["pdb"])
            .status()
            .conditional()
            .generation(Generation::Spec),
    ]
}

fn others() -> Vec<Type> {
    let mut same_events = plain("events.k8s.io/v1", "events", "Event", typed::<events::Event>)
        .short(&["ev"])
        .put_creates()
        .select(&EVENT_SELECT);
    same_events.bucket = "/events".into();
    vec![
        same_events,
        plain("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", typed::<discovery::EndpointSlice>)
            .generation(Generation::Spec),
        plain("coordination.k8s.io/v1", "leases", "Lease", typed::<coordination::Lease>).put_creates().conditional(),
        plain("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", typed::<networking::NetworkPolicy>)
            .short(&["netpol"])
            .generation(Generation::Spec),
        plain("networking.k8s.io/v1", "ingresses", "Ingress", typed::<networking::Ingress>)
            .short(&["ing"])
            .status()
            .generation(Generation::Spec),
        plain(
            "admissionregistration.k8s.io/v1",
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            typed::<admission::ValidatingAdmissionPolicy>,
        )
        .cluster()
        .status()
        .generation(Generation::Spec),
        plain(
            "admissionregistration.k8s.io/v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            typed::<admission::ValidatingAdmissionPolicyBinding>,
        )
        .cluster()
        .generation(Generation::Spec),
        plain(
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            typed::<extensions::CustomResourceDefinition>,
        )
        .cluster()
        .short(&["crd", "crds"])
        .status()
        .conditional()
        .generation(Generation::Spec),
    ]
}

fn access() -> Vec<Type> {
    let group = "rbac.authorization.k8s.io/v1";
    vec![
        plain(group, "roles", "Role", typed::<rbac::Role>).put_creates(),
        plain(group, "rolebindings", "RoleBinding", typed::<rbac::RoleBinding>).put_creates(),
        plain(group, "clusterroles", "ClusterRole", typed::<rbac::ClusterRole>).cluster().put_creates(),
        plain(group, "clusterrolebindings", "ClusterRoleBinding", typed::<rbac::ClusterRoleBinding>)
            .cluster()
            .put_creates(),
    ]
}

fn questions() -> Vec<Type> {
    let (who, may) = ("authentication.k8s.io/v1", "authorization.k8s.io/v1");
    vec![
        plain(who, "tokenreviews", "TokenReview", typed::<authentication::TokenReview>).cluster().question(),
        plain(who, "selfsubjectreviews", "SelfSubjectReview", typed::<authentication::SelfSubjectReview>)
            .cluster()
            .question(),
        plain(
            may,
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            typed::<authorization::SelfSubjectAccessReview>,
        )
        .cluster()
        .question(),
        plain(may, "subjectaccessreviews", "SubjectAccessReview", typed::<authorization::SubjectAccessReview>)
            .cluster()
            .question(),
    ]
}

/// Quantities may be written as numbers; they are texts in what the server gives back.
pub(super) fn quantities(mut object: Value) -> Value {
    visit(&mut object);
    object
}

fn visit(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        for (key, value) in map {
            let holds_quantities = matches!(key.as_str(), "limits" | "requests" | "capacity" | "allocatable");
            if let (true, Some(inner)) = (holds_quantities, value.as_object_mut()) {
                for quantity in inner.values_mut().filter(|quantity| quantity.is_number()) {
                    *quantity = Value::String(quantity.to_string());
                }
            }
            visit(value);
        }
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_under_its_own_group_and_kind() {
        for kind in builtin() {
            let Form::Typed(read) = kind.form else { panic!("{} is built in", kind.kind) };
            let empty = serde_json::json!({ "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {} });
            let back = read(empty).unwrap_or_else(|why| panic!("{} {}: {why}", kind.api_version(), kind.kind));
            assert_eq!(back["kind"], kind.kind.as_str());
            let foreign = serde_json::json!({ "apiVersion": "v0", "kind": kind.kind });
            assert!(read(foreign).is_err(), "{} takes a foreign version", kind.kind);
        }
    }
}
