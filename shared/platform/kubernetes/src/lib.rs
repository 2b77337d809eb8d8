//! Replicas as pods: the platform trait on a Kubernetes cluster.
//!
//! Invariant: the scale subresource is the only way to a count, and nothing else of a workload is ever written.

pub mod arguments;
pub mod by_hand;
pub mod cluster;
pub mod complaints;
pub mod elector;
mod keep;
pub mod lease;
pub mod objects;
pub mod peers;
pub mod picture;
pub mod proxy;
pub mod publisher;
pub mod review;
pub mod right;
pub mod routes;
pub mod scale;
mod schedule;
pub mod settings;
pub mod status;
pub mod survey;
pub mod takeover;
#[cfg(test)]
mod testing;
pub mod token;
pub mod trim;
pub mod victims;
pub mod wanted;
pub mod watching;
