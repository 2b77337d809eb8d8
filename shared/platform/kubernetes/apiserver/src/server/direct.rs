//! What a test does to the server directly, without a client: reading, writing, accounts and their permissions.
//!
//! Invariant: whatever is written goes the way of every request, as the administrator's.

use super::Server;
use crate::accounts::User;
use crate::dispatch::{self, Answer};
use crate::object;
use crate::rbac::{self, Grant, Permission};
use crate::refusal::Refusal;
use crate::request::{Call, Query, Target};
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Server {
    /// The wall clock of this cluster.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// The number of the newest state.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.state.lock().store.revision()
    }

    /// Changes whenever an object or a fault has changed: for whoever runs controllers on this server.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.pulse.subscribe()
    }

    /// Every object of a resource, in all namespaces, as it is stored. No request is logged.
    #[must_use]
    pub fn objects(&self, group: &str, plural: &str) -> Vec<Arc<Value>> {
        let state = self.inner.state.lock();
        let Some(kind) = state.types.of_resource(group, plural) else { return Vec::new() };
        state.store.all(&kind.bucket).cloned().collect()
    }

    /// A token for a service account, which is made if it does not exist; so is its namespace. Valid for a day.
    ///
    /// # Errors
    /// When a name is none.
    pub fn account(&self, namespace: &str, name: &str) -> Result<String, String> {
        self.account_for(namespace, name, &[], SignedDuration::from_hours(24))
    }

    /// The same for the given audiences (none: the API itself) and lifetime.
    ///
    /// # Errors
    /// When a name is none.
    pub fn account_for(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[&str],
        lifetime: SignedDuration,
    ) -> Result<String, String> {
        let now = self.now();
        let made = [
            ("/api/v1/namespaces".to_owned(), namespace),
            (format!("/api/v1/namespaces/{namespace}/serviceaccounts"), name),
        ];
        for (path, name) in made {
            let object = serde_json::json!({ "metadata": { "name": name } });
            let (status, answer) = self.request(&Method::POST, &path, Some(&object));
            if !status.is_success() && status != StatusCode::CONFLICT {
                return Err(answer["message"].as_str().unwrap_or_default().to_owned());
            }
        }
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        let mut state = self.inner.state.lock();
        let issued = state.issue((namespace, name), audiences, lifetime, None, now);
        issued.map(|(text, _)| text).map_err(|refusal| refusal.message)
    }

    /// Every permission that an account has used in a request that was allowed.
    #[must_use]
    pub fn used(&self, namespace: &str, name: &str) -> BTreeSet<Permission> {
        let user = crate::accounts::account_name(namespace, name);
        self.inner.used.lock().get(&user).cloned().unwrap_or_default()
    }

    /// Every permission that an account holds by name; what it has through its groups is included.
    #[must_use]
    pub fn granted(&self, namespace: &str, name: &str) -> BTreeSet<Grant> {
        let user = User::impersonated(&crate::accounts::account_name(namespace, name), &[]);
        rbac::granted(&self.inner.state.lock().store, &user)
    }

    /// A request of the administrator, carried out at once: no fault strikes it, and it is not logged. The body of a PATCH
    /// is a merge patch; see [`Server::patch`]. A watch is refused.
    #[must_use]
    pub fn request(&self, method: &Method, uri: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let media = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        self.direct(method, uri, media, body)
    }

    /// A PATCH of the administrator, of a given media type; as [`Server::request`].
    #[must_use]
    pub fn patch(&self, uri: &str, media_type: &str, body: &Value) -> (StatusCode, Value) {
        self.direct(&Method::PATCH, uri, media_type, Some(body))
    }

    fn direct(&self, method: &Method, uri: &str, media: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        let call = Call {
            method: method.clone(),
            target: Target::parse(path),
            query: Query::parse(query),
            accept: String::new(),
            content_type: media.to_owned(),
            user_agent: "test".to_owned(),
            body: body.map(|body| Bytes::from(body.to_string())).unwrap_or_default(),
        };
        match dispatch::answer(&self.inner, &call, &User::administrator()) {
            Ok(Answer::Json(status, value)) => (status, value),
            Ok(Answer::Text(status, text)) => (status, Value::String(text)),
            Ok(Answer::Watch(_)) => {
                let refusal = Refusal::bad_request("a watch needs a client: use the service");
                (refusal.code, refusal.status())
            }
            Err(refusal) => (refusal.code, refusal.status()),
        }
    }

    /// The stored object, as the administrator sees it; nothing when there is none. No request is logged.
    #[must_use]
    pub fn object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let state = self.inner.state.lock();
        let kind = state.types.of_resource(group, plural)?;
        state.store.get(&kind.bucket, namespace, name).cloned()
    }

    /// Names of the objects of a resource in a namespace, in order; for assertions.
    #[must_use]
    pub fn names(&self, group: &str, plural: &str, namespace: &str) -> Vec<String> {
        let all = self.objects(group, plural);
        let here = all.iter().filter(|object| object::namespace(object) == namespace);
        here.map(|object| object::name(object).to_owned()).collect()
    }
}
