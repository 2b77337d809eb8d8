//! HTTP/1.1 on the wire (RFC 9112), the same towards clients and replicas.
//!
//! Invariant: nothing that two readers could understand differently is read; whoever reads or writes does so in the task of
//! the exchange, and takes no more into memory than the bounds here say.

pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod inbox;
pub(crate) mod outbox;

pub use fields::Unreadable;
