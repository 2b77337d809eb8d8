//! Calls of one server, and the record of what was answered.
//!
//! Invariant: nothing is asked outside of the record's own namespace and its own group, but questions that change nothing.

use super::normal::Normal;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream};
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Where the namespace's name stands in paths and objects of the series, and in what is compared.
pub(crate) const NS: &str = "{ns}";
/// The resource of the series' own kind.
pub(crate) const WIDGETS: &str = "/apis/{ns}.kpa.test/v1/namespaces/{ns}/widgets";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";

pub(crate) const JSON: &str = "application/json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
pub(crate) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// How long a controller of the real cluster may take, and the events of a watch.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the namespace may take to go with all that is in it.
const DELETION: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Longest line of a watch.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("{0}: no client can be made of its configuration: {1}")]
    Client(String, kube::Error),
    #[error("{server}: {method} {path}: {why}; what was made so far is deleted")]
    Call { server: String, method: Method, path: String, why: String },
    #[error("{0}: namespace {1:?} cannot be made: {2}; nothing was changed. Name one that does not exist")]
    Namespace(String, String, Value),
    #[error("{0}: {1} after {2:?}; what was made so far is deleted")]
    Waited(String, String, Duration),
    #[error("{0}: {1} is still there {2:?} after it was deleted: look what holds it")]
    Left(String, String, Duration),
    #[error("interrupted ({0:?}); what was made so far is deleted")]
    Interrupted(Option<std::io::Error>),
}

/// One call and what was answered.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// The HTTP status.
    pub(crate) code: u16,
    /// In the form that is compared.
    pub(crate) answer: Value,
    /// What a real server must have for this; one that refuses the call is not compared.
    pub(crate) needs: Option<&'static str>,
}

/// Who asks.
pub(crate) type Asker = Client;

/// A record in the making.
pub(crate) struct Recorder {
    admin: Asker,
    config: Config,
    namespace: String,
    normal: Normal,
    steps: Vec<Step>,
}

