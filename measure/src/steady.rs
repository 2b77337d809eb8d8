//! A platform whose replicas are what they are, and that counts what it is asked for.

use crate::told;
use domain::{Change, EndpointId, Replicas, ReporterId, ScaleTargetRef};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use platform::audience::{Audience, Occurrence, Shown};
use platform::board::Board;
use platform::{Leadership, Platform, ScaleError};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// The platform.
#[derive(Debug)]
pub(crate) struct Steady {
    board: Board,
    leadership: watch::Sender<Leadership>,
    calls: AtomicU64,
}

impl Steady {
    /// `revisions` with the defaults; the first `warm` have a ready replica, the others none.
    pub(crate) fn new(revisions: u32, warm: u32, activators: Vec<ReporterId>) -> Self {
        let board = Board::new();
        let settings = told::default_revision(told::id(0));
        for n in 0..revisions {
            told::listed(&settings, n, n < warm).into_iter().for_each(|change| board.tell(change));
        }
        board.tell(Change::Activators(activators));
        let leadership = watch::Sender::new(Leadership::Leader { until: None });
        Self { board, leadership, calls: AtomicU64::new(0) }
    }

    /// How often another count was asked for.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }
}

impl Platform for Steady {
    fn watch(&self) -> BoxStream<'static, Change> {
        self.board.watch()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        _from: Replicas,
        _to: Replicas,
        _remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        self.calls.fetch_add(1, Relaxed);
        Box::pin(async move { Err(ScaleError::Refused(format!("{target} stays as it is"))) })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// Looks at everything, and keeps nothing of it.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Audience for Nobody {
    fn show(&self, _: Shown) {}

    fn hear(&self, _: &domain::RevisionId, _: Occurrence) {}
}
