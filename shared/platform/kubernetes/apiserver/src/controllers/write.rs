//! What a controller asks of the store, and how the store may refuse.
//!
//! Invariant: each write carries what makes a stale one fail: the resourceVersion of what was read, or the uid that was meant.

use std::time::Duration;

use super::object::{Id, Object};

/// One call to the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    Create(Object),
    /// A replacement with the resourceVersion that was read, so also how something is scaled.
    Update(Object),
    /// A replacement of the status, with the resourceVersion that was read.
    Status(Object),
    /// Owner references and finalizers of an object of any kind, as a merge patch with its resourceVersion.
    Metadata(Object),
    Delete {
        id: Id,
        uid: String,
        /// Seconds until it is gone; the object's own when absent.
        grace: Option<i64>,
        propagation: Propagation,
    },
    /// Gives a pod to a node.
    Bind {
        id: Id,
        uid: String,
        node: String,
    },
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// The reason of the `Status` object, like `AlreadyExists`.
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == 404
    }
}

/// What came of looking at one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// To be done in this order; the first refusal ends it, and the key is looked at again.
    pub(crate) writes: Vec<Write>,
    /// Look again after this time even if nothing changes.
    pub(crate) again_in: Option<Duration>,
}

impl Outcome {
    pub(crate) fn writes(writes: Vec<Write>) -> Self {
        Self { writes, again_in: None }
    }
}