impl Recorder {
    pub(crate) fn new(config: &Config, namespace: &str) -> Result<Self, Stopped> {
        // What is answered is compared, a 503 too: nothing is asked twice.
        let mut config = config.clone();
        config.default_retry = false;
        let admin = client(&config)?;
        let normal = Normal::new(namespace);
        Ok(Self { admin, config, namespace: namespace.to_owned(), normal, steps: Vec::new() })
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// Makes the namespace.
    pub(crate) async fn begin(&mut self) -> Result<(), Stopped> {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
        let namespace = json!({ "metadata": { "name": NS, "labels": labels } });
        let (code, answer) =
            self.ask(&self.admin, &Method::POST, "/api/v1/namespaces", JSON, "", Some(&namespace)).await?;
        if code.is_success() {
            self.keep("a namespace", None, code, &answer);
            return Ok(());
        }
        Err(Stopped::Namespace(self.server(), self.namespace.clone(), answer["message"].clone()))
    }

    /// Deletes everything, and waits until it is gone.
    pub(crate) async fn end(&mut self) -> Result<(), Stopped> {
        // What is held by a finalizer of ours is let go; a real cluster's own are left to it.
        for resource in [CONFIG_MAPS, WIDGETS] {
            let (_, list) = self.ask(&self.admin, &Method::GET, resource, JSON, "", None).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                if !item["metadata"]["finalizers"].is_null() {
                    let path = format!("{resource}/{}", item["metadata"]["name"].as_str().unwrap_or_default());
                    let free = json!({ "metadata": { "finalizers": null } });
                    self.ask(&self.admin, &Method::PATCH, &path, MERGE_PATCH, "", Some(&free)).await?;
                }
            }
        }
        let all = [format!("{DEFINITIONS}/widgets.{NS}.kpa.test"), format!("/api/v1/namespaces/{NS}")];
        for path in &all {
            self.ask(&self.admin, &Method::DELETE, path, JSON, "", None).await?;
        }
        for path in &all {
            let until = Instant::now() + DELETION;
            while self.ask(&self.admin, &Method::GET, path, JSON, "", None).await?.0 != StatusCode::NOT_FOUND {
                if Instant::now() >= until {
                    return Err(Stopped::Left(self.server(), path.replace(NS, &self.namespace), DELETION));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Asks and records; what was answered, as it was.
    pub(crate) async fn call(&mut self, name: &str, method: Method, path: &str, body: Value) -> Result<Value, Stopped> {
        self.call_as(name, &self.admin.clone(), method, path, body).await
    }

    pub(crate) async fn get(&mut self, name: &str, path: &str) -> Result<Value, Stopped> {
        self.call(name, Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&mut self, name: &str, path: &str, body: Value) -> Result<Value, Stopped> {
        self.call(name, Method::POST, path, body).await
    }

    pub(crate) async fn put(&mut self, name: &str, path: &str, body: Value) -> Result<Value, Stopped> {
        self.call(name, Method::PUT, path, body).await
    }

    /// With options in its body, or [`Value::Null`].
    pub(crate) async fn delete(&mut self, name: &str, path: &str, body: Value) -> Result<Value, Stopped> {
        self.call(name, Method::DELETE, path, body).await
    }

    pub(crate) async fn patch(&mut self, name: &str, media: &str, path: &str, body: Value) -> Result<Value, Stopped> {
        let (code, answer) = self.ask(&self.admin, &Method::PATCH, path, media, "", Some(&body)).await?;
        self.keep(name, None, code, &answer);
        Ok(answer)
    }

    /// An apply by `manager`.
    pub(crate) async fn apply(&mut self, name: &str, manager: &str, path: &str, body: Value) -> Result<Value, Stopped> {
        let join = if path.contains('?') { '&' } else { '?' };
        self.patch(name, APPLY_PATCH, &format!("{path}{join}fieldManager={manager}"), body).await
    }

    /// A GET in another form.
    pub(crate) async fn get_as(&mut self, name: &str, accept: &str, path: &str) -> Result<Value, Stopped> {
        let (code, answer) = self.ask(&self.admin, &Method::GET, path, JSON, accept, None).await?;
        self.keep(name, None, code, &answer);
        Ok(answer)
    }

    /// Asks as somebody else.
    pub(crate) async fn call_as(
        &mut self,
        name: &str,
        asker: &Asker,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Value, Stopped> {
        let media = if method == Method::PATCH { MERGE_PATCH } else { JSON };
        let body = (!body.is_null()).then_some(body);
        let (code, answer) = self.ask(asker, &method, path, media, "", body.as_ref()).await?;
        self.keep(name, None, code, &answer);
        Ok(answer)
    }

    /// A token that is not recorded: what it opens is compared, not its form.
    pub(crate) async fn token(&self, path: &str, request: &Value) -> Result<Value, Stopped> {
        let (_, answer) = self.ask(&self.admin, &Method::POST, path, JSON, "", Some(request)).await?;
        Ok(answer["status"]["token"].clone())
    }

    /// Who has this token.
    pub(crate) fn bearer(&self, token: &Value) -> Result<Asker, Stopped> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo::default();
        // An AuthInfo of the client library: its secret's type is not named elsewhere.
        if let Ok(auth) = serde_json::from_value(json!({ "token": token.as_str().unwrap_or("none") })) {
            config.auth_info = auth;
        }
        client(&config)
    }

    /// Waits until a GET by `asker` is answered with this code, without recording it.
    pub(crate) async fn until(&self, asker: Option<&Asker>, path: &str, code: StatusCode) -> Result<(), Stopped> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (found, answer) = self.ask(asker.unwrap_or(&self.admin), &Method::GET, path, JSON, "", None).await?;
            if found == code {
                return Ok(());
            }
            if Instant::now() >= until {
                let path = path.replace(NS, &self.namespace);
                let what = format!("GET {path} is not {code} but {found} {}", answer["message"]);
                return Err(Stopped::Waited(self.server(), what, PATIENCE));
            }
            sleep(LOOK).await;
        }
    }

    /// Opens a watch. Nothing is recorded before [`Recorder::told`].
    pub(crate) async fn watch(&self, path: &str) -> Result<Response<Body>, Stopped> {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}watch=true&timeoutSeconds={}", PATIENCE.as_secs());
        self.send(&self.admin, &Method::GET, &path, JSON, "", None).await
    }

    /// Records the first `count` events of a watch. Bookmarks come when the server likes, and count only when they end the
    /// initial events.
    pub(crate) async fn told(
        &mut self,
        name: &str,
        needs: Option<&'static str>,
        watch: Response<Body>,
        count: usize,
    ) -> Result<(), Stopped> {
        let code = watch.status();
        let mut body = BodyStream::new(watch.into_body());
        let (mut text, mut events) = (Vec::new(), Vec::new());
        let until = Instant::now() + PATIENCE;
        while events.len() < count {
            let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.next()).await else { break };
            text.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
            if text.len() > LINE_BYTES_MAX {
                break;
            }
            // A refusal is one object, perhaps without a line's end.
            let complete = if code.is_success() {
                text.iter().rposition(|&byte| byte == b'\n')
            } else {
                text.len().checked_sub(1)
            };
            let Some(end) = complete else { continue };
            let lines: Vec<u8> = text.drain(..=end).collect();
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                let event: Value =
                    serde_json::from_slice(line).unwrap_or_else(|_| json!(String::from_utf8_lossy(line)));
                let ends = &event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
                if event["type"] != "BOOKMARK" || ends == "true" {
                    events.push(event);
                }
            }
        }
        events.truncate(count);
        self.keep(name, needs, code, &Value::Array(events));
        Ok(())
    }

