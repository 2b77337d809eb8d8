//! One object's life: made, read, replaced, refused as stale.

use super::config_map;
use crate::replay::calls::{CONFIG_MAPS, METADATA, Recorder, Stopped};
use http::Method;
use serde_json::{Value, json};

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let a = &format!("{CONFIG_MAPS}/a");
    let made = calls.post("create", CONFIG_MAPS, config_map("a", &json!({ "set": "one", "odd": "yes" }))).await?;
    calls.post("create again", CONFIG_MAPS, config_map("a", &json!({}))).await?;
    calls.get("get", a).await?;
    calls.get_as("get metadata only", METADATA, a).await?;
    calls.get("get what is missing", &format!("{CONFIG_MAPS}/missing")).await?;
    calls.get("get of an unknown resource", "/api/v1/namespaces/{ns}/nonsense").await?;
    calls.get("list of an unknown group", "/apis/nonsense.kpa.test/v1/things").await?;
    calls.call("post to an object", Method::POST, a, config_map("a", &json!({}))).await?;
    calls.call("put to a collection", Method::PUT, CONFIG_MAPS, config_map("a", &json!({}))).await?;
    let generated = json!({ "metadata": { "generateName": "made-", "labels": { "set": "generated" } } });
    calls.post("create with a made-up name", CONFIG_MAPS, generated).await?;
    calls.post("create in trial", &format!("{CONFIG_MAPS}?dryRun=All"), config_map("trial", &json!({}))).await?;
    calls.get("get what was made in trial", &format!("{CONFIG_MAPS}/trial")).await?;
    calls
        .post(
            "create of another kind",
            CONFIG_MAPS,
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" } }),
        )
        .await?;
    let elsewhere = json!({ "metadata": { "name": "b", "namespace": "default" } });
    calls.post("create in another namespace than the URL's", CONFIG_MAPS, elsewhere).await?;
    let versioned = json!({ "metadata": { "name": "b", "resourceVersion": "5" } });
    calls.post("create with a version", CONFIG_MAPS, versioned).await?;
    let nowhere = "/api/v1/namespaces/{ns}-missing/configmaps";
    calls.post("create in a missing namespace", nowhere, config_map("a", &json!({}))).await?;

    let mut newer = made.clone();
    newer["data"] = json!({ "k": "2" });
    calls.put("replace", a, newer.clone()).await?;
    calls.put("replace with a stale version", a, made.clone()).await?;
    newer["metadata"]["resourceVersion"] = Value::Null;
    calls.put("replace without a version", a, newer.clone()).await?;
    calls.put("replace without a change", a, newer.clone()).await?;
    let mut foreign = newer.clone();
    foreign["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    calls.put("replace of another uid", a, foreign).await?;
    let mut renamed = newer;
    renamed["metadata"]["name"] = json!("b");
    calls.put("replace under another name", a, renamed).await?;
    let missing = config_map("missing", &json!({}));
    calls.put("replace of what is missing", &format!("{CONFIG_MAPS}/missing"), missing).await?;
    calls.get("get after all this", a).await?;
    Ok(())
}
