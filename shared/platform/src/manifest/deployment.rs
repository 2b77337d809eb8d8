//! One Deployment: its revision and how a replica of it is run.
//!
//! Invariant: a Deployment whose new state cannot be used keeps its last good one; one that never had any is not an
//! entry and is named in `ignored`.

use super::command;
use super::document::Document;
use super::env::{self, PodFields, References};
use super::ports;
use super::probe::Probed;
use super::report::Report;
use super::unhonoured::report_unhonoured;
use super::workload::Workload;
use super::{Entry, GPU, Options};
use domain::annotations::{Annotated, LastGood, Resolution, resolve};
use domain::defaults::Defaults;
use domain::host::is_label;
use domain::{
    Mode, Origin, Problem, Protocol, Refusal, Replicas, Resolved, Revision, RevisionId, ScaleTargetRef, Severity,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The annotation by which kubectl knows a pod's main container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The annotation that says what to run here.
const LOCAL_COMMAND: &str = "kpa.dev/local-command";
/// Containers that stand beside the one that serves.
const SIDECARS: &[&str] = &[
    "istio-proxy",
    "linkerd-proxy",
    "envoy",
    "envoy-sidecar",
    "queue-proxy",
    "daprd",
    "kuma-sidecar",
    "consul-dataplane",
    "vault-agent",
    "cloud-sql-proxy",
    "otc-container",
    "fluent-bit",
    "filebeat",
    "datadog-agent",
    "agent",
];

/// Everything a Deployment is read with.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) defaults: &'a Defaults,
    /// What is wrong with `config-autoscaler` or with patches while no good ones are known.
    pub(super) unknown: &'a [Problem],
    pub(super) refs: &'a References,
    pub(super) services: &'a [(String, Service)],
    pub(super) options: &'a Options,
}

/// Why a Deployment is no entry.
pub(super) struct Unusable {
    pub(super) problems: Vec<Problem>,
    pub(super) reason: String,
}

/// The namespace and name of an object.
pub(super) fn identity(metadata: &ObjectMeta, options: &Options) -> (String, String) {
    let namespace = metadata.namespace.clone().filter(|namespace| !namespace.is_empty());
    (namespace.unwrap_or_else(|| options.namespace.clone()), metadata.name.clone().unwrap_or_default())
}