    /// Records what was not one answer.
    pub(crate) fn note(&mut self, name: &str, seen: &Value) {
        self.keep(name, None, StatusCode::OK, seen);
    }

    fn keep(&mut self, name: &str, needs: Option<&'static str>, code: StatusCode, answer: &Value) {
        let answer = self.normal.form(answer);
        self.steps.push(Step { name: name.to_owned(), code: code.as_u16(), answer, needs });
    }

    async fn ask(
        &self,
        asker: &Asker,
        method: &Method,
        path: &str,
        media: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Stopped> {
        let response = self.send(asker, method, path, media, accept, body).await?;
        let status = response.status();
        let read = timeout(PATIENCE, response.into_body().collect()).await;
        let bytes = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(self.stopped(method, path, error)),
            Err(late) => return Err(self.stopped(method, path, late)),
        };
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))))
    }

    async fn send(
        &self,
        asker: &Asker,
        method: &Method,
        path: &str,
        media: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Response<Body>, Stopped> {
        let mut uri = path.replace(NS, &self.namespace);
        if *method != Method::GET && !uri.contains("fieldManager=") {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str("fieldManager=compare");
        }
        let accept = if accept.is_empty() { JSON } else { accept };
        let text = body.map(|body| body.to_string().replace(NS, &self.namespace)).unwrap_or_default();
        let request = Request::builder().method(method).uri(uri).header("accept", accept).header("content-type", media);
        let request = request.body(Body::from(text.into_bytes())).map_err(|error| self.stopped(method, path, error))?;
        match timeout(PATIENCE, asker.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.stopped(method, path, error)),
            Err(late) => Err(self.stopped(method, path, late)),
        }
    }

    fn stopped(&self, method: &Method, path: &str, why: impl std::fmt::Display) -> Stopped {
        let (server, path) = (self.server(), path.replace(NS, &self.namespace));
        Stopped::Call { server, method: method.clone(), path, why: why.to_string() }
    }
}

fn client(config: &Config) -> Result<Client, Stopped> {
    Client::try_from(config.clone()).map_err(|error| Stopped::Client(config.cluster_url.to_string(), error))
}
