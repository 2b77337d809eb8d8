//! Where requests can be sent: a pod, a process, or a service address.

use crate::probe::Probe;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names one replica for as long as it lives; never reused. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// The replica called `name` (a pod's uid, a process's instance name).
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One replica as the platform sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name.
    pub id: EndpointId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the platform says of it.
    pub state: EndpointState,
    /// How an activator finds out earlier than the platform that it answers (kpa-behaviour 4.4): the container's readiness
    /// probe, else a TCP connect. `None` when only the platform can know (exec probe, startup probe) or already probes as
    /// fast as we would (local).
    pub early_probe: Option<Probe>,
}

/// What the platform says of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// It exists and is not ready.
    Starting,
    /// It may be sent requests.
    Ready,
    /// It is leaving: it finishes what it has and gets nothing new.
    Draining,
}
