//! Who may do what: the roles and bindings in the store, as the real server reads them.
//!
//! Invariant: nothing is allowed that no rule allows; only the group `system:masters` needs no rule.

use crate::accounts::User;
use crate::object::{self, texts};
use crate::request::Verb;
use crate::store::Store;
use serde_json::Value;
use std::collections::BTreeSet;

/// What is to be done to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// With the subresource: `pods/eviction`.
    pub(crate) resource: &'a str,
    /// Empty: cluster-wide, or all namespaces.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Attributes<'_> {
    /// The real server's words for a refusal.
    pub(crate) fn refusal(&self, user: &str) -> String {
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!("User {user:?} cannot {} resource {:?} in API group {:?} {scope}", self.verb, self.resource, self.group)
    }
}

/// A permission that an account has used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// The verb.
    pub verb: Verb,
    /// The API group, empty for the core group.
    pub group: String,
    /// The resource, with its subresource: `deployments/scale`.
    pub resource: String,
    /// The namespace; empty where all were meant, or the kind has none.
    pub namespace: String,
}

/// A permission that an account holds. `*` in verb, group or resource stands for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The verb, as it stands in the rule.
    pub verb: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The resource, with its subresource.
    pub resource: String,
    /// The namespace; empty where it holds in all of them and for cluster-wide kinds.
    pub namespace: String,
    /// The only objects that it is for; empty: all.
    pub names: BTreeSet<String>,
}

impl Grant {
    /// Whether this is what allows a use of a permission. Restrictions to names are not compared.
    #[must_use]
    pub fn covers(&self, used: &Permission) -> bool {
        fits(&self.verb, used.verb.as_str())
            && fits(&self.group, &used.group)
            && fits_resource(&self.resource, &used.resource)
            && (self.namespace.is_empty() || self.namespace == used.namespace)
    }
}

fn fits(rule: &str, wanted: &str) -> bool {
    rule == "*" || rule == wanted
}

fn fits_resource(rule: &str, wanted: &str) -> bool {
    // `*/scale` is the subresource of every resource.
    let subresource = wanted.split_once('/').map(|(_, subresource)| subresource);
    fits(rule, wanted) || rule.strip_prefix("*/").is_some_and(|rule| subresource == Some(rule))
}

/// The rules that hold for a user, each with its namespace (empty: everywhere).
fn rules<'a>(store: &'a Store, user: &'a User) -> impl Iterator<Item = (String, &'a Value)> {
    let buckets = ["clusterrolebindings", "rolebindings"];
    let bindings = buckets.into_iter().flat_map(|plural| store.all(bucket(plural)));
    bindings.filter(|binding| is_bound(binding, user)).flat_map(|binding| {
        let namespace = object::namespace(binding).to_owned();
        let reference = &binding["roleRef"];
        let name = reference["name"].as_str().unwrap_or_default();
        let role = if reference["kind"] == "Role" {
            store.get(bucket("roles"), &namespace, name)
        } else {
            store.get(bucket("clusterroles"), "", name)
        };
        role.into_iter()
            .flat_map(|role| role["rules"].as_array().into_iter().flatten())
            .map(move |rule| (namespace.clone(), rule))
            .collect::<Vec<_>>()
    })
}

fn bucket(plural: &str) -> &'static str {
    match plural {
        "roles" => "rbac.authorization.k8s.io/roles",
        "rolebindings" => "rbac.authorization.k8s.io/rolebindings",
        "clusterroles" => "rbac.authorization.k8s.io/clusterroles",
        _ => "rbac.authorization.k8s.io/clusterrolebindings",
    }
}

fn is_bound(binding: &Value, user: &User) -> bool {
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                user.name == crate::accounts::account_name(namespace, name)
            }
            Some("User") => user.name == name,
            Some("Group") => user.groups.contains(name),
            _ => false,
        }
    })
}

fn is_master(user: &User) -> bool {
    user.groups.contains("system:masters")
}

/// Whether a user may do that.
pub(crate) fn allows(store: &Store, user: &User, wanted: &Attributes<'_>) -> bool {
    is_master(user)
        || rules(store, user).any(|(namespace, rule)| {
            let any = |key: &str, fits: &dyn Fn(&str) -> bool| texts(&rule[key]).iter().any(|one| fits(one));
            let names = texts(&rule["resourceNames"]);
            (namespace.is_empty() || namespace == wanted.namespace)
                && any("verbs", &|verb| fits(verb, wanted.verb))
                && any("apiGroups", &|group| fits(group, wanted.group))
                && any("resources", &|resource| fits_resource(resource, wanted.resource))
                && (names.is_empty() || !wanted.name.is_empty() && names.iter().any(|name| name == wanted.name))
        })
}

/// Whether a user may read a path that is no resource.
pub(crate) fn allows_path(store: &Store, user: &User, verb: &str, path: &str) -> bool {
    is_master(user)
        || rules(store, user).any(|(namespace, rule)| {
            namespace.is_empty()
                && texts(&rule["verbs"]).iter().any(|one| fits(one, verb))
                && texts(&rule["nonResourceURLs"])
                    .iter()
                    .any(|url| url.strip_suffix('*').map_or(url == path, |start| path.starts_with(start)))
        })
}

/// Everything that a user may do to resources, one permission each.
pub(crate) fn granted(store: &Store, user: &User) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for (namespace, rule) in rules(store, user) {
        for verb in texts(&rule["verbs"]) {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    grants.insert(Grant {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource,
                        namespace: namespace.clone(),
                        names: texts(&rule["resourceNames"]).into_iter().collect(),
                    });
                }
            }
        }
    }
    grants
}
