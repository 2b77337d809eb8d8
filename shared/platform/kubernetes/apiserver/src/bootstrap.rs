//! The objects that every cluster has from its start.
//!
//! Invariant: nothing here is needed by a program of this project; it is what people and tools expect to find.

use serde_json::{Value, json};

/// Group, resource, object; in the order in which they can be written.
pub(crate) fn objects() -> Vec<(&'static str, &'static str, Value)> {
    let mut all = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        all.push(("", "namespaces", json!({ "metadata": { "name": name } })));
    }
    let rbac = "rbac.authorization.k8s.io";
    for (name, rules, subjects) in roles() {
        let labels = json!({ "kubernetes.io/bootstrapping": "rbac-defaults" });
        let role = json!({ "metadata": { "name": name, "labels": labels }, "rules": rules });
        all.push((rbac, "clusterroles", role));
        if !subjects.is_empty() {
            let subjects: Vec<Value> =
                subjects.iter().map(|name| json!({ "kind": "Group", "apiGroup": rbac, "name": name })).collect();
            let binding = json!({
                "metadata": { "name": name, "labels": labels },
                "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": name },
                "subjects": subjects,
            });
            all.push((rbac, "clusterrolebindings", binding));
        }
    }
    all
}

/// Name, rules, and the groups that the role is bound to.
fn roles() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let paths = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    let discovered = [paths.as_slice(), &discovery].concat();
    vec![
        (
            "cluster-admin",
            json!([
                { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
                { "nonResourceURLs": ["*"], "verbs": ["*"] },
            ]),
            vec!["system:masters"],
        ),
        (
            "system:discovery",
            json!([{ "nonResourceURLs": discovered, "verbs": ["get"] }]),
            vec!["system:authenticated"],
        ),
        (
            "system:public-info-viewer",
            json!([{ "nonResourceURLs": paths, "verbs": ["get"] }]),
            vec!["system:authenticated", "system:unauthenticated"],
        ),
        (
            "system:basic-user",
            json!([
                {
                    "apiGroups": ["authorization.k8s.io"],
                    "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    "verbs": ["create"],
                },
                { "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"] },
            ]),
            vec!["system:authenticated"],
        ),
        (
            "system:auth-delegator",
            json!([
                { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
                { "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"] },
            ]),
            Vec::new(),
        ),
    ]
}
