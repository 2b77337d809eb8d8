//! What the real server refuses with 422, for the kinds and fields that this project writes.
//!
//! Invariant: every cause names its field; a kind without a module of its own is checked by its types and its metadata only.

use crate::object;
use crate::refusal::Cause;
use crate::resources::{Form, Type};
use serde_json::{Value, json};

pub(crate) mod names;
mod others;
mod service;
mod workload;

/// Most bytes of all annotations of an object together, keys and values.
pub(crate) const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with an object that is to be stored. `old` is its present state, for what may not change.
pub(crate) fn check(kind: &Type, old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = metadata(kind, new);
    if let Some(old) = old {
        immutable_metadata(old, new, &mut causes);
    }
    match &kind.form {
        Form::Custom(form) => causes.extend(form.check(new)),
        Form::Typed(_) => match (kind.group.as_str(), kind.kind.as_str()) {
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") => workload::check(&kind.kind, old, new, &mut causes),
            ("", "Pod") => workload::check_pod(old, new, &mut causes),
            ("", "Service") => service::check(old, new, &mut causes),
            ("apiextensions.k8s.io", _) => causes.extend(crate::crd::check(new)),
            _ => others::check(kind, old, new, &mut causes),
        },
    }
    causes
}

/// Names, labels, annotations: the same for every kind.
fn metadata(kind: &Type, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(object);
    let rule: fn(&str) -> Option<String> = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Service") => names::label_1035,
        ("", "Namespace") => names::label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::subdomain,
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = rule(name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    labels(&object["metadata"]["labels"], "metadata.labels", &mut causes);
    let mut bytes = 0;
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        // Upper case is allowed in the prefix of annotations.
        if let Some(why) = names::label_key(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), why));
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    for (index, owner) in object["metadata"]["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{key}");
                causes.push(Cause::invalid(field, &json!(""), "must not be empty"));
            }
        }
    }
    for finalizer in object::finalizers(object) {
        if let Some(why) = names::label_key(&finalizer) {
            causes.push(Cause::invalid("metadata.finalizers", &json!(finalizer), why));
        }
    }
    causes
}

/// Keys and values of a map of labels.
pub(crate) fn labels(labels: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(why) = names::label_key(key) {
            causes.push(Cause::invalid(field, &json!(key), why));
        }
        if let Some(why) = value.as_str().and_then(names::label_value) {
            causes.push(Cause::invalid(field, value, why));
        }
    }
}

fn immutable_metadata(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if object::is_terminating(old) {
        let before = object::finalizers(old);
        let added: Vec<String> =
            object::finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            causes.push(Cause::forbidden("metadata.finalizers", detail));
        }
    }
}

/// A field that may not change once it is set.
pub(crate) fn immutable(old: &Value, new: &Value, path: &str, causes: &mut Vec<Cause>) {
    let read = |object| object::at(object, path).cloned().unwrap_or(Value::Null);
    if read(old) != read(new) {
        causes.push(Cause::invalid(path, &read(new), "field is immutable"));
    }
}

/// A count that is there and negative.
pub(crate) fn not_negative(object: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(value) = object::at(object, path)
        && value.as_i64().is_some_and(|number| number < 0)
    {
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
}
