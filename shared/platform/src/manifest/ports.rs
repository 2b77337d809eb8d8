//! Which port of a container serves, and what is spoken on it.
//!
//! Invariant: a guess says so when there was more than one candidate (kpa-behaviour 11.2).

use super::report::Report;
use domain::Resolved;
use k8s_openapi::api::core::v1::{Container, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The serving port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Serving {
    /// Its number, where anything names one.
    pub(super) port: Option<u16>,
    /// Something says that it speaks HTTP/2 without TLS.
    pub(super) h2c: bool,
}

/// `annotated`, else the first TCP port of the container, else the target of a Service that selects the pods, else the
/// port of the readiness probe.
pub(super) fn serving(
    annotated: Option<&Resolved<u16>>,
    container: &Container,
    path: &str,
    services: &[&Service],
    report: &mut Report,
) -> Serving {
    let declared = declared(container, path, report);
    let targets: Vec<(&ServicePort, u16)> = services
        .iter()
        .flat_map(|service| service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()))
        .filter_map(|port| Some((port, target(port, container)?)))
        .collect();
    let port = match annotated {
        Some(port) => Some(port.value),
        None => declared
            .first()
            .map(|(port, _)| *port)
            .or_else(|| targets.first().map(|(_, port)| *port))
            .or_else(|| probed(container)),
    };
    if let ([(first, _), (_, _), ..], None) = (declared.as_slice(), annotated) {
        let what = format!("there are {} ports", declared.len());
        report.notice(
            &format!("{path}.ports"),
            what,
            "kpa.dev/port",
            &format!("{first}, the first, is the one that serves"),
        );
    }
    let h2c = port.is_some_and(|port| {
        declared.iter().any(|(number, name)| *number == port && is_h2c(name.as_deref()))
            || targets.iter().any(|(of, number)| {
                *number == port && (is_h2c(of.name.as_deref()) || is_h2c(of.app_protocol.as_deref()))
            })
    });
    Serving { port, h2c }
}

/// The container's TCP ports with their names.
fn declared(container: &Container, path: &str, report: &mut Report) -> Vec<(u16, Option<String>)> {
    let mut ports = Vec::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        match number(port.container_port) {
            Some(number) => ports.push((number, port.name.clone())),
            None => report.error(
                &format!("{path}.ports[{index}].containerPort"),
                format!("{} is no port", port.container_port),
                "1 to 65535",
                "it is left out",
            ),
        }
    }
    ports
}

/// The number of a port written as a number or as the name of one of the container's.
pub(super) fn resolve(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(written) => number(*written),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| number(port.container_port))
            .or_else(|| name.parse().ok().filter(|port| *port > 0)),
    }
}

/// Whether `service` selects pods with `labels`.
pub(super) fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

fn target(port: &ServicePort, container: &Container) -> Option<u16> {
    port.target_port.as_ref().map_or_else(|| number(port.port), |target| resolve(target, container))
}

fn probed(container: &Container) -> Option<u16> {
    let probe = container.readiness_probe.as_ref()?;
    let port =
        probe.http_get.as_ref().map(|get| &get.port).or_else(|| probe.tcp_socket.as_ref().map(|tcp| &tcp.port))?;
    resolve(port, container)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// Knative's port names and Kubernetes' application protocols for HTTP/2 without TLS.
fn is_h2c(word: Option<&str>) -> bool {
    matches!(word, Some("h2c" | "http2" | "grpc" | "kubernetes.io/h2c")) || word.is_some_and(|w| w.starts_with("h2c-"))
}
