//! `managedFields`: who wrote which field last, for every way of writing.
//!
//! Invariant: a field has at most one owner that is an Update; several appliers may share it while they agree.

use crate::fields::{self, Cursor, Fields, Set, Step};
use crate::object;
use crate::resources::Type;
use serde_json::{Value, json};

/// Most Update entries of one object; the oldest are merged into one, as the real server does it.
pub(crate) const UPDATERS_MAX: usize = 10;

/// The name under which the real server merges the oldest entries.
const ANCIENT: &str = "ancient-changes";

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    /// `Apply` or `Update`.
    pub(crate) operation: String,
    pub(crate) api_version: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    pub(crate) time: String,
    pub(crate) set: Set,
}

impl Entry {
    /// Whether both are the same writer: their fields go into one entry.
    pub(crate) fn is_same_writer(&self, other: &Self) -> bool {
        (&self.manager, &self.operation, &self.subresource, &self.api_version)
            == (&other.manager, &other.operation, &other.subresource, &other.api_version)
    }
}

/// The entries of an object.
pub(crate) fn entries(object: &Value) -> Vec<Entry> {
    let list = object["metadata"]["managedFields"].as_array();
    list.into_iter()
        .flatten()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            Entry {
                manager: text("manager"),
                operation: text("operation"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
                set: fields::from_json(&entry["fieldsV1"]),
            }
        })
        .filter(|entry| !entry.manager.is_empty())
        .collect()
}

/// Writes the entries to an object, those without a field left out.
pub(crate) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    entries.sort_by(|a, b| (&a.operation, &a.time, &a.manager).cmp(&(&b.operation, &b.time, &b.manager)));
    let list: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager,
                "operation": entry.operation,
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields::to_json(&entry.set),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = json!(entry.subresource);
            }
            value
        })
        .collect();
    object::put(object::metadata(object), "managedFields", (!list.is_empty()).then_some(Value::Array(list)));
}

/// What a write did to the fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// New, or with another value.
    pub(crate) changed: Set,
    pub(crate) removed: Set,
}

/// Compares two states field by field.
pub(crate) fn difference(kind: &Type, old: &Value, new: &Value) -> Difference {
    let cursor = Cursor::of(kind);
    let (old, new): (Fields<'_>, Fields<'_>) = (fields::beside(&cursor, old, new), fields::beside(&cursor, new, old));
    let changed = new.iter().filter(|(path, value)| old.get(*path) != Some(*value)).map(|(path, _)| path.clone());
    let removed = old.keys().filter(|path| !new.contains_key(*path)).cloned();
    Difference { changed: changed.collect(), removed: removed.collect() }
}

/// Who writes, and how.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) manager: String,
    pub(crate) subresource: String,
    pub(crate) time: String,
}

/// Records a write that is no apply. `old` is nothing for a creation.
pub(crate) fn track_update(kind: &Type, old: Option<&Value>, new: &mut Value, writer: &Writer) {
    let nothing = json!({});
    let mut difference = difference(kind, old.unwrap_or(&nothing), new);
    // The strategy of such a kind resets the status on a write of the object itself, so nobody owns it by one.
    if kind.has_status && writer.subresource.is_empty() {
        difference.changed.retain(|path| path.first() != Some(&Step::Field("status".into())));
    }
    let mut known = old.map(entries).unwrap_or_default();
    let mine = Entry {
        manager: writer.manager.clone(),
        operation: "Update".to_owned(),
        api_version: kind.api_version(),
        subresource: writer.subresource.clone(),
        time: writer.time.clone(),
        set: Set::new(),
    };
    if !known.iter().any(|entry| entry.is_same_writer(&mine)) {
        known.push(mine.clone());
    }
    for entry in &mut known {
        entry.set.retain(|path| !difference.removed.contains(path));
        if entry.is_same_writer(&mine) {
            let before = entry.set.len();
            entry.set.extend(difference.changed.iter().cloned());
            if entry.set.len() != before || !difference.changed.is_empty() {
                entry.time.clone_from(&writer.time);
            }
        } else {
            entry.set.retain(|path| !difference.changed.contains(path));
        }
    }
    merge_ancient(&mut known);
    write(new, known);
}

fn merge_ancient(known: &mut Vec<Entry>) {
    known.retain(|entry| !entry.set.is_empty());
    let updaters = known.iter().filter(|entry| entry.operation == "Update").count();
    if updaters <= UPDATERS_MAX {
        return;
    }
    known.sort_by(|a, b| (&a.operation, &a.time).cmp(&(&b.operation, &b.time)));
    let first = known.iter().position(|entry| entry.operation == "Update").unwrap_or_default();
    let merged = known.drain(first..=first + (updaters - UPDATERS_MAX)).collect::<Vec<_>>();
    let Some(mut ancient) = merged.last().cloned() else { return };
    ancient.manager = ANCIENT.to_owned();
    ancient.set = merged.into_iter().flat_map(|entry| entry.set).collect();
    known.push(ancient);
}
