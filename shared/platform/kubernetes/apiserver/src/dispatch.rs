//! From a request to the verb that answers it: whether it may, whether the resource exists, and who carries it out.
//!
//! Invariant: authorization comes before everything that could tell whether something exists.

use crate::accounts::User;
use crate::form::Form;
use crate::object;
use crate::patch::{self, Language};
use crate::rbac::{self, Attributes, Permission};
use crate::refusal::Refusal;
use crate::request::{Call, Place, Target, Verb};
use crate::resources::Type;
use crate::server::Inner;
use crate::state::{Ask, State};
use crate::verbs::delete::{self, Deleted};
use crate::verbs::read::{self, Scope};
use crate::verbs::write::{self, Part};
use crate::verbs::{question, subresource};
use crate::watch::Plan;
use crate::{apply, discovery};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// What is sent back.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(StatusCode, Value),
    Text(StatusCode, String),
    Watch(Box<(Plan, Form)>),
}

/// Answers a request. Wakes the watches when it changed something.
pub(crate) fn answer(server: &Arc<Inner>, call: &Call, user: &User) -> Result<Answer, Refusal> {
    let mut state = server.state.lock();
    let before = state.store.revision();
    let result = match &call.target {
        Target::Path(path) => of_path(&state, call, user, path),
        Target::Resource(place) => of_resource(server, &mut state, call, user, place),
    };
    let changed = state.store.revision() != before;
    drop(state);
    if changed {
        server.wake();
    }
    result
}

fn of_path(state: &State, call: &Call, user: &User, path: &str) -> Result<Answer, Refusal> {
    let verb = call.method.as_str().to_lowercase();
    if !rbac::allows_path(&state.store, user, &verb, path) {
        let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    if verb == "get" && matches!(path, "/healthz" | "/livez" | "/readyz") {
        return Ok(Answer::Text(StatusCode::OK, "ok".to_owned()));
    }
    match discovery::answer(&state.types, path) {
        Some(value) if verb == "get" => Ok(Answer::Json(StatusCode::OK, value)),
        Some(_) => Err(Refusal::method_not_allowed()),
        None => Ok(Answer::Text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())),
    }
}

fn of_resource(
    server: &Arc<Inner>,
    state: &mut State,
    call: &Call,
    user: &User,
    place: &Place,
) -> Result<Answer, Refusal> {
    let verb = call.verb(place).ok_or_else(Refusal::method_not_allowed)?;
    let kind = state.types.find(&place.group, &place.version, &place.resource);
    authorize(state, kind.as_deref(), call, user, place, verb)?;
    let kind = kind.ok_or_else(Refusal::unknown_resource)?;
    let resource = match &place.subresource {
        Some(subresource) if !kind.has_subresource(subresource) => return Err(Refusal::unknown_resource()),
        Some(subresource) => format!("{}/{subresource}", place.resource),
        None => place.resource.clone(),
    };
    let mut verbs = vec![verb];
    // An apply that makes an object needs the right to make one too.
    if verb == Verb::Patch
        && place.subresource.is_none()
        && call.content_type.starts_with("application/apply-patch")
        && state.store.get(&kind.bucket, &place.namespace, place.name.as_deref().unwrap_or_default()).is_none()
    {
        authorize(state, Some(&*kind), call, user, place, Verb::Create)?;
        verbs.push(Verb::Create);
    }
    for verb in verbs {
        let (group, namespace) = (place.group.clone(), place.namespace.clone());
        server.note_use(&user.name, Permission { verb, group, resource: resource.clone(), namespace });
    }
    if !kind.namespaced && !place.namespace.is_empty() {
        return Err(Refusal::unknown_resource());
    }
    let everywhere = kind.namespaced && place.namespace.is_empty();
    if everywhere && !matches!(verb, Verb::List | Verb::Watch) {
        return Err(Refusal::method_not_allowed());
    }
    let ask = Ask::new(call, user.clone(), server.now())?;
    match &place.subresource {
        Some(subresource) => of_subresource(state, &ask, &kind, call, place, verb, subresource),
        None => of_object(state, &ask, &kind, call, place, verb),
    }
}

