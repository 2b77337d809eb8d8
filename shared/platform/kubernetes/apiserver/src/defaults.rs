//! What the real server writes into objects that leave it out.
//!
//! Invariant: only fields that are absent (or null) are set, and setting them twice changes nothing.

use crate::object;
use crate::resources::Type;
use serde_json::{Map, Value, json};

/// Fills in the defaults of a built-in kind. Custom kinds have theirs in the schema.
pub(crate) fn apply(kind: &Type, object: &mut Value) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") => workload(&kind.kind, object),
        ("", "Pod") => pod(object),
        ("", "Service") => service(object),
        ("", "Secret") => {
            set(object::as_map(object), "type", json!("Opaque"));
            secret(object);
        }
        ("", "Namespace") => {
            let spec = object::map_at(object, "spec");
            set(spec, "finalizers", json!(["kubernetes"]));
            let name = object::name(object).to_owned();
            let labels = object::as_map(object::metadata(object).entry("labels").or_insert(Value::Null));
            labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
        ("autoscaling", _) => set(object::map_at(object, "spec"), "minReplicas", json!(1)),
        ("discovery.k8s.io", _) => {
            for port in items(object, "ports") {
                set(port, "name", json!(""));
                set(port, "protocol", json!("TCP"));
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            set(object::map_at(object, "roleRef"), "apiGroup", json!("rbac.authorization.k8s.io"));
            for subject in items(object, "subjects") {
                let is_account = subject.get("kind").is_some_and(|kind| kind == "ServiceAccount");
                if !is_account {
                    set(subject, "apiGroup", json!("rbac.authorization.k8s.io"));
                }
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            let egress = object["spec"]["egress"].is_array();
            let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            set(object::map_at(object, "spec"), "policyTypes", types);
        }
        ("apiextensions.k8s.io", _) => crate::crd::defaults(object),
        _ => {}
    }
}

/// Sets a key that is absent or null.
fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

/// The maps of a list.
fn items<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn workload(kind: &str, object: &mut Value) {
    let spec = object::map_at(object, "spec");
    set(spec, "replicas", json!(1));
    match kind {
        "Deployment" => {
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "progressDeadlineSeconds", json!(600));
            let strategy = object::as_map(spec.entry("strategy").or_insert(Value::Null));
            set(strategy, "type", json!("RollingUpdate"));
            if strategy["type"] == "RollingUpdate" {
                let rolling = object::as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
                set(rolling, "maxSurge", json!("25%"));
                set(rolling, "maxUnavailable", json!("25%"));
            }
        }
        "StatefulSet" => {
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "podManagementPolicy", json!("OrderedReady"));
            set(spec, "serviceName", json!(""));
            let strategy = object::as_map(spec.entry("updateStrategy").or_insert(Value::Null));
            set(strategy, "type", json!("RollingUpdate"));
        }
        _ => {}
    }
    if let Some(template) = spec.get_mut("template").and_then(|template| template.get_mut("spec")) {
        pod_spec(template);
    }
}

fn pod(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        pod_spec(spec);
    }
    let spec = object::map_at(object, "spec");
    set(spec, "enableServiceLinks", json!(true));
    set(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    set(spec, "priority", json!(0));
    set(spec, "serviceAccountName", json!("default"));
    let account = spec["serviceAccountName"].clone();
    set(spec, "serviceAccount", account);
}

fn pod_spec(spec: &mut Value) {
    let map = object::as_map(spec);
    set(map, "restartPolicy", json!("Always"));
    set(map, "dnsPolicy", json!("ClusterFirst"));
    set(map, "schedulerName", json!("default-scheduler"));
    set(map, "terminationGracePeriodSeconds", json!(30));
    set(map, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map_or("latest", |(_, tag)| tag);
            let pull = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
            set(container, "imagePullPolicy", json!(pull));
            set(container, "terminationMessagePath", json!("/dev/termination-log"));
            set(container, "terminationMessagePolicy", json!("File"));
            set(container, "resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                set(object::as_map(port), "protocol", json!("TCP"));
            }
            for name in ["readinessProbe", "livenessProbe", "startupProbe"] {
                if let Some(probe) = container.get_mut(name).and_then(Value::as_object_mut) {
                    set(probe, "timeoutSeconds", json!(1));
                    set(probe, "periodSeconds", json!(10));
                    set(probe, "successThreshold", json!(1));
                    set(probe, "failureThreshold", json!(3));
                    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
                        set(get, "path", json!("/"));
                        set(get, "scheme", json!("HTTP"));
                    }
                }
            }
            if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut)
                && let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned()
            {
                let requests = object::as_map(resources.entry("requests").or_insert(Value::Null));
                for (name, limit) in limits {
                    set(requests, &name, limit);
                }
            }
        }
    }
}

fn service(object: &mut Value) {
    let spec = object::map_at(object, "spec");
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    if spec["type"] != "ExternalName" {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", json!("SingleStack"));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let port = object::as_map(port);
        set(port, "protocol", json!("TCP"));
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port.get("targetPort").is_none_or(|target| target.is_null() || target == 0 || target == "") {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

/// `stringData` is a way of writing `data`, and is never read back.
fn secret(object: &mut Value) {
    let Some(plain) = object::as_map(object).remove("stringData") else { return };
    let data = object::map_at(object, "data");
    for (key, value) in plain.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        data.insert(key.clone(), object::base64(text.as_bytes()));
    }
}
