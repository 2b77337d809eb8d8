//! What every program of ours needs around its core: threads, listeners, tasks, clocks, telemetry, an admin server.
//!
//! Invariant: this crate knows nothing about revisions or replicas beyond the types of `domain`.

pub mod clock;
pub mod phase;
pub mod tasks;

pub use clock::Clock;
pub use phase::{Phase, PhaseSender};
pub use tasks::Tasks;
