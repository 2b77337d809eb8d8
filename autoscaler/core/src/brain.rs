//! The owner of every revision's state: takes events in, delegates, hands commands out.
//!
//! Invariant: one owner; the same events at the same times give the same commands. Every autoscaler decides; only one
//! that may act asks for anything.

use crate::event::{BrainSettings, Command, Event, FrameChunk, Happening, ScaleOutcome, Story};
use crate::exclusive::{GroupId, Groups};
use crate::history::History;
use crate::reporters::{Doubt, Effect, Reporters};
use crate::scaled::{Context, Counts, Scaled};
use crate::slots::Slots;
use crate::status::{Kept, Numbers, RevisionStatus};
use domain::{Ack, Change, Millis, ReporterId, Revision, RevisionId, StartFailed, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Time after the start in which missing reporters are no news.
const QUIET_START: Duration = Duration::from_secs(5);

/// The owner of every revision's state.
#[derive(Debug)]
pub struct Brain {
    started: Timestamp,
    settings: BrainSettings,
    reporters: Reporters,
    revisions: BTreeMap<RevisionId, Scaled>,
    slots: Slots,
    groups: Groups,
    /// Revisions that are looked at every 100 ms.
    attention: BTreeSet<RevisionId>,
    history: History,
    synced: bool,
    leading: bool,
    /// What was last told of the reporters.
    told: Reports,
}

/// What there is to tell of the reporters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reports {
    Full,
    Partial(ReporterId),
    None,
}

/// Why a revision is looked at.
#[derive(Debug, Clone, Copy)]
enum Visit {
    /// Its regular tick.
    Tick,
    /// Something about it changed.
    Settle,
}

impl Brain {
    /// A brain that starts now and knows nothing.
    #[must_use]
    pub fn new(started: Timestamp, settings: BrainSettings) -> Self {
        Self {
            started,
            settings,
            reporters: Reporters::new(started),
            revisions: BTreeMap::new(),
            slots: Slots::new(started),
            groups: Groups::default(),
            attention: BTreeSet::new(),
            history: History::new(settings.history_bytes),
            synced: false,
            leading: false,
            told: Reports::Full,
        }
    }

