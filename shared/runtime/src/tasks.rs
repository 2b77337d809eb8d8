//! Named tasks whose deaths are noticed.
//!
//! Invariant: every task of the process is spawned here; one that panics, or a service that ends before it was told to,
//! cancels [`Tasks::failed`], and the program ends with the task's name in the log.

use futures_util::FutureExt;
use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one runtime. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// No task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Told to every service when the program wants it to end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when a task died that should not have.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Runs something that ends by itself (a connection, a call).
    pub fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.guard(name);
        // Not an async block: it would hold `work` twice, and a connection is large.
        self.spawn_tracked(work.map(move |()| guard.end(true)));
    }

    /// Runs something that should last until [`Tasks::stop`]; ending earlier is a failure of the program.
    pub fn service<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let guard = self.guard(name);
        self.spawn_tracked(work.map(move |()| guard.end(stop.is_cancelled())));
    }

    fn guard(&self, name: &'static str) -> Death {
        Death { name, stop: self.stop.clone(), failed: self.failed.clone(), expected: false }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn_tracked<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(tokio::spawn(self.tracker.track_future(work)));
    }

    /// How many run now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Tells every service to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Notices a task that was dropped half way by a panic, or ended when it should not.
struct Death {
    name: &'static str,
    stop: CancellationToken,
    failed: CancellationToken,
    expected: bool,
}

impl Death {
    /// The task came to its end.
    fn end(mut self, expected: bool) {
        self.expected = expected;
    }
}

impl Drop for Death {
    fn drop(&mut self) {
        // A runtime that shuts down drops its tasks; that is no death.
        let dropped = !self.expected && !self.stop.is_cancelled();
        if (std::thread::panicking() || dropped) && !self.failed.is_cancelled() {
            tracing::error!(task = self.name, "a task ended that should not have; stopping");
            self.failed.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_early_is_a_failure() {
        let tasks = Tasks::new();
        tasks.service("early", async {});
        tasks.failed().cancelled().await;
    }

    #[tokio::test]
    async fn a_service_that_was_told_to_end_is_none() {
        let tasks = Tasks::new();
        let stop = tasks.stopping();
        tasks.service("calm", async move { stop.cancelled().await });
        tasks.spawn("short", async {});
        tasks.stop();
        tasks.wait().await;
        assert!(!tasks.failed().is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn("broken", async { panic!("on purpose") });
        tasks.failed().cancelled().await;
        tasks.wait().await;
    }
}
