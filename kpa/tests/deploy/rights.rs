//! RBAC and admission: the least there is, as a table says it, and every reference leads somewhere.

use crate::chart::rendered;
use crate::objects::{Objects, deploy, items, key, listed, objects, read, text, texts, union};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One right: account, scope, group, resource, name of the object (or any), verb.
type Right = [String; 6];

fn with_components() -> Objects {
    let component = |name| objects(&read(&deploy(&format!("components/{name}/rbac.yaml"))));
    let plain = union(listed("base"), listed("release"));
    union(union(plain, component("namespace-selector")), component("take-over"))
}

/// What the bindings of some objects grant to ServiceAccounts.
fn granted(all: &Objects) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for ((kind, namespace, _), binding) in all {
        let scope = match kind.as_str() {
            "ClusterRoleBinding" => "everywhere",
            "RoleBinding" if namespace == "kpa-system" => "own",
            "RoleBinding" => namespace,
            _ => continue,
        };
        let role_namespace = if text(binding, "/roleRef/kind") == "Role" { namespace.as_str() } else { "" };
        let role = [text(binding, "/roleRef/kind"), role_namespace, text(binding, "/roleRef/name")].map(str::to_owned);
        let role = all.get(&role.clone().into()).unwrap_or_else(|| panic!("{role:?} is bound and does not exist"));
        for subject in items(binding, "/subjects") {
            assert_eq!((text(subject, "/kind"), text(subject, "/namespace")), ("ServiceAccount", "kpa-system"));
            let account = ["ServiceAccount", "kpa-system", text(subject, "/name")].map(str::to_owned);
            assert!(all.contains_key(&account.clone().into()), "{account:?} gets rights and does not exist");
            for rule in items(role, "/rules") {
                found.extend(rights(text(subject, "/name"), scope, rule));
            }
        }
    }
    found
}

fn rights(account: &str, scope: &str, rule: &Value) -> Vec<Right> {
    let [groups, resources, mut names, verbs] =
        ["/apiGroups", "/resources", "/resourceNames", "/verbs"].map(|field| texts(rule, field));
    if names.is_empty() {
        names.push(String::new());
    }
    let mut found = Vec::new();
    for group in groups.iter().map(|group| if group.is_empty() { "core" } else { group }) {
        for resource in &resources {
            for name in &names {
                for verb in &verbs {
                    assert!([group, resource, verb].iter().all(|word| *word != "*"), "a star in {rule}");
                    found.push([account, scope, group, resource, name, verb].map(str::to_owned));
                }
            }
        }
    }
    assert!(!found.is_empty(), "a rule that grants nothing: {rule}");
    found
}

/// The table of `deploy/rbac.md`.
fn table() -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for line in read(&deploy("rbac.md")).lines().filter(|line| line.starts_with("| kpa-")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [account, scope, group, resource, name, verbs, reason] = cells[..] else { panic!("7 columns: {line}") };
        assert!(!reason.is_empty(), "a right without a reason: {line}");
        // What a ClusterRoleBinding gives is one thing to Kubernetes; that a Role could give it in one namespace is ours.
        let scope = if scope == "own" { "own" } else { "everywhere" };
        for verb in verbs.split(", ") {
            let right = [account, scope, group, resource, name, verb].map(str::to_owned);
            assert!(found.insert(right), "twice: {line}");
        }
    }
    assert!(found.len() >= 40, "{found:?}");
    found
}

#[test]
fn the_roles_grant_what_the_table_says_and_nothing_else() {
    let (granted, table) = (granted(&with_components()), table());
    let more: Vec<_> = granted.difference(&table).collect();
    let less: Vec<_> = table.difference(&granted).collect();
    assert!(more.is_empty() && less.is_empty(), "granted only: {more:#?}\nin deploy/rbac.md only: {less:#?}");
}

/// The table divides what is granted everywhere into `workloads`, which a Role in each namespace can grant, and `cluster`,
/// which has no namespace. With listed namespaces exactly the former is granted there, and the latter as ever.
#[test]
fn with_listed_namespaces_each_gets_what_the_table_says_of_workloads() {
    let lines: Vec<String> = read(&deploy("rbac.md")).lines().map(str::to_owned).collect();
    let cluster_only: BTreeSet<String> = lines
        .iter()
        .filter(|line| line.starts_with("| kpa-") && line.contains("| cluster |"))
        .map(|line| line.split('|').nth(4).unwrap().trim().to_owned())
        .collect();
    assert_eq!(cluster_only, ["namespaces", "tokenreviews"].map(str::to_owned).into());
    let over = json!({"namespaces": ["team-a", "team-b"], "namespaceSelector": "a=b", "takeOver": true});
    let mut expected = BTreeSet::new();
    for right in table() {
        let scopes: &[&str] = match right[1].as_str() {
            "own" => &["own"],
            _ if cluster_only.contains(&right[3]) => &["everywhere"],
            _ => &["team-a", "team-b"],
        };
        for scope in scopes {
            let mut right = right.clone();
            (*scope).clone_into(&mut right[1]);
            expected.insert(right);
        }
    }
    assert_eq!(granted(&rendered(&over)), expected);
}