/// Reads one Deployment. `before` is its last state, `age_rank` its rank among claimants of a host.
pub(super) fn entry(
    document: &Document,
    deployment: &Deployment,
    context: Context<'_>,
    before: Option<&Entry>,
    age_rank: u64,
) -> Result<Entry, Unusable> {
    let (namespace, name) = identity(&deployment.metadata, context.options);
    let mut report = Report::new(document.object(&context.options.namespace));
    check_names(&namespace, &name, &mut report);
    if !report.problems.is_empty() {
        return Err(Unusable { problems: report.problems, reason: "its name cannot be part of a host name".into() });
    }
    let id = RevisionId::new(&namespace, &name);
    let empty = BTreeMap::new();
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let template_meta = template.and_then(|template| template.metadata.as_ref());
    let template_annotations = template_meta.and_then(|meta| meta.annotations.as_ref()).unwrap_or(&empty);
    let labels = template_meta.and_then(|meta| meta.labels.as_ref()).unwrap_or(&empty);
    let mut resolution = resolve(
        &Annotated {
            place: &report.place,
            metadata: deployment.metadata.annotations.as_ref().unwrap_or(&empty),
            template: template_annotations,
        },
        context.defaults,
        before.and_then(|before| LastGood::of(&before.revision, before.workload.port)).as_ref(),
    );
    let pod = template.and_then(|template| template.spec.as_ref());
    let Some((index, container, pod)) = pod.and_then(|pod| main_container(pod, template_annotations)) else {
        report.error("spec.template.spec.containers", "there is none".into(), "one container", "it cannot be run");
        return unusable_unless(before, report, resolution, "it has no container".into());
    };
    if resolution.service.is_some() {
        let consequence = "the replicas' own addresses are used";
        report.notice("kpa.dev/service", "means nothing on one machine".into(), "", consequence);
    }
    let path = format!("spec.template.spec.containers[{index}]");
    report_unhonoured(&document.value, deployment, index, &mut report);

    let selecting: Vec<&Service> = context
        .services
        .iter()
        .filter(|(of, service)| *of == namespace && ports::selects(service, labels))
        .map(|(_, service)| service)
        .collect();
    let serving = ports::serving(resolution.port.as_ref(), container, &path, &selecting, &mut report);
    if serving.h2c && resolution.limits.protocol.origin == Origin::Default {
        resolution.limits.protocol = Resolved::new(Protocol::H2c, Origin::Template);
    }
    let command = match command_of(container, &path, &resolution, context.options, &mut report) {
        Some(command) => command,
        // A command that broke while it is edited does not take the service away.
        None => match before {
            Some(before) => before.workload.command.clone(),
            None => return unusable_unless(None, report, resolution, "nothing says what to run".into()),
        },
    };
    let fields = PodFields {
        namespace: &namespace,
        name: &name,
        labels,
        annotations: template_annotations,
        service_account: pod.service_account_name.as_deref(),
    };
    let probed = Probed { container, path: &path, serving: serving.port };
    let workload = Workload {
        id: id.clone(),
        replicas: replicas(deployment, &mut report),
        command,
        env: env::environment(container, &path, fields, context.refs, &mut report),
        working_dir: working_dir(&document.path, container, &path, &mut report),
        port: serving.port,
        readiness: probed.probe("readinessProbe", container.readiness_probe.as_ref(), &mut report),
        startup: probed.probe("startupProbe", container.startup_probe.as_ref(), &mut report),
        liveness: probed.probe("livenessProbe", container.liveness_probe.as_ref(), &mut report),
        pre_stop: probed.pre_stop(&mut report),
        termination_grace: termination_grace(pod, &mut report),
        gpus: gpus(container, &path, &mut report),
    };
    let mode = mode(&deployment.metadata, &mut resolution, context.unknown, &mut report);
    resolution.route.age_rank = age_rank;
    resolution.problems.extend(report.problems);
    resolution.problems.extend(context.unknown.iter().cloned());
    let revision = Arc::new(Revision {
        target: ScaleTargetRef::deployment(&namespace, &name),
        id,
        mode,
        route: resolution.route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems: resolution.problems,
    });
    let patches = document.patches().map(Path::to_owned).collect();
    let mut labels = labels.clone();
    labels.entry("app".to_owned()).or_insert_with(|| name.clone());
    Ok(Entry { revision, workload, labels, path: document.path.clone(), patches })
}

/// The last state with the new problems, else nothing.
fn unusable_unless(
    before: Option<&Entry>,
    report: Report,
    resolution: Resolution,
    reason: String,
) -> Result<Entry, Unusable> {
    let mut problems = resolution.problems;
    problems.extend(report.problems);
    match before {
        Some(before) => Ok(before.with_problems(problems)),
        None => Err(Unusable { problems, reason }),
    }
}

/// Names become labels of host names.
pub(super) fn check_names(namespace: &str, name: &str, report: &mut Report) {
    for (key, value) in [("metadata.namespace", namespace), ("metadata.name", name)] {
        if !is_label(value) {
            let shown: String = value.chars().take(80).collect();
            let what = format!("{shown:?} is no DNS label");
            let expected = "1 to 63 of a-z, 0-9 and -, which stands neither first nor last";
            report.error(key, what, expected, "the object is left out");
        }
    }
}

/// The container that serves: the one that the template names, else the first that is no sidecar, else the first.
pub(super) fn main_container<'a>(
    pod: &'a PodSpec,
    annotations: &BTreeMap<String, String>,
) -> Option<(usize, &'a Container, &'a PodSpec)> {
    let named = annotations.get(DEFAULT_CONTAINER);
    let position = |test: &dyn Fn(&Container) -> bool| pod.containers.iter().position(test);
    let index = named
        .and_then(|named| position(&|container| container.name == *named))
        .or_else(|| position(&|container| !SIDECARS.contains(&container.name.as_str())))
        .unwrap_or(0);
    pod.containers.get(index).map(|container| (index, container, pod))
}

