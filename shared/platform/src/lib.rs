//! The one port to the world that runs replicas: three verbs, implemented by Kubernetes, by local processes and by a
//! fake.
//!
//! Invariant: a platform decides nothing about counts; it tells what is, and does what it is told.

pub mod audience;
pub mod board;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
#[cfg(any(test, feature = "test-support"))]
pub mod fake;
pub mod fixed;
pub mod leadership;
pub mod manifest;
pub mod probe;
pub mod trust;

pub use leadership::Leadership;

use domain::{Change, EndpointId, Replicas, ScaleTargetRef};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use std::time::Duration;
use tokio::sync::watch;

/// What runs replicas.
pub trait Platform: Send + Sync + 'static {
    /// Everything known now, then [`Change::Synced`], then every change; [`Change::Deleted`] for what a re-list no longer
    /// has. Reconnects by itself; never ends.
    fn watch(&self) -> BoxStream<'static, Change>;

    /// Asks for `to` replicas. Returns when the request is accepted, not when replicas are up. Raising always writes;
    /// lowering is a compare-and-set on `from`. Exactly `remove_first` leaves, where the platform can; one that needs time
    /// to see to it may lower in parts, and is asked for the rest again. With `to` equal to `from` the count stays, and
    /// those of `remove_first` that the platform itself shows as draining are idle and may end.
    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>>;

    /// Whether this process may act, and until when.
    fn leadership(&self) -> watch::Receiver<Leadership>;
}

/// Why a scale call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Somebody else wrote: read again, decide again, never force.
    #[error("the count is {now} and not the one the decision was made from")]
    Changed {
        /// The count that was found.
        now: Replicas,
    },
    /// The target does not exist.
    #[error("{0} does not exist")]
    NotFound(ScaleTargetRef),
    /// The platform asks for patience.
    #[error("the platform is busy; try again in {0:?}")]
    Busy(Duration),
    /// The platform refuses, and will again.
    #[error("refused: {0}")]
    Refused(String),
    /// The platform could not be reached.
    #[error("not reachable: {0}")]
    Unreachable(String),
}
