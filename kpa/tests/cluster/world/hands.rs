//! What a test does to a cluster itself, past whatever befalls our programs.
//!
//! Invariant: nothing here is asked in the name of a program of ours.

use apiserver::Server;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::OURS;

/// The administrator.
pub(super) enum Hands {
    /// Of the server in memory: no fault strikes it.
    Memory(Server),
    /// Of a cluster that was given.
    Given(Client, Handle),
}

impl Hands {
    /// The body of a PATCH is a merge patch.
    pub(super) fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        match self {
            Self::Memory(server) => server.request(method, path, body),
            Self::Given(client, runtime) => runtime.block_on(ask(client, method, path, body)),
        }
    }

    /// A token for an account in our namespace, which is made if it does not exist.
    pub(super) fn account(&self, name: &str) -> String {
        let client = match self {
            Self::Memory(server) => return server.account(OURS, name).unwrap(),
            Self::Given(..) => self,
        };
        let accounts = format!("/api/v1/namespaces/{OURS}/serviceaccounts");
        let (status, answer) = client.request(&Method::POST, &accounts, Some(&json!({"metadata": {"name": name}})));
        assert!(status.is_success() || status == StatusCode::CONFLICT, "{accounts}/{name}: {status} {answer}");
        let asked = json!({"spec": {"expirationSeconds": 86_400}});
        let (status, answer) = client.request(&Method::POST, &format!("{accounts}/{name}/token"), Some(&asked));
        assert!(status.is_success(), "a token for {name}: {status} {answer}");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

/// One request, and what was answered, whether or not it is a refusal.
pub(super) async fn ask(client: &Client, method: &Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
    let media = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("content-type", media);
    let response = client.send(request.body(Body::from(text.into_bytes())).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
