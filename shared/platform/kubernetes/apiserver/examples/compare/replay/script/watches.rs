//! Watches.

use super::config_map;
use crate::replay::calls::{CONFIG_MAPS, MERGE_PATCH, Recorder, Stopped};
use serde_json::{Value, json};

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let list = calls.get("list before the watches", &format!("{CONFIG_MAPS}?labelSelector=set%3Dwatched")).await?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let from = format!("{CONFIG_MAPS}?labelSelector=set%3Dwatched&allowWatchBookmarks=true&resourceVersion={version}");
    let watch = calls.watch(&from).await?;
    let w = &format!("{CONFIG_MAPS}/w");
    calls.post("one to watch", CONFIG_MAPS, config_map("w", &json!({ "set": "watched" }))).await?;
    calls.patch("a change to watch", MERGE_PATCH, w, json!({ "data": { "k": "2" } })).await?;
    calls.patch("out of the selector", MERGE_PATCH, w, json!({ "metadata": { "labels": { "set": "other" } } })).await?;
    calls.patch("into the selector", MERGE_PATCH, w, json!({ "metadata": { "labels": { "set": "watched" } } })).await?;
    calls.delete("a deletion to watch", w, Value::Null).await?;
    calls.told("watch from a version", None, watch, 5).await?;
    let again = calls.watch(&from).await?;
    calls.told("watch from the same version, later", None, again, 5).await?;

    let first = calls.watch(&format!("{CONFIG_MAPS}?labelSelector=set%3Done,odd%3Dyes")).await?;
    calls.told("watch from nothing", None, first, 3).await?;
    let one = calls.watch(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc&resourceVersion=0")).await?;
    calls.told("watch of one name from any version", None, one, 1).await?;
    let streaming = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let list = calls.watch(&format!("{CONFIG_MAPS}?labelSelector=set%3Done,odd%3Dyes&{streaming}")).await?;
    calls.told("watch that lists", Some("the feature WatchList (1.34, or switched on)"), list, 4).await?;
    let refused = calls.watch(&format!("{CONFIG_MAPS}?resourceVersionMatch=NotOlderThan&resourceVersion=1")).await?;
    calls.told("watch with a match and no initial events", None, refused, 1).await?;
    let refused = calls.watch(&format!("{CONFIG_MAPS}?sendInitialEvents=true")).await?;
    calls.told("watch with initial events and no match", None, refused, 1).await
}

/// What the server has forgotten.
pub(super) async fn too_old(calls: &mut Recorder) -> Result<(), Stopped> {
    let watch = calls.watch(&format!("{CONFIG_MAPS}?resourceVersion=1")).await?;
    calls.told("watch from a version that is too old", None, watch, 1).await
}
