//! Kubernetes YAML to domain types, shared by both platforms.

pub mod workload;

pub use workload::{EnvVar, PreStop, Workload};
