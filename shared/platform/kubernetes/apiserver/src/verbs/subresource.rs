//! Scale, eviction, tokens and bindings.
//!
//! Invariant: a scale at zero has no `spec.replicas`, as on the real server, where the field is left out when empty.

use super::delete::{self, Options};
use super::write::{self, Part};
use crate::object;
use crate::refusal::{Cause, Refusal};
use crate::resources::{ScalePaths, Type};
use crate::selector::Labels;
use crate::state::{Ask, State, rfc3339};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Seconds that a token lasts when its request does not say.
const TOKEN_SECONDS: i64 = 3600;
/// The shortest and the longest time that may be asked for.
const TOKEN_SECONDS_RANGE: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// The `Scale` of an object.
pub(crate) fn scale_of(paths: &ScalePaths, object: &Value) -> Value {
    let number = |path: &str| object::at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        object::put(object::as_map(&mut metadata), key, object["metadata"].get(key).cloned());
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": { "replicas": number(&paths.status) },
    });
    let replicas = number(&paths.spec);
    if replicas != 0 {
        scale["spec"]["replicas"] = json!(replicas);
    }
    let selector = paths.selector.as_deref().and_then(|path| object::at(object, path));
    let text = selector.and_then(|selector| {
        selector.as_str().map(str::to_owned).or_else(|| Labels::of_object(selector).map(|labels| labels.to_string()))
    });
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        scale["status"]["selector"] = json!(text);
    }
    scale
}

/// Writes the count of a `Scale`, which `change` makes from the present one. The answer is the new `Scale`.
pub(crate) fn set_scale(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    (namespace, name): (&str, &str),
    change: impl FnOnce(&Value) -> Result<Value, Refusal>,
) -> Result<Value, Refusal> {
    let paths = kind.scale.clone().ok_or_else(Refusal::unknown_resource)?;
    let stored = write::update(state, ask, kind, (namespace, name), Part::Scale, |old| {
        let scale = change(&scale_of(&paths, old))?;
        let replicas = match scale["spec"].get("replicas") {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_i64().filter(|&count| i32::try_from(count).is_ok()).ok_or_else(|| {
                Refusal::bad_request(format!(
                    "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal {value} into Go \
                     struct field ScaleSpec.spec.replicas of type int32"
                ))
            })?,
        };
        if replicas < 0 {
            let cause = Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
            return Err(scale_refusal(name, &cause));
        }
        let given = object::name(&scale);
        if given != name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        let mut new = old.clone();
        object::set_at(&mut new, &paths.spec, Some(json!(replicas)));
        for key in ["resourceVersion", "uid"] {
            object::put(object::metadata(&mut new), key, scale["metadata"].get(key).cloned());
        }
        Ok((new, None))
    })?;
    Ok(scale_of(&paths, &stored))
}

fn scale_refusal(name: &str, cause: &Cause) -> Refusal {
    let message = format!("Scale.autoscaling {name:?} is invalid: {}: {}", cause.field, cause.message);
    let causes = json!([{ "reason": cause.reason, "message": cause.message, "field": cause.field }]);
    let details = json!({ "name": name, "group": "autoscaling", "kind": "Scale", "causes": causes });
    Refusal { details, ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
}

/// `POST …/pods/NAME/eviction`: a deletion, unless a disruption budget forbids it.
pub(crate) fn evict(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    (namespace, name): (&str, &str),
    eviction: &Value,
) -> Result<Value, Refusal> {
    let pod = state.get(kind, namespace, name)?;
    let options = Options::read(Some(&eviction["deleteOptions"]), &crate::request::Query::default())?;
    let needs_no_budget = matches!(pod["status"]["phase"].as_str(), Some("Pending" | "Succeeded" | "Failed"))
        || object::is_terminating(&pod);
    if !needs_no_budget {
        check_budgets(state, namespace, &pod)?;
    }
    delete::delete(state, ask, kind, (namespace, name), &options)?;
    Ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
        && !object::is_terminating(pod)
}

fn check_budgets(state: &State, namespace: &str, pod: &Value) -> Result<(), Refusal> {
    let selects = |budget: &Value, pod: &Value| {
        Labels::of_object(&budget["spec"]["selector"]).is_some_and(|labels| labels.matches(&pod["metadata"]["labels"]))
    };
    let budgets: Vec<&Value> = state
        .store
        .all("policy/poddisruptionbudgets")
        .map(|budget| &**budget)
        .filter(|budget| object::namespace(budget) == namespace && selects(budget, pod))
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [budget] => *budget,
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message));
        }
    };
    let pods: Vec<&Value> = state
        .store
        .all("/pods")
        .map(|pod| &**pod)
        .filter(|pod| object::namespace(pod) == namespace && selects(budget, pod))
        .collect();
    let healthy = pods.iter().filter(|pod| is_ready(pod)).count();
    let expected = expected_pods(state, namespace, &pods);
    let part = |value: &Value| match (value.as_u64(), value.as_str()) {
        (Some(count), _) => usize::try_from(count).unwrap_or(usize::MAX),
        (None, Some(text)) => {
            text.trim_end_matches('%').parse::<usize>().map_or(0, |percent| (expected * percent).div_ceil(100))
        }
        (None, None) => 0,
    };
    let spec = &budget["spec"];
    let needed = if spec["maxUnavailable"].is_null() {
        part(&spec["minAvailable"])
    } else {
        expected.saturating_sub(part(&spec["maxUnavailable"]))
    };
    // A pod that is not ready takes nothing from a budget that is fulfilled.
    let allowed = if is_ready(pod) { healthy > needed } else { healthy >= needed && needed > 0 };
    if allowed {
        return Ok(());
    }
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let why = format!(
        "The disruption budget {} needs {needed} healthy pods and has {healthy} currently",
        object::name(budget)
    );
    let mut refusal = Refusal::too_many(message, 0);
    refusal.retry_after = None;
    refusal.details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": why }] });
    Err(refusal)
}

