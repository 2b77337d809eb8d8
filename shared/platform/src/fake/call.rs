//! The words of the fake: calls as they arrived, and what lies between a caller and the platform.

use crate::ScaleError;
use domain::{EndpointId, Replicas, ScaleTargetRef};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// One call of `scale`, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleCall {
    /// When.
    pub at: Instant,
    /// What was to be scaled.
    pub target: ScaleTargetRef,
    /// The count the decision was made from.
    pub from: Replicas,
    /// The count asked for.
    pub to: Replicas,
    /// Who should leave.
    pub remove_first: Vec<EndpointId>,
    /// What the caller was told; `None` while it waits behind a partition, and for ever if it gave up there.
    pub answer: Option<Result<(), ScaleError>>,
}

/// What lies between the callers of `scale` and the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Nothing: calls arrive.
    #[default]
    Open,
    /// A closed door: calls fail at once with [`ScaleError::Unreachable`].
    Refused,
    /// A void: calls hang until the partition heals.
    Silent,
}

/// Where replica number `n` of the platform listens.
pub type AddressOf = Arc<dyn Fn(u32) -> SocketAddr + Send + Sync>;
