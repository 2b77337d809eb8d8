//! Replicas as pods: the platform trait on a Kubernetes cluster.
//!
//! Invariant: the scale subresource is the only way to a count, and nothing else of a workload is ever written.

pub mod lease;
