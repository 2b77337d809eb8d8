//! Every object and the last changes: what etcd and the watch cache are to the real server.
//!
//! Invariant: one revision is one change, and the history holds every revision after [`Store::compacted`] without a gap, so
//! a state that it reaches back to can be rebuilt exactly.

use crate::object;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Most changes kept for watches that come back, unless the options say otherwise.
pub(crate) const HISTORY_EVENTS_MAX: usize = 4096;

/// Namespace (empty for cluster-wide kinds) and name.
pub(crate) type Key = (String, String);

/// The objects of one kind, in the order of a list.
pub(crate) type Objects = BTreeMap<Key, Arc<Value>>;

/// One change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) bucket: Arc<str>,
    /// What was there before; nothing for a creation.
    pub(crate) old: Option<Arc<Value>>,
    /// What is there now; nothing for a deletion.
    pub(crate) new: Option<Arc<Value>>,
    pub(crate) key: Key,
    pub(crate) revision: u64,
}

/// All objects, by kind.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    compacted: u64,
    buckets: BTreeMap<Arc<str>, Objects>,
    history: VecDeque<Change>,
    history_max: usize,
}

impl Store {
    /// Empty; keeps the last `history_max` changes (at least one).
    pub(crate) fn new(history_max: usize) -> Self {
        Self {
            revision: 1,
            compacted: 1,
            buckets: BTreeMap::new(),
            history: VecDeque::new(),
            history_max: history_max.max(1),
        }
    }

    /// The number of the newest state.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest state that a watch may start from.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn get(&self, bucket: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.buckets.get(bucket)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Every object of a kind, all namespaces.
    pub(crate) fn all(&self, bucket: &str) -> impl Iterator<Item = &Arc<Value>> {
        self.buckets.get(bucket).into_iter().flat_map(BTreeMap::values)
    }

    /// Names of the kinds that have an object, or had one.
    pub(crate) fn buckets(&self) -> Vec<Arc<str>> {
        self.buckets.keys().cloned().collect()
    }

    /// Writes an object under its own namespace and name; it gets the new revision as its version.
    pub(crate) fn put(&mut self, bucket: &str, mut object: Value) -> Arc<Value> {
        let revision = self.revision + 1;
        object::metadata(&mut object).insert("resourceVersion".to_owned(), json!(revision.to_string()));
        let key = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        let object = Arc::new(object);
        let bucket = self.bucket(bucket);
        let old = self.buckets.entry(bucket.clone()).or_default().insert(key.clone(), object.clone());
        self.record(Change { bucket, old, new: Some(object.clone()), key, revision });
        object
    }

    /// Removes an object; the answer is its last state, with the revision of the removal as its version.
    pub(crate) fn remove(&mut self, bucket: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let bucket = self.bucket(bucket);
        let key = (namespace.to_owned(), name.to_owned());
        let old = self.buckets.get_mut(&bucket)?.remove(&key)?;
        let revision = self.revision + 1;
        self.record(Change { bucket, old: Some(old.clone()), new: None, key, revision });
        Some(Arc::new(with_version(&old, revision)))
    }

    fn bucket(&self, name: &str) -> Arc<str> {
        self.buckets.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone())
    }

    fn record(&mut self, change: Change) {
        self.revision = change.revision;
        self.history.push_back(change);
        while self.history.len() > self.history_max {
            if let Some(dropped) = self.history.pop_front() {
                self.compacted = dropped.revision;
            }
        }
    }

    /// Forgets every change: whoever is not up to date must list again.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
    }

    /// The changes after a state, oldest first; nothing when the history no longer reaches back to it.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        let skip = usize::try_from(revision.checked_sub(self.compacted)?).ok()?;
        Some(self.history.iter().skip(skip))
    }

    /// The objects of a kind in an earlier state; nothing when the history no longer reaches back to it.
    pub(crate) fn snapshot(&self, bucket: &str, revision: u64) -> Option<Cow<'_, Objects>> {
        if revision < self.compacted {
            return None;
        }
        let current = self.buckets.get(bucket);
        if let Some(current) = current.filter(|_| revision == self.revision) {
            return Some(Cow::Borrowed(current));
        }
        let mut objects = current.cloned().unwrap_or_default();
        let later = self.history.iter().rev().take_while(|change| change.revision > revision);
        for change in later.filter(|change| &*change.bucket == bucket) {
            match &change.old {
                Some(old) => drop(objects.insert(change.key.clone(), old.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        Some(Cow::Owned(objects))
    }
}

/// The object as if it had been written at that revision.
pub(crate) fn with_version(object: &Value, revision: u64) -> Value {
    let mut object = object.clone();
    object::metadata(&mut object).insert("resourceVersion".to_owned(), json!(revision.to_string()));
    object
}
