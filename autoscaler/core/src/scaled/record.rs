//! What is taken in of frames, and of what earlier autoscalers have left word of.
//!
//! Invariant: a sample counts when its second is closed, and once.

use super::{Context, Scaled};
use crate::reporters::{Effect, Span};
use crate::window::Collection;
use domain::{EndpointId, Replicas, Timestamp};

impl Scaled {
    /// An earlier autoscaler has seen requests of it.
    pub(crate) const fn note_traffic(&mut self) {
        self.traffic_seen = true;
    }

    /// Takes in what a frame said of it. Returns whether Knative would poke: load on a decision for zero.
    pub(crate) fn record(&mut self, context: Context<'_>, effect: &Effect) -> bool {
        self.traffic_seen |= effect.ever;
        if effect.active {
            self.idle.active(context.now);
        }
        if let Some(span) = effect.span {
            self.record_span(span, context.reporters.closed());
        }
        effect.active && self.desired == Some(Replicas::ZERO)
    }

    fn record_span(&mut self, span: Span, closed: u64) {
        if span.seconds() > self.revision.scaling.stable_window.as_secs() {
            // Longer than the window: how it was spread is not known, so counting starts again.
            self.covered_from = span.last;
            return;
        }
        let quiet = span.concurrency <= 0.0 && span.requests <= 0.0;
        if quiet && self.requested.is_zero() {
            return;
        }
        self.open.extend(span.samples());
        self.close(closed);
    }

    /// Moves what is closed into the rings. A half-filled second would make the average too low.
    pub(super) fn close(&mut self, closed: u64) {
        let rings = self.rings.get_or_insert_with(|| Collection::new(&self.revision.scaling));
        self.open.retain(|sample| {
            let still_open = sample.second > closed;
            if !still_open {
                rings.record(*sample);
            }
            still_open
        });
    }

    pub(crate) fn note_busy<'a>(&mut self, now: Timestamp, endpoints: impl Iterator<Item = &'a (EndpointId, u32)>) {
        for (id, load) in endpoints {
            if *load > 0 && self.endpoints.iter().any(|endpoint| endpoint.id == *id) {
                self.last_busy.insert(id.clone(), now);
            }
        }
    }
}
