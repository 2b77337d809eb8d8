//! Checks of the smaller kinds: EndpointSlices, autoscalers, disruption budgets, roles, leases, config.
//!
//! Invariant: only what the real server requires of them is required.

use super::{immutable, not_negative};
use crate::object;
use crate::refusal::Cause;
use crate::resources::Type;
use serde_json::{Value, json};

/// Most endpoints of one EndpointSlice.
const ENDPOINTS_MAX: usize = 1000;
/// Most addresses of one endpoint.
const ADDRESSES_MAX: usize = 100;
/// Most bytes of the data of a ConfigMap or Secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn check(kind: &Type, old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    match kind.kind.as_str() {
        "EndpointSlice" => endpoint_slice(old, new, causes),
        "HorizontalPodAutoscaler" => autoscaler(new, causes),
        "PodDisruptionBudget" => budget(new, causes),
        "RoleBinding" | "ClusterRoleBinding" => binding(old, new, causes),
        "ConfigMap" | "Secret" => data(old, new, causes),
        "Lease" => {
            for path in ["spec.leaseDurationSeconds", "spec.leaseTransitions"] {
                not_negative(new, path, causes);
            }
            if new["spec"]["leaseDurationSeconds"] == 0 {
                causes.push(Cause::invalid("spec.leaseDurationSeconds", &json!(0), "must be greater than 0"));
            }
        }
        _ => {}
    }
}

fn endpoint_slice(old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    let family = new["addressType"].as_str().unwrap_or_default();
    if family.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !matches!(family, "FQDN" | "IPv4" | "IPv6") {
        causes.push(Cause::unsupported("addressType", &new["addressType"], &["FQDN", "IPv4", "IPv6"]));
    }
    if let Some(old) = old {
        immutable(old, new, "addressType", causes);
    }
    let endpoints = new["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    if endpoints.len() > ENDPOINTS_MAX {
        let message = format!("Too many: {}: must have at most {ENDPOINTS_MAX} items", endpoints.len());
        causes.push(Cause { reason: "FieldValueTooMany", field: "endpoints".to_owned(), message });
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let addresses = endpoint["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        let at = format!("endpoints[{index}].addresses");
        if addresses.is_empty() {
            causes.push(Cause::required(&at, "must contain at least 1 address"));
        }
        if addresses.len() > ADDRESSES_MAX {
            let message = format!("Too many: {}: must have at most {ADDRESSES_MAX} items", addresses.len());
            causes.push(Cause { reason: "FieldValueTooMany", field: at.clone(), message });
        }
        for (number, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let fits = match family {
                "IPv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !fits {
                let detail = format!("must be a valid {family} address");
                causes.push(Cause::invalid(format!("{at}[{number}]"), address, detail));
            }
        }
    }
}

fn autoscaler(new: &Value, causes: &mut Vec<Cause>) {
    let spec = &new["spec"];
    let (min, max) = (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    if min < 1 {
        causes.push(Cause::invalid("spec.minReplicas", &json!(min), "must be greater than or equal to 1"));
    }
    if max < 1 {
        causes.push(Cause::invalid("spec.maxReplicas", &json!(max), "must be greater than 0"));
    } else if max < min {
        let detail = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", &json!(max), detail));
    }
    for key in ["kind", "name"] {
        if spec["scaleTargetRef"][key].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("spec.scaleTargetRef.{key}"), ""));
        }
    }
}

fn budget(new: &Value, causes: &mut Vec<Cause>) {
    let spec = &new["spec"];
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        causes.push(Cause::invalid("spec", spec, detail));
    }
}

fn binding(old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    let kind = new["roleRef"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "Role" | "ClusterRole") {
        causes.push(Cause::unsupported("roleRef.kind", &json!(kind), &["Role", "ClusterRole"]));
    }
    if new["roleRef"]["name"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    if let Some(old) = old
        && old["roleRef"] != new["roleRef"]
    {
        causes.push(Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
    }
    for (index, subject) in new["subjects"].as_array().into_iter().flatten().enumerate() {
        let namespace = subject["namespace"].as_str().unwrap_or_default();
        if subject["kind"] == "ServiceAccount" && namespace.is_empty() {
            causes.push(Cause::required(format!("subjects[{index}].namespace"), ""));
        }
    }
}

fn data(old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for field in ["data", "binaryData", "stringData"] {
        for (key, value) in new[field].as_object().into_iter().flatten() {
            bytes += value.as_str().map_or(0, str::len);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if key.is_empty() || key.len() > 253 || !key.bytes().all(fits) || matches!(key.as_str(), "." | "..") {
                let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
                    'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), detail));
            }
        }
    }
    if bytes > DATA_BYTES_MAX {
        causes.push(Cause::too_long("data", DATA_BYTES_MAX));
    }
    if let Some(old) = old
        && old["immutable"] == true
        && ["data", "binaryData", "immutable"].iter().any(|path| object::at(old, path) != object::at(new, path))
    {
        causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
    }
    if let Some(old) = old
        && new["kind"] == "Secret"
    {
        immutable(old, new, "type", causes);
    }
}
