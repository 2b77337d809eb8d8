//! Strategic merge, as kustomize and `kubectl patch` know it.
//!
//! Invariant: mappings merge, `null` removes, everything else replaces; a list merges only where Kubernetes names the
//! field by which its items are told apart. A patch that passes [`check`] merges into anything.

use super::lines::Step;
use serde_json::{Map, Value};

/// What stands in a patch instead of a value.
const DIRECTIVE: &str = "$patch";

/// Why a patch cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where in the patch.
    pub(super) at: Vec<Step>,
    /// What is wrong.
    pub(super) what: String,
    /// What would be right.
    pub(super) expected: String,
}

/// The fields by which items of the list `field` are told apart, the first that an item has; none: it is replaced whole.
fn keys(field: &str) -> &'static [&'static str] {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims" => &["name"],
        "ports" => &["containerPort", "port"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey"],
        "ownerReferences" => &["uid"],
        _ => &[],
    }
}

/// What tells an item of the list `field` apart, with its value.
fn identity<'v>(field: &str, item: &'v Value) -> Option<(&'static str, &'v Value)> {
    keys(field).iter().find_map(|key| Some((*key, item.get(*key)?)))
}

/// The item of `list`, which is called `field`, that is the same as `wanted`.
pub(super) fn same_item(field: &str, list: &[Value], wanted: &Value) -> Option<usize> {
    let (key, value) = identity(field, wanted)?;
    list.iter().position(|item| item.get(key) == Some(value))
}

/// Whether items of the list `field` are told apart by a field of theirs.
pub(super) fn is_merged(field: &str) -> bool {
    !keys(field).is_empty()
}

/// Whether `patch` can be merged.
pub(super) fn check(patch: &Value) -> Result<(), Wrong> {
    check_at(patch, "", &mut Vec::new())
}

