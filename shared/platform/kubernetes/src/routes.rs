//! What activators know of a cluster: our own objects and EndpointSlices in, changes of revisions out.
//!
//! Invariant: pure and level-triggered. A revision whose object cannot be read keeps its last readable state, and one
//! whose object is gone keeps it for [`FORGOTTEN_AFTER`]; nothing of a Deployment or a pod is read (kpa-behaviour 11.1).

use crate::objects::{Published, ScaledWorkloadSpec};
use crate::picture::Seen;
use crate::trim::{Key, Slice, SliceEndpoint};
use domain::{Change, Endpoint, EndpointId, EndpointState, Replicas, Revision, RevisionId, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a revision is routed after its object has gone. Whoever deletes the object by mistake still has the
/// Deployment, and the autoscaler makes the object anew: until then no request is told that nothing has this name.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Known {
    spec: ScaledWorkloadSpec,
    requested: Replicas,
    trouble: Option<Trouble>,
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    revision: Option<Arc<Revision>>,
    counts: Option<(Replicas, Replicas, Replicas, Option<Trouble>)>,
    endpoints: Option<Arc<[Endpoint]>>,
}

/// The cluster as an activator sees it.
#[derive(Debug, Default)]
pub struct Routes {
    known: BTreeMap<Key, Known>,
    slices: BTreeMap<Key, Slice>,
    /// Slices by namespace and Service.
    by_service: BTreeMap<Key, BTreeSet<Key>>,
    /// Workloads by namespace and Service.
    users: BTreeMap<Key, BTreeSet<Key>>,
    /// Workloads whose object is gone, and when they are forgotten. All of them are known.
    going: BTreeMap<Key, Instant>,
    dirty: BTreeSet<Key>,
    version: u64,
}

impl Routes {
    /// Takes in one of our own objects. What is wrong with it, when it cannot be read.
    pub fn workload(&mut self, seen: Seen<Published>, now: Instant) -> Option<String> {
        match seen {
            Seen::Is(Published { key, spec, status, .. }) => {
                self.going.remove(&key);
                let spec = match spec {
                    Ok(spec) => spec,
                    Err(why) => {
                        let consequence = if self.known.contains_key(&key) {
                            "what was known of it stays in force"
                        } else {
                            "it is not routed"
                        };
                        return Some(format!(
                            "ScaledWorkload {}/{} cannot be read: {why}; {consequence}",
                            key.0, key.1
                        ));
                    }
                };
                let told = self.unlink(&key).map(|known| known.told).unwrap_or_default();
                let service = (key.0.clone(), spec.service.clone());
                self.users.entry(service).or_default().insert(key.clone());
                let requested = Replicas::new(u32::try_from(status.replicas).unwrap_or(0));
                self.known.insert(key.clone(), Known { spec, requested, trouble: status.trouble, told });
                self.dirty.insert(key);
            }
            Seen::Gone(key) => {
                if self.known.contains_key(&key) {
                    self.going.insert(key, now + FORGOTTEN_AFTER);
                }
            }
            Seen::Listed => {}
        }
        None
    }

    /// When the next revision is forgotten.
    #[must_use]
    pub fn next_forgotten(&self) -> Option<Instant> {
        self.going.values().min().copied()
    }

    /// Takes in an EndpointSlice.
    pub fn slice(&mut self, seen: Seen<Slice>) {
        match seen {
            Seen::Is(slice) => {
                let (key, service) = (slice.key.clone(), (slice.key.0.clone(), slice.service.clone()));
                if let Some(before) = self.slices.insert(key.clone(), slice) {
                    self.unlist(&key, &before);
                }
                self.touch(&service);
                self.by_service.entry(service).or_default().insert(key);
            }
            Seen::Gone(key) => {
                if let Some(before) = self.slices.remove(&key) {
                    self.unlist(&key, &before);
                }
            }
            Seen::Listed => {}
        }
    }

