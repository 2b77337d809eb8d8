//! Custom resource definitions and their objects.

use crate::samples::*;
use http::{Method, StatusCode};
use serde_json::json;

const WIDGETS: &str = "/apis/test.dev/v1/namespaces/default/widgets";

#[tokio::test]
async fn a_definition_registers_its_kind_at_once_and_takes_it_away() {
    let server = server();
    assert_eq!(server.refused(Method::GET, WIDGETS, None).0, 404);
    let made = server.post(DEFINITIONS, &definition());
    let conditions = made["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True"), "{made}");
    assert_eq!(made["spec"]["names"]["listKind"], "WidgetList");
    let resources = server.get("/apis/test.dev/v1");
    let served: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(served, ["widgets", "widgets/status", "widgets/scale"]);
    server.post(WIDGETS, &json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act" } }));
    assert_eq!(server.get(WIDGETS)["kind"], "WidgetList");
    server.delete(&format!("{DEFINITIONS}/widgets.test.dev"));
    assert_eq!(server.refused(Method::GET, WIDGETS, None).0, 404);
    server.post(DEFINITIONS, &definition());
    assert_eq!(names(&server.get(WIDGETS)), Vec::<&str>::new(), "its objects went with it");
}

#[tokio::test]
async fn the_schema_decides() {
    let server = server();
    server.post(DEFINITIONS, &definition());
    let object = json!({ "metadata": { "name": "w" }, "spec": { "mode": "act", "replicas": -1 } });
    let (status, answer) = server.ask(Method::POST, WIDGETS, Some(&object));
    assert_eq!(refusal(status, &answer).0, 422);
    let fields: Vec<&str> =
        answer["details"]["causes"].as_array().unwrap().iter().filter_map(|cause| cause["field"].as_str()).collect();
    assert_eq!(fields, ["spec.mode", "spec.replicas"]);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0"),
        "{answer}"
    );
    let missing = json!({ "metadata": { "name": "w" }, "spec": {} });
    let (_, _, message) = server.refused(Method::POST, WIDGETS, Some(&missing));
    assert_eq!(message, "Widget.test.dev \"w\" is invalid: spec.mode: Required value");
    let extra = json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act", "x": 1 }, "status": { "free": 1 } });
    let made = server.post(WIDGETS, &extra);
    assert!(made["spec"].get("x").is_none(), "{made}");
    assert!(made.get("status").is_none(), "a creation has no status");
    let status = server.merge(&format!("{WIDGETS}/w/status"), &json!({ "status": { "free": { "y": 1 } } }));
    assert_eq!(status["status"], json!({ "free": { "y": 1 } }));
    let bare = json!({ "apiVersion": "test.dev/v1", "kind": "Widget", "metadata": { "name": "w" }, "spec": { "mode": "Shadow" } });
    let (code, _, message) = server.refused(Method::PUT, &format!("{WIDGETS}/w"), Some(&bare));
    assert_eq!(code, 422);
    assert!(message.contains("metadata.resourceVersion"), "{message}");
}

#[tokio::test]
async fn a_custom_kind_scales() {
    let server = server();
    server.post(DEFINITIONS, &definition());
    server.post(WIDGETS, &json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act", "replicas": 2 } }));
    server.merge(&format!("{WIDGETS}/w/status"), &json!({ "status": { "replicas": 1, "selector": "app=w" } }));
    let uri = format!("{WIDGETS}/w/scale");
    let scale = server.get(&uri);
    assert_eq!(scale["spec"], json!({ "replicas": 2 }));
    assert_eq!(scale["status"], json!({ "replicas": 1, "selector": "app=w" }));
    let lowered = server.merge(&uri, &json!({ "spec": { "replicas": 0 } }));
    assert_eq!(lowered["spec"], json!({}));
    let object = server.get(&format!("{WIDGETS}/w"));
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_definition_that_is_wrong_is_refused() {
    let server = server();
    let mut wrong = definition();
    wrong["metadata"]["name"] = json!("widgets.other.dev");
    assert_eq!(server.refused(Method::POST, DEFINITIONS, Some(&wrong)).0, 422);
    let mut wrong = definition();
    wrong["spec"]["versions"][0]["storage"] = json!(false);
    assert_eq!(server.refused(Method::POST, DEFINITIONS, Some(&wrong)).0, 422);
    let mut wrong = definition();
    wrong["spec"]["versions"][0]["schema"] = json!(null);
    let (code, _, message) = server.refused(Method::POST, DEFINITIONS, Some(&wrong));
    assert_eq!(code, 422);
    assert!(message.contains("schemas are required"), "{message}");
    let (status, _) = server.ask(Method::GET, "/apis/test.dev/v1", None);
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_object_is_seen_in_every_served_version() {
    let server = server();
    let mut two = definition();
    let mut second = two["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    two["spec"]["versions"].as_array_mut().unwrap().push(second);
    server.post(DEFINITIONS, &two);
    server.post(WIDGETS, &json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act" } }));
    let other = WIDGETS.replace("/v1/", "/v2/");
    let seen = server.get(&format!("{other}/w"));
    assert_eq!((&seen["apiVersion"], &seen["spec"]["mode"]), (&json!("test.dev/v2"), &json!("Act")));
    let group = server.get("/apis/test.dev");
    assert_eq!(group["preferredVersion"]["version"], "v2");
}
