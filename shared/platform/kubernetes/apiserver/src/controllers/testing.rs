//! A store for tests of controllers, and makers of the objects that they start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::controller::{Answer, Controller};
use super::object::{Id, Object, Typed};
use super::world::{Change, World};
use super::write::{Refusal, Write};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

pub(crate) fn read<T: Typed + Clone>(json: &Value) -> T {
    let object = Object::read(&T::RESOURCE, json).unwrap();
    T::clone(T::of(&object).unwrap())
}

pub(crate) fn pod(json: &Value) -> Arc<Pod> {
    Arc::new(read(json))
}

pub(crate) fn deployment(replicas: i32, strategy: &Value) -> Value {
    json!({
        "metadata": {"name": "model", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": {"app": "model"}},
            "template": {
                "metadata": {"labels": {"app": "model"}},
                "spec": {"containers": [{"name": "server", "image": "a", "ports": [{"name": "http", "containerPort": 80}]}]},
            },
        },
    })
}

/// A store with the rules that controllers rely on: uids, resourceVersions, generations, graceful deletion.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) now: i64,
    pub(crate) changes: Vec<Change>,
    pub(crate) refuse_pods: Option<Refusal>,
    count: u64,
}

fn refusal(code: u16, reason: &str) -> Refusal {
    Refusal { code, reason: reason.to_owned(), message: format!("refused: {reason}") }
}

impl Bench {
    pub(crate) fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn apply(&mut self, change: Change) {
        self.world.apply(&change);
        self.changes.push(change);
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn add(&mut self, mut object: Object) -> Object {
        let (count, now) = (self.next(), self.now());
        let metadata = object.metadata_mut();
        metadata.uid.get_or_insert_with(|| format!("u{count:06}"));
        if let Some(prefix) = &metadata.generate_name {
            metadata.name.get_or_insert_with(|| format!("{prefix}{count:05}"));
        }
        metadata.generation.get_or_insert(1);
        metadata.resource_version = Some(count.to_string());
        metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        self.apply(Change::Added(object.clone()));
        object
    }

    pub(crate) fn replace(&mut self, mut object: Object, with_spec: bool) {
        let count = self.next();
        let metadata = object.metadata_mut();
        metadata.resource_version = Some(count.to_string());
        if with_spec {
            metadata.generation = metadata.generation.map(|generation| generation + 1);
        }
        let done = metadata.deletion_timestamp.is_some()
            && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
            && metadata.deletion_grace_period_seconds.unwrap_or(0) == 0;
        self.apply(if done { Change::Deleted(object) } else { Change::Modified(object) });
    }

    pub(crate) fn remove(&mut self, id: &Id) {
        if let Some(object) = self.world.find(id).cloned() {
            self.apply(Change::Deleted(object));
        }
    }

    fn current(&self, object: &Object) -> Result<Object, Refusal> {
        let found = self.world.find(&object.id()).ok_or_else(|| refusal(404, "NotFound"))?;
        if found.metadata().resource_version != object.metadata().resource_version {
            return Err(refusal(409, "Conflict"));
        }
        Ok(found.clone())
    }

    pub(crate) fn write(&mut self, write: &Write) -> Answer {
        match write {
            Write::Create(object) => {
                if let (Object::Pod(_), Some(refusal)) = (object, &self.refuse_pods) {
                    return Err(refusal.clone());
                }
                if object.metadata().name.is_some() && self.world.find(&object.id()).is_some() {
                    return Err(refusal(409, "AlreadyExists"));
                }
                Ok(Some(self.add(object.clone())))
            }
            Write::Update(object) | Write::Metadata(object) => {
                self.current(object)?;
                self.replace(object.clone(), matches!(write, Write::Update(_)));
                Ok(self.world.find(&object.id()).cloned())
            }
            Write::Status(object) => {
                self.current(object)?;
                self.replace(object.clone(), false);
                Ok(self.world.find(&object.id()).cloned())
            }
            Write::Delete { id, uid, grace, .. } => {
                let found = self.world.find(id).cloned().ok_or_else(|| refusal(404, "NotFound"))?;
                if found.metadata().uid.as_ref() != Some(uid) {
                    return Err(refusal(409, "Conflict"));
                }
                let bound = Pod::of(&found).is_some_and(|pod| super::pods::node(pod).is_some());
                if bound && *grace != Some(0) {
                    let mut going = found;
                    let now = self.now();
                    let metadata = going.metadata_mut();
                    metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
                    metadata.deletion_grace_period_seconds = Some(30);
                    self.replace(going, false);
                } else {
                    self.apply(Change::Deleted(found));
                }
                Ok(None)
            }
            Write::Bind { id, node, .. } => {
                let mut pod = Pod::of(self.world.find(id).unwrap()).unwrap().as_ref().clone();
                pod.spec.get_or_insert_default().node_name = Some(node.clone());
                self.replace(pod.into(), false);
                Ok(None)
            }
        }
    }

    /// Looks at one key and carries out what comes of it, on the cache `world`.
    pub(crate) fn step(&mut self, controller: &mut dyn Controller, world: &World, key: &Id) -> Vec<Write> {
        let writes = controller.reconcile(self.now(), world, key).writes;
        let mut answers = Vec::new();
        for write in &writes {
            let answer = self.write(write);
            let refused = answer.is_err();
            answers.push(answer);
            if refused {
                break;
            }
        }
        for write in controller.settle(self.now(), world, key, &writes, &answers) {
            // A conflict is what a stale cache gives: the next look repairs it.
            let _ = self.write(&write);
        }
        writes
    }

    /// Tells `controllers` every change until none follows from another. Panics when that takes too long.
    pub(crate) fn settle(&mut self, controllers: &mut [&mut dyn Controller]) {
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..10_000 {
            let mut idle = true;
            for (index, controller) in controllers.iter_mut().enumerate() {
                let from = seen.insert(index, self.changes.len()).unwrap_or(0);
                let world = self.world.clone();
                let fresh: Vec<Change> = self.changes[from..].to_vec();
                let mut keys: Vec<Id> = fresh.iter().flat_map(|change| controller.affected(&world, change)).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    idle = false;
                    self.step(&mut **controller, &world, &key);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the controllers do not come to rest");
    }
}
