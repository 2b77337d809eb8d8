//! Tokens, roles, and the answers about both.

use crate::samples::*;
use apiserver::{Grant, Options, Permission, Server, Verb, WithoutToken};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A request through the service, with whatever token the handle carries.
async fn ask(server: &Server, method: Method, uri: &str, body: Option<&Value>) -> (StatusCode, Value) {
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let media = if method == Method::PATCH { MERGE_PATCH } else { "application/json" };
    let request = Request::builder().method(method).uri(uri).header("content-type", media);
    let response = server.clone().oneshot(request.body(Full::new(body)).unwrap()).await.unwrap();
    let status = response.status();
    // A watch that was allowed has begun, which is all that is asked here.
    if uri.contains("watch=1") && status.is_success() {
        return (status, Value::Null);
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

fn grant(server: &Server, namespace: &str, name: &str, rules: &Value) {
    let group = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": name }, "rules": rules });
    let subject = json!([{ "kind": "ServiceAccount", "name": "kpa", "namespace": "default" }]);
    let (roles, kind) = if namespace.is_empty() {
        (format!("{group}/clusterrole"), "ClusterRole")
    } else {
        (format!("{group}/namespaces/{namespace}/role"), "Role")
    };
    server.post(&format!("{roles}s"), &role);
    let binding = json!({
        "metadata": { "name": name }, "subjects": subject,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
    });
    server.post(&format!("{roles}bindings"), &binding);
}

#[tokio::test]
async fn nothing_is_allowed_that_no_rule_allows() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let token = server.account("default", "kpa").unwrap();
    let kpa = server.with_token(&token);
    let (status, answer) = ask(&kpa, Method::GET, &format!("{DEPLOYMENTS}/a"), None).await;
    assert_eq!(
        refusal(status, &answer),
        (
            403,
            "Forbidden".into(),
            "deployments.apps \"a\" is forbidden: User \"system:serviceaccount:default:kpa\" cannot get resource \
             \"deployments\" in API group \"apps\" in the namespace \"default\""
                .into()
        )
    );
    let (status, answer) = ask(&kpa, Method::GET, "/api/v1/nodes", None).await;
    let (_, _, message) = refusal(status, &answer);
    assert!(message.ends_with("cannot list resource \"nodes\" in API group \"\" at the cluster scope"), "{message}");
    grant(
        &server,
        "default",
        "one",
        &json!([
            { "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"], "resourceNames": ["a"] },
        ]),
    );
    let scale = json!({ "spec": { "replicas": 2 } });
    for (method, uri, body, wanted) in [
        (Method::GET, format!("{DEPLOYMENTS}/a"), None, 200),
        (Method::GET, DEPLOYMENTS.to_owned(), None, 200),
        (Method::GET, format!("{DEPLOYMENTS}?watch=1"), None, 200),
        (Method::GET, "/apis/apps/v1/deployments".to_owned(), None, 403),
        (Method::GET, format!("{DEPLOYMENTS}/a/scale"), None, 403),
        (Method::PATCH, format!("{DEPLOYMENTS}/a/scale"), Some(&scale), 200),
        (Method::PATCH, format!("{DEPLOYMENTS}/b/scale"), Some(&scale), 403),
        (Method::PATCH, format!("{DEPLOYMENTS}/a"), Some(&scale), 403),
        (Method::DELETE, DEPLOYMENTS.to_owned(), None, 403),
        (Method::GET, "/apis/apps/v1/namespaces/kube-system/deployments".to_owned(), None, 403),
        (Method::GET, "/apis".to_owned(), None, 200),
        (Method::GET, "/metrics".to_owned(), None, 403),
    ] {
        let (status, answer) = ask(&kpa, method.clone(), &uri, body).await;
        assert_eq!(status.as_u16(), wanted, "{method} {uri}: {answer}");
    }
}

