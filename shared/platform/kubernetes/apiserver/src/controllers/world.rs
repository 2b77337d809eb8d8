//! What a controller has seen of the cluster so far: the objects that its events told it, which may lag behind the store.
//!
//! Invariant: changes in the order of the store keep it equal to the store at one past moment; nothing else writes to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::object::{Id, Object, Resource, Typed};

/// One change as a watch tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Added(Object),
    Modified(Object),
    /// With the last state.
    Deleted(Object),
}

impl Change {
    pub(crate) fn object(&self) -> &Object {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => object,
        }
    }
}

/// The objects, ordered by resource, namespace and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    objects: BTreeMap<Id, Object>,
    uids: BTreeMap<String, Id>,
}

impl World {
    pub(crate) fn apply(&mut self, change: &Change) {
        let object = change.object();
        let id = object.id();
        if let Some(before) = self.objects.get(&id) {
            self.uids.remove(before.metadata().uid.as_deref().unwrap_or_default());
        }
        match change {
            Change::Added(_) | Change::Modified(_) => {
                if let Some(uid) = &object.metadata().uid {
                    self.uids.insert(uid.clone(), id.clone());
                }
                self.objects.insert(id, object.clone());
            }
            Change::Deleted(_) => {
                self.objects.remove(&id);
            }
        }
    }

    pub(crate) fn find(&self, id: &Id) -> Option<&Object> {
        self.objects.get(id)
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Object> {
        self.objects.get(self.uids.get(uid)?)
    }

    pub(crate) fn get<T: Typed>(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let id = Id { resource: T::RESOURCE, namespace: namespace.to_owned(), name: name.to_owned() };
        T::of(self.objects.get(&id)?)
    }

    /// All of a kind, in one namespace or in all.
    pub(crate) fn list<'a, T: Typed + 'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<T>> {
        self.of_resource(T::RESOURCE, namespace).filter_map(T::of)
    }

    fn of_resource<'a>(&'a self, resource: Resource, within: Option<&'a str>) -> impl Iterator<Item = &'a Object> {
        let from =
            Id { resource: resource.clone(), namespace: within.unwrap_or_default().to_owned(), name: String::new() };
        self.objects
            .range(from..)
            .take_while(move |(id, _)| id.resource == resource && within.is_none_or(|name| id.namespace == name))
            .map(|(_, object)| object)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }
}
