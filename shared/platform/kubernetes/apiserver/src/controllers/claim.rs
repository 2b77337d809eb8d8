//! Adoption and release: what a selector takes and nobody controls is adopted; what it no longer takes is let go.
//!
//! Invariant: an object that somebody else controls is never touched.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::object::{Object, Typed, controller_of, controller_reference, uid};
use super::selector::selects;
use super::write::Write;

/// The objects that `owner` controls, after the writes that make it so.
pub(crate) struct Claim<T> {
    pub(crate) owned: Vec<Arc<T>>,
    pub(crate) writes: Vec<Write>,
}

pub(crate) fn claim<'a, O, T>(owner: &O, selector: &LabelSelector, all: impl Iterator<Item = &'a Arc<T>>) -> Claim<T>
where
    O: Typed,
    T: Typed + Clone + 'a,
    Object: From<T>,
{
    let (mut owned, mut writes) = (Vec::new(), Vec::new());
    let leaving = owner.metadata().deletion_timestamp.is_some();
    for object in all {
        let metadata: &ObjectMeta = object.metadata();
        // Asked last: most objects of a namespace are somebody else's.
        let selected = || selects(selector, metadata.labels.as_ref());
        match controller_of(metadata) {
            Some(reference) if reference.uid == uid(owner.metadata()) => {
                if selected() {
                    owned.push(Arc::clone(object));
                } else if !leaving {
                    let mut released = T::clone(object);
                    let references = released.metadata_mut().owner_references.get_or_insert_default();
                    references.retain(|reference| reference.uid != uid(owner.metadata()));
                    writes.push(Write::Metadata(released.into()));
                }
            }
            None if !leaving && metadata.deletion_timestamp.is_none() && selected() => {
                let mut adopted = T::clone(object);
                adopted.metadata_mut().owner_references.get_or_insert_default().push(controller_reference(owner));
                owned.push(Arc::new(adopted.clone()));
                writes.push(Write::Metadata(adopted.into()));
            }
            Some(_) | None => {}
        }
    }
    Claim { owned, writes }
}
