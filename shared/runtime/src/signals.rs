//! What an operator's signals ask for.
//!
//! Invariant: the first SIGTERM or SIGINT drains, the second forces; nothing else is understood.

use crate::tasks::Tasks;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What has been asked for. Clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Cancelled by the first signal: finish what runs, then end.
    pub drain: CancellationToken,
    /// Cancelled by the second: end now.
    pub force: CancellationToken,
}

impl Stop {
    /// Nothing asked for, and no signal followed: for tests and embedding.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows SIGTERM and SIGINT until the program stops.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn on_signals(tasks: &Tasks) -> io::Result<Self> {
        let stop = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (wish, stopping) = (stop.clone(), tasks.stopping());
        tasks.service("signals", async move {
            loop {
                let name = tokio::select! {
                    biased; // The order of the two signals means nothing; stopping ends the task.
                    () = stopping.cancelled() => break,
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                wish.ask(name);
            }
        });
        Ok(stop)
    }

    /// One signal, or whatever else counts as one (a test, a parent that is gone).
    pub fn ask(&self, who: &str) {
        if self.drain.is_cancelled() {
            tracing::warn!("{who} again: stopping now");
            self.force.cancel();
        } else {
            tracing::info!("{who}: finishing what runs; once more stops at once");
            self.drain.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, raise};

    #[tokio::test]
    async fn once_drains_twice_forces() {
        let tasks = Tasks::new();
        let stop = Stop::on_signals(&tasks).unwrap();
        assert!(!stop.drain.is_cancelled());
        raise(Signal::SIGTERM).unwrap();
        stop.drain.cancelled().await;
        assert!(!stop.force.is_cancelled());
        raise(Signal::SIGINT).unwrap();
        stop.force.cancelled().await;
        tasks.stop();
        tasks.wait().await;
        assert!(!tasks.failed().is_cancelled());
    }
}