fn authorize(
    state: &State,
    kind: Option<&Type>,
    call: &Call,
    user: &User,
    place: &Place,
    verb: Verb,
) -> Result<(), Refusal> {
    let resource = match &place.subresource {
        Some(subresource) => format!("{}/{subresource}", place.resource),
        None => place.resource.clone(),
    };
    // A list or watch of one name is allowed by a rule for that name.
    let selected = kind
        .filter(|_| matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection))
        .and_then(|kind| crate::selector::Fields::parse(call.query.get("fieldSelector")?, kind).ok())
        .and_then(|fields| fields.name().map(str::to_owned));
    let name = place.name.clone().or(selected).unwrap_or_default();
    // A namespace itself is asked for in that namespace.
    let is_namespace = place.group.is_empty() && place.resource == "namespaces";
    let namespace = if is_namespace { name.clone() } else { place.namespace.clone() };
    let attributes = Attributes {
        verb: verb.as_str(),
        group: &place.group,
        resource: &resource,
        namespace: &namespace,
        name: &name,
    };
    if rbac::allows(&state.store, user, &attributes) {
        return Ok(());
    }
    let mut refusal = Refusal::new(StatusCode::FORBIDDEN, "Forbidden", {
        let what = crate::refusal::group_resource(&place.group, &place.resource);
        let shown = place.name.as_deref().map_or_else(String::new, |name| format!(" {name:?}"));
        format!("{what}{shown} is forbidden: {}", attributes.refusal(&user.name))
    });
    refusal.details = json!({ "name": place.name, "group": place.group, "kind": place.resource });
    object::as_map(&mut refusal.details).retain(|_, value| !value.is_null() && value != "");
    Err(refusal)
}

fn of_object(
    state: &mut State,
    ask: &Ask,
    kind: &Arc<Type>,
    call: &Call,
    place: &Place,
    verb: Verb,
) -> Result<Answer, Refusal> {
    let form = Form::read(&call.accept, call.query.get("includeObject"))?;
    if kind.is_question {
        return match verb {
            Verb::Create => {
                let answer = question::answer(state, ask, kind, call.json()?)?;
                Ok(Answer::Json(StatusCode::CREATED, answer))
            }
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Update
            | Verb::Patch
            | Verb::Delete
            | Verb::DeleteCollection => Err(Refusal::method_not_allowed()),
        };
    }
    let namespace = place.namespace.as_str();
    let name = place.name.as_deref().unwrap_or_default();
    let one = |status, object: &Value| Ok(Answer::Json(status, form.one(kind, object, ask.now, true)));
    match verb {
        Verb::Get => one(StatusCode::OK, &*state.get(kind, namespace, name)?),
        Verb::List => {
            let scope = Scope::read(kind, place, call)?;
            let page = read::list(state, &scope, call)?;
            Ok(Answer::Json(StatusCode::OK, form.many(kind, &page.items, &page.metadata, ask.now)))
        }
        Verb::Watch => {
            let scope = Scope::read(kind, place, call)?;
            Ok(Answer::Watch(Box::new((read::watch(state, scope, call)?, form))))
        }
        Verb::Create => {
            let object = call.json()?;
            if place.name.is_some() {
                return Err(Refusal::method_not_allowed());
            }
            one(StatusCode::CREATED, &*write::create(state, ask, kind, namespace, object)?)
        }
        Verb::Update => {
            let object = call.json()?;
            if kind.create_on_update && state.store.get(&kind.bucket, namespace, name).is_none() {
                let mut object = object;
                object::metadata(&mut object).entry("name").or_insert_with(|| json!(name));
                object::metadata(&mut object).remove("resourceVersion");
                return one(StatusCode::CREATED, &*write::create(state, ask, kind, namespace, object)?);
            }
            let stored = write::update(state, ask, kind, (namespace, name), Part::Main, |_| Ok((object, None)))?;
            one(StatusCode::OK, &stored)
        }
        Verb::Patch => {
            let (status, stored) = patched(state, ask, kind, call, (namespace, name), Part::Main)?;
            one(status, &stored)
        }
        Verb::Delete => {
            let body = if call.body.is_empty() { None } else { Some(call.json()?) };
            let options = delete::Options::read(body.as_ref(), &call.query)?;
            match delete::delete(state, ask, kind, (namespace, name), &options)? {
                Deleted::Marked(object) => one(StatusCode::OK, &object),
                Deleted::Gone(object) if kind.is("", "pods") || kind.is("", "services") => one(StatusCode::OK, &object),
                Deleted::Gone(object) => Ok(Answer::Json(StatusCode::OK, gone(kind, &object))),
            }
        }
        Verb::DeleteCollection => {
            let body = if call.body.is_empty() { None } else { Some(call.json()?) };
            let options = delete::Options::read(body.as_ref(), &call.query)?;
            let scope = Scope::read(kind, place, call)?;
            let meant: Vec<Arc<Value>> =
                state.store.all(&kind.bucket).filter(|object| scope.holds(object)).cloned().collect();
            for object in &meant {
                delete::delete(state, ask, kind, (object::namespace(object), object::name(object)), &options)?;
            }
            let metadata = json!({ "resourceVersion": state.store.revision().to_string() });
            Ok(Answer::Json(StatusCode::OK, form.many(kind, &meant, &metadata, ask.now)))
        }
    }
}