#[tokio::test]
async fn what_was_used_and_what_is_granted_can_be_compared() {
    let server = server();
    let kpa = server.with_token(&server.account("default", "kpa").unwrap());
    grant(
        &server,
        "",
        "all",
        &json!([{ "apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["list"] }]),
    );
    ask(&kpa, Method::GET, "/apis/apps/v1/deployments", None).await;
    ask(&kpa, Method::GET, "/api/v1/pods", None).await;
    let used = server.used("default", "kpa");
    let listed = Permission {
        verb: Verb::List,
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        namespace: String::new(),
    };
    assert_eq!(used, [listed.clone()].into(), "what was refused was not used");
    let granted: Vec<Grant> =
        server.granted("default", "kpa").into_iter().filter(|grant| grant.group == "apps").collect();
    let idle: Vec<&str> =
        granted.iter().filter(|grant| !grant.covers(&listed)).map(|grant| grant.resource.as_str()).collect();
    assert_eq!((granted.len(), idle), (2, vec!["replicasets"]));
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_as_long_as_it_may() {
    let server = server();
    grant(&server, "", "pods", &json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["*"] }]));
    let short = server.account_for("default", "kpa", &[], SignedDuration::from_secs(60)).unwrap();
    let foreign = server.account_for("default", "kpa", &["kpa"], SignedDuration::from_secs(600)).unwrap();
    let status = async |token: &str| ask(&server.with_token(token), Method::GET, PODS, None).await.0.as_u16();
    assert_eq!(status(&short).await, 200);
    assert_eq!(status(&foreign).await, 401, "a token for another audience does not open the API");
    assert_eq!(status("made-up").await, 401);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(status(&short).await, 401);
    let (code, reason, message) = {
        let (status, answer) = ask(&server.with_token("x"), Method::GET, PODS, None).await;
        refusal(status, &answer)
    };
    assert_eq!((code, reason.as_str(), message.as_str()), (401, "Unauthorized", "Unauthorized"));
    let second = server.account("default", "kpa").unwrap();
    assert_eq!(status(&second).await, 200);
    server.delete("/api/v1/namespaces/default/serviceaccounts/kpa");
    assert_eq!(status(&second).await, 401, "it dies with its account");
}

#[tokio::test(start_paused = true)]
async fn a_review_tells_whose_a_token_is_and_of_which_pod() {
    let server = server();
    server.account("default", "kpa").unwrap();
    let made = server.post(PODS, &pod("p", &json!({})));
    let request = json!({ "spec": {
        "audiences": ["kpa"], "expirationSeconds": 600,
        "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "p" },
    } });
    let answer = server.post("/api/v1/namespaces/default/serviceaccounts/kpa/token", &request);
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T00:10:00Z");
    let review = |audience: &str| {
        let spec = json!({ "token": answer["status"]["token"], "audiences": [audience] });
        server.post(REVIEWS, &json!({ "spec": spec }))["status"].clone()
    };
    let found = review("kpa");
    assert_eq!(found["authenticated"], true, "{found}");
    assert_eq!(found["audiences"], json!(["kpa"]));
    let user = &found["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:kpa");
    assert_eq!(
        user["groups"],
        json!(["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:default"])
    );
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-uid"], json!([made["metadata"]["uid"]]));
    let other = review("other");
    assert_ne!(other["authenticated"], true);
    assert!(other["error"].as_str().unwrap().contains("token audiences"), "{other}");
    server.delete(&format!("{PODS}/p"));
    assert_ne!(review("kpa")["authenticated"], true, "it dies with its pod");
    let too_short = json!({ "spec": { "expirationSeconds": 60 } });
    let uri = "/api/v1/namespaces/default/serviceaccounts/kpa/token";
    assert_eq!(server.refused(Method::POST, uri, Some(&too_short)).0, 422);
    assert_eq!(
        server.refused(Method::POST, "/api/v1/namespaces/default/serviceaccounts/none/token", Some(&request)).0,
        404
    );
}

#[tokio::test]
async fn permissions_can_be_asked_for() {
    let server = server();
    let kpa = server.with_token(&server.account("default", "kpa").unwrap());
    grant(
        &server,
        "default",
        "one",
        &json!([{ "apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"] }]),
    );
    let question = |subresource: &str| {
        json!({ "spec": { "resourceAttributes": {
            "verb": "create", "resource": "pods", "subresource": subresource, "namespace": "default" } } })
    };
    let mine = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (subresource, allowed) in [("eviction", true), ("binding", false)] {
        let (status, answer) = ask(&kpa, Method::POST, mine, Some(&question(subresource))).await;
        assert_eq!((status, &answer["status"]["allowed"]), (StatusCode::CREATED, &json!(allowed)), "{answer}");
    }
    let mut anothers = question("eviction");
    anothers["spec"]["user"] = json!("system:serviceaccount:default:kpa");
    let answer = server.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &anothers);
    assert_eq!(answer["status"]["allowed"], true);
}

#[tokio::test]
async fn without_a_token_the_options_decide() {
    let asked = async |without_token| {
        let server = Server::new(Options { without_token, ..Options::default() });
        ask(&server, Method::GET, PODS, None).await.0.as_u16()
    };
    assert_eq!(asked(WithoutToken::Administrator).await, 200);
    assert_eq!(asked(WithoutToken::Anonymous).await, 403);
    assert_eq!(asked(WithoutToken::Refused).await, 401);
    let server = server();
    let request = Request::get(PODS).header("impersonate-user", "somebody").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(server.clone().oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN);
}
