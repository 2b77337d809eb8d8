//! What asks for replicas: Knative's averages, and the newest load.
//!
//! Invariant: a proposal only asks; bounds, idleness and holds are applied to all of them in [`crate::decide`].

pub mod backlog;
pub mod kpa;