    /// Takes in one event; what is to be done is appended to `commands`.
    pub fn handle(&mut self, now: Timestamp, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::Change(change) => self.change(now, change, commands),
            Event::Frame(chunk) => self.frame(now, chunk, commands),
            Event::Leadership(leading) => {
                self.leading = leading;
                self.settle_all(now, commands);
            }
            Event::Tick => self.tick(now, commands),
            Event::ScaleDone { revision, to, result } => {
                if let Some(scaled) = self.revisions.get_mut(&revision) {
                    scaled.scale_done(
                        to,
                        match result {
                            ScaleOutcome::Accepted => None,
                            // An earlier call for the same count, which took long, has written it.
                            ScaleOutcome::Changed { now } if now == to => None,
                            ScaleOutcome::Changed { now } => Some(format!("somebody else wrote {now} replicas")),
                            ScaleOutcome::Failed { message } => Some(message),
                        },
                    );
                }
            }
        }
    }

    fn change(&mut self, now: Timestamp, change: Change, commands: &mut Vec<Command>) {
        match change {
            Change::Synced => {
                self.synced = true;
                self.settle_all(now, commands);
            }
            Change::Applied(revision) => self.applied(now, revision, commands),
            Change::Deleted(id) => {
                self.revisions.remove(&id);
                self.slots.remove(&id);
                self.attention.remove(&id);
                self.history.forget(&id);
                self.reporters.forget(&id);
                if let Some(group) = self.groups.forget(&id) {
                    self.give_out(now, &group, commands);
                }
            }
            Change::Endpoints { revision, version: _, endpoints } => {
                self.with(now, &revision, |scaled, _| scaled.set_endpoints(now, endpoints));
                self.visit(now, &revision, Visit::Settle, commands);
            }
            Change::Replicas { revision, requested, ready, terminating, trouble, foreign } => {
                let counts = Counts { requested, ready, terminating, trouble, foreign };
                self.with(now, &revision, |scaled, context| scaled.set_replicas(context, counts));
                self.visit(now, &revision, Visit::Settle, commands);
            }
            Change::TrafficSeen(id) => {
                self.with(now, &id, |scaled, _| scaled.note_traffic());
            }
            Change::Activators(reporters) => self.reporters.list(now, reporters),
            Change::Autoscalers(_) | Change::ActivatorConfig(_) => {}
        }
    }

    fn applied(&mut self, now: Timestamp, revision: Arc<Revision>, commands: &mut Vec<Command>) {
        let id = revision.id.clone();
        self.groups.follow(&revision);
        if self.revisions.contains_key(&id) {
            self.with(now, &id, |scaled, context| scaled.apply(context, revision));
        } else {
            let fresh = self.synced || self.settings.first_listing_is_new;
            self.revisions.insert(id.clone(), Scaled::new(now, revision, fresh));
        }
        self.visit(now, &id, Visit::Settle, commands);
    }

    fn frame(&mut self, now: Timestamp, chunk: FrameChunk, commands: &mut Vec<Command>) {
        let urgent = chunk.header.urgent;
        let mut effects = Vec::with_capacity(chunk.rows.len());
        // A refused part is counted by the reporters; what was taken in before it stands.
        let _counted = self.reporters.accept(now, chunk, &mut effects);
        self.reporters.close(now);
        for effect in effects {
            self.affect(now, &effect, urgent, commands);
        }
    }

    fn affect(&mut self, now: Timestamp, effect: &Effect, urgent: bool, commands: &mut Vec<Command>) {
        let id = &effect.revision;
        let Some(poked) = self.with(now, id, |scaled, context| {
            scaled.note_busy(now, context.reporters.endpoints_of(now, id));
            let poked = scaled.record(context, effect);
            if poked {
                scaled.poke(context, effect.arrived);
            }
            if urgent {
                scaled.raise_floor(context);
            }
            poked
        }) else {
            return;
        };
        if effect.active {
            self.slots.insert(id);
        }
        if poked || urgent || self.attention.contains(id) {
            self.visit(now, id, Visit::Settle, commands);
        }
    }

    fn tick(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        self.reporters.close(now);
        for id in self.slots.due(now) {
            self.visit(now, &id, Visit::Tick, commands);
        }
        let mut groups = BTreeSet::new();
        for id in self.attention.clone() {
            match self.groups.of(&id).cloned() {
                // Once for all its members: nothing has happened in between.
                Some(group) if groups.contains(&group) => self.settle(now, &id, commands),
                group => {
                    groups.extend(group);
                    self.visit(now, &id, Visit::Settle, commands);
                }
            }
        }
        self.tell_reporters(now, commands);
    }

    fn settle_all(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        let ids: Vec<_> = self.revisions.keys().cloned().collect();
        for id in ids {
            self.visit(now, &id, Visit::Settle, commands);
        }
    }

    /// Runs `step` on a revision, if it is known.
    fn with<T>(
        &mut self,
        now: Timestamp,
        id: &RevisionId,
        step: impl FnOnce(&mut Scaled, Context<'_>) -> T,
    ) -> Option<T> {
        let acting = self.acting();
        let scaled = self.revisions.get_mut(id)?;
        let context = Context { now, reporters: &self.reporters, settings: &self.settings, acting };
        Some(step(scaled, context))
    }

    const fn acting(&self) -> bool {
        self.synced && self.leading
    }

    /// Looks at a revision: its tick if due, what its exclusive group leaves it and the others, then what it asks for.
    fn visit(&mut self, now: Timestamp, id: &RevisionId, visit: Visit, commands: &mut Vec<Command>) {
        if matches!(visit, Visit::Tick) {
            self.with(now, id, Scaled::tick);
        }
        match self.groups.of(id).cloned() {
            Some(group) => self.give_out(now, &group, commands),
            None => drop(self.with(now, id, |scaled, context| scaled.set_share(context, None))),
        }
        self.settle(now, id, commands);
    }

    /// Gives out the slots of an exclusive group, and has every member follow whose part has changed.
    fn give_out(&mut self, now: Timestamp, group: &GroupId, commands: &mut Vec<Command>) {
        let acting = self.acting();
        let Self { groups, revisions, reporters, settings, .. } = self;
        let context = Context { now, reporters, settings, acting };
        let shares = groups.arbitrate(now, group, |id| revisions.get(id).map(|scaled| scaled.member(context)));
        for (id, share) in shares {
            if self.with(now, &id, |scaled, context| scaled.set_share(context, Some(share))) == Some(true) {
                self.settle(now, &id, commands);
            }
        }
    }

    /// Has a revision ask for what it wants; keeps slot, attention and history in step.
    fn settle(&mut self, now: Timestamp, id: &RevisionId, commands: &mut Vec<Command>) {
        let Some((awake, attention, why)) = self.with(now, id, |scaled, context| {
            scaled.settle(context, commands);
            let awake = scaled.awake(context);
            if !awake {
                scaled.sleep();
            }
            (awake, scaled.needs_attention(now), scaled.why().copied())
        }) else {
            return;
        };
        if awake {
            self.slots.insert(id);
        } else {
            self.slots.remove(id);
        }
        if attention {
            self.attention.insert(id.clone());
        } else {
            self.attention.remove(id);
        }
        if let Some(why) = why.filter(|why| why.at == now) {
            self.history.push(id, &why);
        }
    }

    fn tell_reporters(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if !self.synced || now.since(self.started) < QUIET_START {
            return;
        }
        let reports = match self.reporters.silent(now) {
            _ if self.reporters.none() => Reports::None,
            Some(reporter) => Reports::Partial(reporter.clone()),
            None => Reports::Full,
        };
        if reports == self.told {
            return;
        }
        let what = match &reports {
            Reports::Full => Happening::CoverageFull,
            Reports::Partial(reporter) => Happening::CoveragePartial { reporter: reporter.clone() },
            Reports::None => Happening::NoReporters,
        };
        commands.push(Command::Tell(Story { revision: None, what }));
        self.told = reports;
    }

    /// What `reporter` is told in answer to its frame. `seq`, `leader` and the word of `sharing` are for the caller to fill in. Only an
    /// autoscaler that may act gives directives.
    #[must_use]
    pub fn ack(&mut self, now: Timestamp, reporter: &ReporterId) -> Ack {
        let mut ack = Ack { resync: self.reporters.wants_resync(reporter), ..Ack::default() };
        if !self.acting() {
            return ack;
        }
        ack.sharing = self.reporters.sharing(now);
        for id in &self.attention {
            let Some(scaled) = self.revisions.get(id) else { continue };
            if let Some(victims) = scaled.leaving(now) {
                ack.load_of.push(id.clone());
                if !victims.is_empty() {
                    ack.drain.push((id.clone(), victims));
                }
            }
            if let Some((reason, until)) = scaled.start_failure() {
                let millis = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
                ack.start_failed.push(StartFailed { revision: id.clone(), reason, retry_after: Millis(millis) });
            }
        }
        ack
    }

    /// Every revision, by id.
    #[must_use]
    pub fn statuses(&self, now: Timestamp) -> Vec<RevisionStatus> {
        let context = Context { now, reporters: &self.reporters, settings: &self.settings, acting: self.acting() };
        self.revisions.values().map(|scaled| scaled.status(context)).collect()
    }

    /// The next `limit` revisions after `last`, by id; from the first one without.
    #[must_use]
    pub fn statuses_after(&self, now: Timestamp, last: Option<&RevisionId>, limit: usize) -> Vec<RevisionStatus> {
        let context = Context { now, reporters: &self.reporters, settings: &self.settings, acting: self.acting() };
        self.after(last, limit).map(|scaled| scaled.status(context)).collect()
    }

    /// The numbers of the next `limit` revisions after `last`, by id; from the first one without.
    #[must_use]
    pub fn numbers_after(&self, now: Timestamp, last: Option<&RevisionId>, limit: usize) -> Vec<Numbers> {
        let context = Context { now, reporters: &self.reporters, settings: &self.settings, acting: self.acting() };
        self.after(last, limit).map(|scaled| scaled.numbers(context)).collect()
    }

    fn after(&self, last: Option<&RevisionId>, limit: usize) -> impl Iterator<Item = &Scaled> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.revisions.range::<RevisionId, _>((from, Bound::Unbounded)).take(limit).map(|(_, scaled)| scaled)
    }

    /// Revisions that are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.revisions.len()
    }

    /// One revision.
    #[must_use]
    pub fn status(&self, now: Timestamp, id: &RevisionId) -> Option<RevisionStatus> {
        let context = Context { now, reporters: &self.reporters, settings: &self.settings, acting: self.acting() };
        Some(self.revisions.get(id)?.status(context))
    }

    /// The decisions kept of a revision, oldest first.
    #[must_use]
    pub fn history(&self, id: &RevisionId) -> Vec<Kept> {
        self.history.of(id)
    }

    /// Frames and rows that were refused since the start.
    #[must_use]
    pub const fn refused_frames(&self) -> u64 {
        self.reporters.refused()
    }

    /// How many frames had readings that cannot be true, and the latest of these.
    #[must_use]
    pub const fn doubts(&self) -> (u64, Option<&Doubt>) {
        self.reporters.doubts()
    }

    /// Revisions that have a slot now.
    #[must_use]
    pub fn awake(&self) -> usize {
        self.slots.len()
    }
}
