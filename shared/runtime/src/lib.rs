//! What every program of ours needs around its core: threads, listeners, tasks, clocks, telemetry, an admin server.
//!
//! Invariant: this crate knows nothing about revisions or replicas beyond the types of `domain`.

pub mod admin;
pub mod clock;
pub mod listen;
pub mod memory;
pub mod net;
pub mod phase;
pub mod rlimit;
pub mod signals;
pub mod tasks;
pub mod telemetry;
pub mod wakes;
pub mod watched;

pub use admin::Admin;
pub use clock::Clock;
pub use phase::{Phase, PhaseSender};
pub use signals::Stop;
pub use tasks::Tasks;
pub use telemetry::Metrics;
pub use wakes::WakeLog;
