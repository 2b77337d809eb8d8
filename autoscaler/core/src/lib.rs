//! Decides how many replicas each revision should have: frames and platform changes in, commands out.
//!
//! Invariant: no clock, no randomness, no I/O, no logging; the same events at the same times give the same commands.
//!
//! ```text
//! Frame ──> reporters ──Sample──> window ──averages──> decide ──Why──> brain ──> Command::Scale
//!               │                 delay, idle ────────────^              │
//!               └──newest load──> proposal::backlog ──floor──────────────┤
//!                                             victims ──> drain ─────────┘──> Ack.drain
//! ```

pub mod decide;
pub mod delay;
pub mod event;
pub mod proposal;
pub mod recompute;
pub mod reporters;
pub mod status;
pub mod window;

#[cfg(test)]
mod testing;

pub use event::{BrainSettings, Command, Event, FrameChunk, FrameHeader, Happening, ScaleOutcome, Story};
pub use status::{Activity, Condition, Kept, RevisionStatus, Setting};

use domain::{Ack, ReporterId, RevisionId, Timestamp};

/// The owner of every revision's state.
#[derive(Debug)]
pub struct Brain {
    settings: BrainSettings,
}

impl Brain {
    /// A brain that starts now and knows nothing.
    #[must_use]
    pub const fn new(_started: Timestamp, settings: BrainSettings) -> Self {
        Self { settings }
    }

    /// Takes in one event; what is to be done is appended to `commands`.
    pub fn handle(&mut self, _now: Timestamp, _event: Event, commands: &mut Vec<Command>) {
        commands.truncate(self.settings.history_bytes);
    }

    /// What `reporter` is told in answer to its frame. `seq` is for the caller to fill in.
    #[must_use]
    pub fn ack(&mut self, _now: Timestamp, _reporter: &ReporterId) -> Ack {
        Ack::default()
    }

    /// Every revision, by id.
    #[must_use]
    pub const fn statuses(&self, _now: Timestamp) -> Vec<RevisionStatus> {
        Vec::new()
    }

    /// The decisions kept of a revision, oldest first.
    #[must_use]
    pub const fn history(&self, _id: &RevisionId) -> Vec<Kept> {
        Vec::new()
    }
}
