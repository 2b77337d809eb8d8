//! Strategic merge patch: maps merge, known lists merge by a key, everything else is replaced.
//!
//! Invariant: keys are those of the real API's types; a list that is not in the table is replaced as a whole.

use crate::object;
use crate::refusal::Refusal;
use crate::resources::Type;
use serde_json::{Map, Value};

/// How a list of a field merges.
enum ListRule {
    /// Items are maps, known by this key.
    Key(&'static str),
    /// Items are scalars, added when they are not there.
    Set,
    Replace,
}

fn rule(kind: &str, path: &[String]) -> ListRule {
    let Some((last, above)) = path.split_last() else { return ListRule::Replace };
    let parent = above.last().map_or("", String::as_str);
    let in_container = matches!(parent, "containers" | "initContainers" | "ephemeralContainers");
    match (parent, last.as_str()) {
        ("metadata", "ownerReferences") => ListRule::Key("uid"),
        ("metadata", "finalizers") => ListRule::Set,
        (_, "containers" | "initContainers" | "ephemeralContainers") => ListRule::Key("name"),
        (_, "ports") if in_container => ListRule::Key("containerPort"),
        ("spec", "ports") if kind == "Service" => ListRule::Key("port"),
        (_, "env") if in_container => ListRule::Key("name"),
        (_, "volumeMounts") if in_container => ListRule::Key("mountPath"),
        (_, "volumeDevices") if in_container => ListRule::Key("devicePath"),
        ("spec", "volumes" | "imagePullSecrets" | "schedulingGates" | "resourceClaims") => ListRule::Key("name"),
        ("spec", "hostAliases") => ListRule::Key("ip"),
        ("spec", "topologySpreadConstraints") => ListRule::Key("topologyKey"),
        ("spec", "taints") => ListRule::Key("key"),
        ("status", "conditions") => ListRule::Key("type"),
        ("status", "podIPs" | "hostIPs") => ListRule::Key("ip"),
        ("status", "addresses") => ListRule::Key("type"),
        ("", "secrets" | "imagePullSecrets") if kind == "ServiceAccount" => ListRule::Key("name"),
        _ => ListRule::Replace,
    }
}

/// Merges a patch into an object.
pub(super) fn merge(kind: &Type, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    merge_map(&kind.kind, object, patch, &mut Vec::new())
}

fn merge_map(kind: &str, target: &mut Value, patch: &Value, path: &mut Vec<String>) -> Result<(), Refusal> {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(unknown_directive(other)),
    }
    let map = object::as_map(target);
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/")
            && let (Some(items), Some(gone)) = (map.get_mut(list).and_then(Value::as_array_mut), value.as_array())
        {
            items.retain(|item| !gone.contains(item));
        }
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| kept.iter().any(|kept| kept == key.as_str()));
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            map.remove(key);
            continue;
        }
        path.push(key.clone());
        let here = map.entry(key.clone()).or_insert(Value::Null);
        if let Some(list) = value.as_array() {
            merge_list(kind, here, list, path)?;
        } else if value.is_object() {
            merge_map(kind, here, value, path)?;
        } else {
            *here = value.clone();
        }
        path.pop();
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix("$setElementOrder/")
            && let (Some(items), Some(order)) = (map.get_mut(list).and_then(Value::as_array_mut), order.as_array())
        {
            path.push(list.to_owned());
            sort(&rule(kind, path), items, order);
            path.pop();
        }
    }
    Ok(())
}

fn unknown_directive(directive: &str) -> Refusal {
    Refusal::bad_request(format!("unknown directive {directive:?}: known are $patch: merge, replace, delete"))
}

fn without_directives(map: &Map<String, Value>) -> Value {
    let kept = map.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn merge_list(kind: &str, target: &mut Value, patch: &[Value], path: &mut Vec<String>) -> Result<(), Refusal> {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let items = target.as_array_mut().expect("made an array just above");
    let rule = rule(kind, path);
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *items = patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        return Ok(());
    }
    match rule {
        ListRule::Replace => *items = patch.to_vec(),
        ListRule::Set => {
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        ListRule::Key(key) => {
            for item in patch {
                let name = item.get(key).filter(|name| !name.is_null()).ok_or_else(|| {
                    Refusal::bad_request(format!("map: {item} does not contain declared merge key: {key}"))
                })?;
                let found = items.iter().position(|existing| existing.get(key) == Some(name));
                match (item["$patch"].as_str(), found) {
                    (Some("delete"), Some(index)) => drop(items.remove(index)),
                    (Some("delete"), None) => {}
                    (_, Some(index)) => {
                        // Steps into items do not count: rules know fields only.
                        merge_map(kind, &mut items[index], item, path)?;
                    }
                    (_, None) => {
                        let mut fresh = Value::Object(Map::new());
                        merge_map(kind, &mut fresh, item, path)?;
                        items.push(fresh);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Puts the named items in the given order; those that are not named keep their places after them.
fn sort(rule: &ListRule, items: &mut [Value], order: &[Value]) {
    let place = |item: &Value| match rule {
        ListRule::Key(key) => order.iter().position(|one| one.get(key) == item.get(key)),
        ListRule::Set | ListRule::Replace => order.iter().position(|one| one == item),
    };
    items.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Types;
    use serde_json::json;

    #[track_caller]
    fn check(old: Value, patch: &Value, wanted: &Value) {
        let kind = Types::builtin().find("apps", "v1", "deployments").expect("built in");
        let mut new = old;
        merge(&kind, &mut new, patch).expect("merges");
        assert_eq!(new, *wanted);
    }

    fn with(containers: Value) -> Value {
        json!({ "spec": { "template": { "spec": { "containers": containers } } } })
    }

    #[test]
    fn known_lists_merge_by_their_keys_and_others_are_replaced() {
        check(
            with(json!([{ "name": "a", "image": "1", "args": ["x"], "env": [{ "name": "E", "value": "1" }] }])),
            &with(json!([
                { "name": "a", "args": ["y"], "env": [{ "name": "F", "value": "2" }, { "name": "E", "value": "3" }] },
                { "name": "b", "image": "2" },
            ])),
            &with(json!([
                { "name": "a", "image": "1", "args": ["y"],
                  "env": [{ "name": "E", "value": "3" }, { "name": "F", "value": "2" }] },
                { "name": "b", "image": "2" },
            ])),
        );
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let two = with(json!([{ "name": "a" }, { "name": "b" }]));
        check(two.clone(), &with(json!([{ "name": "a", "$patch": "delete" }])), &with(json!([{ "name": "b" }])));
        check(two.clone(), &with(json!([{ "$patch": "replace" }, { "name": "c" }])), &with(json!([{ "name": "c" }])));
        let order = json!({ "spec": { "template": { "spec": {
            "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }] } } } });
        check(two, &order, &with(json!([{ "name": "b" }, { "name": "a" }])));
        check(
            json!({ "spec": { "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } } } }),
            &json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } }),
            &json!({ "spec": { "strategy": { "type": "Recreate" } } }),
        );
        check(
            json!({ "metadata": { "finalizers": ["a", "b"], "labels": { "x": "1" } } }),
            &json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": { "x": null } } }),
            &json!({ "metadata": { "finalizers": ["b", "c"], "labels": {} } }),
        );
    }
}
