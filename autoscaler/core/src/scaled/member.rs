//! A revision as a member of its exclusive group: what it tells of itself, and what the group leaves it.
//!
//! Invariant: a member never grows beyond what the group has said; before it has said anything, it keeps what it has.

use super::{Context, Scaled};
use crate::event::Happening;
use crate::exclusive::{Member, Share, Standing};
use domain::why::Trigger;
use domain::{Mode, Replicas};

impl Scaled {
    /// What the group must know of it.
    pub(crate) fn member(&self, context: Context<'_>) -> Member {
        let load = self.load(context);
        let ordered = self.asked.map_or(self.requested, |asked| asked.to);
        let spec = &self.revision.scaling;
        let decided = self.why.map_or(self.requested, |why| why.exclusive.map_or(why.replicas, |step| step.wanted));
        let (wanted, may_grow) = match &self.revision.mode {
            Mode::Act | Mode::Invalid(_) => (decided, true),
            // Woken once, and then left alone.
            Mode::Paused | Mode::Refused(_) if load.total() > 0 => (self.requested.max(Replicas::ONE), true),
            Mode::Paused | Mode::Refused(_) | Mode::Shadow | Mode::Removed => (self.requested, false),
        };
        Member {
            id: self.revision.id.clone(),
            wanted,
            minimum: self.why.map_or(*spec.min_scale, |why| why.min),
            asked: self.requested.max(ordered),
            raising: ordered > self.requested,
            listed: Replicas::new(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX)),
            terminating: self.terminating,
            in_flight: load.in_flight,
            queued: load.queued,
            last_active: self.idle.last_active(),
            life: self.idle.life(),
            may_grow,
            may_shrink: self.revision.mode.may_shrink() && self.blind(context).is_none() && self.manual.is_none(),
            slots: *spec.exclusive_slots,
            residence: *spec.exclusive_residence,
        }
    }

    /// Takes over what the group leaves it; `None` when it is in none. Returns whether its count may change by it.
    pub(crate) fn set_share(&mut self, context: Context<'_>, share: Option<Share>) -> bool {
        let before = std::mem::replace(&mut self.share, share);
        self.tell_standing(before.as_ref());
        let at_most = |share: Option<&Share>| share.map(|share| share.at_most);
        if at_most(before.as_ref()) == at_most(self.share.as_ref()) {
            return before.map(|share| share.standing) != self.share.as_ref().map(|share| share.standing.clone());
        }
        self.recheck(context, Trigger::Recheck);
        true
    }

    /// Says once that it waits, and once that it makes room.
    fn tell_standing(&mut self, before: Option<&Share>) {
        let Some(share) = &self.share else { return };
        let kind = |share: &Share| std::mem::discriminant(&share.standing);
        if share.standing != Standing::Settled && before.map(kind) != Some(kind(share)) {
            self.stories.push(Happening::Exclusive { standing: share.to_string() });
        }
    }

    /// The most that its group leaves it; `None` outside of one.
    pub(super) fn at_most(&self) -> Option<Replicas> {
        self.revision.scaling.exclusive_group.as_ref()?;
        Some(self.share.as_ref().map_or(self.requested, |share| share.at_most))
    }

    /// Whether others have the slot that it wants.
    pub(super) fn waits_for_a_slot(&self) -> bool {
        self.share.as_ref().is_some_and(|share| matches!(share.standing, Standing::Waits { .. }))
    }

    /// How it stands in its group, where there is something to say.
    pub(super) fn standing(&self) -> Option<&Share> {
        self.share.as_ref().filter(|share| share.standing != Standing::Settled)
    }
}
