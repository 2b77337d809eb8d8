//! Starts that fail (kpa-behaviour 5.4, 11.4).
//!
//! Invariant: while a replica is there, nobody is refused for a start that failed.

use super::{AbortOnPanic, Gate, StartFailure};
use activator_core::Warmth;
use activator_core::admission::Class;
use std::sync::Arc;

impl Gate {
    /// The start failed: everybody who waits is refused, and so are newcomers until `retry_at`.
    pub fn fail_start(&self, failure: &StartFailure) {
        let refused: Vec<_> = {
            let _abort = AbortOnPanic::new();
            let mut state = self.state.lock();
            if state.is_warm() {
                return;
            }
            state.failure = Some(failure.clone());
            state.warmth = Warmth::Asleep;
            let mut next = || {
                let admission = &mut state.admission;
                admission.take_next(Class::Normal).or_else(|| admission.take_next(Class::Neighbour))
            };
            let waiters = std::iter::from_fn(&mut next).collect();
            self.publish(&state);
            waiters
        };
        for waiter in refused {
            let _ = waiter.send(Err(failure.clone()));
        }
    }

    /// What the platform says is wrong with the replicas, for those who wait in vain.
    pub fn set_trouble(&self, trouble: Option<Arc<str>>) {
        self.state.lock().trouble = trouble;
    }

    /// What the platform says is wrong.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.state.lock().trouble.clone()
    }
}
