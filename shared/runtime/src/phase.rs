//! Where a program is in its life.

use tokio::sync::watch;

/// The life of a program, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not ready yet: settings or the platform's state are missing.
    Starting,
    /// Serving.
    Ready,
    /// Told to stop: readiness fails, work goes on.
    Draining,
    /// Done.
    Stopped,
}

/// Owner of the phase; watchers see every change.
#[derive(Debug, Clone)]
pub struct PhaseSender(watch::Sender<Phase>);

impl PhaseSender {
    /// In [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// Moves on; a phase never goes back.
    pub fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let forward = to > *phase;
            if forward {
                *phase = to;
            }
            forward
        });
    }

    /// The phase now.
    #[must_use]
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Follows the phase.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

impl Default for PhaseSender {
    fn default() -> Self {
        Self::new()
    }
}
