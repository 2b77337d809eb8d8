//! The calm human log: what happened to a revision, one line each.
//!
//! Invariant: only what a person would want to be told; everything else is a metric or a decision record.

use autoscaler_core::{Happening, Story};

/// Writes one line, such as `default/model: ready in 1.2 s`.
pub(crate) fn tell(story: &Story) {
    if needs_attention(&story.what) {
        tracing::warn!("{story}");
    } else {
        tracing::info!("{story}");
    }
}

/// Whether somebody may have to do something about it.
const fn needs_attention(what: &Happening) -> bool {
    match what {
        Happening::Woken
        | Happening::Ready { .. }
        | Happening::Scaled { .. }
        | Happening::Asleep
        | Happening::Exclusive { .. }
        | Happening::CoverageFull => false,
        Happening::StartFailed { .. }
        | Happening::CoveragePartial { .. }
        | Happening::NoReporters
        | Happening::DrainTimedOut { .. }
        | Happening::Problem { .. } => true,
    }
}
