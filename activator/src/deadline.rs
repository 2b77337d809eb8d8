//! One lazily armed timer for a request.
//!
//! Moving a tokio timer to a later instant is one compare-and-swap without a lock; creating and dropping one takes a lock
//! twice. So the timer is made on first need, only ever moved later, and re-armed when it fires before its time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};

/// A moment to be woken at, which may be moved.
#[derive(Debug, Default)]
pub struct Deadline {
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Never.
    #[must_use]
    pub const fn never() -> Self {
        Self { due: None, sleep: None }
    }

    /// At `due`, or never.
    #[must_use]
    pub const fn at(due: Option<Instant>) -> Self {
        Self { due, sleep: None }
    }

    /// Moves it.
    pub const fn set(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// Whether there is a moment to wait for.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Ready once the moment has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            if due < sleep.deadline() {
                // Earlier than armed: the only case that costs a lock.
                sleep.as_mut().reset(due);
            }
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if Instant::now() >= due => return Poll::Ready(()),
                Poll::Ready(()) => sleep.as_mut().reset(due),
            }
        }
    }

    /// Waits for the moment.
    pub async fn passed(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn moves_both_ways() {
        let start = Instant::now();
        let mut deadline = Deadline::at(Some(start + Duration::from_secs(1)));
        assert!(futures_util::poll!(std::future::poll_fn(|cx| deadline.poll(cx))).is_pending());
        deadline.set(Some(start + Duration::from_secs(5)));
        deadline.passed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        deadline.set(Some(start + Duration::from_secs(9)));
        assert!(futures_util::poll!(std::future::poll_fn(|cx| deadline.poll(cx))).is_pending());
        deadline.set(Some(start + Duration::from_secs(6)));
        deadline.passed().await;
        assert_eq!(start.elapsed(), Duration::from_secs(6));
    }
}
