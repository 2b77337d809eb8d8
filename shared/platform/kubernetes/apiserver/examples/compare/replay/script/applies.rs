//! Server-side apply: who owns what.

use super::deployment;
use crate::replay::calls::{CONFIG_MAPS, JSON_PATCH, MERGE_PATCH, Recorder, Stopped};
use serde_json::{Value, json};

fn config(data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "s" }, "data": data })
}

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let s = &format!("{CONFIG_MAPS}/s");
    let forced = &format!("{s}?force=true");
    calls.apply("apply that makes", "one", s, config(&json!({ "x": "1", "y": "1" }))).await?;
    calls.apply("apply again", "one", s, config(&json!({ "x": "1", "y": "1" }))).await?;
    calls.apply("apply by another who agrees", "two", s, config(&json!({ "y": "1", "z": "1" }))).await?;
    calls.apply("apply with a conflict", "two", s, config(&json!({ "x": "2", "z": "1" }))).await?;
    calls.apply("apply with force", "two", forced, config(&json!({ "x": "2", "z": "1" }))).await?;
    calls.apply("apply of less", "one", s, config(&json!({}))).await?;
    calls
        .patch(
            "a field that was applied is patched",
            MERGE_PATCH,
            &format!("{s}?fieldManager=hand"),
            json!({ "data": { "z": "9" } }),
        )
        .await?;
    calls.apply("apply over a patch", "two", s, config(&json!({ "x": "2", "z": "1" }))).await?;
    calls
        .apply("apply with a version", "one", s, {
            let mut stale = config(&json!({}));
            stale["metadata"]["resourceVersion"] = json!("1");
            stale
        })
        .await?;
    calls.apply("apply under another name", "one", &format!("{CONFIG_MAPS}/t"), config(&json!({}))).await?;
    let nameless = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "n": "1" } });
    calls.apply("apply without a name in it", "one", &format!("{CONFIG_MAPS}/nameless"), nameless).await?;
    calls.apply("apply without a kind", "one", s, json!({ "metadata": { "name": "s" } })).await?;
    let mut managed = config(&json!({}));
    managed["metadata"]["managedFields"] = json!([{ "manager": "x", "operation": "Apply", "apiVersion": "v1" }]);
    calls.apply("apply with managed fields", "one", s, managed).await?;
    let owned = json!({ "metadata": { "managedFields": [{}] } });
    calls.patch("managed fields are emptied", MERGE_PATCH, s, owned).await?;

    // What we apply on a cluster: labels and annotations of others' Deployments, counts through the scale.
    let d = &"/apis/apps/v1/namespaces/{ns}/deployments/d".to_owned();
    calls.apply("apply of a deployment", "gitops", d, deployment("d", 1)).await?;
    let four = json!([{ "op": "add", "path": "/spec/replicas", "value": 4 }]);
    calls.patch("a count by another", JSON_PATCH, &format!("{d}/scale?fieldManager=kpa"), four).await?;
    calls.apply("apply of the count again", "gitops", d, deployment("d", 1)).await?;
    let mut without = deployment("d", 1);
    without["spec"].as_object_mut().and_then(|spec| spec.remove("replicas"));
    calls.apply("apply without the count", "gitops", d, without).await?;
    let env = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": {
        "template": { "spec": { "containers": [{ "name": "main", "env": [{ "name": "E", "value": "1" }] }] } },
    } });
    calls.apply("apply of one element's field", "tuner", d, env).await?;
    let mark = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
        "name": "d", "annotations": { "kpa.dev/x": "1" }, "finalizers": ["kpa.test/held"],
    } });
    calls.apply("apply of an annotation and a finalizer", "marker", d, mark).await?;
    let unmark = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" } });
    calls.apply("apply that takes both back", "marker", d, unmark).await?;
    Ok(())
}
