//! Creating and changing objects: identity, versions, defaults, validation, generation, ownership of fields.
//!
//! Invariant: a write that changes nothing changes no version and wakes no watch; one that fails leaves everything as it was.

use crate::managed::{self, Writer};
use crate::object;
use crate::refusal::{Cause, Refusal};
use crate::resources::{Generation, Type};
use crate::state::{Ask, State};
use crate::{crd, defaults, validate};
use serde_json::{Value, json};
use std::sync::Arc;

/// Metadata that only the server writes.
const SERVERS_OWN: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// Stores a new object. The answer is its stored state.
pub(crate) fn create(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    namespace: &str,
    object: Value,
) -> Result<Arc<Value>, Refusal> {
    make(state, ask, kind, namespace, object, None)
}

/// Stores a new object whose fields have these owners.
pub(crate) fn create_owned(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    namespace: &str,
    object: Value,
    owners: Vec<managed::Entry>,
) -> Result<Arc<Value>, Refusal> {
    make(state, ask, kind, namespace, object, Some(owners))
}

fn make(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    namespace: &str,
    object: Value,
    owners: Owners,
) -> Result<Arc<Value>, Refusal> {
    let mut object = read_in(kind, ask, object)?;
    place(kind, namespace, &mut object)?;
    if !object::meta(&object, "resourceVersion").is_empty() {
        return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let generate = object::meta(&object, "generateName").to_owned();
    if object::name(&object).is_empty() && !generate.is_empty() {
        let name = state.generated_name(&generate);
        object::metadata(&mut object).insert("name".to_owned(), json!(name));
    }
    let name = object::name(&object).to_owned();
    state.check_namespace(kind, namespace, &name)?;
    let uid = state.uid();
    let metadata = object::metadata(&mut object);
    for key in SERVERS_OWN.iter().chain(&["managedFields", "resourceVersion"]) {
        metadata.remove(*key);
    }
    metadata.insert("uid".to_owned(), json!(uid));
    metadata.insert("creationTimestamp".to_owned(), json!(ask.time()));
    if kind.generation != Generation::Never {
        metadata.insert("generation".to_owned(), json!(1));
    }
    if kind.has_status {
        object::as_map(&mut object).remove("status");
    }
    defaults::apply(kind, &mut object);
    fill_in(state, ask, kind, &mut object)?;
    let causes = validate::check(kind, None, &object);
    if !causes.is_empty() {
        return Err(Refusal::invalid(kind, &name, &causes));
    }
    if state.store.get(&kind.bucket, namespace, &name).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    track(kind, ask, None, &mut object, "", owners);
    Ok(commit(state, ask, kind, object))
}

/// What a change is made of: the fields that a caller may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status, where that is a subresource.
    Main,
    /// Only the status.
    Status,
    /// Only `spec.replicas`, through the scale subresource.
    Scale,
    /// Only `spec.finalizers` of a namespace.
    Finalize,
}

impl Part {
    /// As it stands in managedFields.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
        }
    }
}

/// The managed fields that an apply has worked out; other writes leave that to the server.
pub(crate) type Owners = Option<Vec<managed::Entry>>;

/// Replaces an object by what `change` makes of it. The answer is its stored state, or its last one if the change removed it.
pub(crate) fn update(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    (namespace, name): (&str, &str),
    part: Part,
    change: impl FnOnce(&Value) -> Result<(Value, Owners), Refusal>,
) -> Result<Arc<Value>, Refusal> {
    let old = state.get(kind, namespace, name)?;
    let (object, owners) = change(&old)?;
    let mut object = read_in(kind, ask, object)?;
    place(kind, namespace, &mut object)?;
    if object::name(&object) != name {
        let message =
            format!("the name of the object ({}) does not match the name on the URL ({name})", object::name(&object));
        return Err(Refusal::bad_request(message));
    }
    check_versions(kind, name, &old, &object, part)?;
    keep(kind, part, &old, &mut object);
    defaults::apply(kind, &mut object);
    fill_in(state, ask, kind, &mut object)?;
    let causes = validate::check(kind, Some(&old), &object);
    if !causes.is_empty() {
        return Err(Refusal::invalid(kind, name, &causes));
    }
    grow_generation(kind, &old, &mut object);
    track(kind, ask, Some(&old), &mut object, part.name(), owners);
    let is_held = !object::finalizers(&object).is_empty()
        || kind.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    let waits = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    if object::is_terminating(&object) && !is_held && !waits {
        return Ok(super::delete::remove(state, ask, kind, &object));
    }
    if object::same(&old, &object) {
        return Ok(old);
    }
    Ok(commit(state, ask, kind, object))
}

