//! From what is wanted to what is asked of the platform.
//!
//! Invariant: raises go out at once, lowerings only after their drain; the same count is asked for at most once a second
//! while the platform does not show it. What was ordered away is gone for every decision from the order on: how long the
//! platform takes to write the count and to end a replica changes none.

use super::{Asked, Context, Scaled};
use crate::decide::conclude;
use crate::drain::{Drain, Facts};
use crate::event::{Command, Happening, Story};
use crate::idle::Turn;
use crate::reporters::Reporters;
use domain::why::{Idleness, Step, Trigger};
use domain::{EndpointId, Mode, Replicas, RevisionId, Timestamp, Why};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time before the same count is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long before the end of the retention period the last replica is announced: two regular frames are needed until
/// its leaving is confirmed, and that shall not make the way to zero longer.
const ANNOUNCE: Duration = Duration::from_millis(1500);

/// How long after an order to shrink the load of each replica stays asked for. Load that falls is followed by one shrink
/// after the other, and each would first wait a frame for the loads its victims are chosen by; a platform whose replicas
/// take long to leave would not, since those are asked about anyway.
const LOADS_KEPT: Duration = Duration::from_secs(30);

struct Seen<'a> {
    now: Timestamp,
    revision: &'a RevisionId,
    reporters: &'a Reporters,
    last_busy: &'a BTreeMap<EndpointId, Timestamp>,
}

impl Facts for Seen<'_> {
    fn drained(&self, endpoint: &EndpointId) -> bool {
        self.reporters.drained(self.now, self.revision, endpoint)
    }
    fn load_on(&self, endpoint: &EndpointId) -> Option<u32> {
        self.reporters.load_on(self.now, self.revision, endpoint)
    }
    fn last_busy(&self, endpoint: &EndpointId) -> Option<Timestamp> {
        self.last_busy.get(endpoint).copied()
    }
}

impl Scaled {
    /// The count that the platform was last asked for: a lowering counts from the order on, unless its call failed; a
    /// raise once it is shown.
    pub(crate) fn ordered(&self) -> Replicas {
        let asked = self.asked.filter(|asked| !asked.failed);
        asked.map_or(self.requested, |asked| asked.to.min(self.requested))
    }

    /// Replicas that are ready and were not ordered away: what a decision counts on. One that is drained can still be
    /// kept until the order, and counts.
    pub(crate) fn staying(&self) -> Replicas {
        self.ready.min(self.ordered())
    }

    /// Whether the last replica may go. Once all were ordered away, none is asked for.
    pub(super) fn idleness(&self, now: Timestamp) -> Idleness {
        let verdict = self.idle.verdict(now, &self.revision.scaling);
        let awake = matches!(verdict, Idleness::Young { .. } | Idleness::Retained { .. } | Idleness::Spent);
        if awake && self.ordered().is_zero() { Idleness::Asleep } else { verdict }
    }

    /// Whether victims would have to be chosen by their load soon; of the last replica nothing has to be known.
    pub(super) fn may_shrink_again(&self, now: Timestamp) -> bool {
        self.requested > Replicas::ONE && self.loads_until.is_some_and(|until| now < until)
    }

    /// Asks for what is wanted, as far as this process and the mode allow.
    pub(crate) fn settle(&mut self, context: Context<'_>, commands: &mut Vec<Command>) {
        self.note_reach(context);
        if self.manual_is_over(context) || self.due(context.now) {
            self.recheck(context, Trigger::Recheck);
        }
        if context.acting && self.counted {
            match self.revision.mode {
                Mode::Act | Mode::Invalid(_) => self.pursue(context, commands),
                Mode::Paused | Mode::Refused(_) => self.wake_once(context, commands),
                Mode::Shadow | Mode::Removed => self.drain = None,
            }
            self.let_go(context, commands);
        } else {
            self.drain = None;
            self.asked = None;
        }
        let revision = &self.revision.id;
        commands
            .extend(self.stories.drain(..).map(|what| Command::Tell(Story { revision: Some(revision.clone()), what })));
    }

    fn pursue(&mut self, context: Context<'_>, commands: &mut Vec<Command>) {
        let Some(why) = self.why else { return };
        let wanted = why.replicas;
        if wanted > self.requested {
            self.drain = None;
            self.ask(context.now, wanted, Vec::new(), why, commands);
        } else if wanted < self.requested && self.revision.mode.may_shrink() {
            self.shrink(context, wanted, context.now, why, commands);
        } else if let Some((zero, until)) = self.leaves_soon(context, &why) {
            self.shrink(context, Replicas::ZERO, until, zero, commands);
        } else {
            let lingers = |drain: &Drain| drain.lingers(context.now, self.requested, &self.endpoints);
            if !self.drain.as_ref().is_some_and(lingers) {
                self.drain = None;
            }
            match self.asked {
                Some(asked) if asked.to == self.requested => self.asked = None,
                // A lowering that is no longer wanted may still be under way: take it back.
                Some(_) => {
                    self.ask(context.now, self.requested, Vec::new(), why, commands);
                }
                None => {}
            }
        }
    }

    /// The last replica only waits for its retention period, which is nearly over.
    fn leaves_soon(&self, context: Context<'_>, why: &Why) -> Option<(Why, Timestamp)> {
        let Idleness::Retained { until } = why.idleness else { return None };
        let soon = context.now + ANNOUNCE >= until && !self.requested.is_zero() && self.revision.mode.may_shrink();
        if !soon {
            return None;
        }
        let seen = crate::decide::Observation { idleness: Idleness::Spent, ..self.observe(context, Trigger::Recheck) };
        let zero = conclude(context.now, &self.revision.scaling, why, &seen);
        zero.replicas.is_zero().then_some((zero, until))
    }