/// `local-command`, else what stands for the image, else the container's own command.
fn command_of(
    container: &Container,
    path: &str,
    resolution: &Resolution,
    options: &Options,
    report: &mut Report,
) -> Option<Vec<String>> {
    let image = container.image.as_deref().unwrap_or_default();
    let given = resolution
        .local_command
        .as_ref()
        .map(|command| {
            let level = if command.origin == Origin::TemplateAnnotation { "spec.template." } else { "" };
            (format!("{level}metadata.annotations[{LOCAL_COMMAND:?}]"), command.value.as_str())
        })
        .or_else(|| options.command_for(image).map(|command| (format!("--image {image}"), command)));
    let refused = |problem: &Problem| problem.severity == Severity::Error && problem.key.contains(LOCAL_COMMAND);
    if resolution.problems.iter().any(refused) {
        // Reported with the annotations. What it was meant to replace must not run in its place.
        return None;
    }
    if let Some((key, text)) = given {
        return match command::argv(text) {
            Ok(argv) => Some(argv),
            Err(why) => {
                let consequence = "it is not run by it; a command that was in force stays";
                report.error(&key, format!("{text:?} {why}"), "a command line", consequence);
                None
            }
        };
    }
    let own: Vec<String> = container.command.iter().flatten().chain(container.args.iter().flatten()).cloned().collect();
    if container.command.as_ref().is_some_and(|command| !command.is_empty()) {
        return Some(own);
    }
    let image = if image.is_empty() { "its image" } else { image };
    report.error(
        &format!("{path}.command"),
        format!("nothing says what to run here instead of {image}"),
        &format!("the annotation kpa.dev/local-command: \"COMMAND\", or --image '{image}=COMMAND', or a command"),
        "it cannot be run",
    );
    None
}

fn replicas(deployment: &Deployment, report: &mut Report) -> Replicas {
    match deployment.spec.as_ref().and_then(|spec| spec.replicas) {
        None => Replicas::ONE,
        Some(count) => u32::try_from(count).map_or_else(
            |_| {
                report.error("spec.replicas", format!("{count} is negative"), "0 or more", "1 is taken");
                Replicas::ONE
            },
            Replicas::new,
        ),
    }
}

/// Relative to the manifest's folder. An absolute one was meant for the image.
fn working_dir(manifest: &Path, container: &Container, path: &str, report: &mut Report) -> PathBuf {
    let folder = match manifest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(written) = container.working_dir.as_deref().filter(|dir| !dir.is_empty()) else {
        return folder.to_owned();
    };
    if Path::new(written).is_absolute() {
        let what = format!("{written:?} is taken for a folder of this machine");
        report.notice(&format!("{path}.workingDir"), what, "a folder relative to the manifest's", "");
    }
    folder.join(written)
}

fn termination_grace(pod: &PodSpec, report: &mut Report) -> Duration {
    const DEFAULT_SECS: u64 = 30;
    let secs = pod.termination_grace_period_seconds.map(u64::try_from);
    Duration::from_secs(match secs {
        None => DEFAULT_SECS,
        Some(Ok(secs)) => secs,
        Some(Err(_)) => {
            let key = "spec.template.spec.terminationGracePeriodSeconds";
            report.error(key, "is negative".into(), "0 or more", "30 is taken");
            DEFAULT_SECS
        }
    })
}

fn gpus(container: &Container, path: &str, report: &mut Report) -> u32 {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let Some(written) = limits.and_then(|limits| limits.get(GPU)) else { return 0 };
    written.0.parse().unwrap_or_else(|_| {
        let key = format!("{path}.resources.limits[{GPU:?}]");
        report.error(&key, format!("{:?} is not a whole number", written.0), "a whole number", "1 is taken");
        1
    })
}

/// How far we may go, with ownership and what could not be read considered (kpa-behaviour 1.2 and 1.6).
pub(super) fn mode(
    metadata: &ObjectMeta,
    resolution: &mut Resolution,
    unknown: &[Problem],
    report: &mut Report,
) -> Mode {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner.filter(|_| !resolution.manage && resolution.annotated) {
        let owner = format!("{} {}", owner.kind, owner.name);
        let what = format!("is controlled by {owner}");
        let expected = "kpa.dev/manage: \"true\" to adopt it all the same";
        report.notice(
            "metadata.ownerReferences",
            what,
            expected,
            "it is routed and counted; its replicas are left alone",
        );
        return Mode::Refused(Refusal::AnotherAutoscaler(owner));
    }
    match std::mem::take(&mut resolution.mode) {
        Mode::Act if !unknown.is_empty() => Mode::Invalid(unknown.to_vec()),
        Mode::Invalid(mut problems) => {
            problems.extend(unknown.iter().cloned());
            Mode::Invalid(problems)
        }
        settled @ (Mode::Act | Mode::Shadow | Mode::Paused | Mode::Refused(_) | Mode::Removed) => settled,
    }
}
