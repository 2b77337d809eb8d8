//! Patches of three kinds, and the scale.

use super::{config_map, deployment};
use crate::replay::calls::{
    CONFIG_MAPS, JSON, JSON_PATCH, MERGE_PATCH, METADATA, Recorder, STRATEGIC_PATCH, Stopped, TABLE,
};
use serde_json::json;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/{ns}/deployments";

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let p = &format!("{CONFIG_MAPS}/p");
    let made = calls.post("one to patch", CONFIG_MAPS, config_map("p", &json!({ "x/y": "z" }))).await?;
    for (name, patch) in [
        (
            "json patch",
            json!([
                { "op": "test", "path": "/data/k", "value": "v" },
                { "op": "add", "path": "/data/new", "value": "1" },
                { "op": "remove", "path": "/metadata/labels/x~1y" },
            ]),
        ),
        ("json patch whose test fails", json!([{ "op": "test", "path": "/data/k", "value": "other" }])),
        ("json patch of a missing path", json!([{ "op": "replace", "path": "/data/missing", "value": "1" }])),
        ("json patch without such an operation", json!([{ "op": "jump", "path": "/data" }])),
        ("json patch that changes nothing", json!([{ "op": "add", "path": "/data/new", "value": "1" }])),
        ("json patch of the name", json!([{ "op": "replace", "path": "/metadata/name", "value": "q" }])),
    ] {
        calls.patch(name, JSON_PATCH, p, patch).await?;
    }
    for (name, patch) in [
        ("merge patch", json!({ "data": { "k": null, "m": "1" } })),
        ("merge patch that changes nothing", json!({ "data": { "m": "1" } })),
        (
            "merge patch with a stale version",
            json!({ "metadata": { "resourceVersion": made["metadata"]["resourceVersion"] } }),
        ),
        ("merge patch of a wrong type", json!({ "data": { "m": 1 } })),
    ] {
        calls.patch(name, MERGE_PATCH, p, patch).await?;
    }
    calls.patch("patch in no known language", JSON, p, json!({})).await?;
    calls.patch("patch of what is missing", MERGE_PATCH, &format!("{CONFIG_MAPS}/missing"), json!({})).await?;
    let trial = json!({ "data": { "trial": "1" } });
    calls.patch("patch in trial", MERGE_PATCH, &format!("{p}?dryRun=All"), trial).await?;
    calls.get("get what was patched", p).await?;
    deployments(calls).await
}

async fn deployments(calls: &mut Recorder) -> Result<(), Stopped> {
    let a = &format!("{DEPLOYMENTS}/a");
    let scale = &format!("{a}/scale");
    calls.post("a deployment", DEPLOYMENTS, deployment("a", 3)).await?;
    let containers = json!([{ "name": "main", "image": "server:2" }, { "name": "side", "image": "side:1" }]);
    let two = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    calls.patch("strategic patch", STRATEGIC_PATCH, a, two).await?;
    let less = json!([{ "$patch": "delete", "name": "side" }]);
    let less = json!({ "spec": { "template": { "spec": { "containers": less } } } });
    calls.patch("strategic patch that deletes an element", STRATEGIC_PATCH, a, less).await?;
    let note = json!({ "metadata": { "annotations": { "kpa.dev/x": "1" } } });
    calls.patch("an annotation of a deployment", MERGE_PATCH, a, note).await?;
    calls.get_as("metadata of a deployment", METADATA, a).await?;
    for (name, patch) in [
        (
            "scale whose test fails",
            json!([{ "op": "test", "path": "/spec/replicas", "value": 9 }, { "op": "add", "path": "/spec/replicas", "value": 1 }]),
        ),
        (
            "scale to zero",
            json!([{ "op": "test", "path": "/spec/replicas", "value": 3 }, { "op": "add", "path": "/spec/replicas", "value": 0 }]),
        ),
        ("replace of a zero that is left out", json!([{ "op": "replace", "path": "/spec/replicas", "value": 2 }])),
        ("scale from zero", json!([{ "op": "add", "path": "/spec/replicas", "value": 2 }])),
        ("scale below zero", json!([{ "op": "add", "path": "/spec/replicas", "value": -1 }])),
    ] {
        calls.patch(name, JSON_PATCH, &format!("{scale}?fieldManager=kpa"), patch).await?;
    }
    calls.patch("merged scale", MERGE_PATCH, scale, json!({ "spec": { "replicas": 4 } })).await?;
    let bare = json!({ "metadata": { "name": "a", "namespace": "{ns}" }, "spec": { "replicas": 1 } });
    calls.put("replaced scale", scale, bare).await?;
    calls.get("scale", scale).await?;
    calls.get("scale of what is missing", &format!("{DEPLOYMENTS}/missing/scale")).await?;
    calls.get("the deployment after this", a).await?;
    let columns = calls.get_as("deployments as a table", TABLE, DEPLOYMENTS).await?;
    calls.note("names of its columns", &columns["columnDefinitions"]);
    Ok(())
}
