//! What is refused with 422, and which field the refusal names.

use crate::samples::*;
use http::Method;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Changes one place of an object; null removes it.
fn with(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let map = object.pointer_mut(parent).and_then(Value::as_object_mut).expect("the parent is there");
    if value.is_null() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), value);
    }
    object
}

/// A creation that is refused because of exactly these fields.
#[track_caller]
fn refused_for(uri: &str, object: &Value, fields: &[&str]) {
    let server = server();
    let (status, answer) = server.ask(Method::POST, uri, Some(object));
    let (code, reason, message) = refusal(status, &answer);
    assert_eq!((code, reason.as_str()), (422, "Invalid"), "{message}");
    let causes = answer["details"]["causes"].as_array().unwrap();
    let found: Vec<&str> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    assert_eq!(found, fields, "{message}");
    for field in fields {
        assert!(message.contains(&format!("{field}: ")), "{message} does not name {field}");
    }
}

#[tokio::test]
async fn names_labels_and_annotations() {
    refused_for(CONFIG_MAPS, &json!({ "metadata": {} }), &["metadata.name"]);
    refused_for(CONFIG_MAPS, &json!({ "metadata": { "name": "A_b" } }), &["metadata.name"]);
    let labels = json!({ "metadata": { "name": "a", "labels": { "-x": "ok", "y": "not ok" } } });
    refused_for(CONFIG_MAPS, &labels, &["metadata.labels", "metadata.labels"]);
    let long = json!({ "metadata": { "name": "a", "annotations": { "k": "v".repeat(256 * 1024) } } });
    refused_for(CONFIG_MAPS, &long, &["metadata.annotations"]);
    let fits = json!({ "metadata": { "name": "a", "annotations": { "k": "v".repeat(256 * 1024 - 1) } } });
    server().post(CONFIG_MAPS, &fits);
    let owner = json!({ "metadata": { "name": "a", "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "" }] } });
    refused_for(CONFIG_MAPS, &owner, &["metadata.ownerReferences[0].uid"]);
}

#[tokio::test]
async fn deployments() {
    let good = || deployment("a", 1);
    refused_for(DEPLOYMENTS, &with(good(), "/spec/replicas", json!(-1)), &["spec.replicas"]);
    refused_for(DEPLOYMENTS, &with(good(), "/spec/selector", Value::Null), &["spec.selector"]);
    refused_for(
        DEPLOYMENTS,
        &with(good(), "/spec/template/metadata/labels", json!({ "app": "b" })),
        &["spec.template.metadata.labels"],
    );
    refused_for(
        DEPLOYMENTS,
        &with(good(), "/spec/template/spec/containers", json!([{ "name": "A" }, { "image": "i" }])),
        &[
            "spec.template.spec.containers[0].name",
            "spec.template.spec.containers[0].image",
            "spec.template.spec.containers[1].name",
        ],
    );
    refused_for(
        DEPLOYMENTS,
        &with(good(), "/spec/template/spec/containers", json!([])),
        &["spec.template.spec.containers"],
    );
    refused_for(
        DEPLOYMENTS,
        &with(good(), "/spec/strategy", json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } })),
        &["spec.strategy.rollingUpdate.maxUnavailable"],
    );
    let server = server();
    let made = server.post(DEPLOYMENTS, &good());
    let changed = with(made, "/spec/selector/matchLabels", json!({ "app": "b" }));
    let changed = with(changed, "/spec/template/metadata/labels", json!({ "app": "b" }));
    let (code, _, message) = server.refused(Method::PUT, &format!("{DEPLOYMENTS}/a"), Some(&changed));
    assert_eq!(code, 422);
    assert!(message.ends_with("field is immutable") && message.contains("spec.selector: "), "{message}");
}

#[tokio::test]
async fn services() {
    let service = |spec: Value| json!({ "metadata": { "name": "s" }, "spec": spec });
    refused_for(SERVICES, &service(json!({})), &["spec.ports"]);
    refused_for(SERVICES, &service(json!({ "ports": [{ "port": 0 }] })), &["spec.ports[0].port"]);
    refused_for(
        SERVICES,
        &service(json!({ "ports": [{ "port": 1 }, { "port": 2, "name": "b" }] })),
        &["spec.ports[0].name"],
    );
    let started = json!({ "metadata": { "name": "1s" }, "spec": { "ports": [{ "port": 1 }] } });
    refused_for(SERVICES, &started, &["metadata.name"]);
    let server = server();
    server.post(SERVICES, &service(json!({ "ports": [{ "port": 1 }] })));
    let moved = json!({ "spec": { "clusterIP": "10.96.9.9" } });
    let (code, _, message) = server.refused(Method::PATCH, &format!("{SERVICES}/s"), Some(&moved));
    assert_eq!(code, 422);
    assert!(message.contains("spec.clusterIPs[0]: Invalid value: \"10.96.9.9\": may not change once set"), "{message}");
    let without = service(json!({ "ports": [{ "port": 2 }] }));
    let kept = server.put(&format!("{SERVICES}/s"), &without);
    assert!(kept["spec"]["clusterIP"].is_string(), "an update that leaves the address out keeps it");
    let selectorless = server.merge(&format!("{SERVICES}/s"), &json!({ "spec": { "selector": null } }));
    assert!(selectorless["spec"].get("selector").is_none());
}

#[tokio::test]
async fn smaller_kinds() {
    let slice = |body: Value| {
        let mut object = json!({ "metadata": { "name": "s" } });
        object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        object
    };
    refused_for(SLICES, &slice(json!({ "endpoints": [] })), &["addressType"]);
    refused_for(
        SLICES,
        &slice(json!({ "addressType": "IPv4", "endpoints": [{ "addresses": ["nonsense"] }, { "addresses": [] }] })),
        &["endpoints[0].addresses[0]", "endpoints[1].addresses"],
    );
    refused_for(
        "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
        &json!({ "metadata": { "name": "h" }, "spec": { "minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": { "kind": "D", "name": "d" } } }),
        &["spec.maxReplicas"],
    );
    refused_for(
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
        &json!({ "metadata": { "name": "p" }, "spec": { "minAvailable": 1, "maxUnavailable": 1 } }),
        &["spec"],
    );
    refused_for(
        LEASES,
        &json!({ "metadata": { "name": "l" }, "spec": { "leaseDurationSeconds": 0 } }),
        &["spec.leaseDurationSeconds"],
    );
    refused_for(CONFIG_MAPS, &json!({ "metadata": { "name": "c" }, "data": { "a/b": "" } }), &["data[a/b]"]);
    let server = server();
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({ "metadata": { "name": "b" }, "roleRef": { "kind": "Role", "name": "r" } });
    server.post(bindings, &binding);
    let (code, _, message) =
        server.refused(Method::PATCH, &format!("{bindings}/b"), Some(&json!({ "roleRef": { "name": "other" } })));
    assert_eq!(code, 422);
    assert!(message.contains("cannot change roleRef"), "{message}");
}

#[tokio::test]
async fn a_running_pod_keeps_its_spec() {
    let server = server();
    server.post(PODS, &pod("a", &json!({})));
    let uri = format!("{PODS}/a");
    server.patched(
        &uri,
        STRATEGIC_PATCH,
        &json!({ "spec": { "containers": [{ "name": "main", "image": "server:2" }] } }),
    );
    let (code, _, message) =
        server.refused(Method::PATCH, &uri, Some(&json!({ "spec": { "restartPolicy": "Never" } })));
    assert_eq!(code, 422);
    assert!(message.contains("pod updates may not change fields other than"), "{message}");
    let cost = json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-1" } } });
    server.merge(&uri, &cost);
}
