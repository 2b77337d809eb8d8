//! Which workloads a Service may matter to.
//!
//! Invariant: whoever reads a Service when it is settled is among them, before and after the Service has changed.

use super::Known;
use crate::trim::Key;
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;

impl Known {
    /// Whether a Service is named by it or selects its pods, as our own does. What is not ours may be so for want of one.
    pub(super) fn may_use(&self, service: &Service) -> bool {
        let Ok(adopted) = &self.adopted else { return true };
        let labels =
            self.workload.deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let selects = labels.zip(selector).is_some_and(|(labels, selector)| {
            !selector.is_empty() && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
        });
        selects || (adopted.service.is_some() && adopted.service == service.metadata.name)
    }
}

/// The workloads of a namespace.
pub(super) fn in_namespace<'a>(
    workloads: &'a BTreeMap<Key, Known>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a Known)> {
    workloads.range((namespace.to_owned(), String::new())..).take_while(move |(key, _)| key.0 == namespace)
}
