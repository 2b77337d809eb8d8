//! Accounts: their tokens, what they may, and who they are.

use super::pod;
use crate::replay::calls::{CONFIG_MAPS, Recorder, Stopped};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/{ns}/serviceaccounts";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    calls.post("an account", ACCOUNTS, json!({ "metadata": { "name": "runner" } })).await?;
    let request = json!({ "spec": { "expirationSeconds": 600 } });
    // The audience of the API server itself is the cluster's choice: only what the token opens is compared.
    let granted = calls
        .post(
            "a token",
            &format!("{ACCOUNTS}/runner/token?dryRun=All"),
            json!({ "spec": { "audiences": ["kpa"], "expirationSeconds": 600 } }),
        )
        .await?;
    calls.note("a token in trial is one", &json!(granted["status"]["token"].is_string()));
    let token = calls.token(&format!("{ACCOUNTS}/runner/token"), &request).await?;
    let runner = calls.bearer(&token)?;
    calls.call_as("refused to an account", &runner, Method::GET, CONFIG_MAPS, Value::Null).await?;
    let rules = json!([
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"] },
        { "apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": ["a"], "verbs": ["patch"] },
    ]);
    calls
        .post("a role", &format!("{ROLES}/roles"), json!({ "metadata": { "name": "reader" }, "rules": rules }))
        .await?;
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "runner", "namespace": "{ns}" }],
    });
    calls.post("a binding", &format!("{ROLES}/rolebindings"), binding).await?;
    let other = json!({ "roleRef": { "name": "other" } });
    calls.call("a binding to another role", Method::PATCH, &format!("{ROLES}/rolebindings/reader"), other).await?;
    calls.until(Some(&runner), &format!("{CONFIG_MAPS}/a"), StatusCode::OK).await?;
    let scale = json!({ "spec": { "replicas": 1 } });
    let deployments = "/apis/apps/v1/namespaces/{ns}/deployments";
    for (name, method, path, body) in [
        ("may read", Method::GET, format!("{CONFIG_MAPS}/a"), Value::Null),
        ("may not write", Method::DELETE, format!("{CONFIG_MAPS}/a"), Value::Null),
        ("may not read of everywhere", Method::GET, "/api/v1/configmaps".to_owned(), Value::Null),
        ("may scale one", Method::PATCH, format!("{deployments}/a/scale"), scale.clone()),
        ("may not scale another", Method::PATCH, format!("{deployments}/d/scale"), scale),
        ("may not read a scale", Method::GET, format!("{deployments}/a/scale"), Value::Null),
        ("may not read nodes", Method::GET, "/api/v1/nodes".to_owned(), Value::Null),
        ("may not review", Method::POST, REVIEWS.to_owned(), json!({ "spec": { "token": "x" } })),
    ] {
        calls.call_as(name, &runner, method, &path, body).await?;
    }
    let question =
        json!({ "spec": { "resourceAttributes": { "verb": "get", "resource": "configmaps", "namespace": "{ns}" } } });
    let allowed = calls
        .call_as(
            "asks what it may",
            &runner,
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?dryRun=All",
            question,
        )
        .await?;
    calls.note("it is told that it may", &allowed["status"]["allowed"]);
    let nobody = calls.bearer(&json!("made-up"))?;
    calls.call_as("a token that is none", &nobody, Method::GET, CONFIG_MAPS, Value::Null).await?;
    reviews(calls).await
}

async fn reviews(calls: &mut Recorder) -> Result<(), Stopped> {
    let pods = "/api/v1/namespaces/{ns}/pods";
    let bound = calls.post("a pod of the account", pods, pod("bound")).await?;
    let reference = json!({ "kind": "Pod", "apiVersion": "v1", "name": "bound", "uid": bound["metadata"]["uid"] });
    let path = format!("{ACCOUNTS}/runner/token");
    let spec = json!({ "audiences": ["kpa"], "expirationSeconds": 600, "boundObjectRef": reference });
    let granted = calls.post("a token of a pod", &path, json!({ "spec": spec })).await?;
    let token = granted["status"]["token"].clone();
    for (name, audiences) in
        [("its audience", json!(["kpa"])), ("two audiences", json!(["kpa", "x"])), ("another audience", json!(["x"]))]
    {
        let review = json!({ "spec": { "token": token, "audiences": audiences } });
        calls.post(&format!("a review for {name}"), REVIEWS, review).await?;
    }
    calls.post("a review of a token that is none", REVIEWS, json!({ "spec": { "token": "made-up" } })).await?;
    let foreign = calls.bearer(&token)?;
    calls.call_as("a token for another audience", &foreign, Method::GET, CONFIG_MAPS, Value::Null).await?;
    let wrong =
        json!({ "kind": "Pod", "apiVersion": "v1", "name": "bound", "uid": "00000000-0000-0000-0000-000000000000" });
    for (name, spec) in [
        ("for too short", json!({ "expirationSeconds": 60 })),
        ("of another pod's uid", json!({ "boundObjectRef": wrong })),
        ("of a missing pod", json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "missing" } })),
    ] {
        calls.post(&format!("a token {name}"), &path, json!({ "spec": spec })).await?;
    }
    calls.post("a token of a missing account", &format!("{ACCOUNTS}/missing/token"), json!({ "spec": {} })).await?;
    calls.delete("the pod goes at once", &format!("{pods}/bound"), Value::Null).await?;
    calls.get("the pod is gone", &format!("{pods}/bound")).await?;
    Ok(())
}
