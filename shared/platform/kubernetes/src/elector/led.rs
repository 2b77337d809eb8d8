//! A platform whose counts only the leader writes.
//!
//! Invariant: no scale call is begun without enough of the lease left for it, and none is under way when the lease is released.

use super::Standing;
use domain::{Change, EndpointId, Replicas, ScaleTargetRef};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use platform::{Leadership, Platform, ScaleError};
use std::sync::Arc;
use tokio::sync::watch;

/// Puts the election in front of a platform.
#[derive(Clone)]
pub struct Led {
    platform: Arc<dyn Platform>,
    standing: Standing,
}

impl std::fmt::Debug for Led {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Led").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Led {
    /// `platform` as this process may change it.
    #[must_use]
    pub fn new(platform: Arc<dyn Platform>, standing: Standing) -> Self {
        Self { platform, standing }
    }
}

impl Platform for Led {
    fn watch(&self) -> BoxStream<'static, Change> {
        self.platform.watch()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let Some(_call) = self.standing.call() else {
                return Err(ScaleError::Refused("this autoscaler does not lead, or not for long enough".into()));
            };
            self.platform.scale(target, from, to, remove_first).await
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.standing.leadership()
    }
}
