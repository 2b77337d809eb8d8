//! Why a revision does not shrink, whatever the load asks for.
//!
//! Invariant: only reads; no data is not zero.

use super::{Context, Scaled};
use crate::reporters::Coverage;
use domain::why::Hold;
use domain::{Mode, Origin};

impl Scaled {
    /// Why nothing may shrink, if so.
    pub(super) fn hold(&self, context: Context<'_>) -> Option<Hold> {
        let Context { now, reporters, .. } = context;
        let spec = &self.revision.scaling;
        if let Some(by_hand) = self.by_hand() {
            return Some(by_hand);
        }
        let blind = self.blind(context);
        if blind.is_some_and(|blind| blind != Hold::TrafficNotSeen) {
            return blind;
        }
        let covered_from = reporters.covered_from(now).max(self.covered_from);
        if reporters.closed() < covered_from + spec.stable_window.as_secs() {
            return Some(Hold::WarmingUp);
        }
        blind
    }

    pub(super) fn coverage(&self, context: Context<'_>) -> Coverage {
        context.reporters.coverage(context.now, &self.revision.id, *self.revision.scaling.stable_window)
    }

    /// Why its requests are not known well enough to take anything from it.
    pub(super) fn blind(&self, context: Context<'_>) -> Option<Hold> {
        if matches!(self.revision.mode, Mode::Invalid(_)) {
            return Some(Hold::Invalid);
        }
        match self.coverage(context) {
            Coverage::NoReporters => return Some(Hold::NoReporters),
            Coverage::Partial { .. } => return Some(Hold::PartialCoverage),
            Coverage::Full => {}
        }
        let defaulted = self.revision.scaling.min_scale.origin == Origin::Default;
        let unseen = context.settings.unseen_traffic_holds && !self.traffic_seen && defaulted;
        unseen.then_some(Hold::TrafficNotSeen)
    }
}