/// How many pods their owners want; pods without an owner count as themselves.
fn expected_pods(state: &State, namespace: &str, pods: &[&Value]) -> usize {
    let mut owners = std::collections::BTreeSet::new();
    let mut expected = 0_usize;
    for pod in pods {
        let references = pod["metadata"]["ownerReferences"].as_array();
        let owner = references.into_iter().flatten().find(|owner| owner["controller"] == true);
        let found = owner.and_then(|owner| {
            let bucket = format!("apps/{}s", owner["kind"].as_str()?.to_lowercase());
            state.store.get(&bucket, namespace, owner["name"].as_str()?)
        });
        match found {
            Some(owner) if owners.insert(object::meta(owner, "uid").to_owned()) => {
                let wanted = owner["spec"]["replicas"].as_u64().unwrap_or(0);
                expected += usize::try_from(wanted).unwrap_or(usize::MAX);
            }
            Some(_) => {}
            None => expected += 1,
        }
    }
    expected
}

/// `POST …/pods/NAME/binding`: the pod is put on a node.
pub(crate) fn bind(
    state: &mut State,
    ask: &Ask,
    kind: &Type,
    (namespace, name): (&str, &str),
    binding: &Value,
) -> Result<Value, Refusal> {
    let pod = state.get(kind, namespace, name)?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Refusal::invalid(kind, name, &[Cause::required("target.name", "")]));
    }
    let assigned = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !assigned.is_empty() {
        let why = format!("pod {name} is already assigned to node {assigned:?}");
        return Err(Refusal::conflict(kind, name, why));
    }
    if object::is_terminating(&pod) {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(Refusal::conflict(kind, name, why));
    }
    let mut new = (*pod).clone();
    new["spec"]["nodeName"] = json!(node);
    let status = object::map_at(&mut new, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != "PodScheduled");
        list.push(json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": ask.time() }));
    }
    write::commit(state, ask, kind, new);
    Ok(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }))
}

/// `POST …/serviceaccounts/NAME/token`: a token for the account.
pub(crate) fn token(
    state: &mut State,
    ask: &Ask,
    (namespace, name): (&str, &str),
    request: &Value,
) -> Result<Value, Refusal> {
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
    let invalid = |field: &str, value: &Value, why: &str| {
        let cause = Cause::invalid(field, value, why);
        let message = format!("TokenRequest.authentication.k8s.io {name:?} is invalid: {field}: {}", cause.message);
        let causes = json!([{ "reason": cause.reason, "message": cause.message, "field": field }]);
        let details =
            json!({ "name": name, "group": "authentication.k8s.io", "kind": "TokenRequest", "causes": causes });
        Refusal { details, ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    };
    if !TOKEN_SECONDS_RANGE.contains(&seconds) {
        let why = if seconds < *TOKEN_SECONDS_RANGE.start() {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        return Err(invalid("spec.expirationSeconds", &json!(seconds), why));
    }
    let reference = &spec["boundObjectRef"];
    let mut bound = None;
    if reference.is_object() {
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        let kind = match reference["kind"].as_str() {
            Some("Pod") => state.types.of_resource("", "pods"),
            Some("Secret") => state.types.of_resource("", "secrets"),
            _ => {
                let why = "the only supported kinds are Pod and Secret";
                return Err(invalid("spec.boundObjectRef.kind", &reference["kind"], why));
            }
        };
        let kind = kind.expect("a built-in kind");
        let object = state.get(&kind, namespace, &text("name"))?;
        let uid = object::meta(&object, "uid").to_owned();
        if !text("uid").is_empty() && text("uid") != uid {
            let given = text("uid");
            let why = format!(
                "the UID in the bound object reference ({given}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(Refusal::conflict(&kind, object::name(&object), why));
        }
        bound = Some((text("kind"), text("name"), uid));
    }
    let audiences = object::texts(&spec["audiences"]);
    let lifetime = SignedDuration::from_secs(seconds);
    let (text, token) = state.issue((namespace, name), audiences, lifetime, bound, ask.now)?;
    let mut answer = request.clone();
    answer["kind"] = json!("TokenRequest");
    answer["apiVersion"] = json!("authentication.k8s.io/v1");
    answer["metadata"] = json!({ "name": name, "namespace": namespace, "creationTimestamp": ask.time() });
    let spec = object::map_at(&mut answer, "spec");
    spec.insert("audiences".to_owned(), json!(token.audiences));
    spec.insert("expirationSeconds".to_owned(), json!(seconds));
    answer["status"] = json!({ "token": text, "expirationTimestamp": rfc3339(token.expires) });
    Ok(answer)
}
