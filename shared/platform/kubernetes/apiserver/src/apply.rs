//! Server-side apply: an object is merged with what one manager wants of it, and every field knows who wants it.
//!
//! Invariant: without force, no apply changes a field that another manager owns; what a manager no longer wants, and nobody
//! else does, goes.

use crate::defaults;
use crate::fields::{self, Cursor, Path, Set, Shape, Step, step_of};
use crate::managed::{self, Entry};
use crate::object;
use crate::patch;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::resources::Type;
use crate::state::{Ask, State};
use crate::verbs::write::{self, Part};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Carries out an apply. Creates the object when it is not there.
pub(crate) fn apply(
    state: &mut State,
    ask: &Ask,
    kind: &Arc<Type>,
    call: &Call,
    (namespace, name): (&str, &str),
    part: Part,
) -> Result<(StatusCode, Arc<Value>), Refusal> {
    let Some(manager) = call.query.get("fieldManager").map(str::to_owned) else {
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message));
    };
    let wanted = read(kind, call, name, part)?;
    let mine = Entry {
        manager,
        operation: "Apply".to_owned(),
        api_version: kind.api_version(),
        subresource: part.name().to_owned(),
        time: ask.time(),
        set: wanted_fields(kind, &wanted),
    };
    if state.store.get(&kind.bucket, namespace, name).is_none() {
        if part != Part::Main {
            return Err(Refusal::not_found(kind, name));
        }
        // Nothing is there yet: what the server adds belongs to nobody.
        let ask = Ask { manager: mine.manager.clone(), ..ask.clone() };
        let created = write::create_owned(state, &ask, kind, namespace, wanted, vec![mine])?;
        return Ok((StatusCode::CREATED, created));
    }
    let is_forced = call.query.flag("force");
    let stored = write::update(state, ask, kind, (namespace, name), part, |old| {
        let live = kind.outward(old);
        merge(kind, &live, &wanted, &mine, is_forced).map(|(new, entries)| (new, Some(entries)))
    })?;
    Ok((StatusCode::OK, stored))
}

