//! The controllers of a cluster in memory: what turns a Deployment into pods, and pods into endpoints, as the real ones do.
//!
//! Invariant: each controller is a pure function of what it has seen; only the runner knows the store, time and processes.

mod claim;
mod cluster;
mod controller;
mod deployment;
mod disruption;
mod endpointslice;
mod expectations;
mod garbage;
mod hash;
mod kubelet;
mod node;
mod object;
mod pods;
mod replicaset;
mod scheduler;
mod selector;
#[cfg(test)]
mod testing;
mod world;
mod write;

pub use cluster::{Cluster, ClusterOptions, NodeOptions, Part};
pub use kubelet::{
    Ended, Kubelet, Life, Lives, Orders, PodKey, ProcessOptions, Processes, Reports, Script, Seen, Simulated,
    SimulatedOptions, State, Told,
};
