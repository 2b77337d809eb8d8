//! What a manifest asks for and one machine does not do, named with its path (kpa-behaviour 10.1).
//!
//! Invariant: every field is honoured, known to make no difference here, or reported; none is dropped in silence.

use super::report::Report;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

/// What an unserved field costs.
enum Cost {
    /// Nothing on one machine.
    None,
    /// Worth a notice: what it is.
    Placement,
    /// Something is missing: what happens.
    Missing(&'static str),
}

/// Fields of the Deployment's spec.
fn of_spec(field: &str) -> Cost {
    match field {
        "minReadySeconds" => Cost::Missing("a replica counts as soon as it is ready"),
        _ => Cost::None,
    }
}

/// Fields of the pod's spec.
fn of_pod(field: &str) -> Cost {
    match field {
        "containers"
        | "terminationGracePeriodSeconds"
        | "restartPolicy"
        | "imagePullSecrets"
        | "serviceAccount"
        | "serviceAccountName"
        | "automountServiceAccountToken"
        | "dnsPolicy"
        | "schedulerName"
        | "enableServiceLinks"
        | "preemptionPolicy"
        | "priority"
        | "priorityClassName" => Cost::None,
        "nodeSelector"
        | "nodeName"
        | "affinity"
        | "tolerations"
        | "topologySpreadConstraints"
        | "runtimeClassName"
        | "hostNetwork"
        | "overhead"
        | "os"
        | "schedulingGates" => Cost::Placement,
        "initContainers" => Cost::Missing("they are not run"),
        "volumes" => Cost::Missing("nothing is mounted; the process sees this machine's files"),
        "securityContext" => Cost::Missing("the process runs as the user who started kpa"),
        _ => Cost::Missing("it has no effect"),
    }
}

/// Fields of the container.
fn of_container(field: &str) -> Cost {
    match field {
        "name"
        | "image"
        | "imagePullPolicy"
        | "command"
        | "args"
        | "env"
        | "envFrom"
        | "ports"
        | "workingDir"
        | "readinessProbe"
        | "livenessProbe"
        | "startupProbe"
        | "lifecycle"
        | "resources"
        | "terminationMessagePath"
        | "terminationMessagePolicy"
        | "resizePolicy" => Cost::None,
        "volumeMounts" | "volumeDevices" => Cost::Missing("nothing is mounted; the process sees this machine's files"),
        "securityContext" => Cost::Missing("the process runs as the user who started kpa"),
        _ => Cost::Missing("it has no effect"),
    }
}

/// Reports what of `deployment`, read from `written`, is not honoured. `index` is the container that runs.
pub(super) fn report_unhonoured(written: &Value, deployment: &Deployment, index: usize, report: &mut Report) {
    let field = |pointer: &str| written.pointer(pointer);
    fields(field("/spec"), "spec", of_spec, report);
    fields(field("/spec/template/spec"), "spec.template.spec", of_pod, report);
    let path = format!("spec.template.spec.containers[{index}]");
    let container = field(&format!("/spec/template/spec/containers/{index}"));
    fields(container, &path, of_container, report);
    if container.is_some_and(|c| c.pointer("/lifecycle/postStart").is_some_and(asked)) {
        missing(&format!("{path}.lifecycle.postStart"), "it is not run", report);
    }
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.map_or(&[] as &[Container], |pod| &pod.containers);
    for (other, container) in containers.iter().enumerate().filter(|(other, _)| *other != index) {
        let what = format!("one container a replica is run; {:?} is not", container.name);
        report.warning(
            &format!("spec.template.spec.containers[{other}]"),
            what,
            "",
            "if the service needs it, start it yourself",
        );
    }
    if let Some(container) = containers.get(index) {
        limits(container, &path, report);
    }
    if let Ok(known) = serde_json::to_value(deployment) {
        unknown(written, &known, String::new(), report);
    }
    unquoted(written, index, report);
}

fn fields(object: Option<&Value>, path: &str, cost: fn(&str) -> Cost, report: &mut Report) {
    for (field, value) in object.and_then(Value::as_object).into_iter().flatten() {
        if !asked(value) {
            continue;
        }
        match cost(field) {
            Cost::None => {}
            Cost::Placement => {
                report.notice(
                    &format!("{path}.{field}"),
                    "there is one machine to run on".into(),
                    "",
                    "it has no effect",
                );
            }
            Cost::Missing(consequence) => missing(&format!("{path}.{field}"), consequence, report),
        }
    }
}

fn missing(path: &str, consequence: &str, report: &mut Report) {
    report.warning(path, "is not honoured on one machine".into(), "", consequence);
}

/// CPU and memory limits; the GPUs are honoured.
fn limits(container: &Container, path: &str, report: &mut Report) {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let names: Vec<&str> =
        limits.into_iter().flatten().map(|(name, _)| name.as_str()).filter(|n| *n != super::GPU).collect();
    if !names.is_empty() {
        let what = format!("limits of {} are not enforced on one machine", names.join(", "));
        report.notice(&format!("{path}.resources.limits"), what, "", "a replica may use more");
    }
}

/// Whether a value asks for anything.
fn asked(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Reports fields that no Deployment has: what was written and did not come through the typed value.
fn unknown(written: &Value, known: &Value, path: String, report: &mut Report) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (field, value) in written {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match known.get(field) {
                    Some(known) => unknown(value, known, path, report),
                    None if asked(value) => {
                        report.warning(&path, "is no field of a Deployment".into(), "", "it is ignored");
                    }
                    None => {}
                }
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (written, known)) in written.iter().zip(known).enumerate() {
                unknown(written, known, format!("{path}[{index}]"), report);
            }
        }
        _ => {}
    }
}

/// Reports numbers and booleans where Kubernetes wants text. They are read as they are written.
fn unquoted(written: &Value, index: usize, report: &mut Report) {
    let container = format!("spec.template.spec.containers[{index}]");
    let maps = [
        ("/metadata/annotations", "metadata.annotations"),
        ("/spec/template/metadata/annotations", "spec.template.metadata.annotations"),
    ];
    for (pointer, path) in maps {
        for (key, value) in written.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
            bare(value, &format!("{path}[{key:?}]"), report);
        }
    }
    let base = format!("/spec/template/spec/containers/{index}");
    let list =
        |field: &str| written.pointer(&format!("{base}/{field}")).and_then(Value::as_array).into_iter().flatten();
    for (at, var) in list("env").enumerate() {
        if let Some(value) = var.get("value") {
            bare(value, &format!("{container}.env[{at}].value"), report);
        }
    }
    for field in ["command", "args"] {
        for (at, value) in list(field).enumerate() {
            bare(value, &format!("{container}.{field}[{at}]"), report);
        }
    }
}

fn bare(value: &Value, path: &str, report: &mut Report) {
    if matches!(value, Value::Number(_) | Value::Bool(_)) {
        let what = format!("{value} is not text, and Kubernetes refuses it");
        report.notice(path, what, &format!("\"{value}\""), "it is read as text here");
    }
}
