//! Structural schemas: pruning, defaults, and the checks of types, required fields, enums and limits.
//!
//! Invariant: patterns and CEL rules (`x-kubernetes-validations`) are kept and not evaluated; every other check of a schema
//! that is listed in [`check`] is made.

use crate::refusal::{Cause, type_name};
use serde_json::{Map, Value};

fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Removes what the schema of a whole object does not know; identity and metadata always stay.
pub(crate) fn prune_root(schema: &Value, object: &mut Value) {
    prune_fields(schema, object, &["apiVersion", "kind", "metadata"]);
}

fn prune_fields(schema: &Value, value: &mut Value, always: &[&str]) {
    if let Some(list) = value.as_array_mut() {
        for item in list {
            prune_fields(&schema["items"], item, &[]);
        }
        return;
    }
    let Some(map) = value.as_object_mut() else { return };
    let embedded = schema["x-kubernetes-embedded-resource"] == true;
    let always: &[&str] = if embedded { &["apiVersion", "kind", "metadata"] } else { always };
    let properties = schema["properties"].as_object();
    let additional = &schema["additionalProperties"];
    map.retain(|key, value| {
        if always.contains(&key.as_str()) {
            return true;
        }
        if let Some(inner) = properties.and_then(|properties| properties.get(key)) {
            prune_fields(inner, value, &[]);
            return true;
        }
        if additional.is_object() {
            prune_fields(additional, value, &[]);
            return true;
        }
        keeps_unknown(schema) || *additional == true
    });
}

/// Fills in the defaults of absent fields, inside of what is there.
pub(crate) fn defaults(schema: &Value, value: &mut Value) {
    if let Some(list) = value.as_array_mut() {
        for item in list {
            defaults(&schema["items"], item);
        }
        return;
    }
    let Some(map) = value.as_object_mut() else { return };
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let default = inner.get("default");
        let absent = map.get(key).is_none_or(|value| value.is_null() && inner["nullable"] != true);
        if let (true, Some(default)) = (absent, default) {
            map.insert(key.clone(), default.clone());
        }
        if let Some(value) = map.get_mut(key) {
            defaults(inner, value);
        }
    }
    if schema["additionalProperties"].is_object() {
        for (_, value) in map.iter_mut() {
            defaults(&schema["additionalProperties"], value);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Collects what is wrong with a value. `path` is where it stands, empty at the root.
pub(crate) fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let found = type_name(value);
    let fits = wanted.is_empty() && !int_or_string
        || wanted == found
        || wanted == "number" && found == "integer"
        || wanted == "integer" && value.as_f64().is_some_and(|number| number.fract() == 0.0)
        || int_or_string && matches!(found, "integer" | "string");
    if !fits {
        let wanted = if int_or_string { "integer,string" } else { wanted };
        causes.push(Cause::wrong_type(
            path,
            value,
            format_args!("{path} in body must be of type {wanted}: \"{found}\""),
        ));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let names: Vec<String> =
            allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        causes.push(Cause::unsupported(path, value, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    limits(schema, value, path, causes);
    if let Some(map) = value.as_object() {
        fields(schema, map, path, causes);
    }
    if let Some(list) = value.as_array() {
        for (index, item) in list.iter().enumerate() {
            check(&schema["items"], item, &format!("{path}[{index}]"), causes);
        }
    }
}

fn fields(schema: &Value, map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            causes.push(Cause::required(join(path, key), ""));
        }
    }
    for (key, value) in map {
        // The metadata of an object is checked as that of every other.
        if path.is_empty() && key == "metadata" {
            continue;
        }
        let inner = schema["properties"].get(key).unwrap_or_else(|| &schema["additionalProperties"]);
        if inner.is_object() {
            check(inner, value, &join(path, key), causes);
        }
    }
}

/// A limit as the real server prints it: whole numbers without a fraction.
fn shown(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |number| number.to_string())
}

/// Numbers, lengths of texts and counts of items.
fn limits(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limit = |key: &str| schema[key].as_f64();
    if let Some(number) = value.as_f64() {
        if limit("minimum").is_some_and(|min| number < min || schema["exclusiveMinimum"] == true && number <= min) {
            let how = if schema["exclusiveMinimum"] == true { "greater than" } else { "greater than or equal to" };
            let detail = format!("{path} in body should be {how} {}", shown(&schema["minimum"]));
            causes.push(Cause::invalid(path, value, detail));
        }
        if limit("maximum").is_some_and(|max| number > max || schema["exclusiveMaximum"] == true && number >= max) {
            let how = if schema["exclusiveMaximum"] == true { "less than" } else { "less than or equal to" };
            let detail = format!("{path} in body should be {how} {}", shown(&schema["maximum"]));
            causes.push(Cause::invalid(path, value, detail));
        }
    }
    let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if let Some(text) = value.as_str() {
        let length = size(text.chars().count());
        if limit("minLength").is_some_and(|min| length < min) {
            let detail = format!("{path} in body should be at least {} chars long", schema["minLength"]);
            causes.push(Cause::invalid(path, value, detail));
        }
        if limit("maxLength").is_some_and(|max| length > max) {
            causes.push(Cause {
                reason: "FieldValueTooLong",
                field: path.to_owned(),
                message: format!("Too long: may not be more than {} bytes", schema["maxLength"]),
            });
        }
    }
    if let Some(list) = value.as_array() {
        if limit("minItems").is_some_and(|min| size(list.len()) < min) {
            let detail = format!("{path} in body should have at least {} items", schema["minItems"]);
            causes.push(Cause::invalid(path, &Value::from(list.len()), detail));
        }
        if limit("maxItems").is_some_and(|max| size(list.len()) > max) {
            causes.push(Cause {
                reason: "FieldValueTooMany",
                field: path.to_owned(),
                message: format!("Too many: {}: must have at most {} items", list.len(), schema["maxItems"]),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["mode"],
                    "properties": {
                        "mode": { "type": "string", "enum": ["Act", "Shadow"] },
                        "replicas": { "type": "integer", "minimum": 0, "default": 1 },
                        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                        "port": { "x-kubernetes-int-or-string": true },
                        "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                    },
                },
            },
        })
    }

    #[test]
    fn unknown_fields_fall_and_defaults_appear() {
        let mut object = json!({
            "kind": "X", "metadata": { "name": "a" }, "other": 1,
            "spec": { "mode": "Act", "x": 1, "free": { "y": 2 }, "labels": { "z": "1" } },
        });
        prune_root(&sample(), &mut object);
        defaults(&sample(), &mut object);
        assert_eq!(
            object,
            json!({
                "kind": "X", "metadata": { "name": "a" },
                "spec": { "mode": "Act", "replicas": 1, "free": { "y": 2 }, "labels": { "z": "1" } },
            })
        );
    }

    #[test]
    fn every_violation_names_its_field() {
        let object = json!({ "spec": { "mode": "act", "replicas": -1, "port": true, "labels": { "a": 1 } } });
        let mut causes = Vec::new();
        check(&sample(), &object, "", &mut causes);
        let mut found: Vec<(&str, &str)> = causes.iter().map(|cause| (cause.field.as_str(), cause.reason)).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("spec.labels.a", "FieldValueTypeInvalid"),
                ("spec.mode", "FieldValueNotSupported"),
                ("spec.port", "FieldValueTypeInvalid"),
                ("spec.replicas", "FieldValueInvalid"),
            ]
        );
        let mut causes = Vec::new();
        check(&sample(), &json!({}), "", &mut causes);
        assert_eq!(causes, [Cause::required("spec", "")]);
    }
}
