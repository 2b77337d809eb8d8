//! A count that somebody else wrote (kpa-behaviour 1.9): noticed, told, and left alone for a while.
//!
//! Invariant: it is theirs only as long as the platform shows it: the next count that we write, or they, ends it. A count
//! of zero is left alone only while nobody asks for anything, so no request hangs on it.

use super::{Context, Scaled};
use crate::event::Happening;
use crate::exclusive::Life;
use domain::why::Hold;
use domain::{Foreign, Manual as Then, Mode, Replicas, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// How long a count that somebody else wrote is left alone, whatever follows.
pub(crate) const LEFT_ALONE: Duration = Duration::from_secs(30);

/// Who wrote the count that the platform shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manual {
    by: Arc<str>,
    at: Timestamp,
    /// There were none before: they were started, not left alone.
    woke: bool,
}

impl Scaled {
    /// The platform shows `requested` where it showed [`Scaled::requested`]; `foreign` wrote it, if somebody else did.
    pub(super) fn note_writer(&mut self, now: Timestamp, first: bool, requested: Replicas, foreign: Option<Foreign>) {
        if !self.is_scaled() {
            self.manual = None;
            return;
        }
        if first {
            // Whoever made the object wrote its first count; that is no interference.
            let before = foreign.filter(|foreign| foreign.stands);
            self.manual = before.map(|Foreign { by, .. }| Manual { by, at: now, woke: false });
            return;
        }
        let from = self.requested;
        if requested == from {
            return;
        }
        let asked_for = self.asked.is_some_and(|asked| asked.to == requested);
        self.manual = None;
        let Some(Foreign { by, .. }) = foreign.filter(|_| !asked_for) else { return };
        (self.asked, self.last_error) = (None, None);
        let woke = from.is_zero();
        if woke {
            self.idle.woken_by_hand(now);
        }
        let manual = Manual { by: by.clone(), at: now, woke };
        let next = self.what_follows(&manual, requested);
        self.manual = Some(manual);
        self.stories.push(Happening::WrittenByHand { by, from, to: requested, next });
    }

    /// Why a count that somebody else wrote is kept.
    pub(super) fn by_hand(&self) -> Option<Hold> {
        let manual = self.manual.as_ref().filter(|_| self.is_scaled())?;
        Some(if manual.woke { Hold::WokenByHand } else { Hold::WrittenByHand })
    }

    /// Forgets who wrote the count once that is of no consequence any more; whether it just was.
    pub(super) fn manual_is_over(&mut self, context: Context<'_>) -> bool {
        let Some(manual) = &self.manual else { return false };
        let (now, spec) = (context.now, &self.revision.scaling);
        let over = match (manual.woke, self.idle.life()) {
            (true, Life::Starting) => false,
            (true, Life::Ready { since }) => {
                now >= since + *spec.stable_window + *spec.scale_to_zero_pod_retention_period
            }
            (true, Life::Idle) => true,
            (false, _) if self.requested.is_zero() && self.load(context).total() > 0 => true,
            (false, _) => *spec.manual == Then::Resume && now >= manual.at + LEFT_ALONE,
        };
        if over {
            self.manual = None;
        }
        over
    }

    /// Whether its time is still to pass.
    pub(super) fn manual_passes(&self) -> bool {
        let resumes = *self.revision.scaling.manual == Then::Resume;
        self.manual.as_ref().is_some_and(|manual| manual.woke || resumes)
    }

    /// The reason and the sentence of its condition.
    pub(super) fn manual_standing(&self) -> Option<(&'static str, String)> {
        let manual = self.manual.as_ref().filter(|_| self.is_scaled())?;
        let reason = if manual.woke { "Woken" } else { Foreign::LEFT_ALONE };
        let next = self.what_follows(manual, self.requested);
        Some((reason, format!("{} wrote {} replicas: {next}", manual.by, self.requested)))
    }

    /// What happens to a count that was written, as part of a sentence.
    fn what_follows(&self, manual: &Manual, count: Replicas) -> String {
        let spec = &self.revision.scaling;
        if manual.woke {
            let stays = *spec.stable_window + *spec.scale_to_zero_pod_retention_period;
            return format!("it stays for {} s from when the first is ready, and may grow", stays.as_secs_f64());
        }
        let asked_for = if count.is_zero() { ", or a request comes" } else { "" };
        match *spec.manual {
            Then::Resume => {
                let seconds = LEFT_ALONE.as_secs();
                format!("left alone for {seconds} s{asked_for}, then decided again (kpa.dev/manual: resume)")
            }
            Then::Hold => format!("left alone until somebody changes it{asked_for} (kpa.dev/manual: hold)"),
        }
    }

    /// Whether its count is ours to write at all.
    fn is_scaled(&self) -> bool {
        matches!(self.revision.mode, Mode::Act | Mode::Invalid(_))
    }
}