/// The answer to a deletion of most kinds.
fn gone(kind: &Type, object: &Value) -> Value {
    let mut details = json!({
        "name": object::name(object), "group": kind.group, "kind": kind.plural, "uid": object::meta(object, "uid"),
    });
    object::as_map(&mut details).retain(|_, value| value != "");
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

/// A PATCH of an object, or of its status.
fn patched(
    state: &mut State,
    ask: &Ask,
    kind: &Arc<Type>,
    call: &Call,
    (namespace, name): (&str, &str),
    part: Part,
) -> Result<(StatusCode, Arc<Value>), Refusal> {
    let language = Language::read(&call.content_type, kind)?;
    if language == Language::Apply {
        return apply::apply(state, ask, kind, call, (namespace, name), part);
    }
    let stored = write::update(state, ask, kind, (namespace, name), part, |old| {
        Ok((patch::patch(language, kind, &kind.outward(old), &call.body)?, None))
    })?;
    Ok((StatusCode::OK, stored))
}

fn of_subresource(
    state: &mut State,
    ask: &Ask,
    kind: &Arc<Type>,
    call: &Call,
    place: &Place,
    verb: Verb,
    subresource: &str,
) -> Result<Answer, Refusal> {
    let at = (place.namespace.as_str(), place.name.as_deref().unwrap_or_default());
    let ok = |value| Ok(Answer::Json(StatusCode::OK, value));
    let created = |value| Ok(Answer::Json(StatusCode::CREATED, value));
    match (subresource, verb) {
        ("status", Verb::Get) => ok(kind.outward(&*state.get(kind, at.0, at.1)?)),
        ("status", Verb::Update) => {
            let object = call.json()?;
            ok(kind.outward(&*write::update(state, ask, kind, at, Part::Status, |_| Ok((object, None)))?))
        }
        ("status", Verb::Patch) => ok(kind.outward(&patched(state, ask, kind, call, at, Part::Status)?.1)),
        ("finalize", Verb::Update) => {
            let object = call.json()?;
            ok(kind.outward(&*write::update(state, ask, kind, at, Part::Finalize, |_| Ok((object, None)))?))
        }
        ("scale", Verb::Get) => {
            let object = state.get(kind, at.0, at.1)?;
            let paths = kind.scale.as_ref().ok_or_else(Refusal::unknown_resource)?;
            ok(subresource::scale_of(paths, &object))
        }
        ("scale", Verb::Update) => {
            let scale = call.json()?;
            ok(subresource::set_scale(state, ask, kind, at, |_| Ok(scale))?)
        }
        ("scale", Verb::Patch) => {
            let language = Language::read(&call.content_type, kind)?;
            if language == Language::Apply {
                return Err(Refusal::unsupported_media(&[patch::JSON, patch::MERGE]));
            }
            ok(subresource::set_scale(state, ask, kind, at, |scale| patch::patch(language, kind, scale, &call.body))?)
        }
        ("eviction", Verb::Create) => created(subresource::evict(state, ask, kind, at, &call.json()?)?),
        ("binding", Verb::Create) => created(subresource::bind(state, ask, kind, at, &call.json()?)?),
        ("token", Verb::Create) => created(subresource::token(state, ask, at, &call.json()?)?),
        _ => Err(Refusal::method_not_allowed()),
    }
}
