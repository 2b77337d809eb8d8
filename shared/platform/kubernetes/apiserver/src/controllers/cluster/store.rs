//! Controllers' writes as requests, and the server's changes as events.
//!
//! Invariant: every change is told once and in order; what the history no longer holds is told as the difference it made.

use std::collections::BTreeMap;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::controller::Answer;
use super::super::object::{Id, Object, Resource, Typed};
use super::super::world::{Change, World};
use super::super::write::{Propagation, Refusal, Write};
use crate::Server;
use crate::store as stored;

/// Who writes, as it stands in managedFields.
const MANAGER: &str = "fieldManager=kube-controller-manager";

pub(super) struct Store {
    pub(super) server: Server,
    revision: u64,
    /// As of `revision`.
    pub(super) latest: World,
    /// Most pods per namespace.
    quotas: BTreeMap<String, usize>,
}

impl Store {
    pub(super) fn new(server: Server) -> Self {
        Self { server, revision: 0, latest: World::default(), quotas: BTreeMap::new() }
    }

    pub(super) fn limit(&mut self, namespace: String, pods: Option<usize>) {
        match pods {
            Some(most) => self.quotas.insert(namespace, most),
            None => self.quotas.remove(&namespace),
        };
    }

    /// As admission refuses it.
    fn exceeds(&self, object: &Object) -> Option<Refusal> {
        let metadata = Pod::of(object)?.metadata.clone();
        let namespace = metadata.namespace.unwrap_or_default();
        let most = *self.quotas.get(&namespace)?;
        let used = self.server.names("", "pods", &namespace).len();
        let name = metadata.name.or(metadata.generate_name).unwrap_or_default();
        (used >= most).then(|| Refusal {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: format!(
                "pods {name:?} is forbidden: exceeded quota: pods, requested: pods=1, used: pods={used}, limited: \
                 pods={most}"
            ),
        })
    }

    /// What happened since the last call.
    pub(super) fn news(&mut self) -> Vec<Change> {
        let inner = self.server.inner();
        let state = inner.state.lock();
        let revision = state.store.revision();
        let news: Vec<Change> = match state.store.since(self.revision) {
            Some(changes) => changes.filter_map(change).collect(),
            None => {
                let mut now = World::default();
                for bucket in state.store.buckets() {
                    for json in state.store.all(&bucket) {
                        if let Some(object) = object(&bucket, json) {
                            now.apply(&Change::Added(object));
                        }
                    }
                }
                difference(&self.latest, &now)
            }
        };
        drop(state);
        self.revision = revision;
        for change in &news {
            self.latest.apply(change);
        }
        news
    }

    pub(super) fn write(&self, write: &Write) -> Answer {
        match write {
            Write::Create(object) => {
                if let Some(refusal) = self.exceeds(object) {
                    return Err(refusal);
                }
                let mut id = object.id();
                id.name.clear();
                self.call(&Method::POST, &format!("{}?{MANAGER}", path(&id)), &id.resource, object.json())
            }
            Write::Update(object) => {
                let id = object.id();
                self.call(&Method::PUT, &format!("{}?{MANAGER}", path(&id)), &id.resource, object.json())
            }
            Write::Status(object) => self.status(object),
            Write::Metadata(object) => {
                let metadata = object.metadata();
                let patch = json!({"metadata": {
                    "resourceVersion": metadata.resource_version,
                    "ownerReferences": metadata.owner_references,
                    "finalizers": metadata.finalizers,
                }});
                let id = object.id();
                self.call(&Method::PATCH, &format!("{}?{MANAGER}", path(&id)), &id.resource, Some(patch))
            }
            Write::Delete { id, uid, grace, propagation: Propagation::Background } => {
                let mut options = json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"});
                if let Some(seconds) = grace {
                    options["gracePeriodSeconds"] = json!(seconds);
                }
                self.call(&Method::DELETE, &path(id), &id.resource, Some(options)).map(|_| None)
            }
            Write::Bind { id, uid, node } => {
                let binding = json!({
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": id.name, "namespace": id.namespace, "uid": uid},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                self.call(&Method::POST, &format!("{}/binding", path(id)), &id.resource, Some(binding)).map(|_| None)
            }
        }
    }

    fn status(&self, object: &Object) -> Answer {
        let id = object.id();
        let mut object = object.clone();
        // The status of a Deployment takes its annotations with it, where its revision stands.
        if let (Some(after), Some(before)) = (Deployment::of(&object), self.latest.find(&id).and_then(Deployment::of))
            && after.metadata.annotations != before.metadata.annotations
        {
            let patch = json!({"metadata": {
                "resourceVersion": after.metadata.resource_version,
                "annotations": after.metadata.annotations,
            }});
            let answer = self.call(&Method::PATCH, &format!("{}?{MANAGER}", path(&id)), &id.resource, Some(patch))?;
            let version = answer.and_then(|answer| answer.metadata().resource_version.clone());
            object.metadata_mut().resource_version = version;
        }
        self.call(&Method::PUT, &format!("{}/status?{MANAGER}", path(&id)), &id.resource, object.json())
    }

    fn call(&self, method: &Method, path: &str, resource: &Resource, body: Option<Value>) -> Answer {
        let (status, answer) = self.server.request(method, path, body.as_ref());
        if !status.is_success() {
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            return Err(Refusal { code: status.as_u16(), reason: text("reason"), message: text("message") });
        }
        if answer["kind"] == "Status" {
            return Ok(None);
        }
        Ok(Object::read(resource, &answer).ok())
    }
}

/// Whole seconds, as they stand in objects.
pub(super) fn seconds(time: Timestamp) -> String {
    jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", time).unwrap_or_default()
}

fn path(id: &Id) -> String {
    let Resource { group, version, plural } = &id.resource;
    let mut path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    if !id.namespace.is_empty() {
        path.push_str(&format!("/namespaces/{}", id.namespace));
    }
    path.push_str(&format!("/{plural}"));
    if !id.name.is_empty() {
        path.push_str(&format!("/{}", id.name));
    }
    path
}

fn change(change: &stored::Change) -> Option<Change> {
    let read = |json| object(&change.bucket, json);
    match (&change.old, &change.new) {
        (None, Some(new)) => read(new).map(Change::Added),
        (Some(_), Some(new)) => read(new).map(Change::Modified),
        (Some(old), None) => read(old).map(Change::Deleted),
        (None, None) => None,
    }
}

/// The name of a bucket is group and plural.
fn object(bucket: &str, json: &Value) -> Option<Object> {
    let (group, plural) = bucket.split_once('/')?;
    let api = json["apiVersion"].as_str().unwrap_or("v1");
    let version = api.rsplit('/').next().unwrap_or(api);
    let resource = Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        plural: plural.to_owned().into(),
    };
    Object::read(&resource, json)
        .inspect_err(|error| tracing::warn!("an object of {bucket} is not seen by the controllers: {error}"))
        .ok()
}

/// The changes that lead from one state to another.
pub(super) fn difference(before: &World, after: &World) -> Vec<Change> {
    let gone = before.all().filter(|object| {
        let now = after.find(&object.id());
        now.is_none_or(|now| now.metadata().uid != object.metadata().uid)
    });
    let mut changes: Vec<Change> = gone.cloned().map(Change::Deleted).collect();
    for object in after.all() {
        match before.find(&object.id()) {
            Some(old) if old == object => {}
            Some(old) if old.metadata().uid == object.metadata().uid => changes.push(Change::Modified(object.clone())),
            Some(_) | None => changes.push(Change::Added(object.clone())),
        }
    }
    changes
}
