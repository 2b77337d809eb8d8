//! Checks of Deployments, ReplicaSets, StatefulSets and the pods that they make.
//!
//! Invariant: a pod template is held to the same rules as a pod.

use super::{immutable, labels, names, not_negative};
use crate::object;
use crate::refusal::Cause;
use crate::selector::Labels;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A kind with replicas, a selector and a template.
pub(super) fn check(kind: &str, old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    for path in ["spec.replicas", "spec.minReadySeconds", "spec.revisionHistoryLimit", "status.replicas"] {
        not_negative(new, path, causes);
    }
    let spec = &new["spec"];
    let selector = &spec["selector"];
    labels(&selector["matchLabels"], "spec.selector.matchLabels", causes);
    match Labels::of_object(selector) {
        None if selector.is_object() => causes.push(Cause::invalid(
            "spec.selector",
            selector,
            "a label selector holds matchLabels and matchExpressions with the operators In, NotIn, Exists, DoesNotExist",
        )),
        None => causes.push(Cause::required("spec.selector", "")),
        Some(terms) if terms.is_empty() => {
            let detail = "empty selector is invalid for deployment".replace("deployment", &kind.to_lowercase());
            causes.push(Cause::invalid("spec.selector", selector, detail));
        }
        Some(terms) => {
            let wanted = &spec["template"]["metadata"]["labels"];
            if !terms.matches(wanted) {
                let wanted = if wanted.is_null() { &json!({}) } else { wanted };
                let detail = "`selector` does not match template `labels`";
                causes.push(Cause::invalid("spec.template.metadata.labels", wanted, detail));
            }
        }
    }
    if let Some(old) = old {
        immutable(old, new, "spec.selector", causes);
    }
    labels(&spec["template"]["metadata"]["labels"], "spec.template.labels", causes);
    pod_spec(&spec["template"]["spec"], "spec.template.spec", causes);
    let restart = spec["template"]["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    if restart != "Always" {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::unsupported(field, &json!(restart), &["Always"]));
    }
    if kind == "Deployment" {
        deployment(spec, causes);
    }
}

fn deployment(spec: &Value, causes: &mut Vec<Cause>) {
    let strategy = &spec["strategy"];
    match strategy["type"].as_str() {
        Some("RollingUpdate") => {
            let zero = |key: &str| {
                matches!(strategy["rollingUpdate"][key].as_str(), Some("0%" | "0"))
                    || strategy["rollingUpdate"][key].as_i64() == Some(0)
            };
            if zero("maxSurge") && zero("maxUnavailable") {
                let value = &strategy["rollingUpdate"]["maxUnavailable"];
                let detail = "may not be 0 when `maxSurge` is 0";
                causes.push(Cause::invalid("spec.strategy.rollingUpdate.maxUnavailable", value, detail));
            }
        }
        Some("Recreate") if strategy["rollingUpdate"].is_object() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::forbidden("spec.strategy.rollingUpdate", detail));
        }
        Some("Recreate") | None => {}
        Some(_) => {
            causes.push(Cause::unsupported("spec.strategy.type", &strategy["type"], &["Recreate", "RollingUpdate"]));
        }
    }
    let (deadline, ready) = (spec["progressDeadlineSeconds"].as_i64(), spec["minReadySeconds"].as_i64().unwrap_or(0));
    if let Some(deadline) = deadline
        && deadline <= ready
    {
        let value = &spec["progressDeadlineSeconds"];
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", value, "must be greater than minReadySeconds"));
    }
}

/// A pod by itself. Of its spec almost nothing may change.
pub(super) fn check_pod(old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    pod_spec(&new["spec"], "spec", causes);
    let Some(old) = old else { return };
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        let map = object::as_map(&mut spec);
        for key in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
            map.remove(key);
        }
        for key in ["containers", "initContainers"] {
            for container in map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                object::as_map(container).remove("image");
            }
        }
        spec
    };
    if fixed(old) != fixed(new) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
            tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", detail));
    }
}

fn pod_spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = format!("{at}.containers[{index}]");
        let name = container["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if let Some(why) = names::label(name) {
            causes.push(Cause::invalid(format!("{at}.name"), &json!(name), why));
        } else if !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
        }
        if container["image"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.image"), ""));
        }
        for (index, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
            let number = port["containerPort"].as_i64().unwrap_or(0);
            if number == 0 {
                causes.push(Cause::required(format!("{at}.ports[{index}].containerPort"), ""));
            } else if !(1..=65_535).contains(&number) {
                let field = format!("{at}.ports[{index}].containerPort");
                causes.push(Cause::invalid(field, &port["containerPort"], "must be between 1 and 65535, inclusive"));
            }
        }
        for (index, env) in container["env"].as_array().into_iter().flatten().enumerate() {
            if env["name"].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("{at}.env[{index}].name"), ""));
            }
        }
    }
    if let Some(policy) = spec["restartPolicy"].as_str()
        && !matches!(policy, "Always" | "OnFailure" | "Never")
    {
        let field = format!("{at}.restartPolicy");
        causes.push(Cause::unsupported(field, &spec["restartPolicy"], &["Always", "Never", "OnFailure"]));
    }
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64()
        && grace < 0
    {
        let field = format!("{at}.terminationGracePeriodSeconds");
        causes.push(Cause::invalid(field, &json!(grace), "must be greater than or equal to 0"));
    }
}
