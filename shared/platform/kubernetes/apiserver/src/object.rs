//! Reading and writing the parts that every Kubernetes object has, on plain JSON.
//!
//! Invariant: no access panics, whatever the shape of the value: what is missing reads as empty.

use serde_json::{Map, Value};

/// A text field of `metadata`, empty when it is absent.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    meta(object, "name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    meta(object, "namespace")
}

/// `metadata`, made an object if it is none. The object itself must be one.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    map_at(object, "metadata")
}

/// The map under a key, made one if it is none.
pub(crate) fn map_at<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    as_map(as_map(object).entry(key).or_insert(Value::Null))
}

/// The value as a map; anything else is replaced by an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

/// Puts a value, or removes the key when there is none.
pub(crate) fn put(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(map.insert(key.to_owned(), value)),
        None => drop(map.remove(key)),
    }
}

/// Whether a deletion has been asked for.
pub(crate) fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The finalizers that still hold the object.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    texts(&object["metadata"]["finalizers"])
}

/// The strings of a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Follows a path of the form `.spec.replicas`.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(object, |value, part| value.get(part))
}

/// Writes to a path of the form `.spec.replicas`, making the maps on the way; nothing removes the last key.
pub(crate) fn set_at(object: &mut Value, path: &str, value: Option<Value>) {
    let mut parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    let Some(last) = parts.pop() else { return };
    let mut here = object;
    for part in parts {
        here = as_map(here).entry(part).or_insert(Value::Null);
    }
    put(as_map(here), last, value);
}

/// Whether two objects are the same to a reader: everything but the bookkeeping of the write.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        let metadata = metadata(&mut value);
        metadata.remove("resourceVersion");
        if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            for entry in entries {
                as_map(entry).remove("time");
            }
        }
        value
    };
    strip(a) == strip(b)
}

/// Bytes as they stand in JSON: base64.
pub(crate) fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap_or_default()
}

/// The bytes of a base64 text; nothing when it is none.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(Value::String(text.to_owned())).ok()?;
    Some(bytes.0)
}
