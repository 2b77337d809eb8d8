//! One Deployment of a cluster: whether it is ours to scale, and its settings if it is.
//!
//! Invariant: pure, and shares every rule with the local platform; what is not adopted has a reason that names what would
//! change it (kpa-behaviour 1.2).

use super::deployment::{check_names, main_container, mode};
use super::ports;
use super::probe::Probed;
use super::report::Report;
use domain::annotations::{Annotated, LastGood, Resolution, Upstream, resolve};
use domain::defaults::Defaults;
use domain::{
    Mode, Origin, Probe, ProbeCheck, Problem, Protocol, Refusal, Resolved, Revision, RevisionId, ScaleTargetRef,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a Deployment is read with.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// `config-autoscaler` in force.
    pub defaults: &'a Defaults,
    /// What is wrong with `config-autoscaler` while no good one is known.
    pub unknown: &'a [Problem],
    /// The Services of its namespace.
    pub services: &'a [&'a Service],
    /// Another autoscaler that writes the same target: kind and name.
    pub rival: Option<&'a str>,
    /// Somebody let go of it by hand.
    pub released: bool,
}

/// A Deployment that is ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopted {
    /// What is routed and scaled.
    pub revision: Arc<Revision>,
    /// Where its pods serve.
    pub port: u16,
    /// How an activator finds out earlier than Kubernetes that a pod answers; `None` where only the kubelet can know.
    pub early_probe: Option<Probe>,
    /// `kpa.dev/service`: the Service that lists its pods, in place of one of our own.
    pub service: Option<String>,
    /// `kpa.dev/take-over`: that Service is to lead to the activators. Only where a Service of our own can list the pods.
    pub take_over: bool,
    /// `kpa.dev/upstream`: whether requests go to the pods or to the cluster IP of that Service.
    pub upstream: Upstream,
    /// What selects its pods; labels alone unless it names a Service.
    pub selector: LabelSelector,
}

