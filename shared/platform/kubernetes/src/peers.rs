//! Activators and autoscalers, found by the endpoints of their Services.
//!
//! Invariant: a pod that is leaving is listed until it is gone: it still has requests to report (kpa-behaviour 5.6).

use crate::picture::Seen;
use crate::trim::{Key, Slice};
use domain::{EndpointId, Peer, ReporterId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where requests get in: an address of a ready activator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    /// Address and port.
    pub address: SocketAddr,
    /// The namespace of its pod.
    pub namespace: String,
    /// The name of its pod.
    pub name: String,
    /// The uid of its pod.
    pub id: EndpointId,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// The zone of that node.
    pub zone: Option<Arc<str>>,
}

/// The pods behind one Service.
#[derive(Debug, Default)]
pub struct Peers {
    slices: BTreeMap<Key, Slice>,
    listed: bool,
}

impl Peers {
    /// Takes in what a watch saw; the whole list once everything was listed.
    pub fn take(&mut self, seen: Seen<Slice>) -> Option<Vec<Peer>> {
        match seen {
            Seen::Is(slice) => drop(self.slices.insert(slice.key.clone(), slice)),
            Seen::Gone(key) => drop(self.slices.remove(&key)),
            Seen::Listed => self.listed = true,
        }
        self.listed.then(|| self.list())
    }

    /// Every address of the pods that take new connections, sorted.
    #[must_use]
    pub fn doors(&self) -> Vec<Door> {
        let mut doors = Vec::new();
        for slice in self.slices.values() {
            let Some(port) = slice.ports.first().copied() else { continue };
            let open = slice.endpoints.iter().filter(|endpoint| endpoint.serving && !endpoint.terminating);
            doors.extend(open.map(|endpoint| Door {
                address: SocketAddr::new(endpoint.address, port),
                namespace: slice.key.0.clone(),
                name: endpoint.name.clone(),
                id: endpoint.id.clone(),
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
            }));
        }
        doors.sort();
        // A pod that moves from one slice to another is in both for a moment.
        doors.dedup_by(|one, other| one.address == other.address);
        doors
    }

    /// One address of each pod, IPv4 before IPv6. A pod that does not serve yet reports nothing, and is not listed.
    fn list(&self) -> Vec<Peer> {
        let mut peers: BTreeMap<&str, SocketAddr> = BTreeMap::new();
        for slice in self.slices.values() {
            let Some(port) = slice.ports.first().copied() else { continue };
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.serving || endpoint.terminating) {
                let address = SocketAddr::new(endpoint.address, port);
                let known = peers.entry(&endpoint.name).or_insert(address);
                if known.is_ipv6() && address.is_ipv4() {
                    *known = address;
                }
            }
        }
        peers.into_iter().map(|(name, address)| Peer { id: ReporterId::new(name), address }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trim::SliceEndpoint;

    fn slice(name: &str, endpoints: &[(&str, &str, bool, bool)]) -> Slice {
        let endpoint = |(name, address, serving, terminating): &(&str, &str, bool, bool)| SliceEndpoint {
            id: EndpointId::new(name),
            name: (*name).into(),
            address: address.parse().unwrap(),
            serving: *serving,
            terminating: *terminating,
            node: None,
            zone: None,
        };
        Slice {
            key: ("kpa-system".into(), name.into()),
            service: "kpa-activator".into(),
            ports: vec![9090],
            endpoints: endpoints.iter().map(endpoint).collect(),
        }
    }

    fn shown(peers: Option<Vec<Peer>>) -> Vec<String> {
        peers.unwrap().iter().map(|peer| format!("{} {}", peer.id, peer.address)).collect()
    }

    #[test]
    fn pods_are_listed_once_in_either_family_until_they_are_gone() {
        let mut peers = Peers::default();
        let six = slice("six", &[("a-0", "fd00::1", true, false), ("a-1", "fd00::2", true, false)]);
        assert_eq!(peers.take(Seen::Is(six)), None, "not before everything was listed");
        let four = slice(
            "four",
            &[("a-0", "10.0.0.1", true, false), ("a-2", "10.0.0.3", false, false), ("a-3", "10.0.0.4", false, true)],
        );
        assert_eq!(peers.take(Seen::Is(four)), None);
        let listed = shown(peers.take(Seen::Listed));
        assert_eq!(listed, ["a-0 10.0.0.1:9090", "a-1 [fd00::2]:9090", "a-3 10.0.0.4:9090"]);
        let doors: Vec<String> = peers.doors().iter().map(|door| format!("{} {}", door.name, door.address)).collect();
        let open = ["a-0 10.0.0.1:9090", "a-0 [fd00::1]:9090", "a-1 [fd00::2]:9090"];
        assert_eq!(doors, open, "who leaves gets no new connection, and each family is a way in");
        let left = shown(peers.take(Seen::Gone(("kpa-system".into(), "four".into()))));
        assert_eq!(left, ["a-0 [fd00::1]:9090", "a-1 [fd00::2]:9090"]);
    }
}
