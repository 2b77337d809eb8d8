//! Decides how many replicas each revision should have: frames and platform changes in, commands out.
//!
//! Invariant: no clock, no randomness, no I/O, no logging; the same events at the same times give the same commands.
//!
//! ```text
//! Frame ──> reporters ──Sample──> window ──averages──> decide ──Why──> brain ──> Command::Scale
//!               │                 delay, idle ────────────^              │
//!               └──newest load──> proposal::backlog ──floor──────────────┤
//!                                             exclusive ──at most────────┤
//!                                             victims ──> drain ─────────┘──> Ack.drain
//! ```

pub mod brain;
pub mod decide;
pub mod delay;
pub mod drain;
pub mod event;
pub mod exclusive;
pub mod history;
pub mod idle;
pub mod proposal;
pub mod recompute;
pub mod replay;
pub mod reporters;
mod scaled;
pub mod slots;
pub mod status;
pub mod victims;
pub mod window;

#[cfg(test)]
mod testing;

pub use brain::Brain;
pub use event::{BrainSettings, Command, Event, FrameChunk, FrameHeader, Happening, ScaleOutcome, Story};
pub use status::{Activity, Condition, Kept, Numbers, RevisionStatus, Setting};