    /// What has changed since the last call.
    pub fn changes(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, _) in self.going.extract_if(.., |_, at| *at <= now).collect::<Vec<_>>() {
            self.dirty.remove(&key);
            if self.unlink(&key).is_some_and(|known| known.told.revision.is_some()) {
                changes.push(Change::Deleted(RevisionId::new(&key.0, &key.1)));
            }
        }
        for key in std::mem::take(&mut self.dirty) {
            self.settle(&key, &mut changes);
        }
        changes
    }

    fn unlink(&mut self, key: &Key) -> Option<Known> {
        let known = self.known.remove(key)?;
        let service = (key.0.clone(), known.spec.service.clone());
        if let Some(users) = self.users.get_mut(&service) {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&service);
            }
        }
        Some(known)
    }

    fn unlist(&mut self, key: &Key, slice: &Slice) {
        let service = (key.0.clone(), slice.service.clone());
        self.touch(&service);
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
    }

    fn touch(&mut self, service: &Key) {
        self.dirty.extend(self.users.get(service).into_iter().flatten().cloned());
    }

    fn settle(&mut self, key: &Key, changes: &mut Vec<Change>) {
        let Some(known) = self.known.get_mut(key) else { return };
        let id = RevisionId::new(&key.0, &key.1);
        let service = (key.0.clone(), known.spec.service.clone());
        let slices = self.by_service.get(&service).into_iter().flatten().filter_map(|key| self.slices.get(key));
        let pods = endpoints(&known.spec, slices);
        let count = |state| Replicas::new(u32::try_from(pods.iter().filter(|e| e.state == state).count()).unwrap_or(0));
        let (ready, terminating) = (count(EndpointState::Ready), count(EndpointState::Draining));
        let told = &mut known.told;
        if told.revision.as_deref() != Some(&known.spec.resolved) {
            let revision = Arc::new(known.spec.resolved.clone());
            changes.push(Change::Applied(revision.clone()));
            told.revision = Some(revision);
        }
        let counts = (known.requested, ready, terminating, known.trouble.clone());
        if told.counts.as_ref() != Some(&counts) {
            let (requested, ready, terminating, trouble) = counts.clone();
            changes.push(Change::Replicas {
                revision: id.clone(),
                requested,
                ready,
                terminating,
                trouble,
                foreign: None,
            });
            told.counts = Some(counts);
        }
        let list = match known.spec.upstream.as_deref().map(str::parse::<SocketAddr>) {
            Some(Ok(address)) => vec![service_endpoint(&service, address, !ready.is_zero())],
            _ => pods,
        };
        if told.endpoints.as_deref() != Some(&*list) {
            self.version += 1;
            let endpoints: Arc<[Endpoint]> = list.into();
            changes.push(Change::Endpoints { revision: id, version: self.version, endpoints: endpoints.clone() });
            told.endpoints = Some(endpoints);
        }
    }
}

/// The pods of a workload, each once: by its IPv4 address where it has both.
fn endpoints<'a>(spec: &ScaledWorkloadSpec, slices: impl Iterator<Item = &'a Slice>) -> Vec<Endpoint> {
    let mut found: BTreeMap<EndpointId, Endpoint> = BTreeMap::new();
    for slice in slices {
        let wanted = u16::try_from(spec.port).unwrap_or(0);
        // The workload's own port, unless the Service says that its endpoints listen elsewhere.
        let own = slice.ports.iter().find(|port| **port == wanted);
        let Some(port) = own.or_else(|| slice.ports.first()).copied() else {
            continue;
        };
        for pod in &slice.endpoints {
            let endpoint = endpoint(spec, pod, port);
            let known = found.entry(pod.id.clone()).or_insert_with(|| endpoint.clone());
            if known.address.is_ipv6() && endpoint.address.is_ipv4() {
                *known = endpoint;
            }
        }
    }
    found.into_values().collect()
}

fn endpoint(spec: &ScaledWorkloadSpec, pod: &SliceEndpoint, port: u16) -> Endpoint {
    let state = match (pod.terminating, pod.serving) {
        (true, _) => EndpointState::Draining,
        (false, true) => EndpointState::Ready,
        (false, false) => EndpointState::Starting,
    };
    Endpoint {
        id: pod.id.clone(),
        address: SocketAddr::new(pod.address, port),
        state,
        early_probe: spec.early_probe.clone().filter(|_| state == EndpointState::Starting),
    }
}

