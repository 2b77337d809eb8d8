//! Pods as endpoints: which of their addresses, under which ports, and in which condition.
//!
//! Invariant: a terminating pod is never ready, unless the Service publishes addresses that are not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::object::name;
use super::super::pods::{is_finished, is_ready, node};

const ZONE: &str = "topology.kubernetes.io/zone";
const HEADLESS: &str = "None";

/// Endpoints with the same ports, which therefore may stand in one slice. The key is the ports in a form that has an order.
pub(super) type Groups = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

/// Ports in a form that has an order and does not depend on their sequence.
pub(super) fn port_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{:?}/{}/{}", text(&port.name), port.port, text(&port.protocol), text(&port.app_protocol))
        })
        .collect();
    keys.sort();
    keys.join(",")
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some(HEADLESS)
}

/// `IPv4`, `IPv6` or both: what the Service says, else what its address is, else IPv4.
pub(super) fn families(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    if let Some(families) = spec.and_then(|spec| spec.ip_families.clone()).filter(|families| !families.is_empty()) {
        return families;
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok());
    let family = if address.is_some_and(|address| address.is_ipv6()) { "IPv6" } else { "IPv4" };
    vec![family.to_owned()]
}

pub(super) fn by_ports(service: &Service, pods: &[Arc<Pod>], nodes: &[Arc<Node>], family: &str) -> Groups {
    let mut groups = Groups::new();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let addresses = addresses(pod, family);
        if addresses.is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let group = groups.entry(port_key(&ports)).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, pod, nodes, addresses));
    }
    groups
}

fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut all: Vec<&String> = listed.collect();
    if all.is_empty() {
        all.extend(&status.pod_ip);
    }
    let of_family = |ip: &&&String| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (family == "IPv6"));
    // One address of each family: what a pod has.
    all.iter().find(of_family).map(|ip| (**ip).clone()).into_iter().collect()
}

fn endpoint(service: &Service, pod: &Pod, nodes: &[Arc<Node>], addresses: Vec<String>) -> Endpoint {
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = service.spec.as_ref();
    let published = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let on = node(pod);
    let found = nodes.iter().find(|node| node.metadata.name.as_deref() == on && on.is_some());
    let zone = found.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    let pod_spec = pod.spec.as_ref();
    let of_service = pod_spec.and_then(|spec| spec.subdomain.as_deref()) == Some(name(&service.metadata));
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(published || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: pod_spec.and_then(|spec| spec.hostname.clone()).filter(|_| of_service),
        node_name: on.map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    }
}

/// The Service's ports as this pod has them; a named one that it does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                // An unnamed port has the empty name, not none.
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod)?),
                protocol: Some(protocol(port.protocol.as_deref())),
            })
        })
        .collect()
}

fn protocol(protocol: Option<&str>) -> String {
    protocol.unwrap_or("TCP").to_owned()
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(wanted)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            containers
                .flat_map(|container| container.ports.iter().flatten())
                .find(|found| {
                    found.name.as_ref() == Some(wanted)
                        && protocol(found.protocol.as_deref()) == protocol(port.protocol.as_deref())
                })
                .map(|found| found.container_port)
        }
    }
}