/// Reads an object as its kind, and refuses what the kind does not know if the caller wants that.
fn read_in(kind: &Type, ask: &Ask, mut object: Value) -> Result<Value, Refusal> {
    let given = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (api, name) = (given("apiVersion"), given("kind"));
    if (!api.is_empty() && api != kind.api_version()) || (!name.is_empty() && name != kind.kind) {
        return Err(Refusal::bad_request(format!(
            "{api}, Kind={name} cannot be handled here: the URL names {}, Kind={}",
            kind.api_version(),
            kind.kind
        )));
    }
    kind.mark(&mut object);
    let read = kind.decode(object.clone())?;
    if ask.strict {
        let mut unknown = Vec::new();
        unknown_fields(&object, &read, "", &mut unknown);
        if !unknown.is_empty() {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                unknown.join(", ")
            )));
        }
    }
    Ok(kind.inward(read))
}

/// Fields with a value that the reader did not keep.
fn unknown_fields(given: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    if let (Some(given), Some(read)) = (given.as_object(), read.as_object()) {
        for (key, value) in given {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            match read.get(key) {
                Some(read) => unknown_fields(value, read, &path, found),
                None if is_empty => {}
                None => found.push(format!("unknown field {path:?}")),
            }
        }
    } else if let (Some(given), Some(read)) = (given.as_array(), read.as_array()) {
        for (index, (given, read)) in given.iter().zip(read).enumerate() {
            unknown_fields(given, read, &format!("{path}[{index}]"), found);
        }
    }
}

/// The namespace is that of the URL.
fn place(kind: &Type, namespace: &str, object: &mut Value) -> Result<(), Refusal> {
    let given = object::namespace(object).to_owned();
    if !kind.namespaced {
        object::metadata(object).remove("namespace");
        return Ok(());
    }
    if !given.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    object::metadata(object).insert("namespace".to_owned(), json!(namespace));
    Ok(())
}

fn check_versions(kind: &Type, name: &str, old: &Value, new: &Value, part: Part) -> Result<(), Refusal> {
    let (uid, stored) = (object::meta(new, "uid"), object::meta(old, "uid"));
    if !uid.is_empty() && uid != stored {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}");
        return Err(Refusal::conflict(kind, name, why));
    }
    let version = object::meta(new, "resourceVersion");
    if version.is_empty() {
        if kind.unconditional_update || part == Part::Scale {
            return Ok(());
        }
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(Refusal::invalid(kind, name, &[cause]));
    }
    if version != object::meta(old, "resourceVersion") {
        return Err(Refusal::stale(kind, name));
    }
    Ok(())
}

/// Puts back what this write may not touch.
fn keep(kind: &Type, part: Part, old: &Value, new: &mut Value) {
    let field = |object: &Value, key: &str| object.get(key).cloned();
    match part {
        Part::Main if kind.has_status => object::put(object::as_map(new), "status", field(old, "status")),
        Part::Main => {}
        Part::Status | Part::Finalize | Part::Scale => {
            let (status, spec) = (field(new, "status"), new["spec"].clone());
            let version = new["metadata"]["resourceVersion"].clone();
            *new = old.clone();
            new["metadata"]["resourceVersion"] = version;
            match (part, &kind.scale) {
                (Part::Status, _) => object::put(object::as_map(new), "status", status),
                (Part::Finalize, _) => new["spec"]["finalizers"] = spec["finalizers"].clone(),
                (_, Some(paths)) => {
                    let whole = json!({ "spec": spec });
                    object::set_at(new, &paths.spec, object::at(&whole, &paths.spec).cloned());
                }
                (Part::Main | Part::Scale, None) => {}
            }
        }
    }
    let metadata = object::metadata(new);
    for key in SERVERS_OWN {
        object::put(metadata, key, old["metadata"].get(key).cloned());
    }
    if old["metadata"]["generateName"].is_string() {
        metadata.insert("generateName".to_owned(), old["metadata"]["generateName"].clone());
    }
    object::put(metadata, "managedFields", old["metadata"].get("managedFields").cloned());
    metadata.insert("resourceVersion".to_owned(), old["metadata"]["resourceVersion"].clone());
    if kind.is("", "services") {
        // An update that leaves the address out means the one it has.
        let address = old["spec"].get("clusterIP").cloned();
        let spec = object::map_at(new, "spec");
        let is_name = spec.get("type").is_some_and(|kind| kind == "ExternalName");
        if spec.get("clusterIP").is_none_or(|ip| ip.is_null() || ip == "") && !is_name {
            object::put(spec, "clusterIP", address);
        }
    }
}

