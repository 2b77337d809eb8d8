//! What is refused because it is invalid: which status, which reason, which fields.

use super::{config_map, deployment};
use crate::replay::calls::{CONFIG_MAPS, MERGE_PATCH, Recorder, Stopped};
use serde_json::{Value, json};

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    if let Some(place) = object.pointer_mut(pointer) {
        *place = value;
    }
    object
}

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let good = || deployment("bad", 1);
    let deployments = "/apis/apps/v1/namespaces/{ns}/deployments";
    let services = "/api/v1/namespaces/{ns}/services";
    let service = |ports: Value| json!({ "metadata": { "name": "bad" }, "spec": { "ports": ports } });
    let owner = json!({ "metadata": { "name": "x", "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "" }] } });
    for (name, path, object) in [
        ("no name", CONFIG_MAPS, json!({ "metadata": {} })),
        ("a name that is none", CONFIG_MAPS, config_map("A_b", &json!({}))),
        ("a label that is none", CONFIG_MAPS, config_map("x", &json!({ "-x": "ok" }))),
        ("a label's value that is none", CONFIG_MAPS, config_map("x", &json!({ "y": "not ok" }))),
        ("an owner without a uid", CONFIG_MAPS, owner),
        ("a key that is none", CONFIG_MAPS, json!({ "metadata": { "name": "x" }, "data": { "a/b": "" } })),
        ("a negative count", deployments, with(good(), "/spec/replicas", json!(-1))),
        ("no selector", deployments, with(good(), "/spec/selector", Value::Null)),
        (
            "a selector that does not fit",
            deployments,
            with(good(), "/spec/template/metadata/labels", json!({ "app": "b" })),
        ),
        ("no containers", deployments, with(good(), "/spec/template/spec/containers", json!([]))),
        ("a container's name", deployments, with(good(), "/spec/template/spec/containers/0/name", json!("A"))),
        ("no port", services, service(json!([]))),
        ("a port of 0", services, service(json!([{ "port": 0 }]))),
        ("two ports without names", services, service(json!([{ "port": 1 }, { "port": 2, "name": "b" }]))),
        (
            "a lease of 0 seconds",
            "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases",
            json!({ "metadata": { "name": "bad" }, "spec": { "leaseDurationSeconds": 0 } }),
        ),
        (
            "endpoints without a type",
            "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices",
            json!({ "metadata": { "name": "bad" }, "endpoints": [] }),
        ),
        (
            "endpoints with nonsense",
            "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices",
            json!({ "metadata": { "name": "bad" }, "addressType": "IPv4", "endpoints": [{ "addresses": ["nonsense"] }] }),
        ),
        (
            "a budget of two sides",
            "/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets",
            json!({ "metadata": { "name": "bad" }, "spec": { "minAvailable": 1, "maxUnavailable": 1, "selector": {} } }),
        ),
    ] {
        calls.post(&format!("refused: {name}"), path, object).await?;
    }
    calls.post("one whose selector stays", deployments, deployment("kept", 1)).await?;
    let moved = json!({ "spec": {
        "selector": { "matchLabels": { "app": "b" } }, "template": { "metadata": { "labels": { "app": "b" } } },
    } });
    calls.patch("refused: another selector", MERGE_PATCH, &format!("{deployments}/kept"), moved).await?;
    calls.post("a service", services, json!({ "metadata": { "name": "good" }, "spec": { "selector": { "app": "a" }, "ports": [{ "port": 80, "targetPort": 8000 }] } })).await?;
    calls
        .patch(
            "a service without its selector",
            MERGE_PATCH,
            &format!("{services}/good"),
            json!({ "spec": { "selector": null } }),
        )
        .await?;
    Ok(())
}
