//! Server-side apply.

use crate::samples::*;
use apiserver::Server;
use http::StatusCode;
use serde_json::{Value, json};

fn apply(server: &Server, uri: &str, manager: &str, object: &Value) -> (StatusCode, Value) {
    let join = if uri.contains('?') { '&' } else { '?' };
    server.patch(&format!("{uri}{join}fieldManager={manager}"), APPLY_PATCH, object)
}

#[track_caller]
fn applied(server: &Server, uri: &str, manager: &str, object: &Value) -> Value {
    let (status, answer) = apply(server, uri, manager, object);
    assert!(status.is_success(), "{answer}");
    answer
}

fn config(data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data })
}

const A: &str = "/api/v1/namespaces/default/configmaps/a";

#[tokio::test]
async fn what_a_manager_no_longer_wants_goes_unless_another_wants_it() {
    let server = server();
    let (status, made) = apply(&server, A, "one", &config(&json!({ "x": "1", "y": "1" })));
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{
            "manager": "one", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:data": { "f:x": {}, "f:y": {} } },
        }])
    );
    applied(&server, A, "two", &config(&json!({ "y": "1", "z": "1" })));
    let left = applied(&server, A, "one", &config(&json!({})));
    assert_eq!(left["data"], json!({ "y": "1", "z": "1" }), "x is gone, y is two's");
    let revision = server.revision();
    applied(&server, A, "two", &config(&json!({ "y": "1", "z": "1" })));
    assert_eq!(server.revision(), revision, "the same apply again changes nothing");
}

#[tokio::test]
async fn a_conflict_names_the_manager_and_force_takes_the_field() {
    let server = server();
    applied(&server, A, "one", &config(&json!({ "x": "1" })));
    let (status, answer) = apply(&server, A, "two", &config(&json!({ "x": "2" })));
    let (code, reason, message) = refusal(status, &answer);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .data.x");
    assert_eq!(
        answer["details"]["causes"],
        json!([{ "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x" }])
    );
    let same = applied(&server, A, "two", &config(&json!({ "x": "1" })));
    assert_eq!(same["metadata"]["managedFields"].as_array().map(Vec::len), Some(2), "they agree and share it");
    let forced = applied(&server, &format!("{A}?force=true"), "three", &config(&json!({ "x": "3" })));
    assert_eq!(forced["data"]["x"], "3");
    let managers: Vec<&Value> =
        forced["metadata"]["managedFields"].as_array().unwrap().iter().map(|entry| &entry["manager"]).collect();
    assert_eq!(managers, ["three"]);
}

#[tokio::test]
async fn an_update_is_an_owner_too() {
    let server = server();
    let uri = format!("{DEPLOYMENTS}/a");
    applied(&server, &uri, "gitops", &deployment("a", 1));
    let patch = json!([{ "op": "add", "path": "/spec/replicas", "value": 4 }]);
    server.patched(&format!("{uri}/scale?fieldManager=kpa"), JSON_PATCH, &patch);
    let (status, answer) = apply(&server, &uri, "gitops", &deployment("a", 1));
    let (code, _, message) = refusal(status, &answer);
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"kpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let mut without = deployment("a", 1);
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let kept = applied(&server, &uri, "gitops", &without);
    assert_eq!(kept["spec"]["replicas"], 4, "who does not name the count leaves it alone");
}

#[tokio::test]
async fn items_of_keyed_lists_are_owned_one_by_one() {
    let server = server();
    let uri = format!("{DEPLOYMENTS}/a");
    applied(&server, &uri, "base", &deployment("a", 1));
    let mut env = deployment("a", 1);
    env["spec"] = json!({ "template": { "spec": { "containers": [
        { "name": "main", "env": [{ "name": "E", "value": "1" }] },
    ] } } });
    let with_env = applied(&server, &uri, "tuner", &env);
    let container = &with_env["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["image"], &container["env"][0]["value"]), (&json!("server:1"), &json!("1")));
    env["spec"]["template"]["spec"]["containers"][0]["env"] = json!([]);
    let without = applied(&server, &uri, "tuner", &env);
    let container = &without["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"].as_array().map_or(0, Vec::len), 0, "{container}");
    assert_eq!(container["image"], "server:1");
}

#[tokio::test]
async fn status_is_applied_by_itself() {
    let server = server();
    server.post(DEFINITIONS, &definition());
    let widgets = "/apis/test.dev/v1/namespaces/default/widgets";
    let whole = |body: Value| {
        let mut object = json!({ "apiVersion": "test.dev/v1", "kind": "Widget", "metadata": { "name": "w" } });
        object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        object
    };
    let made = applied(&server, &format!("{widgets}/w"), "user", &whole(json!({ "spec": { "mode": "Act" } })));
    assert_eq!(made["metadata"]["generation"], 1);
    let status = whole(json!({ "status": { "replicas": 2 } }));
    let written = applied(&server, &format!("{widgets}/w/status"), "kpa", &status);
    assert_eq!((&written["status"]["replicas"], &written["spec"]["mode"]), (&json!(2), &json!("Act")));
    assert_eq!(written["metadata"]["generation"], 1);
    let entries = written["metadata"]["managedFields"].as_array().unwrap();
    let mine = entries.iter().find(|entry| entry["manager"] == "kpa").unwrap();
    assert_eq!((&mine["operation"], &mine["subresource"]), (&json!("Apply"), &json!("status")));
    assert_eq!(mine["fieldsV1"], json!({ "f:status": { "f:replicas": {} } }));
    let nothing = whole(json!({ "metadata": { "name": "x" }, "status": {} }));
    assert_eq!(apply(&server, &format!("{widgets}/x/status"), "kpa", &nothing).0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_apply_that_says_too_little_or_too_much_is_refused() {
    let server = server();
    let no_manager = server.patch(A, APPLY_PATCH, &config(&json!({})));
    assert_eq!(refusal(no_manager.0, &no_manager.1).0, 422);
    for wrong in [
        json!({ "metadata": { "name": "a" } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" } }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "b" } }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "managedFields": [] } }),
    ] {
        let (status, answer) = apply(&server, A, "one", &wrong);
        assert_eq!(refusal(status, &answer).0, 400, "{wrong}");
    }
}