/// What the server works out for some kinds: first status, addresses, what a definition registers.
fn fill_in(state: &mut State, ask: &Ask, kind: &Type, object: &mut Value) -> Result<(), Refusal> {
    let is_new = object["metadata"]["resourceVersion"].is_null();
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Service") => {
            let spec = object::map_at(object, "spec");
            let wanted = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
            if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            } else {
                let address = if wanted.is_empty() { state.cluster_address()? } else { wanted };
                spec.insert("clusterIPs".to_owned(), json!([address]));
                spec.insert("clusterIP".to_owned(), json!(address));
            }
            if is_new {
                object["status"] = json!({ "loadBalancer": {} });
            }
        }
        ("", "Pod") if is_new => {
            object["status"] = json!({ "phase": "Pending", "qosClass": quality(&object["spec"]) });
        }
        ("", "Namespace") if is_new => object["status"] = json!({ "phase": "Active" }),
        ("apps", "ReplicaSet" | "StatefulSet") if is_new => object["status"] = json!({ "replicas": 0 }),
        ("apps", "Deployment") if is_new => object["status"] = json!({}),
        ("apiextensions.k8s.io", _) if validate::check(kind, None, object).is_empty() => {
            object["status"] = match object["status"]["conditions"].as_array() {
                Some(_) => {
                    let since = object["status"]["conditions"][0]["lastTransitionTime"].clone();
                    crd::established(object, since.as_str().unwrap_or(&ask.time()))
                }
                None => crd::established(object, &ask.time()),
            };
        }
        _ => {}
    }
    Ok(())
}

/// The class by which a kubelet ranks pods.
fn quality(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let is_set =
        |container: &Value, key: &str| container["resources"][key].as_object().is_some_and(|map| !map.is_empty());
    let guaranteed = |container: &Value| {
        let limits = &container["resources"]["limits"];
        limits["cpu"].is_string() && limits["memory"].is_string() && container["resources"]["requests"] == *limits
    };
    if containers.iter().all(guaranteed) && !containers.is_empty() {
        "Guaranteed"
    } else if containers.iter().any(|container| is_set(container, "limits") || is_set(container, "requests")) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn grow_generation(kind: &Type, old: &Value, new: &mut Value) {
    let body = |object: &Value| {
        let mut object = object.clone();
        let map = object::as_map(&mut object);
        for key in ["metadata", "apiVersion", "kind"] {
            map.remove(key);
        }
        if kind.has_status {
            map.remove("status");
        }
        object
    };
    let annotations = |object: &Value| object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let grows = match kind.generation {
        Generation::Never => false,
        Generation::Spec => body(old) != body(new),
        Generation::SpecAndAnnotations => body(old) != body(new) || annotations(old) != annotations(new),
    };
    if grows {
        let next = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        object::metadata(new).insert("generation".to_owned(), json!(next));
    }
}

fn track(kind: &Type, ask: &Ask, old: Option<&Value>, new: &mut Value, subresource: &str, owners: Owners) {
    match owners {
        Some(entries) => managed::write(new, entries),
        None => {
            let writer = Writer { manager: ask.manager.clone(), subresource: subresource.to_owned(), time: ask.time() };
            managed::track_update(kind, old, new, &writer);
        }
    }
}

/// The last step of every write.
pub(crate) fn commit(state: &mut State, ask: &Ask, kind: &Type, object: Value) -> Arc<Value> {
    if ask.dry_run {
        return Arc::new(object);
    }
    let stored = state.store.put(&kind.bucket, object);
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        state.definition_changed(&stored, true);
    }
    stored
}