    fn shrink(
        &mut self,
        context: Context<'_>,
        to: Replicas,
        not_before: Timestamp,
        why: Why,
        commands: &mut Vec<Command>,
    ) {
        let Context { now, reporters, .. } = context;
        let facts = Seen { now, revision: &self.revision.id, reporters, last_busy: &self.last_busy };
        let drain = self.drain.get_or_insert_with(|| Drain::new(now));
        drain.aim(now, (self.requested, to), not_before, &self.endpoints, &facts);
        let timeout = *self.revision.scaling.drain_timeout;
        let Some(leave) = drain.ready(now, self.requested, &self.endpoints, timeout, &facts) else { return };
        if self.ask(now, leave.to, leave.victims, why, commands) {
            let cut = leave.cut.into_iter().map(|(endpoint, load)| Happening::DrainTimedOut { endpoint, load });
            self.stories.extend(cut);
        }
    }

    /// Lets those go that the platform itself replaces, once they are idle; in every mode, for the count stays.
    fn let_go(&mut self, context: Context<'_>, commands: &mut Vec<Command>) {
        let Context { now, reporters, .. } = context;
        let lately = self.let_go.is_some_and(|at| now.since(at) < ASK_AGAIN);
        // An order under way names another count: this one would take it back.
        if self.outgoing.is_empty() || lately || self.asked.is_some() {
            return;
        }
        let facts = Seen { now, revision: &self.revision.id, reporters, last_busy: &self.last_busy };
        let ready = self.outgoing.ready(now, *self.revision.scaling.drain_timeout, &facts);
        let Some(why) = self.why.filter(|_| !ready.is_empty()) else { return };
        self.let_go = Some(now);
        let cut = ready.iter().filter(|(_, load)| *load > 0);
        self.stories
            .extend(cut.map(|(endpoint, load)| Happening::DrainTimedOut { endpoint: endpoint.clone(), load: *load }));
        commands.push(Command::Scale {
            revision: self.revision.id.clone(),
            target: self.revision.target.clone(),
            from: self.requested,
            to: self.requested,
            remove_first: ready.into_iter().map(|(endpoint, _)| endpoint).collect(),
            why: Arc::new(why),
        });
    }

    /// A paused or refused revision at zero is woken to one, so that no request hangs (kpa-behaviour 1.8).
    fn wake_once(&mut self, context: Context<'_>, commands: &mut Vec<Command>) {
        self.drain = None;
        let full = self.at_most().is_some_and(Replicas::is_zero);
        if !self.requested.is_zero() || full || self.load(context).total() == 0 {
            return;
        }
        let Some(last) = self.why else { return };
        let why = Why { at: context.now, trigger: Trigger::Wake, replicas: Replicas::ONE, ..last };
        self.ask(context.now, Replicas::ONE, Vec::new(), why, commands);
    }

    /// Returns whether the command went out.
    fn ask(
        &mut self,
        now: Timestamp,
        to: Replicas,
        remove_first: Vec<EndpointId>,
        why: Why,
        commands: &mut Vec<Command>,
    ) -> bool {
        // From another count it is another order: a lowering that landed meanwhile must not hold up the raise after it.
        let from = self.requested;
        let repeated = self.asked.filter(|asked| (asked.from, asked.to) == (from, to));
        if repeated.is_some_and(|asked| now.since(asked.at) < ASK_AGAIN) {
            return false;
        }
        // A platform that lowers in parts is asked for the rest: nothing new to tell.
        let rest = self.asked.is_some_and(|asked| asked.to == to && (to..asked.from).contains(&from));
        let why = Arc::new(why);
        if repeated.is_none() && !rest && from != to {
            if from.is_zero() {
                let asked_for =
                    why.trigger == Trigger::Wake || why.backlog.is_some() || why.desired > Some(Replicas::ZERO);
                self.stories.extend(asked_for.then_some(Happening::Woken));
                self.idle.woken(now);
            }
            self.stories.push(Happening::Scaled { from, to, why: Arc::clone(&why) });
            if to.is_zero() && why.step() != Step::Exclusive {
                self.stories.push(Happening::Asleep);
            }
        }
        if to < from {
            self.loads_until = Some(now + LOADS_KEPT);
        }
        self.asked = Some(Asked { from, to, at: now, failed: false });
        commands.push(Command::Scale {
            revision: self.revision.id.clone(),
            target: self.revision.target.clone(),
            from,
            to,
            remove_first,
            why,
        });
        true
    }

    /// A scale call ended. What is still wanted is asked for again; a count that somebody else wrote comes as a change.
    pub(crate) fn scale_done(&mut self, to: Replicas, error: Option<String>) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.to == to) {
            asked.failed = error.is_some();
        }
        self.last_error = error;
    }

    pub(super) fn tell_turn(&mut self, turn: Option<Turn>) {
        match turn {
            Some(Turn::Ready(after)) => self.stories.push(Happening::Ready { after }),
            Some(Turn::Failed(retry_after)) => {
                let reason = self.start_failure().map(|(reason, _)| reason).unwrap_or_default();
                self.stories.push(Happening::StartFailed { reason, retry_after });
            }
            None => {}
        }
    }
}
