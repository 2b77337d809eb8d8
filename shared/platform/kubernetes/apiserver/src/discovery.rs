//! What clients ask before they ask: versions, groups, resources.
//!
//! Invariant: computed from the table of kinds at every request, so a custom kind is there as soon as it is registered.

use crate::resources::{Type, Types};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The answer to a path that names no resource, as JSON; nothing when the path is not served.
pub(crate) fn answer(types: &Types, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Some(json!({ "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"] })),
        ["version"] => Some(json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2025-04-23T13:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        })),
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })),
        ["apis"] => {
            let groups: Vec<Value> = groups(types).iter().map(|(group, versions)| one(group, versions)).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", group] => groups(types).get(*group).map(|versions| {
            let mut answer = one(group, versions);
            answer["kind"] = json!("APIGroup");
            answer["apiVersion"] = json!("v1");
            answer
        }),
        ["api", version] => resources(types, "", version),
        ["apis", group, version] => resources(types, group, version),
        _ => None,
    }
}

/// Every group but the core one, with its versions.
fn groups(types: &Types) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in types.iter().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(kind.group.clone()).or_default();
        if !versions.contains(&kind.version) {
            versions.push(kind.version.clone());
        }
    }
    groups
}

fn one(group: &str, versions: &[String]) -> Value {
    // Newest first, as far as names of versions tell: v2 before v1, v1 before v1beta1.
    let mut versions = versions.to_vec();
    versions.sort_by_key(|version| {
        (version.contains("alpha"), version.contains("beta"), std::cmp::Reverse(version.clone()))
    });
    let entry = |version: &String| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({
        "name": group,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}

fn resources(types: &Types, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&Type> =
        types.iter().map(|kind| &**kind).filter(|kind| kind.group == group && kind.version == version).collect();
    let first = kinds.first()?;
    let list: Vec<Value> = kinds.iter().flat_map(|kind| entries(kind)).collect();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": list,
    }))
}

fn entries(kind: &Type) -> Vec<Value> {
    let verbs: &[&str] = if kind.is_question {
        &["create"]
    } else {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    };
    let mut own = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": verbs,
    });
    if !kind.short.is_empty() {
        own["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        own["categories"] = json!(kind.categories);
    }
    let mut all = vec![own];
    let mut sub = |name: &str, kind_name: &str, foreign: Option<(&str, &str)>, verbs: &[&str]| {
        let mut entry = json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
            "kind": kind_name, "verbs": verbs,
        });
        if let Some((group, version)) = foreign {
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        all.push(entry);
    };
    let change = ["get", "patch", "update"];
    if kind.has_status {
        sub("status", &kind.kind, None, &change);
    }
    if kind.scale.is_some() {
        sub("scale", "Scale", Some(("autoscaling", "v1")), &change);
    }
    for name in kind.subresources {
        match *name {
            "eviction" => sub(name, "Eviction", Some(("policy", "v1")), &["create"]),
            "token" => sub(name, "TokenRequest", Some(("authentication.k8s.io", "v1")), &["create"]),
            "binding" => sub(name, "Binding", None, &["create"]),
            _ => sub(name, &kind.kind, None, &["update"]),
        }
    }
    all
}
