//! Deletion: preconditions, finalizers, owners, evictions, collections.

use super::{config_map, pod};
use crate::replay::calls::{CONFIG_MAPS, MERGE_PATCH, Recorder, Stopped};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let a = &format!("{CONFIG_MAPS}/a");
    let zero = "00000000-0000-0000-0000-000000000000";
    calls.delete("deletion of another uid", a, json!({ "preconditions": { "uid": zero } })).await?;
    calls.delete("deletion of a stale version", a, json!({ "preconditions": { "resourceVersion": "1" } })).await?;
    calls.delete("deletion in trial", &format!("{a}?dryRun=All"), Value::Null).await?;
    calls.delete("deletion", a, Value::Null).await?;
    calls.delete("deletion again", a, Value::Null).await?;
    calls
        .delete(
            "deletion with no known policy",
            &format!("{CONFIG_MAPS}/b"),
            json!({ "propagationPolicy": "Sideways" }),
        )
        .await?;

    let held = &format!("{CONFIG_MAPS}/held");
    let mut object = config_map("held", &json!({}));
    object["metadata"]["finalizers"] = json!(["kpa.test/held"]);
    calls.post("one with a finalizer", CONFIG_MAPS, object).await?;
    calls.delete("it is marked", held, Value::Null).await?;
    calls.delete("it is marked again", held, Value::Null).await?;
    let more = json!({ "metadata": { "finalizers": ["kpa.test/held", "kpa.test/more"] } });
    calls.patch("no finalizer is added now", MERGE_PATCH, held, more).await?;
    calls.patch("it can be written", MERGE_PATCH, held, json!({ "data": { "late": "1" } })).await?;
    calls.patch("it is let go", MERGE_PATCH, held, json!({ "metadata": { "finalizers": null } })).await?;
    calls.get("it is gone", held).await?;
    let named = json!({ "metadata": { "name": "x", "finalizers": ["nameless"] } });
    calls.post("a finalizer without a domain", CONFIG_MAPS, named).await?;

    let owner = calls.post("an owner", CONFIG_MAPS, config_map("owner", &json!({}))).await?;
    let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true });
    let mut owned = config_map("owned", &json!({}));
    owned["metadata"]["ownerReferences"] = json!([reference]);
    calls.post("one that is owned", CONFIG_MAPS, owned).await?;
    let background = json!({ "propagationPolicy": "Background" });
    calls.delete("the owner goes", &format!("{CONFIG_MAPS}/owner"), background).await?;
    calls.until(None, &format!("{CONFIG_MAPS}/owned"), StatusCode::NOT_FOUND).await?;
    calls.get("what it owned is gone", &format!("{CONFIG_MAPS}/owned")).await?;

    let pods = "/api/v1/namespaces/{ns}/pods";
    calls.post("a pod", pods, pod("p")).await?;
    let cost = json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-1" } } });
    calls.patch("its deletion cost", MERGE_PATCH, &format!("{pods}/p"), cost).await?;
    calls
        .patch(
            "refused: another policy for a pod",
            MERGE_PATCH,
            &format!("{pods}/p"),
            json!({ "spec": { "restartPolicy": "Never" } }),
        )
        .await?;
    let eviction = |name: &str| json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
    calls.post("an eviction in trial", &format!("{pods}/p/eviction?dryRun=All"), eviction("p")).await?;
    calls.post("an eviction", &format!("{pods}/p/eviction"), eviction("p")).await?;
    calls.post("an eviction of what is missing", &format!("{pods}/p/eviction"), eviction("p")).await?;
    calls.delete("a collection", &format!("{CONFIG_MAPS}?labelSelector=set%3Done,odd"), Value::Null).await?;
    calls.get("what is left of it", &format!("{CONFIG_MAPS}?labelSelector=set%3Done")).await?;
    Ok(())
}
