//! What a manifest asks for and one machine does not do, named with its path (kpa-behaviour 10.1).
//!
//! Invariant: every field is honoured, known to make no difference here, or reported; none is dropped in silence.

use super::report::Report;
use super::schema::fields_at;
use domain::annotations::did_you_mean;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

/// What becomes of a field on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It is read and done.
    Served,
    /// It makes no difference here.
    Same,
    /// It chooses among machines, and there is one.
    Placement,
    /// Something is missing: what happens.
    Missing(&'static str),
}

use Cost::{Missing, Placement, Same, Served};

/// Every field of a type, with what becomes of it.
type Fields = &'static [(&'static str, Cost)];

const NOT_MOUNTED: Cost = Missing("nothing is mounted; the process sees this machine's files");
const OWN_USER: Cost = Missing("the process runs as the user who started kpa");
const OWN_NAME: Cost = Missing("the process sees this machine's name");
const OWN_RESOLVER: Cost = Missing("names are resolved as on this machine");
const NO_LIMIT: Cost = Missing("a replica may use more");
const NO_INPUT: Cost = Missing("standard input is empty");
const OWN_PORT: Cost = Missing("every replica listens on a port of its own, which kpa finds");

const SPEC: Fields = &[
    ("minReadySeconds", Missing("a replica counts as soon as it is ready")),
    ("paused", Missing("edits are followed all the same")),
    ("progressDeadlineSeconds", Same),
    ("replicas", Served),
    ("revisionHistoryLimit", Same),
    ("selector", Same),
    ("strategy", Served),
    ("template", Served),
];

const POD: Fields = &[
    ("activeDeadlineSeconds", Missing("a replica is not ended for its age")),
    ("affinity", Placement),
    ("automountServiceAccountToken", Same),
    ("containers", Served),
    ("dnsConfig", OWN_RESOLVER),
    ("dnsPolicy", Same),
    ("enableServiceLinks", Same),
    ("ephemeralContainers", Missing("they are not run")),
    ("hostAliases", OWN_RESOLVER),
    ("hostIPC", Same),
    ("hostNetwork", Same),
    ("hostPID", Same),
    ("hostUsers", Same),
    ("hostname", OWN_NAME),
    ("imagePullSecrets", Same),
    ("initContainers", Missing("they are not run")),
    ("nodeName", Placement),
    ("nodeSelector", Placement),
    ("os", Placement),
    ("overhead", Placement),
    ("preemptionPolicy", Same),
    ("priority", Same),
    ("priorityClassName", Same),
    ("readinessGates", Missing("a replica is ready when its probe says so")),
    ("resourceClaims", Missing("no device is reserved; nvidia.com/gpu among the container's limits is")),
    ("resources", NO_LIMIT),
    ("restartPolicy", Same),
    ("runtimeClassName", Missing("the process runs without a sandbox")),
    ("schedulerName", Same),
    ("schedulingGates", Placement),
    ("securityContext", OWN_USER),
    ("serviceAccount", Same),
    ("serviceAccountName", Served),
    ("setHostnameAsFQDN", OWN_NAME),
    ("shareProcessNamespace", Same),
    ("subdomain", OWN_NAME),
    ("terminationGracePeriodSeconds", Served),
    ("tolerations", Placement),
    ("topologySpreadConstraints", Placement),
    ("volumes", NOT_MOUNTED),
];

const CONTAINER: Fields = &[
    ("args", Served),
    ("command", Served),
    ("env", Served),
    ("envFrom", Served),
    ("image", Served),
    ("imagePullPolicy", Same),
    ("lifecycle", Served),
    ("livenessProbe", Served),
    ("name", Served),
    ("ports", Served),
    ("readinessProbe", Served),
    ("resizePolicy", Same),
    ("resources", Served),
    ("restartPolicy", Missing("a replica that ends is started again")),
    ("securityContext", OWN_USER),
    ("startupProbe", Served),
    ("stdin", NO_INPUT),
    ("stdinOnce", NO_INPUT),
    ("terminationMessagePath", Same),
    ("terminationMessagePolicy", Same),
    ("tty", Missing("the process has no terminal")),
    ("volumeDevices", NOT_MOUNTED),
    ("volumeMounts", NOT_MOUNTED),
    ("workingDir", Served),
];

const PORT: Fields =
    &[("containerPort", Served), ("hostIP", OWN_PORT), ("hostPort", OWN_PORT), ("name", Served), ("protocol", Served)];

