//! What the tests of this crate share: one Lease and token reviews behind the real client, in memory and on a paused clock.
//! It knows what an election and a review need, and panics at anything else.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tower::service_fn;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How well a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Open,
    /// Nothing arrives and nothing comes back.
    Frozen,
    /// What is written arrives, and the answer is lost.
    Mute,
    Refused,
}

#[derive(Default)]
struct State {
    version: u64,
    lease: Option<Value>,
    watchers: Vec<(String, mpsc::Sender<Bytes>)>,
    reach: BTreeMap<String, watch::Sender<Reach>>,
    /// Method of every call that arrived, and the client's name.
    log: Vec<(String, String)>,
    /// Answers to token reviews, by token.
    reviews: BTreeMap<String, Value>,
}

/// The server. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

impl Server {
    /// A client with a line of its own to the server.
    pub(crate) fn client(&self, name: &str) -> Client {
        let reach = watch::Sender::new(Reach::Open);
        let lines = reach.subscribe();
        self.0.lock().reach.insert(name.to_owned(), reach);
        let (server, name) = (self.clone(), name.to_owned());
        let service = service_fn(move |request: Request<Body>| {
            let (server, name, mut line) = (server.clone(), name.clone(), lines.clone());
            async move {
                line.wait_for(|reach| *reach != Reach::Frozen).await.unwrap();
                if *line.borrow() == Reach::Refused {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                }
                let answer = server.answer(&name, request).await;
                line.wait_for(|reach| *reach == Reach::Open).await.unwrap();
                Ok(answer)
            }
        });
        Client::new(service, "kpa")
    }

    pub(crate) fn set_reach(&self, client: &str, reach: Reach) {
        self.0.lock().reach[client].send_replace(reach);
    }

    /// Answers every review of `token` with this status.
    pub(crate) fn set_review(&self, token: &str, status: Value) {
        self.0.lock().reviews.insert(token.to_owned(), status);
    }

    pub(crate) fn lease(&self) -> Option<Value> {
        self.0.lock().lease.clone()
    }

    /// What somebody else does to the Lease; `None` deletes it.
    pub(crate) fn put_lease(&self, lease: Option<Value>) {
        self.store(lease);
    }

    /// How many calls of `client` have arrived with this method.
    pub(crate) fn calls(&self, client: &str, method: &Method) -> usize {
        self.0.lock().log.iter().filter(|(who, how)| who == client && how == method.as_str()).count()
    }

    /// Ends every watch.
    pub(crate) fn drop_watches(&self) {
        self.0.lock().watchers.clear();
    }

    fn store(&self, lease: Option<Value>) -> Value {
        let mut state = self.0.lock();
        state.version += 1;
        let version = state.version.to_string();
        let (kind, object) = match lease {
            Some(mut lease) => {
                lease["metadata"]["resourceVersion"] = json!(version);
                (if state.lease.is_some() { "MODIFIED" } else { "ADDED" }, lease)
            }
            None => ("DELETED", state.lease.clone().unwrap()),
        };
        state.lease = (kind != "DELETED").then(|| object.clone());
        let line = Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })));
        let State { watchers, reach, .. } = &mut *state;
        watchers.retain(|(client, watcher)| {
            *reach[client].borrow() != Reach::Open || watcher.try_send(line.clone()).is_ok()
        });
        object
    }

    async fn answer(&self, client: &str, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.0.lock().log.push((client.to_owned(), head.method.to_string()));
        if head.uri.path().ends_with("/tokenreviews") {
            return self.review(&body);
        }
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kpa/leases";
        assert!(head.uri.path().starts_with(leases), "{}", head.uri);
        let query = head.uri.query().unwrap_or_default();
        let stored = self.lease();
        match head.method {
            Method::GET if query.contains("watch=true") => self.watch(client),
            Method::GET if head.uri.path() == leases => {
                let version = self.0.lock().version.to_string();
                let items: Vec<Value> = stored.into_iter().collect();
                let metadata = json!({ "resourceVersion": version });
                ok(
                    &json!({ "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "items": items }),
                )
            }
            Method::GET => stored.map_or_else(|| fails(StatusCode::NOT_FOUND), |lease| ok(&lease)),
            Method::POST if stored.is_some() => fails(StatusCode::CONFLICT),
            Method::POST => ok(&self.store(Some(serde_json::from_slice(&body).unwrap()))),
            Method::PUT => {
                let Some(stored) = stored else { return fails(StatusCode::NOT_FOUND) };
                let lease: Value = serde_json::from_slice(&body).unwrap();
                if lease["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
                    return fails(StatusCode::CONFLICT);
                }
                ok(&self.store(Some(lease)))
            }
            other => panic!("{other} {}", head.uri),
        }
    }

    fn watch(&self, client: &str) -> Answer {
        let (sender, events) = mpsc::channel(64);
        self.0.lock().watchers.push((client.to_owned(), sender));
        let frames = futures_util::stream::unfold(events, |mut events| async {
            events.recv().await.map(|line| (Ok(http_body::Frame::data(line)), events))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn review(&self, body: &[u8]) -> Answer {
        let mut review: Value = serde_json::from_slice(body).unwrap();
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        let refused = json!({ "authenticated": false, "error": "invalid bearer token" });
        review["status"] = self.0.lock().reviews.get(&token).cloned().unwrap_or(refused);
        ok(&review)
    }
}

fn ok(body: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

fn fails(status: StatusCode) -> Answer {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
        "reason": reason.replace(' ', ""), "message": format!("the lease: {reason}") });
    let mut answer = ok(&body);
    *answer.status_mut() = status;
    answer
}

/// Long enough for everything that is due now, too short for anything that is not.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
