//! Which workloads a Service may matter to.
//!
//! Invariant: whoever reads a Service when it is settled is among them, before and after the Service has changed. Every one
//! of ours has a Service of its own: looking at all workloads for each would take the square of their number.

use super::services::{Pair, first_pair, selects};
use super::{Known, Picture};
use crate::trim::Key;
use k8s_openapi::api::core::v1::Service;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Users {
    /// Workloads by each label of their pods.
    by_label: BTreeMap<Pair, BTreeSet<Key>>,
    /// Workloads that name a Service, and those that are not ours, perhaps for want of one.
    others: BTreeSet<Key>,
    /// Workloads that want a Service to be taken over.
    takers: BTreeSet<Key>,
}

impl Users {
    /// A workload is read anew.
    pub(super) fn read(&mut self, key: &Key, known: &Known) {
        let adopted = known.adopted.as_ref().ok();
        set(&mut self.others, key, adopted.is_none_or(|adopted| adopted.service.is_some()));
        set(&mut self.takers, key, adopted.is_some_and(|adopted| adopted.take_over));
    }

    /// The pods of a workload have these labels.
    pub(super) fn add(&mut self, key: &Key, labels: Option<&BTreeMap<String, String>>) {
        for pair in pairs(key, labels) {
            self.by_label.entry(pair).or_default().insert(key.clone());
        }
    }

    /// They have them no more.
    pub(super) fn remove(&mut self, key: &Key, labels: Option<&BTreeMap<String, String>>) {
        for pair in pairs(key, labels) {
            if let Some(keys) = self.by_label.get_mut(&pair) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_label.remove(&pair);
                }
            }
        }
    }

    /// A workload is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.others.remove(key);
        self.takers.remove(key);
    }

    fn candidates<'a>(&'a self, namespace: &'a str, service: &Service) -> impl Iterator<Item = &'a Key> + use<'a> {
        let labelled = first_pair(namespace, service).and_then(|pair| self.by_label.get(&pair));
        labelled.into_iter().flatten().chain(within(&self.others, namespace))
    }
}

impl Known {
    /// Whether a Service is named by it or selects its pods, as our own does.
    fn may_use(&self, service: &Service) -> bool {
        let Ok(adopted) = &self.adopted else { return true };
        self.labels().is_some_and(|labels| selects(service, labels))
            || (adopted.service.is_some() && adopted.service == service.metadata.name)
    }
}

impl Picture {
    /// Has the workloads looked at that a Service may matter to.
    pub(super) fn dirty_users(&mut self, namespace: &str, service: &Service) {
        let candidates = self.users.candidates(namespace, service);
        let users = candidates.filter(|key| self.workloads.get(*key).is_some_and(|known| known.may_use(service)));
        self.dirty.extend(users.cloned());
    }

    /// Has all workloads of a namespace looked at.
    pub(super) fn dirty_namespace(&mut self, namespace: &str) {
        let from = (namespace.to_owned(), String::new());
        let keys = self.workloads.range(from..).map(|(key, _)| key).take_while(|key| key.0 == namespace);
        self.dirty.extend(keys.cloned());
    }

    /// Services that any workload of the namespace wants to be taken over.
    pub fn wanted_services<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Service> {
        let takers = within(&self.users.takers, namespace).filter_map(|key| self.adopted(key));
        takers.filter_map(|adopted| self.service(namespace, adopted.service.as_deref()?))
    }
}

fn pairs(key: &Key, labels: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = Pair> {
    labels.into_iter().flatten().map(|(label, value)| (key.0.clone(), label.clone(), value.clone()))
}

fn within<'a>(keys: &'a BTreeSet<Key>, namespace: &'a str) -> impl Iterator<Item = &'a Key> + use<'a> {
    keys.range((namespace.to_owned(), String::new())..).take_while(move |key| key.0 == namespace)
}

fn set(keys: &mut BTreeSet<Key>, key: &Key, is_in: bool) {
    if !is_in {
        keys.remove(key);
    } else if !keys.contains(key) {
        keys.insert(key.clone());
    }
}