/// The files of the overlay, also where no kustomize is there to build it.
#[test]
fn the_overlay_for_listed_namespaces_has_the_rules_of_the_cluster_roles() {
    let take_over = objects(&read(&deploy("components/take-over/rbac.yaml")));
    for (cluster_wide, file, accounts) in [
        (
            listed("base"),
            "overlays/namespaces/tenant/rbac.yaml",
            &[("kpa-activator", "kpa-activator"), ("kpa-autoscaler", "kpa-autoscaler")][..],
        ),
        (listed("release"), "overlays/namespaces/release/tenant/rbac.yaml", &[("kpa-release", "kpa-release")]),
        (
            take_over,
            "overlays/namespaces/take-over/tenant/rbac.yaml",
            &[("kpa-take-over", "kpa-autoscaler"), ("kpa-take-over-release", "kpa-release")],
        ),
    ] {
        let local = objects(&read(&deploy(file)));
        assert_eq!(local.len(), 2 * accounts.len(), "{file}");
        for (name, account) in accounts {
            let [role, binding] =
                ["Role", "RoleBinding"].map(|kind| &local[&(kind.to_owned(), String::new(), (*name).to_owned())]);
            let cluster = &cluster_wide[&("ClusterRole".to_owned(), String::new(), (*name).to_owned())];
            assert_eq!(role["rules"], cluster["rules"], "{file}: {name}");
            assert_eq!((text(binding, "/roleRef/kind"), text(binding, "/roleRef/name")), ("Role", *name));
            assert_eq!(
                (text(binding, "/subjects/0/name"), text(binding, "/subjects/0/namespace")),
                (*account, "kpa-system")
            );
        }
    }
}

/// Rights that no account of a proxy or an autoscaler should ever have, whatever the table says.
#[test]
fn nobody_reads_secrets_or_gives_itself_more() {
    for right in granted(&with_components()) {
        let [_, _, group, resource, name, verb] = right.each_ref().map(String::as_str);
        let writes = !["get", "list", "watch"].contains(&verb);
        assert!(resource != "secrets" && !resource.starts_with("pods/"), "{right:?}");
        assert!(
            group != "rbac.authorization.k8s.io" && !["bind", "escalate", "impersonate"].contains(&verb),
            "{right:?}"
        );
        assert!(!(writes && resource == "deployments"), "{right:?}");
        assert!(!(writes && right[0] == "kpa-activator"), "an activator writes nothing: {right:?}");
        assert!(!(resource == "leases" && verb == "update" && name.is_empty()), "{right:?}");
        assert!(!(resource == "configmaps" && name.is_empty()), "{right:?}");
    }
}

/// Whoever may patch pods or write Services is bound by a policy, which names the accounts as they are.
#[test]
fn admission_policies_bind_whoever_may_write_pods_and_services() {
    for (source, all) in [("deploy/base", with_components()), ("the chart", rendered(&json!({"namespaces": ["a"]})))] {
        let policies: BTreeMap<&str, &Value> = all
            .iter()
            .filter(|((kind, ..), _)| kind == "ValidatingAdmissionPolicy")
            .map(|((.., name), policy)| (name.as_str(), policy))
            .collect();
        assert_eq!(policies.len(), 2);
        for (name, policy) in &policies {
            let binding = &all[&("ValidatingAdmissionPolicyBinding".to_owned(), String::new(), (*name).to_owned())];
            assert_eq!(binding["spec"], json!({"policyName": name, "validationActions": ["Deny"]}), "{source}: {name}");
            assert_eq!(text(policy, "/spec/failurePolicy"), "Fail", "{source}: {name}");
        }
        for right in granted(&all) {
            let [account, _, _, resource, _, verb] = right.each_ref().map(String::as_str);
            if ["get", "list", "watch"].contains(&verb) || !["pods", "services"].contains(&resource) {
                continue;
            }
            let policy = policies[format!("kpa-{resource}").as_str()];
            assert_eq!(items(policy, "/spec/matchConstraints/resourceRules").len(), 1);
            let rule = &policy["spec"]["matchConstraints"]["resourceRules"][0];
            assert_eq!(texts(rule, "/resources"), [resource.to_owned(), format!("{resource}/*")], "{source}");
            assert_eq!(texts(rule, "/operations"), ["CREATE", "UPDATE", "DELETE"], "{source}");
            let condition = text(policy, "/spec/matchConditions/0/expression");
            assert_eq!(items(policy, "/spec/matchConditions").len(), 1);
            let quoted = format!("'system:serviceaccount:kpa-system:{account}'");
            assert!(condition.contains(&quoted), "{source}: {condition} does not name {quoted}");
        }
    }
}

/// Policies of ours and rights bind nobody else.
#[test]
fn policies_match_our_accounts_only() {
    let all = listed("base");
    let accounts: BTreeSet<String> = with_components()
        .values()
        .filter(|object| text(object, "/kind") == "ServiceAccount")
        .map(|account| format!("system:serviceaccount:{}:{}", key(account).1, key(account).2))
        .collect();
    for policy in all.values().filter(|object| text(object, "/kind") == "ValidatingAdmissionPolicy") {
        let condition = text(policy, "/spec/matchConditions/0/expression");
        let named: Vec<&str> = condition.split('\'').skip(1).step_by(2).collect();
        assert!(
            condition.starts_with("request.userInfo.username == ")
                || condition.starts_with("request.userInfo.username in [")
        );
        assert!(!named.is_empty() && named.iter().all(|name| accounts.contains(*name)), "{condition}");
    }
}