/// Why a Deployment is not ours.
#[derive(Debug, Clone, PartialEq)]
pub struct NotAdopted {
    /// A clause for people: `carries none of our annotations`.
    pub reason: String,
    /// It asks to be scaled: worth telling, where one without any annotation is not.
    pub asked: bool,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl NotAdopted {
    fn asked(reason: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { reason: reason.into(), asked: true, problems }
    }
}

/// Reads one Deployment. `before` is its last state, whose settings stay in force for whatever is wrong now.
///
/// # Errors
///
/// Why it is not ours.
pub fn adopt(
    deployment: &Deployment,
    around: Surroundings<'_>,
    before: Option<&Adopted>,
) -> Result<Adopted, NotAdopted> {
    let empty = BTreeMap::new();
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or("default");
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut report = Report::new(format!("Deployment {namespace}/{name}"));
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let template_meta = template.and_then(|template| template.metadata.as_ref());
    let template_annotations = template_meta.and_then(|meta| meta.annotations.as_ref()).unwrap_or(&empty);
    let mut resolution = resolve(
        &Annotated {
            place: &report.place,
            metadata: deployment.metadata.annotations.as_ref().unwrap_or(&empty),
            template: template_annotations,
        },
        around.defaults,
        before.and_then(|before| LastGood::of(&before.revision, Some(before.port))).as_ref(),
    );
    if !resolution.annotated {
        let reason = "carries no autoscaling.knative.dev/* or kpa.dev/* annotation".into();
        return Err(NotAdopted { reason, asked: false, problems: Vec::new() });
    }
    check_names(namespace, name, &mut report);
    if !report.problems.is_empty() {
        return Err(NotAdopted::asked("its name cannot be part of a host name", report.problems));
    }
    let pod = template.and_then(|template| template.spec.as_ref());
    let Some((index, container, pod)) = pod.and_then(|pod| main_container(pod, template_annotations)) else {
        return Err(NotAdopted::asked("it has no container", resolution.problems));
    };
    let path = format!("spec.template.spec.containers[{index}]");
    let labels = template_meta.and_then(|meta| meta.labels.as_ref()).unwrap_or(&empty);
    let selecting: Vec<&Service> =
        around.services.iter().copied().filter(|service| ports::selects(service, labels)).collect();
    let serving = ports::serving(resolution.port.as_ref(), container, &path, &selecting, &mut report);
    if serving.h2c && resolution.limits.protocol.origin == Origin::Default {
        resolution.limits.protocol = Resolved::new(Protocol::H2c, Origin::Template);
    }
    if pod.containers.len() > 1 && resolution.port.is_none() {
        let others = pod.containers.len() - 1;
        let what = format!("{others} more in the pod");
        let consequence = format!("{} is taken for the one that serves", container.name);
        report.notice(&path, what, "kpa.dev/port, if another one serves", &consequence);
    }
    let service = resolution.service.as_ref().map(|service| service.value.clone());
    let upstream = upstream(&resolution, &mut report);
    let take_over = take_over(deployment, &resolution, upstream, &mut report);
    let selector = match selector(deployment, service.as_deref()) {
        Ok(selector) => selector,
        Err(reason) => {
            let consequence = "it is not scaled";
            report.error("spec.selector", reason.into(), "kpa.dev/service: \"NAME\"", consequence);
            return Err(NotAdopted::asked(reason, joined(resolution.problems, report.problems)));
        }
    };
    let Some(port) = serving.port.or_else(|| before.map(|before| before.port)) else {
        let reason = "nothing says on which port it serves";
        let expected = "a containerPort, or kpa.dev/port: \"8080\"";
        report.error(&format!("{path}.ports"), reason.into(), expected, "it is not scaled");
        return Err(NotAdopted::asked(reason, joined(resolution.problems, report.problems)));
    };
    let probed = Probed { container, path: &path, serving: Some(port) };
    let early_probe = match container.startup_probe {
        // It may answer before it has loaded: the kubelet alone knows.
        Some(_) => None,
        None => early(probed.probe("readinessProbe", container.readiness_probe.as_ref(), &mut report)),
    };
    let mut mode = mode(&deployment.metadata, &mut resolution, around.unknown, &mut report);
    if let Mode::Refused(Refusal::ForeignClass(class)) = mode {
        return Err(NotAdopted::asked(format!("its class {class:?} is another autoscaler's"), Vec::new()));
    }
    if let Mode::Refused(Refusal::AnotherAutoscaler(owner)) = mode {
        let reason = format!("it is controlled by {owner}; kpa.dev/manage: \"true\" adopts it all the same");
        return Err(NotAdopted::asked(reason, Vec::new()));
    }
    if around.released {
        mode = Mode::Refused(Refusal::Released);
    } else if let Some(rival) = around.rival {
        let (what, expected) = (format!("{rival} scales it too"), format!("no {rival}, or none of our annotations"));
        report.warning("spec.replicas", what, &expected, "it is routed and counted; its replicas are left alone");
        mode = Mode::Refused(Refusal::AnotherAutoscaler(rival.to_owned()));
    }
    resolution.route.age_rank = age_rank(deployment);
    let mut problems = joined(resolution.problems, report.problems);
    problems.extend(around.unknown.iter().cloned());
    let revision = Arc::new(Revision {
        id: RevisionId::new(namespace, name),
        target: ScaleTargetRef::deployment(namespace, name),
        mode,
        route: resolution.route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems,
    });
    Ok(Adopted { revision, port, early_probe, service, take_over, upstream, selector })
}

fn joined(mut problems: Vec<Problem>, more: Vec<Problem>) -> Vec<Problem> {
    problems.extend(more);
    problems
}

/// A Service of ours has no cluster IP that could be sent to.
fn upstream(resolution: &Resolution, report: &mut Report) -> Upstream {
    if *resolution.upstream == Upstream::Service && resolution.service.is_none() {
        let what = "asks for the cluster IP of a Service, and none is named".into();
        report.warning("kpa.dev/upstream", what, "kpa.dev/service: \"NAME\" beside it", "requests go to the pods");
        return Upstream::Pods;
    }
    *resolution.upstream
}

/// Whether a Service can be taken over as far as the workload is concerned: its pods need another Service that lists them.
fn take_over(deployment: &Deployment, resolution: &Resolution, upstream: Upstream, report: &mut Report) -> bool {
    if !resolution.take_over {
        return false;
    }
    let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
    let expressions = selector.is_some_and(|selector| selector.match_expressions.iter().flatten().next().is_some());
    let (what, expected) = if resolution.service.is_none() {
        ("stands without the name of a Service", "kpa.dev/service: \"NAME\" beside it")
    } else if upstream == Upstream::Service {
        ("requests would go to the Service that leads to us, in a circle", "kpa.dev/upstream: \"pods\"")
    } else if expressions {
        ("the workload's selector has matchExpressions, which no Service of ours can express", "matchLabels alone")
    } else {
        return true;
    };
    report.warning("kpa.dev/take-over", what.into(), expected, "the Service stays as it is");
    false
}

/// What selects the pods: without a Service by name, it must be what a Service of ours can say too.
fn selector(deployment: &Deployment, service: Option<&str>) -> Result<LabelSelector, &'static str> {
    let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    let labels = selector.match_labels.iter().flatten().next().is_some();
    let expressions = selector.match_expressions.iter().flatten().next().is_some();
    match (service, expressions, labels) {
        (None, true, _) => Err("its selector has matchExpressions, which no Service can express"),
        (_, false, false) => Err("its selector is empty"),
        _ => Ok(selector),
    }
}

/// The check that tells an activator that a pod answers: the container's own, else a TCP connect (kpa-behaviour 4.4).
fn early(readiness: Option<Probe>) -> Option<Probe> {
    match readiness {
        Some(Probe { check: ProbeCheck::Exec { .. }, .. }) => None,
        Some(probe) => Some(probe),
        None => Some(Probe {
            check: ProbeCheck::Tcp { port: None },
            timeout: Duration::from_secs(1),
            period: Duration::from_secs(10),
            failure_threshold: 3,
            success_threshold: 1,
        }),
    }
}

/// The oldest object wins a host that two claim.
fn age_rank(deployment: &Deployment) -> u64 {
    let created = deployment.metadata.creation_timestamp.as_ref();
    created.map_or(u64::MAX, |created| u64::try_from(created.0.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
