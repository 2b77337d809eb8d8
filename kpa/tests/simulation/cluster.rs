//! One fake platform, seen by every program through a seat of its own, and the ledger of all that happened.
//!
//! Invariant: what a rule forbids is noted the moment it happens, with the simulated time; the driver fails on the note.

use crate::ledger::{Ledger, Write};
use domain::{Change, EndpointId, Replicas, RevisionId, ScaleTargetRef};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use parking_lot::{Mutex, MutexGuard};
use platform::fake::Fake;
use platform::{Leadership, Platform, ScaleError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Autoscalers in every simulation.
pub(crate) const AUTOSCALERS: usize = 2;
/// Activators in every simulation.
pub(crate) const ACTIVATORS: usize = 2;
/// How long a scale call is on its way.
const CALL: Duration = Duration::from_millis(30);

/// What all hosts share.
pub(crate) struct Cluster {
    pub(crate) fake: Fake,
    pub(crate) id: RevisionId,
    leads: [watch::Sender<Leadership>; AUTOSCALERS],
    ledger: Mutex<Ledger>,
}

impl Cluster {
    /// Nobody leads yet.
    pub(crate) fn new(fake: Fake, id: RevisionId, ledger: Ledger) -> Arc<Self> {
        let leads = std::array::from_fn(|_| watch::Sender::new(Leadership::Follower));
        Arc::new(Self { fake, id, leads, ledger: Mutex::new(ledger) })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Gives the right to act to one autoscaler, or to nobody. It is taken before it is given, as a lease is.
    pub(crate) fn lead(&self, leader: Option<usize>) {
        self.ledger().leader = leader;
        for (number, lead) in self.leads.iter().enumerate() {
            if leader != Some(number) {
                lead.send_replace(Leadership::Follower);
            }
        }
        if let Some(number) = leader {
            self.leads[number].send_replace(Leadership::Leader { until: None });
        }
    }

    /// Replicas the platform was last asked for.
    pub(crate) fn requested(&self) -> u32 {
        self.fake.requested(&self.id).map_or(0, Replicas::get)
    }
}

/// The platform as one program sees it.
pub(crate) struct Seat {
    pub(crate) cluster: Arc<Cluster>,
    /// The number of an autoscaler; activators have none and never write.
    pub(crate) autoscaler: Option<usize>,
}

impl Platform for Seat {
    fn watch(&self) -> BoxStream<'static, Change> {
        self.cluster.fake.watch()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let cluster = &*self.cluster;
            cluster.ledger().about_to_write(self.autoscaler, to);
            tokio::time::sleep(CALL).await;
            let before = cluster.requested();
            let answer = cluster.fake.scale(target, from, to, remove_first).await;
            let write = Write {
                at: now(),
                caller: self.autoscaler,
                before,
                to: to.get(),
                remove_first: remove_first.to_vec(),
                accepted: answer.is_ok(),
            };
            cluster.ledger().written(write);
            answer
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        match self.autoscaler {
            Some(number) => self.cluster.leads[number].subscribe(),
            None => watch::Sender::new(Leadership::Follower).subscribe(),
        }
    }
}

/// Simulated time; every host has the same.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
