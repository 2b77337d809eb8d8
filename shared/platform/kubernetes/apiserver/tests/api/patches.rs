//! JSON, merge and strategic merge patches, and the scale subresource.

use crate::samples::*;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/a/scale";

#[tokio::test]
async fn a_json_patch_applies_as_a_whole_or_not_at_all() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let uri = format!("{DEPLOYMENTS}/a");
    let good = json!([
        { "op": "test", "path": "/spec/replicas", "value": 1 },
        { "op": "add", "path": "/spec/replicas", "value": 2 },
        { "op": "add", "path": "/metadata/labels", "value": { "x/y": "z" } },
        { "op": "remove", "path": "/metadata/labels/x~1y" },
    ]);
    let (status, answer) = server.patch(&uri, JSON_PATCH, &good);
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["spec"]["replicas"], 2);
    for bad in [
        json!([{ "op": "add", "path": "/spec/paused", "value": true }, { "op": "test", "path": "/spec/replicas", "value": 9 }]),
        json!([{ "op": "replace", "path": "/spec/nothing", "value": 1 }]),
        json!([{ "op": "remove", "path": "/metadata/annotations/x" }]),
        json!([{ "op": "add", "path": "/spec/a/b/c", "value": 1 }]),
    ] {
        let (status, answer) = server.patch(&uri, JSON_PATCH, &bad);
        assert_eq!(
            refusal(status, &answer),
            (422, "Invalid".into(), "the server rejected our request due to an error in our request".into())
        );
    }
    assert!(server.get(&uri)["spec"].get("paused").is_none());
    let (status, answer) = server.patch(&uri, JSON_PATCH, &json!([{ "op": "jump", "path": "/spec" }]));
    assert_eq!(refusal(status, &answer).0, 400);
    let (status, answer) = server.patch(&uri, "text/plain", &json!({}));
    assert_eq!(refusal(status, &answer).0, 415);
}

#[tokio::test]
async fn a_count_is_compared_and_set_also_at_zero() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 3));
    let lower = |seen: i64, to: i64| {
        json!([
            { "op": "test", "path": "/spec/replicas", "value": seen },
            { "op": "add", "path": "/spec/replicas", "value": to },
        ])
    };
    let (status, answer) = server.patch(SCALE, JSON_PATCH, &lower(2, 1));
    assert_eq!(refusal(status, &answer).0, 422, "somebody else wrote");
    let (status, scale) = server.patch(SCALE, JSON_PATCH, &lower(3, 0));
    assert_eq!(status, StatusCode::OK, "{scale}");
    assert_eq!(scale["spec"], json!({}), "zero is left out");
    assert_eq!(scale["status"]["selector"], "app=a");
    assert_eq!(server.get(&format!("{DEPLOYMENTS}/a"))["spec"]["replicas"], 0);
    for op in ["test", "replace"] {
        let patch = json!([{ "op": op, "path": "/spec/replicas", "value": 0 }]);
        let (status, answer) = server.patch(SCALE, JSON_PATCH, &patch);
        assert_eq!(refusal(status, &answer).0, 422, "{op} of a path that is not there");
    }
    let (status, scale) =
        server.patch(SCALE, JSON_PATCH, &json!([{ "op": "add", "path": "/spec/replicas", "value": 4 }]));
    assert_eq!((status, &scale["spec"]["replicas"]), (StatusCode::OK, &json!(4)));
    let (status, answer) = server.patch(SCALE, MERGE_PATCH, &json!({ "spec": { "replicas": -1 } }));
    let (code, _, message) = refusal(status, &answer);
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[tokio::test]
async fn a_scale_is_read_and_replaced_with_its_version() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let mut scale = server.get(SCALE);
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    scale["spec"]["replicas"] = json!(2);
    let new = server.put(SCALE, &scale);
    assert_eq!(new["spec"]["replicas"], 2);
    assert_eq!(server.refused(Method::PUT, SCALE, Some(&scale)).0, 409);
    let bare = json!({ "metadata": { "name": "a" }, "spec": { "replicas": 7 } });
    assert_eq!(server.put(SCALE, &bare)["spec"]["replicas"], 7);
    assert_eq!(server.get(&format!("{DEPLOYMENTS}/a"))["metadata"]["generation"], 3);
}

#[tokio::test]
async fn writers_are_named_in_managed_fields() {
    let server = server();
    server.post(&format!("{DEPLOYMENTS}?fieldManager=helm"), &deployment("a", 1));
    let patch = json!([{ "op": "add", "path": "/spec/replicas", "value": 4 }]);
    server.patched(&format!("{SCALE}?fieldManager=kpa"), JSON_PATCH, &patch);
    let owner = |object: &Value, field: &str| -> Vec<(String, String, String)> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        entries
            .iter()
            .filter(|entry| entry["fieldsV1"]["f:spec"].get(field).is_some())
            .map(|entry| (text(&entry["manager"]), text(&entry["operation"]), text(&entry["subresource"])))
            .collect()
    };
    let object = server.get(&format!("{DEPLOYMENTS}/a"));
    assert_eq!(owner(&object, "f:replicas"), [("kpa".into(), "Update".into(), "scale".into())]);
    assert_eq!(owner(&object, "f:template"), [("helm".into(), "Update".into(), String::new())]);
    assert!(!object["metadata"]["managedFields"].to_string().contains("f:status"), "{object}");
    let edited =
        server.merge(&format!("{DEPLOYMENTS}/a?fieldManager=kubectl-edit"), &json!({ "spec": { "replicas": 2 } }));
    assert_eq!(owner(&edited, "f:replicas"), [("kubectl-edit".into(), "Update".into(), String::new())]);
    let entry = edited["metadata"]["managedFields"]
        .as_array()
        .and_then(|entries| entries.iter().find(|entry| entry["manager"] == "kubectl-edit"))
        .unwrap();
    assert_eq!(entry["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));
    assert_eq!(entry["time"], "2026-01-01T00:00:00Z");
}

#[tokio::test]
async fn old_updaters_are_merged_into_one() {
    let server = server();
    server.post(CONFIG_MAPS, &config_map("a", &json!({})));
    for number in 0..15 {
        let data = json!({ "data": { format!("k{number}"): "v" } });
        server.merge(&format!("{CONFIG_MAPS}/a?fieldManager=m{number}"), &data);
    }
    let object = server.get(&format!("{CONFIG_MAPS}/a"));
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|entry| entry["manager"] == "ancient-changes"), "{entries:?}");
}

#[tokio::test]
async fn a_strategic_patch_merges_containers_and_is_not_for_custom_kinds() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let patch = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "main", "image": "server:2" }, { "name": "side", "image": "side:1" },
    ] } } } });
    let (status, object) = server.patch(&format!("{DEPLOYMENTS}/a"), STRATEGIC_PATCH, &patch);
    assert_eq!(status, StatusCode::OK, "{object}");
    let containers = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let images: Vec<&str> = containers.iter().filter_map(|one| one["image"].as_str()).collect();
    assert_eq!(images, ["server:2", "side:1"]);
    assert_eq!(containers[0]["terminationMessagePath"], "/dev/termination-log", "what was there stays");
    server.post(DEFINITIONS, &definition());
    let widgets = "/apis/test.dev/v1/namespaces/default/widgets";
    server.post(widgets, &json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act" } }));
    let (status, answer) = server.patch(&format!("{widgets}/w"), STRATEGIC_PATCH, &json!({}));
    assert_eq!(refusal(status, &answer).0, 415);
}
