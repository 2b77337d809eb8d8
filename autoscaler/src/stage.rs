//! What an audience is shown: every revision in turn, and at once those to which something happened.
//!
//! Invariant: a few revisions a slot, so that no turn of the loop is long however many there are.

use autoscaler_core::{Brain, Happening, RevisionStatus, Story};
use domain::{RevisionId, Timestamp};
use platform::audience::{Audience, Occurrence, Shown, ShownCondition};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Revisions that are shown in one slot of 100 ms because it is their turn: 500 a second.
const IN_TURN: usize = 50;
/// Those that are shown in one slot because something happened.
const AT_ONCE: usize = 50;

/// The way to an audience.
pub(crate) struct Stage {
    audience: Arc<dyn Audience>,
    /// The last one whose turn it was.
    last: Option<RevisionId>,
    news: BTreeSet<RevisionId>,
}

impl Stage {
    pub(crate) fn new(audience: Arc<dyn Audience>) -> Self {
        Self { audience, last: None, news: BTreeSet::new() }
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, story: &Story) {
        let Some(revision) = &story.revision else { return };
        self.news.insert(revision.clone());
        let occurrence =
            Occurrence { warning: story.what.is_warning(), reason: word(&story.what), note: story.what.to_string() };
        self.audience.hear(revision, occurrence);
    }

    /// How much of what happened the audience has dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.audience.dropped()
    }

    /// Shows those to whom something happened, and the next ones in turn.
    pub(crate) fn show(&mut self, brain: &Brain, now: Timestamp) {
        for _ in 0..AT_ONCE {
            let Some(revision) = self.news.pop_first() else { break };
            if let Some(status) = brain.status(now, &revision) {
                self.audience.show(shown(status));
            }
        }
        let page = brain.statuses_after(now, self.last.as_ref(), IN_TURN);
        self.last = if page.len() < IN_TURN { None } else { page.last().map(|status| status.id.clone()) };
        page.into_iter().for_each(|status| self.audience.show(shown(status)));
    }
}

fn shown(status: RevisionStatus) -> Shown {
    let condition = |condition: autoscaler_core::Condition| ShownCondition {
        kind: condition.kind,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
    };
    Shown {
        revision: status.id,
        reference: status.reference,
        targets: status.targets,
        min: status.min_pods,
        max: status.max_pods,
        requested: status.replicas,
        ready: status.ready,
        wanted: status.wanted,
        mode: status.mode.as_str(),
        in_flight: status.in_flight,
        queued: status.queued,
        reason: status.reason,
        why: status.last_decision,
        trouble: status.trouble,
        problems: status.problems.iter().map(ToString::to_string).collect(),
        conditions: status.conditions.into_iter().map(condition).collect(),
    }
}

/// What happened, in a word.
const fn word(what: &Happening) -> &'static str {
    match what {
        Happening::Woken => "Woken",
        Happening::Ready { .. } => "Ready",
        Happening::Scaled { .. } => "Scaled",
        Happening::Asleep => "Asleep",
        Happening::Exclusive { .. } => "Exclusive",
        Happening::StartFailed { .. } => "StartFailed",
        Happening::CoveragePartial { .. } => "CoveragePartial",
        Happening::CoverageFull => "CoverageFull",
        Happening::NoReporters => "NoReporters",
        Happening::DrainTimedOut { .. } => "DrainTimedOut",
        Happening::EndpointsUnreachable { .. } => "EndpointsUnreachable",
        Happening::EndpointsReachable => "EndpointsReachable",
        Happening::WrittenByHand { .. } => "WrittenByHand",
        Happening::Problem { .. } => "Problem",
    }
}
