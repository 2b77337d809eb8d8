//! Objects and calls that the tests share.

use apiserver::{Options, Server};
use http::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

pub(crate) fn server() -> Server {
    Server::new(Options::default())
}

pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "server:1" }] },
            },
        },
    })
}

pub(crate) fn pod(name: &str, labels: &Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": "main", "image": "server:1" }] },
    })
}

pub(crate) fn config_map(name: &str, labels: &Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "data": { "k": "v" } })
}

/// A kind of the group test.dev with status and scale.
pub(crate) fn definition() -> Value {
    json!({
        "metadata": { "name": "widgets.test.dev" },
        "spec": {
            "group": "test.dev", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["kpa"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    { "name": "Mode", "type": "string", "jsonPath": ".spec.mode" },
                    { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
                ],
                "schema": { "openAPIV3Schema": {
                    "type": "object", "required": ["spec"],
                    "properties": {
                        "spec": {
                            "type": "object", "required": ["mode"],
                            "properties": {
                                "mode": { "type": "string", "enum": ["Act", "Shadow"] },
                                "replicas": { "type": "integer", "minimum": 0 },
                                "items": {
                                    "type": "array", "x-kubernetes-list-type": "map",
                                    "x-kubernetes-list-map-keys": ["name"],
                                    "items": {
                                        "type": "object", "required": ["name"],
                                        "properties": { "name": { "type": "string" }, "value": { "type": "string" } },
                                    },
                                },
                            },
                        },
                        "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    },
                } },
            }],
        },
    })
}

/// The administrator's calls, which must succeed.
pub(crate) trait Calls {
    fn ask(&self, method: Method, uri: &str, body: Option<&Value>) -> (StatusCode, Value);

    #[track_caller]
    fn ok(&self, method: Method, uri: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, uri, body);
        assert!(status.is_success(), "{uri}: {answer}");
        answer
    }

    #[track_caller]
    fn get(&self, uri: &str) -> Value {
        self.ok(Method::GET, uri, None)
    }

    #[track_caller]
    fn post(&self, uri: &str, body: &Value) -> Value {
        self.ok(Method::POST, uri, Some(body))
    }

    #[track_caller]
    fn put(&self, uri: &str, body: &Value) -> Value {
        self.ok(Method::PUT, uri, Some(body))
    }

    #[track_caller]
    fn merge(&self, uri: &str, body: &Value) -> Value {
        self.ok(Method::PATCH, uri, Some(body))
    }

    #[track_caller]
    fn delete(&self, uri: &str) -> Value {
        self.ok(Method::DELETE, uri, None)
    }

    #[track_caller]
    fn patched(&self, uri: &str, media_type: &str, body: &Value) -> Value;

    /// A call that must be refused: code, reason and message.
    #[track_caller]
    fn refused(&self, method: Method, uri: &str, body: Option<&Value>) -> (u16, String, String) {
        let (status, answer) = self.ask(method, uri, body);
        refusal(status, &answer)
    }
}

#[track_caller]
pub(crate) fn refusal(status: StatusCode, answer: &Value) -> (u16, String, String) {
    assert!(!status.is_success(), "{answer}");
    assert_eq!(answer["kind"], "Status");
    assert_eq!(answer["status"], "Failure");
    assert_eq!(answer["code"], status.as_u16());
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), text("reason"), text("message"))
}

impl Calls for Server {
    fn ask(&self, method: Method, uri: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.request(&method, uri, body)
    }

    fn patched(&self, uri: &str, media_type: &str, body: &Value) -> Value {
        let (status, answer) = self.patch(uri, media_type, body);
        assert!(status.is_success(), "{uri}: {answer}");
        answer
    }
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("a list").iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}
