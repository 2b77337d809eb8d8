//! Garbage collection: what all owners have left goes too, or is let go when that was asked for.
//!
//! Invariant: nothing goes while one of its owners exists, and a reference to an object that never was counts as gone.
//! Namespaces are not emptied here: the server does that itself.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::controller::Controller;
use super::object::{Id, Object, namespace, uid};
use super::world::{Change, World};
use super::write::{Outcome, Propagation, Write};

/// The finalizer that lets dependents live on without their owner.
pub(crate) const ORPHAN: &str = "orphan";
/// The finalizer that keeps an owner until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

#[derive(Debug, Default)]
pub(crate) struct Garbage;

fn has_finalizer(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.deletion_timestamp.is_some() && metadata.finalizers.iter().flatten().any(|found| found == finalizer)
}

/// The owner, if it exists where it can be one: in the same namespace, or in none.
fn owner<'a>(world: &'a World, dependent: &ObjectMeta, reference: &OwnerReference) -> Option<&'a Object> {
    let found = world.by_uid(&reference.uid)?;
    let within = namespace(found.metadata());
    (within.is_empty() || within == namespace(dependent)).then_some(found)
}

fn dependents<'a>(world: &'a World, owner: &'a ObjectMeta) -> impl Iterator<Item = &'a Object> {
    world.all().filter(|object| {
        object.metadata().owner_references.iter().flatten().any(|reference| reference.uid == uid(owner))
    })
}

fn without_finalizer(object: &Object, finalizer: &str) -> Write {
    let mut after = object.clone();
    after.metadata_mut().finalizers.get_or_insert_default().retain(|found| found != finalizer);
    Write::Metadata(after)
}

fn without_owners(object: &Object, keep: impl Fn(&OwnerReference) -> bool) -> Write {
    let mut after = object.clone();
    after.metadata_mut().owner_references.get_or_insert_default().retain(|reference| keep(reference));
    Write::Metadata(after)
}

/// The writes for one object: as an owner that is on its way out, and as a dependent.
pub(crate) fn collect(world: &World, object: &Object) -> Vec<Write> {
    let metadata = object.metadata();
    if has_finalizer(metadata, ORPHAN) {
        let kept = dependents(world, metadata)
            .map(|dependent| without_owners(dependent, |reference| reference.uid != uid(metadata)));
        return kept.chain([without_finalizer(object, ORPHAN)]).collect();
    }
    if has_finalizer(metadata, FOREGROUND) {
        let left: Vec<&Object> = dependents(world, metadata).collect();
        if left.is_empty() {
            return vec![without_finalizer(object, FOREGROUND)];
        }
        return left.into_iter().filter(|object| object.metadata().deletion_timestamp.is_none()).map(delete).collect();
    }
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    if references.is_empty() || metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let stays = |reference: &OwnerReference| {
        owner(world, metadata, reference).is_some_and(|found| !has_finalizer(found.metadata(), FOREGROUND))
    };
    let (solid, gone): (Vec<_>, Vec<_>) = references.iter().partition(|reference| stays(reference));
    if gone.is_empty() || gone.iter().any(|reference| waits(world, metadata, reference)) {
        return Vec::new();
    }
    if solid.is_empty() { vec![delete(object)] } else { vec![without_owners(object, stays)] }
}

/// An owner that is about to let its dependents live on still has to say so.
fn waits(world: &World, dependent: &ObjectMeta, reference: &OwnerReference) -> bool {
    owner(world, dependent, reference).is_some_and(|found| has_finalizer(found.metadata(), ORPHAN))
}

fn delete(object: &Object) -> Write {
    Write::Delete {
        id: object.id(),
        uid: uid(object.metadata()).to_owned(),
        grace: None,
        propagation: Propagation::Background,
    }
}

impl Controller for Garbage {
    fn affected(&mut self, world: &World, change: &Change) -> Vec<Id> {
        let object = change.object();
        let metadata = object.metadata();
        let mut keys = Vec::new();
        match change {
            Change::Deleted(_) => {
                keys.extend(dependents(world, metadata).map(Object::id));
                // A foreground deletion of its owner may have waited for this one.
                let references = metadata.owner_references.iter().flatten();
                keys.extend(references.filter_map(|reference| owner(world, metadata, reference)).map(Object::id));
            }
            Change::Added(_) | Change::Modified(_) => {
                if metadata.owner_references.is_some() || metadata.deletion_timestamp.is_some() {
                    keys.push(object.id());
                }
            }
        }
        keys
    }

    fn reconcile(&mut self, _: Timestamp, world: &World, key: &Id) -> Outcome {
        Outcome::writes(world.find(key).map(|object| collect(world, object)).unwrap_or_default())
    }
}
