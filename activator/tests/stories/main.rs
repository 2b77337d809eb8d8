//! Stories of the whole activator over real loopback sockets: one file a subject.
//!
//! Invariant: time is real, so nothing sleeps to let something happen; every wait is for a condition and has a bound.

mod headers;
mod rig;
mod wire;
