//! Removing objects: grace, finalizers, preconditions, and what a namespace takes with it.
//!
//! Invariant: an object with a finalizer is never removed, only marked; a pod on a node goes when its node says so.

use super::write::commit;
use crate::object;
use crate::refusal::Refusal;
use crate::request::Query;
use crate::resources::Type;
use crate::state::{Ask, State, rfc3339};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;

/// `DeleteOptions`, from the body and the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    grace_seconds: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    /// `Foreground`, `Background`, `Orphan`.
    policy: Option<String>,
}

impl Options {
    pub(crate) fn read(body: Option<&Value>, query: &Query) -> Result<Self, Refusal> {
        let nothing = Value::Null;
        let body = body.unwrap_or(&nothing);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let grace = match (body["gracePeriodSeconds"].as_i64(), query.get("gracePeriodSeconds")) {
            (Some(seconds), _) => Some(seconds),
            (None, Some(text)) => Some(text.parse().map_err(|_| {
                Refusal::bad_request(format!("gracePeriodSeconds: {text:?} is not a whole number of seconds"))
            })?),
            (None, None) => None,
        };
        let orphan = body["orphanDependents"].as_bool().map(|orphan| if orphan { "Orphan" } else { "Background" });
        let policy = text(&body["propagationPolicy"])
            .or_else(|| query.get("propagationPolicy").map(str::to_owned))
            .or_else(|| orphan.map(str::to_owned));
        if let Some(policy) = &policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            return Err(Refusal::new(
                http::StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: {policy:?}: must be \
                     one of Background, Foreground, Orphan"
                ),
            ));
        }
        Ok(Self {
            grace_seconds: grace,
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            policy,
        })
    }

    fn check(&self, kind: &Type, object: &Value) -> Result<(), Refusal> {
        let name = object::name(object);
        let pairs = [("UID", &self.uid, "uid"), ("ResourceVersion", &self.version, "resourceVersion")];
        for (word, wanted, key) in pairs {
            let found = object::meta(object, key);
            if let Some(wanted) = wanted
                && wanted != found
            {
                let why =
                    format!("Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}");
                return Err(Refusal::conflict(kind, name, why));
            }
        }
        Ok(())
    }
}

/// What became of a deletion.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Arc<Value>),
    /// It is marked, and goes later.
    Marked(Arc<Value>),
}

/// Deletes one object, or marks it for deletion.
pub(crate) fn delete(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    (namespace, name): (&str, &str),
    options: &Options,
) -> Result<Deleted, Refusal> {
    let old = state.get(kind, namespace, name)?;
    options.check(kind, &old)?;
    let mut new = (*old).clone();
    propagate(options.policy.as_deref(), &mut new);
    let grace = grace_seconds(kind, &old, options);
    let is_held = !object::finalizers(&new).is_empty() || kind.is("", "namespaces");
    if grace == 0 && !is_held {
        return Ok(Deleted::Gone(remove(state, ask, kind, &new)));
    }
    mark(&mut new, ask, grace);
    if kind.is("", "namespaces") && !ask.dry_run {
        new["status"] = json!({ "phase": "Terminating" });
        let marked = commit_changed(state, ask, kind, &old, new);
        empty_namespace(state, ask, name);
        return Ok(match state.store.get(&kind.bucket, "", name) {
            Some(rest) => Deleted::Marked(rest.clone()),
            None => Deleted::Gone(marked),
        });
    }
    Ok(Deleted::Marked(commit_changed(state, ask, kind, &old, new)))
}

fn commit_changed(state: &mut State, ask: &Ask, kind: &Type, old: &Arc<Value>, new: Value) -> Arc<Value> {
    if object::same(old, &new) { old.clone() } else { commit(state, ask, kind, new) }
}

/// Seconds until the object may go: only pods that run somewhere get any.
fn grace_seconds(kind: &Type, old: &Value, options: &Options) -> i64 {
    let is_assigned = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let is_over = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !kind.is("", "pods") || !is_assigned || is_over {
        return 0;
    }
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    options.grace_seconds.unwrap_or(own).max(0)
}

/// Writes down how dependents are to be treated, for the garbage collector.
fn propagate(policy: Option<&str>, object: &mut Value) {
    let wanted = match policy {
        Some("Foreground") => Some("foregroundDeletion"),
        Some("Orphan") => Some("orphan"),
        _ => None,
    };
    if policy.is_none() {
        return;
    }
    let mut finalizers = object::finalizers(object);
    finalizers.retain(|name| !matches!(name.as_str(), "foregroundDeletion" | "orphan"));
    finalizers.extend(wanted.map(str::to_owned));
    object::put(object::metadata(object), "finalizers", (!finalizers.is_empty()).then(|| json!(finalizers)));
}

fn mark(object: &mut Value, ask: &Ask, grace_seconds: i64) {
    let generation = object["metadata"]["generation"].as_i64();
    let was_marked = object::is_terminating(object);
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let metadata = object::metadata(object);
    // A second deletion can only shorten the time that is left.
    if !was_marked || grace_seconds < before {
        let end = ask.now.saturating_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(ask.now);
        metadata.insert("deletionTimestamp".to_owned(), json!(rfc3339(end)));
        metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace_seconds));
    }
    if let (false, Some(generation)) = (was_marked, generation) {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
}

/// Removes an object for good.
pub(crate) fn remove(state: &mut State, ask: &Ask, kind: &Type, object: &Value) -> Arc<Value> {
    let (namespace, name) = (object::namespace(object).to_owned(), object::name(object).to_owned());
    if ask.dry_run {
        return Arc::new(object.clone());
    }
    let gone = state.store.remove(&kind.bucket, &namespace, &name).unwrap_or_else(|| Arc::new(object.clone()));
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        state.definition_changed(&gone, false);
        let text = |path: &str| object::at(&gone, path).and_then(Value::as_str).unwrap_or_default();
        let bucket = format!("{}/{}", text("spec.group"), text("spec.names.plural"));
        let rest: Vec<Arc<Value>> = state.store.all(&bucket).cloned().collect();
        for object in rest {
            drop(state.store.remove(&bucket, object::namespace(&object), object::name(&object)));
        }
    }
    if kind.namespaced
        && state.store.get("/namespaces", "", &namespace).is_some_and(|found| object::is_terminating(found))
    {
        finish_namespace(state, ask, &namespace);
    }
    gone
}

/// Deletes what is in a namespace, as its controller does it in a real cluster, here at once.
fn empty_namespace(state: &mut State, ask: &Ask, namespace: &str) {
    let kinds: Vec<Arc<Type>> =
        state.types.iter().filter(|kind| kind.namespaced && !kind.is_question).cloned().collect();
    for kind in kinds {
        let names: Vec<String> = state
            .store
            .all(&kind.bucket)
            .filter(|object| object::namespace(object) == namespace)
            .map(|object| object::name(object).to_owned())
            .collect();
        for name in names {
            // Whatever cannot go now goes later, and takes the namespace with it then.
            drop(delete(state, ask, &kind, (namespace, &name), &Options::default()));
        }
    }
    finish_namespace(state, ask, namespace);
}

/// Removes a terminating namespace once it is empty.
fn finish_namespace(state: &mut State, ask: &Ask, namespace: &str) {
    let is_empty = state
        .store
        .buckets()
        .iter()
        .all(|bucket| state.store.all(bucket).all(|object| object::namespace(object) != namespace));
    let is_held =
        state.store.get("/namespaces", "", namespace).is_none_or(|found| !object::finalizers(found).is_empty());
    if is_empty && !is_held && !ask.dry_run {
        drop(state.store.remove("/namespaces", "", namespace));
    }
}