fn check_at(patch: &Value, field: &str, at: &mut Vec<Step>) -> Result<(), Wrong> {
    match patch {
        Value::Object(fields) => {
            for (name, value) in fields {
                at.push(Step::Field(name.clone()));
                if name.starts_with('$') && !(name == DIRECTIVE && is_directive(value)) {
                    let what = format!("{name}: {value} is no directive that is known here");
                    let expected = "$patch: delete, replace or merge".into();
                    return Err(Wrong { at: at.clone(), what, expected });
                }
                check_at(value, name, at)?;
                at.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push(Step::Item(index));
                let replaces = directive(item) == Some("replace");
                if is_merged(field) && identity(field, item).is_none() && !replaces {
                    let what = format!("it is not said which of the {field} is meant");
                    let expected = format!("{} in each of them", keys(field).join(" or "));
                    return Err(Wrong { at: at.clone(), what, expected });
                }
                check_at(item, "", at)?;
                at.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn is_directive(value: &Value) -> bool {
    matches!(value.as_str(), Some("delete" | "replace" | "merge"))
}

fn directive(value: &Value) -> Option<&str> {
    value.get(DIRECTIVE)?.as_str()
}

/// Merges `patch`, which has passed [`check`], into `base`.
pub(super) fn merge(base: &mut Value, patch: &Value) {
    merge_field("", base, patch);
}

fn merge_field(field: &str, base: &mut Value, patch: &Value) {
    match (base, patch) {
        (base, Value::Object(_)) if directive(patch) == Some("delete") => *base = Value::Null,
        (base, Value::Object(_)) if directive(patch) == Some("replace") => *base = plain(patch),
        (Value::Object(base), Value::Object(patch)) => merge_fields(base, patch),
        (Value::Array(base), Value::Array(patch)) if is_merged(field) => merge_items(field, base, patch),
        (base, patch) => *base = plain(patch),
    }
}

fn merge_fields(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch.iter().filter(|(name, _)| *name != DIRECTIVE) {
        match base.get_mut(name) {
            _ if value.is_null() => {
                base.remove(name);
            }
            Some(known) => {
                merge_field(name, known, value);
                if known.is_null() {
                    base.remove(name);
                }
            }
            None if directive(value) == Some("delete") => {}
            None => {
                base.insert(name.clone(), plain(value));
            }
        }
    }
}

/// What the patch names comes first and in its order, as kustomize has it; `$(VAR)` and the choice among containers depend
/// on the order.
fn merge_items(field: &str, base: &mut Vec<Value>, patch: &[Value]) {
    if patch.iter().any(|item| directive(item) == Some("replace") && identity(field, item).is_none()) {
        base.clear();
    }
    let mut merged: Vec<Value> = Vec::new();
    for item in patch.iter().filter(|item| identity(field, item).is_some()) {
        let known = same_item(field, base, item).map(|at| base.remove(at));
        match (known, same_item(field, &merged, item)) {
            _ if directive(item) == Some("delete") => {}
            (Some(mut known), _) => {
                merge_field("", &mut known, item);
                merged.push(known);
            }
            (None, Some(twice)) => merge_field("", &mut merged[twice], item),
            (None, None) => merged.push(plain(item)),
        }
    }
    merged.append(base);
    *base = merged;
}

/// A value of a patch as it stands alone: without what it only removes, and without directives.
fn plain(patch: &Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(name, value)| *name != DIRECTIVE && !value.is_null() && directive(value) != Some("delete"));
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(items) => {
            let is_kept = |item: &&Value| match directive(item) {
                Some("delete") => false,
                Some(_) => item.as_object().is_some_and(|fields| fields.len() > 1),
                None => true,
            };
            Value::Array(items.iter().filter(is_kept).map(plain).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn merged(base: Value, patch: &Value, expected: &Value) {
        let mut out = base;
        check(patch).unwrap();
        merge(&mut out, patch);
        assert_eq!(out, *expected);
    }

    #[test]
    fn mappings_merge_and_null_removes() {
        merged(
            json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": "x"}),
            &json!({"a": {"b": null, "f": {"g": 3, "h": null}}, "d": [3], "e": 7, "i": null}),
            &json!({"a": {"c": 2, "f": {"g": 3}}, "d": [3], "e": 7}),
        );
        merged(json!({"a": {"b": 1}}), &json!({"a": [1]}), &json!({"a": [1]}));
        merged(json!({"args": ["a", "b"]}), &json!({"args": ["c"]}), &json!({"args": ["c"]}));
    }

    /// What `kubectl kustomize` (5.5.0) makes of the same two objects.
    #[test]
    fn lists_merge_by_the_keys_of_kubernetes_in_the_order_of_kustomize() {
        merged(
            json!({
                "containers": [{
                    "name": "main", "image": "x", "args": ["a", "b"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}],
                }],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
                "tolerations": [{"key": "a"}],
                "ports": [{"port": 80, "targetPort": 1}, {"port": 90, "targetPort": 2}],
            }),
            &json!({
                "containers": [
                    {"name": "new1", "image": "n1"},
                    {"name": "main", "args": ["c"],
                     "env": [{"name": "N1", "value": "n1"}, {"name": "B", "value": "3"}, {"name": "N2", "value": "n2"}],
                     "ports": [{"containerPort": 82}, {"containerPort": 80, "name": "http"}]},
                    {"name": "new2", "image": "n2"},
                ],
                "volumes": [
                    {"name": "w", "emptyDir": null, "hostPath": {"path": "/x"}},
                    {"name": "v", "$patch": "delete"},
                    {"name": "z", "emptyDir": {}},
                ],
                "tolerations": [{"key": "b"}],
                "ports": [{"port": 90, "targetPort": 3}, {"port": 100}],
            }),
            &json!({
                "containers": [
                    {"name": "new1", "image": "n1"},
                    {"name": "main", "image": "x", "args": ["c"],
                     "env": [{"name": "N1", "value": "n1"}, {"name": "B", "value": "3"}, {"name": "N2", "value": "n2"},
                             {"name": "A", "value": "1"}],
                     "ports": [{"containerPort": 82}, {"containerPort": 80, "name": "http"}, {"containerPort": 81}]},
                    {"name": "new2", "image": "n2"},
                ],
                "volumes": [{"name": "w", "hostPath": {"path": "/x"}}, {"name": "z", "emptyDir": {}}],
                "tolerations": [{"key": "b"}],
                "ports": [{"port": 90, "targetPort": 3}, {"port": 100}, {"port": 80, "targetPort": 1}],
            }),
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let env = || json!({"env": [{"name": "A"}, {"name": "B"}], "x": {"y": 1}});
        merged(
            env(),
            &json!({"env": [{"name": "A", "$patch": "delete"}, {"name": "Z", "$patch": "delete"}]}),
            &json!({"env": [{"name": "B"}], "x": {"y": 1}}),
        );
        merged(
            env(),
            &json!({"env": [{"$patch": "replace"}, {"name": "C"}], "x": {"$patch": "replace", "z": 2}}),
            &json!({"env": [{"name": "C"}], "x": {"z": 2}}),
        );
        merged(
            env(),
            &json!({"x": {"$patch": "delete"}, "w": {"$patch": "delete"}}),
            &json!({"env": [{"name": "A"}, {"name": "B"}]}),
        );
        merged(
            json!({}),
            &json!({"env": [{"$patch": "replace"}, {"name": "D", "$patch": "delete"}, {"name": "E", "v": null}]}),
            &json!({"env": [{"name": "E"}]}),
        );
    }

    #[test]
    fn what_cannot_be_merged_is_refused_with_its_place() {
        let wrong = check(&json!({"spec": {"containers": [{"name": "a"}, {"image": "b"}]}})).unwrap_err();
        assert_eq!(super::super::lines::path(&wrong.at), "spec.containers[1]");
        assert_eq!(wrong.expected, "name in each of them");
        let wrong = check(&json!({"spec": {"$setElementOrder/containers": []}})).unwrap_err();
        assert!(wrong.what.contains("$setElementOrder"), "{wrong:?}");
        assert!(check(&json!({"spec": {"$patch": "remove"}})).is_err());
    }

    #[test]
    fn an_item_that_a_patch_names_twice_is_one() {
        merged(
            json!({"env": []}),
            &json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            &json!({"env": [{"name": "A", "value": "2"}]}),
        );
    }

    #[test]
    fn merging_twice_is_merging_once() {
        let patch = json!({"a": {"b": null, "c": 1}, "env": [{"name": "A", "value": "2"}], "d": {"$patch": "delete"}});
        let mut once = json!({"a": {"b": 2}, "env": [{"name": "A"}], "d": {"e": 1}});
        merge(&mut once, &patch);
        let mut twice = once.clone();
        merge(&mut twice, &patch);
        assert_eq!(once, twice);
    }
}
