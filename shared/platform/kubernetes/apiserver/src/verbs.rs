//! The verbs of the API, each from a request that is already allowed to its answer.
//!
//! Invariant: every write of an object goes through [`write::create`] or [`write::update`], every removal through `delete`.

pub(crate) mod delete;
pub(crate) mod question;
pub(crate) mod read;
pub(crate) mod subresource;
pub(crate) mod write;
