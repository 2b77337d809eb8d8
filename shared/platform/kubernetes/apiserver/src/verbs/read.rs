//! Getting, listing, and what a watch begins with.
//!
//! Invariant: a list is one state: its objects and its resourceVersion belong together, over all of its pages.

use crate::object;
use crate::refusal::{Cause, Refusal};
use crate::request::{Call, Place};
use crate::resources::Type;
use crate::selector::{Fields, Labels};
use crate::state::State;
use crate::store::{Key, Objects};
use crate::watch::{Plan, Start};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Which objects of a kind are meant.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) kind: Arc<Type>,
    /// Empty: all namespaces.
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
}

impl Scope {
    pub(crate) fn read(kind: &Arc<Type>, place: &Place, call: &Call) -> Result<Self, Refusal> {
        let text = |key| call.query.get(key).unwrap_or_default();
        let labels = Labels::parse(text("labelSelector")).map_err(Refusal::bad_request)?;
        let fields = Fields::parse(text("fieldSelector"), kind).map_err(Refusal::bad_request)?;
        let named = place.name.as_deref().map(Fields::by_name).unwrap_or_default();
        Ok(Self { kind: kind.clone(), namespace: place.namespace.clone(), labels, fields: fields.and(named) })
    }

    /// Whether a stored object is meant.
    pub(crate) fn holds(&self, stored: &Value) -> bool {
        (self.namespace.is_empty() || object::namespace(stored) == self.namespace)
            && self.labels.matches(&stored["metadata"]["labels"])
            && (self.fields.is_empty()
                || self.fields.matches(stored)
                || self.fields.matches(&self.kind.outward(stored)))
    }
}

/// The objects of a list, in order, and the rest of its answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Value>>,
    pub(crate) metadata: Value,
}

/// Lists, or continues a list.
pub(crate) fn list(state: &State, scope: &Scope, call: &Call) -> Result<Page, Refusal> {
    let asked = call.query.number("resourceVersion")?;
    let matching = call.query.get("resourceVersionMatch");
    if let Some(other) = matching.filter(|how| !matches!(*how, "Exact" | "NotOlderThan")) {
        return Err(forbidden_option("resourceVersionMatch", format!("unknown value {other:?}")));
    }
    if matching.is_some() && call.query.get("resourceVersion").is_none() {
        let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(forbidden_option("resourceVersionMatch", why));
    }
    let current = state.store.revision();
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let (revision, after) = match call.query.get("continue") {
        Some(_) if asked.is_some_and(|asked| asked > 0) => {
            return Err(Refusal::bad_request("specifying resource version is not allowed when using continue"));
        }
        Some(token) => {
            let (revision, key) = read_token(token).ok_or_else(|| Refusal::bad_request("continue key is not valid"))?;
            (revision, Some(key))
        }
        None => match asked.filter(|&asked| asked > 0) {
            Some(asked) if asked > current => return Err(Refusal::too_large_version(asked, current)),
            // With a limit and no other word, an exact version is meant, as before resourceVersionMatch existed.
            Some(asked) if matching == Some("Exact") || limit > 0 && matching.is_none() => (asked, None),
            _ => (current, None),
        },
    };
    let objects = snapshot(state, scope, revision, after.is_some())?;
    let mut items: Vec<(&Key, &Arc<Value>)> = objects
        .iter()
        .filter(|(key, object)| after.as_ref().is_none_or(|after| *key > after) && scope.holds(object))
        .collect();
    let rest = if limit == 0 { 0 } else { items.len().saturating_sub(limit) };
    items.truncate(items.len() - rest);
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if let (true, Some((key, _))) = (rest > 0, items.last()) {
        metadata["continue"] = json!(token(revision, key));
        if scope.labels.is_empty() && scope.fields.is_empty() {
            metadata["remainingItemCount"] = json!(rest);
        }
    }
    Ok(Page { items: items.into_iter().map(|(_, object)| object.clone()).collect(), metadata })
}

fn snapshot<'a>(state: &'a State, scope: &Scope, revision: u64, continues: bool) -> Result<Cow<'a, Objects>, Refusal> {
    state.store.snapshot(&scope.kind.bucket, revision).ok_or_else(|| {
        Refusal::expired(if continues {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter."
        } else {
            "The resourceVersion for the provided list is too old."
        })
    })
}

fn token(revision: u64, key: &Key) -> String {
    let text = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": [key.0, key.1] }).to_string();
    object::base64(text.as_bytes()).as_str().unwrap_or_default().to_owned()
}

fn read_token(token: &str) -> Option<(u64, Key)> {
    let value: Value = serde_json::from_slice(&object::from_base64(token)?).ok()?;
    let part = |index: usize| value["start"][index].as_str().map(str::to_owned);
    Some((value["rv"].as_u64()?, (part(0)?, part(1)?)))
}

fn forbidden_option(field: &str, why: impl std::fmt::Display) -> Refusal {
    let cause = Cause::forbidden(field, why);
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {}", cause.message);
    let details = json!({
        "group": "meta.k8s.io", "kind": "ListOptions",
        "causes": [{ "reason": cause.reason, "message": cause.message, "field": cause.field }],
    });
    Refusal { details, ..Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
}

/// What a watch is to send, from its options.
pub(crate) fn watch(state: &mut State, scope: Scope, call: &Call) -> Result<Plan, Refusal> {
    let query = &call.query;
    let asked = query.number("resourceVersion")?;
    let current = state.store.revision();
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    if initial.is_some() && query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(forbidden_option("resourceVersionMatch", why));
    }
    if initial.is_none() && query.get("resourceVersionMatch").is_some() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(forbidden_option("resourceVersionMatch", why));
    }
    if let Some(asked) = asked
        && asked > current
    {
        return Err(Refusal::too_large_version(asked, current));
    }
    let bookmarks = query.flag("allowWatchBookmarks");
    let start = match (initial, asked.unwrap_or(0)) {
        (Some(true), _) => Start::Everything { then_bookmark: bookmarks },
        (Some(false), 0) => Start::After(current),
        (None, 0) => Start::Everything { then_bookmark: false },
        (_, asked) => Start::After(asked),
    };
    let timeout = query.number("timeoutSeconds")?.filter(|&seconds| seconds > 0).map(Duration::from_secs);
    let timeout = timeout.unwrap_or_else(|| crate::watch::default_timeout(&mut state.random));
    Ok(Plan { scope, start, bookmarks, timeout })
}
