//! Input that nobody should send: it is answered, and breaks nothing.

use crate::samples::*;
use apiserver::Server;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Places in a body that are put out of shape, and what is put there.
fn bent(mut body: Value, bends: &[(usize, u8)]) -> Value {
    for (place, shape) in bends {
        let mut paths = Vec::new();
        collect(&body, String::new(), &mut paths);
        let path = &paths[place % paths.len()];
        let value = match shape % 8 {
            0 => Value::Null,
            1 => json!("text"),
            2 => json!(-1),
            3 => json!([]),
            4 => json!({}),
            5 => json!([null, "x", { "name": 1 }]),
            6 => json!({ "a/b/c": null, "": [1] }),
            _ => json!(1e300),
        };
        if let Some(place) = body.pointer_mut(path) {
            *place = value;
        }
    }
    body
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    for (key, inner) in value.as_object().into_iter().flatten() {
        collect(inner, format!("{path}/{}", escaped(key)), paths);
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        collect(inner, format!("{path}/{index}"), paths);
    }
    paths.push(path);
}

/// Every sort of write, with a body that is right before it is bent.
fn writes() -> Vec<(Method, String, &'static str, Value)> {
    let deployment_uri = format!("{DEPLOYMENTS}/a");
    let container = json!({ "name": "main", "image": "i", "env": [{ "name": "E", "value": "1" }], "ports": [{ "containerPort": 1 }] });
    let patch = json!({ "spec": { "template": { "spec": { "$setElementOrder/containers": [{ "name": "main" }],
        "containers": [container] } } }, "metadata": { "finalizers": ["a/b"], "labels": { "x": "y" } } });
    let operations =
        json!([{ "op": "test", "path": "/spec/replicas", "value": 1 }, { "op": "add", "path": "/spec/x", "value": 1 }]);
    let service =
        json!({ "metadata": { "name": "s" }, "spec": { "type": "ClusterIP", "ports": [{ "port": 1, "name": "p" }] } });
    let token = json!({ "spec": { "audiences": ["a"], "expirationSeconds": 600, "boundObjectRef": { "kind": "Pod", "name": "p" } } });
    let scale = json!({ "metadata": { "name": "a" }, "spec": { "replicas": 2 } });
    let review = json!({ "spec": { "user": "u", "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    let binding = json!({ "metadata": { "name": "b" }, "roleRef": { "kind": "Role", "name": "r" },
        "subjects": [{ "kind": "User", "name": "u" }] });
    let eviction = json!({ "deleteOptions": { "gracePeriodSeconds": 1, "preconditions": { "uid": "x" } } });
    let slice = json!({ "metadata": { "name": "e" }, "addressType": "IPv4", "ports": [{ "port": 1 }],
        "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true } }] });
    let options = json!({ "preconditions": { "uid": "x" }, "propagationPolicy": "Foreground" });
    let widget = json!({ "metadata": { "name": "w2" }, "spec": { "mode": "Act", "items": [{ "name": "a" }] } });
    let applied = json!({ "apiVersion": "test.dev/v1", "kind": "Widget", "metadata": { "name": "w" },
        "spec": { "mode": "Act", "items": [{ "name": "a", "value": "b" }] } });
    let mut other = definition();
    other["metadata"]["name"] = json!("gadgets.test.dev");
    other["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Gadget" });
    let widgets = "/apis/test.dev/v1/namespaces/default/widgets";
    let any = "application/json";
    vec![
        (Method::POST, DEPLOYMENTS.to_owned(), any, deployment("b", 1)),
        (Method::PUT, deployment_uri.clone(), any, deployment("a", 2)),
        (Method::PATCH, deployment_uri.clone(), STRATEGIC_PATCH, patch.clone()),
        (Method::PATCH, deployment_uri.clone(), MERGE_PATCH, patch),
        (Method::PATCH, deployment_uri.clone(), JSON_PATCH, operations),
        (Method::PATCH, format!("{deployment_uri}?fieldManager=m&force=true"), APPLY_PATCH, deployment("a", 3)),
        (Method::PUT, format!("{deployment_uri}/scale"), any, scale.clone()),
        (Method::PATCH, format!("{deployment_uri}/scale"), MERGE_PATCH, scale),
        (Method::DELETE, deployment_uri, any, options),
        (Method::POST, "/api/v1/namespaces/default/services".to_owned(), any, service),
        (Method::POST, "/api/v1/namespaces/default/serviceaccounts/default/token".to_owned(), any, token),
        (Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned(), any, review),
        (Method::POST, "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings".to_owned(), any, binding),
        (Method::POST, format!("{PODS}/p/eviction"), any, eviction.clone()),
        (Method::POST, format!("{PODS}/p/binding"), any, eviction),
        (Method::POST, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".to_owned(), any, slice),
        (Method::POST, DEFINITIONS.to_owned(), any, other),
        (Method::POST, widgets.to_owned(), any, widget.clone()),
        (Method::PATCH, format!("{widgets}/w?fieldManager=m"), APPLY_PATCH, applied),
        (Method::PATCH, format!("{widgets}/w/status"), MERGE_PATCH, json!({ "status": widget })),
    ]
}

fn prepared() -> Server {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    server.post(PODS, &pod("p", &json!({ "app": "x" })));
    server.account("default", "default").expect("made");
    server.post(DEFINITIONS, &definition());
    let widgets = "/apis/test.dev/v1/namespaces/default/widgets";
    server.post(widgets, &json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act" } }));
    server
}

#[tokio::test]
async fn the_bodies_are_right_before_they_are_bent() {
    for (method, uri, media, body) in writes() {
        let server = prepared();
        let (status, answer) = if method == Method::PATCH {
            server.patch(&uri, media, &body)
        } else {
            server.ask(method, &uri, Some(&body))
        };
        // Two are refused for what they say, not for how they say it.
        let expected = status.is_success() || status == 409 || status == 422 || status == 404;
        assert!(expected, "{uri}: {answer}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_body_breaks_the_server(
        which in 0..20_usize,
        bends in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = prepared();
            let (method, uri, media, body) = writes().swap_remove(which);
            let body = bent(body, &bends);
            let (status, answer) = if method == Method::PATCH {
                server.patch(&uri, media, &body)
            } else {
                server.ask(method, &uri, Some(&body))
            };
            assert!(status.is_success() || answer["kind"] == "Status", "{answer}");
            assert_ne!(status.as_u16(), 500, "{answer}");
            for list in [DEPLOYMENTS, PODS, DEFINITIONS, "/apis/test.dev/v1/namespaces/default/widgets", "/apis"] {
                assert!(server.ask(Method::GET, list, None).0.is_success() || list.contains("widgets"));
            }
        });
    }

    #[test]
    fn no_url_breaks_the_server(path in "(/[a-z%:.0-9]{0,9}){0,8}", query in "[a-zA-Z=&%,!() ]{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = server();
            for method in [Method::GET, Method::DELETE, Method::OPTIONS] {
                let _ = server.ask(method.clone(), &format!("{path}?{query}"), None);
                let _ = server.ask(method, &format!("{PODS}?labelSelector={query}&fieldSelector={query}&continue={query}"), None);
            }
        });
    }
}
