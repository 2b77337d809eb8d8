//! Sets of fields, as `managedFields` holds them, and which fields an object consists of.
//!
//! Invariant: lists are taken apart only where their kind merges them by key or as a set; every other list, and a map that
//! is one value (a selector, a reference), is a single field.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod shape;

pub(crate) use shape::{Cursor, Shape};

/// One step of a path into an object. Paths are copied far more often than read, so their words are shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(Arc<str>),
    /// An item of a list, by its keys: a JSON object as text, keys in order.
    Key(Arc<str>),
    /// An item of a set: JSON as text.
    Item(Arc<str>),
}

impl Step {
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Item(value) => format!("v:{value}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("f", name) => Some(Self::Field(name.into())),
            // Read and written again, so that spelling does not matter.
            ("k", keys) => Some(Self::Key(serde_json::from_str::<Value>(keys).ok()?.to_string().into())),
            ("v", value) => Some(Self::Item(serde_json::from_str::<Value>(value).ok()?.to_string().into())),
            _ => None,
        }
    }
}

/// Where a field stands.
pub(crate) type Path = Vec<Step>;

/// A set of fields.
pub(crate) type Set = BTreeSet<Path>;

/// `fieldsV1` of a set.
pub(crate) fn to_json(set: &Set) -> Value {
    let mut root = Map::new();
    for path in set {
        let mut here = &mut root;
        for step in path {
            here = crate::object::as_map(here.entry(step.text()).or_insert_with(|| json!({})));
        }
        here.insert(".".to_owned(), json!({}));
    }
    let mut value = Value::Object(root);
    unmark_leaves(&mut value);
    value
}

/// A field with nothing below it is written `{}`, not `{".": {}}`.
fn unmark_leaves(value: &mut Value) {
    let Some(map) = value.as_object_mut() else { return };
    if map.len() == 1 {
        map.remove(".");
    }
    map.iter_mut().filter(|(key, _)| key.as_str() != ".").for_each(|(_, inner)| unmark_leaves(inner));
}

/// Reads `fieldsV1`; what it does not understand is left out.
pub(crate) fn from_json(fields: &Value) -> Set {
    let mut set = Set::new();
    read(fields, &mut Vec::new(), &mut set);
    set
}

fn read(fields: &Value, path: &mut Path, set: &mut Set) {
    let Some(map) = fields.as_object() else { return };
    if (map.is_empty() || map.contains_key(".")) && !path.is_empty() {
        set.insert(path.clone());
    }
    for (key, inner) in map.iter().filter(|(key, _)| key.as_str() != ".") {
        if let Some(step) = Step::parse(key) {
            path.push(step);
            read(inner, path, set);
            path.pop();
        }
    }
}

/// Every field of an object with its value; maps and list items that hold further fields have none.
pub(crate) type Fields<'a> = BTreeMap<Path, Option<&'a Value>>;

/// Metadata that belongs to the server, or to nobody.
const UNOWNED: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
];

/// Takes an object apart. Identity and bookkeeping are left out: nobody owns them.
pub(crate) fn of_object<'a>(cursor: &Cursor<'_>, object: &'a Value) -> Fields<'a> {
    beside(cursor, object, &Value::Null)
}

/// Takes apart what of an object is not the same in another one.
pub(crate) fn beside<'a>(cursor: &Cursor<'_>, object: &'a Value, other: &Value) -> Fields<'a> {
    let mut fields = Fields::new();
    for (key, value) in differing(object, other) {
        let mut path = vec![Step::Field(key.as_str().into())];
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in differing(value, &other["metadata"]) {
                    if !UNOWNED.contains(&key.as_str()) {
                        path.push(Step::Field(key.as_str().into()));
                        walk(&cursor.field("metadata").field(key), value, &mut path, true, &mut fields);
                        path.pop();
                    }
                }
            }
            _ => walk(&cursor.field(key), value, &mut path, false, &mut fields),
        }
    }
    fields
}

fn differing<'a>(object: &'a Value, other: &Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.as_object().into_iter().flatten().filter(move |(key, value)| other.get(key.as_str()) != Some(*value))
}

fn walk<'a>(cursor: &Cursor<'_>, value: &'a Value, path: &mut Path, mark: bool, fields: &mut Fields<'a>) {
    let shape = cursor.shape();
    if let (Some(map), true) = (value.as_object(), shape != Shape::Atomic) {
        if map.is_empty() {
            fields.insert(path.clone(), Some(value));
        } else if mark {
            fields.insert(path.clone(), None);
        }
        for (key, inner) in map {
            path.push(Step::Field(key.as_str().into()));
            walk(&cursor.field(key), inner, path, inner.is_object(), fields);
            path.pop();
        }
        return;
    }
    let steps = value.as_array().and_then(|list| list.iter().map(|item| step_of(&shape, item)).collect());
    let (Some(list), Some(steps)): (_, Option<Vec<Step>>) = (value.as_array(), steps) else {
        fields.insert(path.clone(), Some(value));
        return;
    };
    for (item, step) in list.iter().zip(steps) {
        let is_set = matches!(step, Step::Item(_));
        path.push(step);
        if is_set {
            fields.insert(path.clone(), Some(item));
        } else {
            fields.insert(path.clone(), None);
            for (key, inner) in item.as_object().into_iter().flatten() {
                path.push(Step::Field(key.as_str().into()));
                walk(&cursor.item().field(key), inner, path, inner.is_object(), fields);
                path.pop();
            }
        }
        path.pop();
    }
}

/// How an item of a list is named; nothing when the list is one value.
pub(crate) fn step_of(shape: &Shape, item: &Value) -> Option<Step> {
    match shape {
        Shape::Keyed(keys) => {
            let map = item.as_object()?;
            let named: Map<String, Value> = keys
                .iter()
                .filter_map(|(key, default)| {
                    let value = map.get(key.as_str()).filter(|value| !value.is_null()).or(default.as_ref())?;
                    Some((key.clone(), value.clone()))
                })
                .collect();
            (!named.is_empty()).then(|| Step::Key(Value::Object(named).to_string().into()))
        }
        Shape::Set => Some(Step::Item(item.to_string().into())),
        Shape::Parts | Shape::Atomic => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Types;

    #[test]
    fn a_deployment_is_taken_apart_and_its_set_survives_json() {
        let kind = Types::builtin().find("apps", "v1", "deployments").expect("built in");
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "a", "labels": { "app": "a" }, "finalizers": ["x/y"] },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": "a" } },
                "template": { "spec": { "containers": [
                    { "name": "c", "image": "i", "ports": [{ "containerPort": 80 }], "args": ["-a", "-b"] },
                ] } },
            },
        });
        let fields = of_object(&Cursor::of(&kind), &object);
        let set: Set = fields.into_keys().collect();
        let json = to_json(&set);
        assert_eq!(json["f:spec"]["f:replicas"], json!({}));
        assert_eq!(json["f:spec"]["f:selector"], json!({}), "a selector is one value");
        assert_eq!(json["f:metadata"]["f:labels"], json!({ ".": {}, "f:app": {} }));
        assert_eq!(json["f:metadata"]["f:finalizers"], json!({ "v:\"x/y\"": {} }));
        assert!(json["f:metadata"].get("f:name").is_none());
        let container = &json["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
        assert_eq!(container["f:args"], json!({}), "a list of arguments is one value");
        assert!(container["f:ports"].get("k:{\"containerPort\":80,\"protocol\":\"TCP\"}").is_some(), "{container}");
        assert_eq!(from_json(&json), set);
    }
}
