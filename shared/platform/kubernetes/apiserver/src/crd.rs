//! Custom resource definitions: the kinds that they register, and what is checked of their objects.
//!
//! Invariant: an object is kept only as its schema says; what a schema demands beyond [`schema`]'s rules is not checked.

use crate::object;
use crate::refusal::Cause;
use crate::resources::{Form, Generation, ScalePaths, Type};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) mod schema;

/// How the objects of a custom kind are read, checked and printed.
#[derive(Debug)]
pub(crate) struct CustomForm {
    /// `openAPIV3Schema`.
    pub(crate) schema: Value,
    /// `additionalPrinterColumns`.
    pub(crate) columns: Vec<Value>,
}

impl CustomForm {
    /// Without the fields that the schema does not know, and with its defaults.
    pub(crate) fn prune(&self, mut object: Value) -> Value {
        schema::prune_root(&self.schema, &mut object);
        schema::defaults(&self.schema, &mut object);
        object
    }

    /// What the schema does not allow.
    pub(crate) fn check(&self, object: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        schema::check(&self.schema, object, "", &mut causes);
        causes
    }
}

/// The kinds that a definition registers, one for each served version.
pub(crate) fn types(definition: &Value) -> Vec<Type> {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&spec["group"]);
    let plural = text(&names["plural"]);
    let kind = text(&names["kind"]);
    let or = |value: String, instead: String| if value.is_empty() { instead } else { value };
    let versions = spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
    versions
        .map(|version| {
            let subresources = &version["subresources"];
            let scale = subresources["scale"].as_object().map(|scale| {
                let path = |key: &str| scale.get(key).and_then(Value::as_str).map(str::to_owned);
                ScalePaths {
                    spec: path("specReplicasPath").unwrap_or_default(),
                    status: path("statusReplicasPath").unwrap_or_default(),
                    selector: path("labelSelectorPath"),
                }
            });
            Type {
                version: text(&version["name"]),
                singular: or(text(&names["singular"]), kind.to_lowercase()),
                list_kind: or(text(&names["listKind"]), format!("{kind}List")),
                namespaced: spec["scope"] == "Namespaced",
                short: object::texts(&names["shortNames"]),
                categories: object::texts(&names["categories"]),
                has_status: subresources["status"].is_object(),
                scale,
                subresources: &[],
                is_question: false,
                generation: Generation::Spec,
                unconditional_update: false,
                create_on_update: false,
                select: version["selectableFields"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
                    .collect(),
                bucket: format!("{group}/{plural}").into(),
                form: Form::Custom(Arc::new(CustomForm {
                    schema: version["schema"]["openAPIV3Schema"].clone(),
                    columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
                })),
                group: group.clone(),
                plural: plural.clone(),
                kind: kind.clone(),
            }
        })
        .collect()
}

/// The status of a definition whose names are taken: established at once.
pub(crate) fn established(definition: &Value, now: &str) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now });
    let stored: Vec<Value> = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": stored,
    })
}

/// Names that the real server fills in when they are left out.
pub(crate) fn defaults(definition: &mut Value) {
    let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let spec = object::map_at(definition, "spec");
    let names = object::as_map(spec.entry("names").or_insert(Value::Null));
    if !kind.is_empty() {
        names.entry("singular").or_insert_with(|| json!(kind.to_lowercase()));
        names.entry("listKind").or_insert_with(|| json!(format!("{kind}List")));
    }
    spec.entry("conversion").or_insert_with(|| json!({ "strategy": "None" }));
}

/// What is wrong with a definition.
pub(crate) fn check(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &definition["spec"];
    let text = |path: &str| object::at(spec, path).and_then(Value::as_str).unwrap_or_default();
    let (group, plural) = (text("group"), text("names.plural"));
    for path in ["group", "names.plural", "names.kind"] {
        if text(path).is_empty() {
            causes.push(Cause::required(format!("spec.{path}"), ""));
        }
    }
    if !matches!(text("scope"), "Namespaced" | "Cluster") {
        causes.push(Cause::unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    let wanted = format!("{plural}.{group}");
    if object::name(definition) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(object::name(definition)), detail));
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(versions.len()), detail));
    }
    for (index, version) in versions.iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
        if !schema.is_object() {
            causes.push(Cause::required(at, "schemas are required"));
        } else if schema["type"] != "object" {
            let detail = "must be object at the root";
            causes.push(Cause::invalid(format!("{at}.type"), &schema["type"], detail));
        }
        if let Some(scale) = version["subresources"]["scale"].as_object() {
            for (key, start) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
                let path = scale.get(key).and_then(Value::as_str).unwrap_or_default();
                if !path.starts_with(start) {
                    let at = format!("spec.versions[{index}].subresources.scale.{key}");
                    let detail = format!("should be a json path under {}", start.trim_end_matches('.'));
                    causes.push(Cause::invalid(at, &json!(path), detail));
                }
            }
        }
    }
    causes
}
