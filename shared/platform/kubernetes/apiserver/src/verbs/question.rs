//! Resources that store nothing: reviews of tokens and of permissions.
//!
//! Invariant: an answer about a permission is computed by the same function that enforces it.

use crate::accounts::User;
use crate::object::texts;
use crate::rbac::{self, Attributes};
use crate::refusal::{Cause, Refusal};
use crate::resources::Type;
use crate::state::{Ask, State};
use serde_json::{Value, json};

/// Answers the question that was posted.
pub(crate) fn answer(state: &State, ask: &Ask, kind: &Type, question: Value) -> Result<Value, Refusal> {
    let mut object = question;
    kind.mark(&mut object);
    let mut object = kind.decode(object)?;
    let status = match kind.kind.as_str() {
        "TokenReview" => token_review(state, ask, &object["spec"]),
        "SelfSubjectReview" => json!({ "userInfo": user_info(&ask.user) }),
        "SelfSubjectAccessReview" => access(state, &ask.user, &object["spec"]),
        _ => {
            let spec = &object["spec"];
            let name = spec["user"].as_str().unwrap_or_default();
            let groups = texts(&spec["groups"]);
            if name.is_empty() && groups.is_empty() {
                let cause = Cause::invalid("spec.user", &json!(""), "at least one of user or group must be specified");
                return Err(Refusal::invalid(kind, "", &[cause]));
            }
            let user = User::impersonated(name, &groups);
            access(state, &user, spec)
        }
    };
    object["status"] = status;
    Ok(object)
}

fn token_review(state: &State, ask: &Ask, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    match state.accounts.review(&state.store, token, &texts(&spec["audiences"]), ask.now) {
        Ok((user, audiences)) => {
            json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
        }
        Err(why) => json!({ "user": {}, "error": why }),
    }
}

fn user_info(user: &User) -> Value {
    let extra: serde_json::Map<String, Value> =
        user.extra.iter().map(|(key, value)| (key.clone(), json!([value]))).collect();
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !extra.is_empty() {
        info["extra"] = Value::Object(extra);
    }
    info
}

fn access(state: &State, user: &User, spec: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let allowed = if let Some(path) = spec["nonResourceAttributes"]["path"].as_str() {
        rbac::allows_path(&state.store, user, &text(&spec["nonResourceAttributes"]["verb"]), path)
    } else {
        let attributes = &spec["resourceAttributes"];
        let subresource = text(&attributes["subresource"]);
        let mut resource = text(&attributes["resource"]);
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        rbac::allows(
            &state.store,
            user,
            &Attributes {
                verb: &text(&attributes["verb"]),
                group: &text(&attributes["group"]),
                resource: &resource,
                namespace: &text(&attributes["namespace"]),
                name: &text(&attributes["name"]),
            },
        )
    };
    json!({ "allowed": allowed })
}
