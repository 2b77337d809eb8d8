//! How one replica is run, independent of who runs it: the part of a pod template that a single machine can honour.

use domain::{Probe, Replicas, RevisionId};
use std::path::PathBuf;
use std::time::Duration;

/// One runnable workload. Two values that compare equal need no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it belongs to.
    pub id: RevisionId,
    /// `spec.replicas`; missing is 1.
    pub replicas: Replicas,
    /// Program and arguments, `$(VAR)` not yet expanded. Never empty.
    pub command: Vec<String>,
    /// Environment in the order of the manifest, `$(VAR)` not yet expanded; references to ConfigMaps and Secrets are
    /// already resolved.
    pub env: Vec<EnvVar>,
    /// `workingDir`; `None` is the folder of the manifest.
    pub working_dir: PathBuf,
    /// The serving port of the manifest. The replica is told its own through `PORT`.
    pub port: Option<u16>,
    /// `readinessProbe`; `None` is a TCP connect to the serving port.
    pub readiness: Option<Probe>,
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<PreStop>,
    /// `terminationGracePeriodSeconds`, default 30 s.
    pub termination_grace: Duration,
    /// `nvidia.com/gpu` that one replica asks for.
    pub gpus: u32,
}

/// One environment variable.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// It came from a Secret and is never shown.
    pub secret: bool,
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, if self.secret { "***" } else { &self.value })
    }
}

/// What is done before a replica is told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreStop {
    /// Run this command.
    Exec(Vec<String>),
    /// GET this path.
    Http {
        /// `None`: the serving port.
        port: Option<u16>,
        /// Path with query.
        path: String,
    },
    /// Wait.
    Sleep(Duration),
}
