//! Services, found by their names and by the labels of the pods that they select.
//!
//! Invariant: whoever looks with the labels of a pod finds every Service that selects it, without looking at the others:
//! every workload of ours has a Service of its own.

use crate::trim::key;
use k8s_openapi::api::core::v1::Service;
use std::collections::{BTreeMap, BTreeSet};

/// A namespace, a label and its value.
pub(super) type Pair = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct Services {
    /// By namespace and name.
    named: BTreeMap<String, BTreeMap<String, Service>>,
    /// Names by the first pair of the selector.
    by_pair: BTreeMap<Pair, BTreeSet<String>>,
}

impl Services {
    /// Takes over a Service; the one that it was before.
    pub(super) fn set(&mut self, service: Service) -> Option<Service> {
        let (namespace, name) = key(&service.metadata);
        let before = self.remove(&namespace, &name);
        if let Some(pair) = first_pair(&namespace, &service) {
            self.by_pair.entry(pair).or_default().insert(name.clone());
        }
        self.named.entry(namespace).or_default().insert(name, service);
        before
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Service> {
        let before = self.named.get_mut(namespace)?.remove(name)?;
        if let Some(pair) = first_pair(namespace, &before)
            && let Some(names) = self.by_pair.get_mut(&pair)
        {
            names.remove(name);
            if names.is_empty() {
                self.by_pair.remove(&pair);
            }
        }
        Some(before)
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.named.get(namespace)?.get(name)
    }

    /// Those of a namespace that select pods with `labels`, by name.
    pub(super) fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&Service> {
        let pairs = labels.iter().map(|(label, value)| (namespace.to_owned(), label.clone(), value.clone()));
        let names: BTreeSet<&String> = pairs.filter_map(|pair| self.by_pair.get(&pair)).flatten().collect();
        let found = names.into_iter().filter_map(|name| self.get(namespace, name));
        found.filter(|service| selects(service, labels)).collect()
    }
}

/// The first pair of a selector; none of a Service that selects nothing.
pub(super) fn first_pair(namespace: &str, service: &Service) -> Option<Pair> {
    let (label, value) = service.spec.as_ref()?.selector.as_ref()?.first_key_value()?;
    Some((namespace.to_owned(), label.clone(), value.clone()))
}

/// Whether a Service selects pods with these labels.
pub(super) fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|all| !all.is_empty());
    selector.is_some_and(|selector| selector.iter().all(|(label, value)| labels.get(label) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, selector: &serde_json::Value) -> Service {
        let object = json!({"metadata": {"name": name, "namespace": "prod"}, "spec": {"selector": selector}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_service_is_found_by_the_pods_that_it_selects_now() {
        let mut services = Services::default();
        let labels: BTreeMap<String, String> =
            [("app", "a"), ("tier", "web")].map(|(label, value)| (label.into(), value.into())).into();
        let found = |services: &Services| {
            let names = services.selecting("prod", &labels).into_iter().filter_map(|one| one.metadata.name.clone());
            names.collect::<Vec<_>>()
        };
        for (name, selector) in [
            ("wide", json!({"tier": "web"})),
            ("exact", json!({"app": "a", "tier": "web"})),
            ("other", json!({"app": "b"})),
            ("narrow", json!({"app": "a", "zone": "x"})),
            ("none", json!({})),
        ] {
            assert_eq!(services.set(service(name, &selector)), None);
        }
        assert_eq!(found(&services), ["exact", "wide"]);
        assert!(services.selecting("dev", &labels).is_empty());
        assert!(services.set(service("wide", &json!({"tier": "db"}))).is_some());
        assert!(services.set(service("other", &json!({"app": "a"}))).is_some());
        assert_eq!(found(&services), ["exact", "other"]);
        assert!(services.remove("prod", "exact").is_some() && services.remove("prod", "exact").is_none());
        assert_eq!(found(&services), ["other"]);
        services.remove("prod", "other");
        assert_eq!(services.by_pair.len(), 2, "what is gone leaves nothing behind: {services:?}");
    }
}