const PROBE: Fields = &[
    ("exec", Served),
    ("failureThreshold", Served),
    ("grpc", Served),
    ("httpGet", Served),
    // A replica is probed from its start, and often: it is used when it answers, not later.
    ("initialDelaySeconds", Same),
    ("periodSeconds", Served),
    ("successThreshold", Served),
    ("tcpSocket", Served),
    ("terminationGracePeriodSeconds", Missing("the pod's own grace period goes for every end")),
    ("timeoutSeconds", Served),
];

const LIFECYCLE: Fields =
    &[("postStart", Missing("it is not run")), ("preStop", Served), ("stopSignal", Missing("TERM is sent"))];

const RESOURCES: Fields = &[("claims", Missing("no device is reserved")), ("limits", Served), ("requests", Same)];

/// Reports what of `deployment`, read from `written`, is not honoured. `index` is the container that runs.
pub(super) fn report_unhonoured(written: &Value, deployment: &Deployment, index: usize, report: &mut Report) {
    let at = |pointer: &str| written.pointer(pointer);
    fields(at("/spec"), "spec", SPEC, report);
    if at("/spec/strategy/type").and_then(Value::as_str) == Some("Recreate") {
        missing("spec.strategy.type", "replicas are replaced one after another, and finish what they have", report);
    }
    fields(at("/spec/template/spec"), "spec.template.spec", POD, report);
    let path = format!("spec.template.spec.containers[{index}]");
    if let Some(container) = at(&format!("/spec/template/spec/containers/{index}")) {
        fields(Some(container), &path, CONTAINER, report);
        for (port, value) in container.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate() {
            fields(Some(value), &format!("{path}.ports[{port}]"), PORT, report);
        }
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            fields(container.get(probe), &format!("{path}.{probe}"), PROBE, report);
        }
        fields(container.get("lifecycle"), &format!("{path}.lifecycle"), LIFECYCLE, report);
        fields(container.get("resources"), &format!("{path}.resources"), RESOURCES, report);
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
        unknown(written, &known, "", report);
    }
    unquoted(written, index, report);
}

/// Reports the fields of one object; one that is in no table is [`unknown`].
fn fields(object: Option<&Value>, path: &str, table: Fields, report: &mut Report) {
    for (field, value) in object.and_then(Value::as_object).into_iter().flatten() {
        let Some((_, cost)) = table.iter().find(|(name, _)| name == field) else { continue };
        if !asked(value) {
            continue;
        }
        match cost {
            Served | Same => {}
            Placement => {
                report.notice(
                    &format!("{path}.{field}"),
                    "there is one machine to run on".into(),
                    "",
                    "it has no effect",
                );
            }
            Missing(_) if field == "stopSignal" && value == "SIGTERM" => {}
            Missing(consequence) => missing(&format!("{path}.{field}"), consequence, report),
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
fn unknown(written: &Value, known: &Value, path: &str, report: &mut Report) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (field, value) in written {
                let below = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match known.get(field) {
                    Some(known) => unknown(value, known, &below, report),
                    None if asked(value) => {
                        let names = fields_at(path);
                        if names.contains(&field.as_str()) {
                            // Known, and empty in a way of its own.
                            continue;
                        }
                        let near = did_you_mean(field, names.iter().copied());
                        let expected = near.unwrap_or_else(|| "a field that Kubernetes' API reference names".into());
                        report.warning(&below, "is no field of a Deployment".into(), &expected, "it is ignored");
                    }
                    None => {}
                }
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            for (index, (written, known)) in written.iter().zip(known).enumerate() {
                unknown(written, known, &format!("{path}[{index}]"), report);
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

#[cfg(test)]
mod tests {
    use super::super::schema::fields;
    use super::*;
    use k8s_openapi::api::apps::v1::DeploymentSpec;
    use k8s_openapi::api::core::v1::{ContainerPort, Lifecycle, PodSpec, Probe, ResourceRequirements};

    /// A field that a newer version of Kubernetes brings fails here until somebody says what becomes of it.
    #[test]
    fn every_field_of_kubernetes_is_classified_and_no_other() {
        for (of, names, table) in [
            ("DeploymentSpec", fields::<DeploymentSpec>(), SPEC),
            ("PodSpec", fields::<PodSpec>(), POD),
            ("Container", fields::<Container>(), CONTAINER),
            ("ContainerPort", fields::<ContainerPort>(), PORT),
            ("Probe", fields::<Probe>(), PROBE),
            ("Lifecycle", fields::<Lifecycle>(), LIFECYCLE),
            ("ResourceRequirements", fields::<ResourceRequirements>(), RESOURCES),
        ] {
            let classified: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            assert_eq!(classified, names, "{of}");
        }
    }
}
