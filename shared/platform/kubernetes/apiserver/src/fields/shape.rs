//! How each place of an object merges: field by field, by keys, as a set, or as a whole.
//!
//! Invariant: for built-in kinds the table repeats the markers of the real API's types; for custom kinds the schema decides.

use crate::resources::{Form, Type};
use serde_json::{Value, json};

/// How a value is taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Maps by their fields; scalars and lists as a whole.
    Parts,
    /// A list whose items are known by these fields, each with what it counts as when absent.
    Keyed(Vec<(String, Option<Value>)>),
    /// A list of different scalars.
    Set,
    /// One value, whatever is inside.
    Atomic,
}

/// A place in the objects of one kind.
#[derive(Debug, Clone)]
pub(crate) enum Cursor<'a> {
    /// Kind, and the names of the fields on the way.
    Typed(&'a str, Vec<String>),
    /// The schema of this place, where there is one; the bool says whether it is the root.
    Custom(Option<&'a Value>, bool),
}

impl<'a> Cursor<'a> {
    /// The root of a kind's objects.
    pub(crate) fn of(kind: &'a Type) -> Self {
        match &kind.form {
            Form::Typed(_) => Self::Typed(&kind.kind, Vec::new()),
            Form::Custom(form) => Self::Custom(Some(&form.schema), true),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Self {
        match self {
            Self::Typed(kind, names) => Self::Typed(kind, names.iter().cloned().chain([name.to_owned()]).collect()),
            Self::Custom(_, true) if name == "metadata" => Self::Typed("", vec!["metadata".to_owned()]),
            Self::Custom(schema, _) => {
                let inner = schema.and_then(|schema| {
                    let named = schema["properties"].get(name);
                    named.or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object()))
                });
                Self::Custom(inner, false)
            }
        }
    }

    /// The items of the list here.
    pub(crate) fn item(&self) -> Self {
        match self {
            Self::Typed(..) => self.clone(),
            Self::Custom(schema, _) => Self::Custom(schema.and_then(|schema| schema.get("items")), false),
        }
    }

    /// How a value here merges.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Typed(kind, names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                builtin(kind, &names)
            }
            Self::Custom(None, _) => Shape::Parts,
            Self::Custom(Some(schema), _) => custom(schema),
        }
    }
}

fn custom(schema: &Value) -> Shape {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => return Shape::Set,
        Some("map") => {
            let keys = crate::object::texts(&schema["x-kubernetes-list-map-keys"]);
            let default = |key: &str| schema["items"]["properties"][key].get("default").cloned();
            return Shape::Keyed(keys.into_iter().map(|key| (key.clone(), default(&key))).collect());
        }
        _ => {}
    }
    if schema["x-kubernetes-map-type"] == "atomic" { Shape::Atomic } else { Shape::Parts }
}

fn builtin(kind: &str, names: &[&str]) -> Shape {
    let keyed = |keys: &[&str]| Shape::Keyed(keys.iter().map(|&key| (key.to_owned(), None)).collect());
    let port = |key: &str| Shape::Keyed(vec![(key.to_owned(), None), ("protocol".to_owned(), Some(json!("TCP")))]);
    let Some((&last, above)) = names.split_last() else { return Shape::Parts };
    let parent = above.last().copied().unwrap_or_default();
    let in_container = matches!(parent, "containers" | "initContainers" | "ephemeralContainers");
    match (parent, last) {
        ("metadata", "ownerReferences") => keyed(&["uid"]),
        ("metadata", "finalizers") => Shape::Set,
        (_, "containers" | "initContainers" | "ephemeralContainers") if parent == "spec" => keyed(&["name"]),
        (_, "ports") if in_container => port("containerPort"),
        ("spec", "ports") if kind == "Service" => port("port"),
        (_, "env") if in_container => keyed(&["name"]),
        (_, "volumeMounts") if in_container => keyed(&["mountPath"]),
        (_, "volumeDevices") if in_container => keyed(&["devicePath"]),
        ("spec", "volumes" | "imagePullSecrets" | "schedulingGates" | "resourceClaims") => keyed(&["name"]),
        ("spec", "hostAliases") => keyed(&["ip"]),
        ("spec", "topologySpreadConstraints") => keyed(&["topologyKey", "whenUnsatisfiable"]),
        ("status", "conditions") => keyed(&["type"]),
        ("status", "podIPs" | "hostIPs") => keyed(&["ip"]),
        ("status", "addresses") => keyed(&["type"]),
        ("", "secrets") if kind == "ServiceAccount" => keyed(&["name"]),
        // Everything that selects or refers is one value.
        (_, "selector" | "podSelector" | "namespaceSelector" | "labelSelector" | "nodeSelector") => Shape::Atomic,
        (
            _,
            "configMapKeyRef" | "secretKeyRef" | "fieldRef" | "resourceFieldRef" | "secretRef" | "localObjectReference",
        ) if parent != "envFrom" => Shape::Atomic,
        (_, "roleRef" | "targetRef" | "involvedObject" | "regarding") => Shape::Atomic,
        _ => Shape::Parts,
    }
}
