//! What of the picture concerns Services that lead to the activators: slices, ways in, and who wants which Service.
//!
//! Invariant: whoever a slice, a way in or a claim concerns is looked at again.

use super::{Known, Picture};
use crate::peers::Door;
use crate::takeover::Judged;
use crate::trim::{Behind, Key};
use crate::wanted::service_name;
use domain::Mode;
use platform::manifest::Adopted;
use std::collections::{BTreeMap, BTreeSet};

/// What of a workload matters to others of its namespace that want the same Service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    service: Option<String>,
    take_over: bool,
    mode: Mode,
    age_rank: u64,
    labels: Option<BTreeMap<String, String>>,
}

impl Known {
    pub(super) fn claim(&self) -> Option<Claim> {
        let adopted = self.adopted.as_ref().ok()?;
        Some(Claim {
            service: adopted.service.clone(),
            take_over: adopted.take_over,
            mode: adopted.revision.mode.clone(),
            age_rank: adopted.revision.route.age_rank,
            labels: self.labels().cloned(),
        })
    }

    /// The labels of its pods.
    pub(super) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        let template = &self.workload.deployment.spec.as_ref()?.template;
        template.metadata.as_ref()?.labels.as_ref()
    }
}

impl Picture {
    /// Looks also at slices, which are told as news, and has Services taken over.
    #[must_use]
    pub fn taking_over(self) -> Self {
        Self { takes_over: true, ..self }
    }

    pub(super) fn set_doors(&mut self, doors: Vec<Door>) {
        // When none is ready the last ones stay: a Service keeps its endpoints.
        if !doors.is_empty() && self.doors != doors {
            self.doors = doors;
            let led = self.workloads.iter().filter(|(_, known)| known.judged.taken.is_some());
            self.dirty.extend(led.map(|(key, _)| key.clone()));
        }
    }

    pub(super) fn list(&mut self, slice: Behind) {
        self.unlist(&slice.key);
        self.service_of.insert(slice.key.clone(), slice.service.clone());
        let service = (slice.key.0.clone(), slice.service.clone());
        self.behind.entry(service.clone()).or_default().insert(slice.key.1.clone(), slice);
        self.dirty_behind(&service);
    }

    pub(super) fn unlist(&mut self, slice: &Key) {
        let Some(service) = self.service_of.remove(slice) else { return };
        let service = (slice.0.clone(), service);
        // Before it is gone: whose it was is said by the slice.
        self.dirty_behind(&service);
        if let Some(slices) = self.behind.get_mut(&service) {
            slices.remove(&slice.1);
            if slices.is_empty() {
                self.behind.remove(&service);
            }
        }
    }

    /// Whoever wants that Service, has it, or has its pods listed by it.
    fn dirty_behind(&mut self, service: &Key) {
        let (namespace, name) = service;
        let has = self.behind.get(service).into_iter().flatten().filter_map(|(_, slice)| slice.workload.as_ref());
        let mut keys: BTreeSet<Key> = has.map(|workload| (namespace.clone(), workload.clone())).collect();
        let from = (namespace.clone(), String::new());
        let within = self.workloads.range(from..).take_while(|(key, _)| key.0 == *namespace);
        let concerned = within.filter(|(key, known)| {
            let Ok(adopted) = &known.adopted else { return false };
            let own = || (adopted.take_over || known.judged.own) && service_name(key) == *name;
            adopted.service.as_ref() == Some(name) || own()
        });
        keys.extend(concerned.map(|(key, _)| key.clone()));
        self.dirty.append(&mut keys);
    }

    /// What becomes of the Service that a workload names, as it was last settled.
    #[must_use]
    pub fn judged(&self, key: &Key) -> Option<&Judged> {
        self.workloads.get(key).map(|known| &known.judged)
    }

    /// Whether Services may be taken over.
    #[must_use]
    pub const fn takes_over(&self) -> bool {
        self.takes_over
    }

    /// Where requests get in.
    #[must_use]
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// The slices behind a Service.
    pub fn behind(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Behind> {
        self.behind.get(&(namespace.to_owned(), service.to_owned())).into_iter().flat_map(BTreeMap::values)
    }

    /// Services with slices of ours that were made for a workload, each perhaps more than once.
    pub fn marked<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = String> + use<'a> {
        let from = (key.0.clone(), String::new());
        let within = self.behind.range(from..).take_while(|(service, _)| service.0 == key.0);
        within
            .flat_map(|(_, slices)| slices.values())
            .filter(|slice| slice.workload.as_ref() == Some(&key.1))
            .map(|slice| slice.service.clone())
    }

    /// Workloads for which there is a slice of ours.
    pub fn marked_keys(&self) -> impl Iterator<Item = Key> {
        let slices = self.behind.values().flat_map(BTreeMap::values);
        slices.filter_map(|slice| Some((slice.key.0.clone(), slice.workload.clone()?)))
    }

    /// The labels of a workload's pods.
    #[must_use]
    pub fn labels(&self, key: &Key) -> Option<&BTreeMap<String, String>> {
        self.workloads.get(key)?.labels()
    }

    /// The workloads of a namespace that are ours, with the labels of their pods.
    pub fn neighbours<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Adopted, Option<&'a BTreeMap<String, String>>)> {
        let from = (namespace.to_owned(), String::new());
        let within = self.workloads.range(from..).take_while(move |(key, _)| key.0 == namespace);
        within.filter_map(|(key, known)| Some((key, known.adopted.as_ref().ok()?, known.labels())))
    }
}