/// The cluster IP as one endpoint (`kpa.dev/upstream: service`): ready while a pod behind it is.
fn service_endpoint((namespace, name): &Key, address: SocketAddr, ready: bool) -> Endpoint {
    Endpoint {
        id: EndpointId::new(&format!("service/{namespace}/{name}")),
        address,
        state: if ready { EndpointState::Ready } else { EndpointState::Starting },
        early_probe: None,
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one change among all")]
mod tests {
    use super::*;
    use crate::objects::{Released, ScaledWorkloadStatus, TargetRef};
    use platform::fixed::default_revision;

    fn workload(name: &str, upstream: Option<&str>) -> Published {
        let id = RevisionId::new("prod", name);
        let spec = ScaledWorkloadSpec {
            scale_target_ref: TargetRef::default(),
            service: format!("kpa-{name}"),
            port: 8080,
            upstream: upstream.map(Into::into),
            early_probe: None,
            resolved: default_revision(id),
        };
        let status = ScaledWorkloadStatus { replicas: 2, ..ScaledWorkloadStatus::default() };
        Published { key: ("prod".into(), name.into()), owner: None, spec: Ok(spec), status, released: Released::No }
    }

    fn slice(name: &str, service: &str, pods: &[(&str, &str, bool, bool)]) -> Slice {
        let pod = |(name, address, serving, terminating): &(&str, &str, bool, bool)| SliceEndpoint {
            id: EndpointId::new(name),
            name: (*name).into(),
            address: address.parse().unwrap(),
            serving: *serving,
            terminating: *terminating,
            node: None,
            zone: None,
        };
        let key = ("prod".into(), name.into());
        Slice { key, service: service.into(), ports: vec![9000, 8080], endpoints: pods.iter().map(pod).collect() }
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let one = |change: &Change| match change {
            Change::Applied(revision) => vec![format!("applied {}", revision.id)],
            Change::Deleted(id) => vec![format!("deleted {id}")],
            Change::Replicas { requested, ready, terminating, .. } => {
                vec![format!("{requested}/{ready}/{terminating}")]
            }
            Change::Endpoints { endpoints, .. } => {
                endpoints.iter().map(|e| format!("{} {} {:?}", e.id, e.address, e.state)).collect()
            }
            other => vec![format!("{other:?}")],
        };
        changes.iter().flat_map(one).collect()
    }

    #[test]
    fn slices_and_objects_meet_in_either_order() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        routes.slice(Seen::Is(slice("s1", "kpa-a", &[("p1", "10.0.0.1", true, false)])));
        assert_eq!(shown(&routes.changes(now)), [""; 0]);
        assert_eq!(routes.workload(Seen::Is(workload("a", None)), now), None);
        assert_eq!(shown(&routes.changes(now)), ["applied prod/a", "2/1/0", "p1 10.0.0.1:8080 Ready"]);
        routes.slice(Seen::Is(slice(
            "s2",
            "kpa-a",
            &[("p1", "fd00::1", true, false), ("p2", "10.0.0.2", false, false), ("p3", "10.0.0.3", true, true)],
        )));
        assert_eq!(
            shown(&routes.changes(now)),
            ["2/1/1", "p1 10.0.0.1:8080 Ready", "p2 10.0.0.2:8080 Starting", "p3 10.0.0.3:8080 Draining"]
        );
        routes.slice(Seen::Gone(("prod".into(), "s1".into())));
        let changes = shown(&routes.changes(now));
        assert_eq!(changes[0], "p1 [fd00::1]:8080 Ready", "by its other address: {changes:?}");
        routes.workload(Seen::Gone(("prod".into(), "a".into())), now);
        assert_eq!(routes.next_forgotten(), Some(now + FORGOTTEN_AFTER));
        assert_eq!(shown(&routes.changes(now + FORGOTTEN_AFTER)), ["deleted prod/a"]);
        routes.slice(Seen::Gone(("prod".into(), "s2".into())));
        assert_eq!(shown(&routes.changes(now)), [""; 0]);
    }

    #[test]
    fn an_object_that_is_made_anew_in_time_was_never_away() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        let gone = || Seen::Gone(("prod".into(), "a".into()));
        routes.workload(gone(), now);
        assert_eq!((routes.next_forgotten(), shown(&routes.changes(now)).len()), (None, 0), "never known");
        routes.workload(Seen::Is(workload("a", None)), now);
        routes.changes(now);
        routes.workload(gone(), now);
        let just_before = now + FORGOTTEN_AFTER - Duration::from_millis(1);
        routes.slice(Seen::Is(slice("s1", "kpa-a", &[("p1", "10.0.0.1", true, false)])));
        assert_eq!(shown(&routes.changes(just_before)), ["2/1/0", "p1 10.0.0.1:8080 Ready"], "pods are followed");
        routes.workload(Seen::Is(workload("a", None)), just_before);
        assert_eq!(shown(&routes.changes(now + FORGOTTEN_AFTER)), [""; 0]);
        routes.workload(gone(), now + FORGOTTEN_AFTER);
        assert_eq!(shown(&routes.changes(now + FORGOTTEN_AFTER)), [""; 0]);
        assert_eq!(shown(&routes.changes(now + 2 * FORGOTTEN_AFTER)), ["deleted prod/a"]);
        assert_eq!(routes.next_forgotten(), None);
        routes.workload(Seen::Is(workload("a", None)), now);
        assert_eq!(shown(&routes.changes(now))[0], "applied prod/a");
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_its_last_state() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        routes.workload(Seen::Is(workload("a", None)), now);
        routes.changes(now);
        let bad = Published { spec: Err("missing field `port`".into()), ..workload("a", None) };
        let said = routes.workload(Seen::Is(bad), now).unwrap();
        assert!(said.contains("prod/a") && said.contains("missing field") && said.contains("stays"), "{said}");
        assert_eq!(shown(&routes.changes(now)), [""; 0]);
    }

    #[test]
    fn a_cluster_ip_is_one_endpoint_that_is_ready_while_a_pod_is() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        routes.workload(Seen::Is(workload("a", Some("10.96.0.7:80"))), now);
        let changes = shown(&routes.changes(now));
        assert_eq!(changes[2], "service/prod/kpa-a 10.96.0.7:80 Starting");
        routes.slice(Seen::Is(slice("s1", "kpa-a", &[("p1", "10.0.0.1", true, false)])));
        assert_eq!(shown(&routes.changes(now)), ["2/1/0", "service/prod/kpa-a 10.96.0.7:80 Ready"]);
    }
}