/// The configuration in the body, without what an apply may not say.
fn read(kind: &Type, call: &Call, name: &str, part: Part) -> Result<Value, Refusal> {
    let mut wanted = patch::read(&call.body).map_err(|refusal| Refusal {
        message: format!("{} (YAML is read only where it is JSON)", refusal.message),
        ..refusal
    })?;
    if !wanted["metadata"]["managedFields"].is_null() {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    for key in ["apiVersion", "kind"] {
        if wanted[key].as_str().unwrap_or_default().is_empty() {
            return Err(Refusal::bad_request(format!("invalid object type: {key} must be set in an apply patch")));
        }
    }
    if wanted["apiVersion"] != kind.api_version() || wanted["kind"] != kind.kind.as_str() {
        return Err(Refusal::bad_request(format!(
            "{} {} cannot be applied here: the URL names {} {}",
            wanted["apiVersion"],
            wanted["kind"],
            kind.api_version(),
            kind.kind
        )));
    }
    let given = object::name(&wanted).to_owned();
    if given.is_empty() {
        object::metadata(&mut wanted).insert("name".to_owned(), json!(name));
    } else if given != name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    match part {
        Part::Main if kind.has_status => drop(object::as_map(&mut wanted).remove("status")),
        Part::Status => object::as_map(&mut wanted)
            .retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status")),
        Part::Main | Part::Scale | Part::Finalize => {}
    }
    Ok(wanted)
}

/// The fields that a configuration names. Maps that hold further fields are no fields of their own; items of lists are.
fn wanted_fields(kind: &Type, wanted: &Value) -> Set {
    let fields = fields::of_object(&Cursor::of(kind), wanted);
    fields
        .into_iter()
        .filter(|(path, value)| value.is_some() || matches!(path.last(), Some(Step::Key(_))))
        .map(|(path, _)| path)
        .collect()
}

fn merge(
    kind: &Type,
    live: &Value,
    wanted: &Value,
    mine: &Entry,
    is_forced: bool,
) -> Result<(Value, Vec<Entry>), Refusal> {
    let mut entries = managed::entries(live);
    let last: Set =
        entries.iter().find(|entry| entry.is_same_writer(mine)).map(|entry| entry.set.clone()).unwrap_or_default();
    let cursor = Cursor::of(kind);
    let mut new = live.clone();
    merge_value(&cursor, &mut new, wanted);
    // A stale version in the configuration is a conflict like in any other write.
    let version = wanted["metadata"]["resourceVersion"].clone();
    if version.is_string() {
        object::metadata(&mut new).insert("resourceVersion".to_owned(), version);
    }
    if wanted["metadata"]["uid"].is_string() {
        object::metadata(&mut new).insert("uid".to_owned(), wanted["metadata"]["uid"].clone());
    }
    let owned_by_others: Set = entries
        .iter()
        .filter(|entry| !entry.is_same_writer(mine))
        .flat_map(|entry| entry.set.iter().cloned())
        .collect();
    let mut dropped: Vec<&Path> = last.difference(&mine.set).filter(|path| !owned_by_others.contains(*path)).collect();
    // An item goes as a whole only if nobody else wants anything inside of it.
    dropped.retain(|path| !owned_by_others.iter().any(|other| other.starts_with(path)));
    dropped.retain(|path| !mine.set.iter().any(|wanted| wanted.starts_with(path)));
    // An item before its fields: without its key it would not be found.
    dropped.sort_by_key(|path| path.len());
    for path in dropped {
        remove(&cursor, &mut new, path);
    }
    // Compared as they would be stored, so that a default is no change.
    let mut shown = kind.decode(new.clone()).unwrap_or_else(|_| new.clone());
    defaults::apply(kind, &mut shown);
    let difference = managed::difference(kind, live, &shown);
    let mut conflicts: BTreeSet<(String, String)> = BTreeSet::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_same_writer(mine)) {
        let lost: Vec<Path> = entry
            .set
            .iter()
            .filter(|path| mine.set.contains(*path) && difference.changed.contains(*path))
            .cloned()
            .collect();
        if !is_forced {
            conflicts.extend(lost.iter().map(|path| (describe(entry), shown_path(path))));
        }
        for path in lost {
            entry.set.remove(&path);
        }
        entry.set.retain(|path| !difference.removed.contains(path));
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    match entries.iter_mut().find(|entry| entry.is_same_writer(mine)) {
        Some(entry) if entry.set == mine.set && difference.changed.is_empty() => {}
        Some(entry) => *entry = mine.clone(),
        None => entries.push(mine.clone()),
    }
    Ok((new, entries))
}

fn merge_value(cursor: &Cursor<'_>, live: &mut Value, wanted: &Value) {
    let shape = cursor.shape();
    if let (Some(map), true) = (wanted.as_object(), shape != Shape::Atomic) {
        if live.is_object() {
            let target = object::as_map(live);
            for (key, value) in map {
                merge_value(&cursor.field(key), target.entry(key.clone()).or_insert(Value::Null), value);
            }
            return;
        }
    } else if let (Some(list), Some(items)) = (wanted.as_array(), live.as_array_mut())
        && matches!(shape, Shape::Keyed(_) | Shape::Set)
    {
        for item in list {
            let step = step_of(&shape, item);
            let found = items.iter_mut().find(|existing| step.is_some() && step_of(&shape, existing) == step);
            match found {
                Some(existing) => {
                    let inner = cursor.item();
                    if let (Some(target), Some(map)) = (existing.as_object_mut(), item.as_object()) {
                        for (key, value) in map {
                            let here = target.entry(key.clone()).or_insert(Value::Null);
                            merge_value(&inner.field(key), here, value);
                        }
                    }
                }
                None => items.push(item.clone()),
            }
        }
        return;
    }
    live.clone_from(wanted);
}

/// Takes a field out of an object; nothing happens when it is not there.
fn remove(cursor: &Cursor<'_>, value: &mut Value, path: &[Step]) {
    let Some((first, rest)) = path.split_first() else { return };
    match first {
        Step::Field(name) => {
            let Some(map) = value.as_object_mut() else { return };
            if rest.is_empty() {
                map.remove(&**name);
            } else if let Some(inner) = map.get_mut(&**name) {
                remove(&cursor.field(name), inner, rest);
            }
        }
        Step::Key(_) | Step::Item(_) => {
            let shape = cursor.shape();
            let Some(items) = value.as_array_mut() else { return };
            let found = items.iter().position(|item| step_of(&shape, item).as_ref() == Some(first));
            let Some(index) = found else { return };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove(&cursor.item(), &mut items[index], rest);
            }
        }
    }
}

/// A manager, as a conflict names it.
fn describe(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == "Update" {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

/// `.spec.containers[name="a"].image`.
fn shown_path(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Key(keys) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> =
                    keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", parts.join(","))
            }
            Step::Item(value) => format!("[={value}]"),
        })
        .collect()
}

fn conflict(conflicts: &BTreeSet<(String, String)>) -> Refusal {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, field)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field })
        })
        .collect();
    let managers: BTreeSet<&String> = conflicts.iter().map(|(manager, _)| manager).collect();
    let text = match (conflicts.iter().next(), managers.len()) {
        (Some((manager, field)), 1) if conflicts.len() == 1 => format!("conflict with {manager}: {field}"),
        _ => managers
            .iter()
            .map(|manager| {
                let fields = conflicts.iter().filter(|(one, _)| one == *manager);
                let lines: Vec<String> = fields.map(|(_, field)| format!("- {field}")).collect();
                format!("conflicts with {manager}:\n{}", lines.join("\n"))
            })
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let count = conflicts.len();
    let noun = if count == 1 { "conflict" } else { "conflicts" };
    let message = format!("Apply failed with {count} {noun}: {text}");
    Refusal { details: json!({ "causes": causes }), ..Refusal::new(StatusCode::CONFLICT, "Conflict", message) }
}
