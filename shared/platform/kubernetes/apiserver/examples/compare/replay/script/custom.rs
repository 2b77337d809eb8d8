//! A kind of its own: schema, status, scale, columns.

use crate::replay::calls::{DEFINITIONS, JSON_PATCH, MERGE_PATCH, Recorder, STRATEGIC_PATCH, Stopped, TABLE, WIDGETS};
use http::StatusCode;
use serde_json::{Value, json};

fn definition() -> Value {
    let spec = json!({ "type": "object", "required": ["mode"], "properties": {
        "mode": { "type": "string", "enum": ["Act", "Shadow"], "default": "Act" },
        "replicas": { "type": "integer", "minimum": 0 },
        "name": { "type": "string", "maxLength": 5 },
    } });
    let condition = json!({ "type": "object", "required": ["type"], "properties": {
        "type": { "type": "string" }, "status": { "type": "string" },
    } });
    let status = json!({ "type": "object", "properties": {
        "replicas": { "type": "integer" }, "selector": { "type": "string" },
        "conditions": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": condition },
    } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.{ns}.kpa.test" },
        "spec": {
            "group": "{ns}.kpa.test", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                } },
                "additionalPrinterColumns": [
                    { "name": "Mode", "type": "string", "jsonPath": ".spec.mode" },
                    { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
                    { "name": "Replicas", "type": "integer", "jsonPath": ".status.replicas", "priority": 1 },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
                "schema": { "openAPIV3Schema": { "type": "object", "required": ["spec"], "properties": { "spec": spec, "status": status } } },
            }],
        },
    })
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "{ns}.kpa.test/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    calls.get("a kind that is not there yet", WIDGETS).await?;
    calls.post("a definition", DEFINITIONS, definition()).await?;
    calls.post("a definition again", DEFINITIONS, definition()).await?;
    let mut misnamed = definition();
    misnamed["metadata"]["name"] = json!("gadgets.{ns}.kpa.test");
    calls.post("a definition under another name", DEFINITIONS, misnamed).await?;
    calls.until(None, WIDGETS, StatusCode::OK).await?;
    calls.get("what the group has", "/apis/{ns}.kpa.test/v1").await?;
    calls.post("a widget", WIDGETS, widget("w", &json!({ "mode": "Act", "replicas": 2, "unknown": 1 }))).await?;
    calls.post("a widget with a default", WIDGETS, widget("v", &json!({}))).await?;
    for (name, spec) in [
        ("of no known mode", json!({ "mode": "Dance" })),
        ("of too few", json!({ "mode": "Act", "replicas": -1 })),
        ("of a wrong type", json!({ "mode": "Act", "replicas": "two" })),
        ("with a long name", json!({ "mode": "Act", "name": "too long" })),
    ] {
        calls.post(&format!("a widget {name}"), WIDGETS, widget("x", &spec)).await?;
    }
    calls
        .post(
            "a widget without a spec",
            WIDGETS,
            json!({ "apiVersion": "{ns}.kpa.test/v1", "kind": "Widget", "metadata": { "name": "x" } }),
        )
        .await?;
    calls.post("a widget without a kind", WIDGETS, json!({ "metadata": { "name": "x" }, "spec": {} })).await?;
    let w = &format!("{WIDGETS}/w");
    let conditions = json!([{ "type": "Ready", "status": "True" }]);
    let status = json!({ "status": { "replicas": 2, "selector": "app=w", "conditions": conditions }, "spec": { "mode": "Shadow" } });
    calls.patch("its status", MERGE_PATCH, &format!("{w}/status"), status.clone()).await?;
    let both = json!({ "spec": { "mode": "Shadow" }, "status": { "replicas": 7 } });
    calls.patch("its spec, and no status", MERGE_PATCH, w, both).await?;
    calls.get("its scale", &format!("{w}/scale")).await?;
    let three = json!([{ "op": "replace", "path": "/spec/replicas", "value": 3 }]);
    let scale = calls.patch("its scale is set", JSON_PATCH, &format!("{w}/scale"), three).await?;
    let mut newer = scale.clone();
    newer["spec"]["replicas"] = json!(4);
    calls.put("its scale is replaced", &format!("{w}/scale"), newer.clone()).await?;
    calls.put("its scale with a stale version", &format!("{w}/scale"), newer).await?;
    calls.patch("a strategic patch of it", STRATEGIC_PATCH, w, json!({})).await?;
    calls.put("a replacement without a version", w, widget("w", &json!({ "mode": "Act" }))).await?;
    let ready = json!({ "apiVersion": "{ns}.kpa.test/v1", "kind": "Widget", "metadata": { "name": "w" }, "status": {
        "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Seen", "status": "True" }],
    } });
    calls.apply("its status is applied", "kpa", &format!("{w}/status?force=true"), ready).await?;
    calls
        .apply(
            "a widget is applied",
            "kpa",
            &format!("{WIDGETS}/applied"),
            widget("applied", &json!({ "mode": "Shadow" })),
        )
        .await?;
    calls.get("the widget after this", w).await?;
    calls.get("widgets", WIDGETS).await?;
    calls.get_as("widgets as a table", TABLE, WIDGETS).await?;
    Ok(())
}
