//! The calm human log: what happened to a revision, one line each.
//!
//! Invariant: only what a person would want to be told; everything else is a metric or a decision record.

use autoscaler_core::Story;

/// Writes one line, such as `default/model: ready in 1.2 s`.
pub(crate) fn tell(story: &Story) {
    if story.what.is_warning() {
        tracing::warn!("{story}");
    } else {
        tracing::info!("{story}");
    }
}
