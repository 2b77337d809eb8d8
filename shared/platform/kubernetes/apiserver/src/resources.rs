//! The kinds that the server knows: where they are served, what they can do, how their objects are read.
//!
//! Invariant: a kind that is not in the table, or registered by a custom resource definition, does not exist.

use crate::crd::CustomForm;
use crate::refusal::Refusal;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

mod table;

/// How the objects of a kind are read.
#[derive(Clone)]
pub(crate) enum Form {
    /// By the types of the real API: unknown fields fall away, wrong types are errors.
    Typed(fn(Value) -> Result<Value, String>),
    /// By the schema of its definition.
    Custom(Arc<CustomForm>),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Custom(_)) { "Custom" } else { "Typed" })
    }
}

/// When `metadata.generation` grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    Never,
    /// On a change of anything but metadata and status.
    Spec,
    /// On a change of annotations too: Deployments, which hand theirs on to ReplicaSets.
    SpecAndAnnotations,
}

/// Where a scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    /// A label selector object (built-in kinds) or its text (custom ones).
    pub(crate) selector: Option<String>,
}

/// One served kind of one version.
#[derive(Debug, Clone)]
pub(crate) struct Type {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) has_status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// Further subresources, without status and scale.
    pub(crate) subresources: &'static [&'static str],
    /// Nothing is stored: a POST is a question.
    pub(crate) is_question: bool,
    pub(crate) generation: Generation,
    /// PUT without a resourceVersion is taken.
    pub(crate) unconditional_update: bool,
    /// PUT of what does not exist creates it.
    pub(crate) create_on_update: bool,
    /// Fields, besides name and namespace, that a field selector may name.
    pub(crate) select: Vec<String>,
    /// The key of its objects in the store.
    pub(crate) bucket: Arc<str>,
    pub(crate) form: Form,
}

impl Type {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.form, Form::Custom(_))
    }

    pub(crate) fn selectable(&self, field: &str) -> bool {
        matches!(field, "metadata.name") && !self.is_question
            || field == "metadata.namespace"
            || self.select.iter().any(|one| one == field)
    }

    pub(crate) fn has_subresource(&self, name: &str) -> bool {
        match name {
            "status" => self.has_status,
            "scale" => self.scale.is_some(),
            other => self.subresources.contains(&other),
        }
    }

    /// As the object is shown under this kind's group and version.
    pub(crate) fn outward(&self, stored: &Value) -> Value {
        let mut object = stored.clone();
        self.mark(&mut object);
        if self.is_event() { rename(object, &EVENT_FIELDS, false) } else { object }
    }

    /// As an object that came in under this kind's group and version is stored.
    pub(crate) fn inward(&self, object: Value) -> Value {
        if self.is_event() { rename(object, &EVENT_FIELDS, true) } else { object }
    }

    /// Writes apiVersion and kind.
    pub(crate) fn mark(&self, object: &mut Value) {
        let map = crate::object::as_map(object);
        map.insert("apiVersion".to_owned(), Value::String(self.api_version()));
        map.insert("kind".to_owned(), Value::String(self.kind.clone()));
    }

    /// Reads an object as the real server decodes it.
    pub(crate) fn decode(&self, object: Value) -> Result<Value, Refusal> {
        match &self.form {
            Form::Typed(read) => read(table::quantities(object)).map_err(|why| {
                Refusal::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: {why}",
                    self.kind, self.version, self.kind
                ))
            }),
            Form::Custom(form) => Ok(form.prune(object)),
        }
    }

    fn is_event(&self) -> bool {
        self.is("events.k8s.io", "events")
    }
}

/// Fields of an Event of events.k8s.io and of the same Event of the core group.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(mut object: Value, fields: &[(&str, &str)], forward: bool) -> Value {
    let map = crate::object::as_map(&mut object);
    for (from, to) in fields {
        let (from, to) = if forward { (from, to) } else { (to, from) };
        if let Some(value) = map.remove(*from) {
            map.insert((*to).to_owned(), value);
        }
    }
    object
}

/// Reads with the type of the real API and writes again: what it does not know is gone.
fn typed<T: DeserializeOwned + Serialize>(object: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(object).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// Every served kind, by group, version and plural name.
#[derive(Debug, Clone)]
pub(crate) struct Types(BTreeMap<(String, String, String), Arc<Type>>);

impl Types {
    /// The built-in kinds.
    pub(crate) fn builtin() -> Self {
        let all = table::builtin().into_iter();
        Self(
            all.map(|kind| ((kind.group.clone(), kind.version.clone(), kind.plural.clone()), Arc::new(kind))).collect(),
        )
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Type>> {
        self.0.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// Some served version of a resource.
    pub(crate) fn of_resource(&self, group: &str, plural: &str) -> Option<Arc<Type>> {
        self.0.values().find(|one| one.is(group, plural)).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Type>> {
        self.0.values()
    }

    /// Replaces what a definition had registered by what it registers now.
    pub(crate) fn register(&mut self, group: &str, plural: &str, now: Vec<Type>) {
        self.0.retain(|_, kind| !(kind.is_custom() && kind.is(group, plural)));
        for kind in now {
            self.0.insert((kind.group.clone(), kind.version.clone(), kind.plural.clone()), Arc::new(kind));
        }
    }
}
