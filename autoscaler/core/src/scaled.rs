//! One revision's state: what was measured, what was decided, what the platform shows.
//!
//! Invariant: windows, panic and delay change on the regular tick and on Knative's poke only; everything else re-applies
//! limits to the last evaluation. What is asked for is compared with what the platform shows, never remembered as sent.

use crate::decide::{Memory, Observation, conclude, decide, next_check, unknown};
use crate::delay::DelayWindow;
use crate::drain::{Drain, Outgoing};
use crate::event::BrainSettings;
use crate::exclusive::Share;
use crate::idle::Idle;
use crate::proposal::backlog::{Floor, backlog};
use crate::reporters::{Coverage, Load, Reporters};
use crate::window::{Collection, Sample};
use domain::why::{Backlog, Idleness, Trigger};
use domain::{Endpoint, EndpointId, Foreign, Replicas, Revision, Timestamp, Trouble, Why};
use manual::Manual;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

mod conditions;
mod hold;
mod manual;
mod member;
mod reach;
mod record;
mod settle;
mod view;

#[cfg(test)]
pub(crate) use manual::LEFT_ALONE;

/// What a revision needs to know of the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Timestamp,
    pub(crate) reporters: &'a Reporters,
    pub(crate) settings: &'a BrainSettings,
    /// This process may act, and everything known has been told.
    pub(crate) acting: bool,
}

/// Replica counts as the platform shows them.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) requested: Replicas,
    pub(crate) ready: Replicas,
    pub(crate) terminating: Replicas,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) foreign: Option<Foreign>,
}

/// A count that was asked for and is not shown by the platform yet.
#[derive(Debug, Clone, Copy)]
struct Asked {
    from: Replicas,
    to: Replicas,
    at: Timestamp,
    /// The last call for it was not carried out.
    failed: bool,
}

#[derive(Debug)]
pub(crate) struct Scaled {
    revision: Arc<Revision>,
    first_seen: Timestamp,
    /// The platform has told its counts.
    counted: bool,
    requested: Replicas,
    ready: Replicas,
    terminating: Replicas,
    trouble: Option<Trouble>,
    endpoints: Arc<[Endpoint]>,
    last_busy: BTreeMap<EndpointId, Timestamp>,
    rings: Option<Collection>,
    /// Samples of seconds that are not closed: another reporter has not delivered them yet.
    open: Vec<Sample>,
    /// The first second whose data is known for this revision.
    covered_from: u64,
    memory: Memory,
    delay: Option<DelayWindow>,
    /// What Knative would publish: the last valid evaluation before bounds.
    desired: Option<Replicas>,
    why: Option<Why>,
    floor: Option<Floor>,
    idle: Idle,
    initialised: bool,
    traffic_seen: bool,
    /// The count is not ours: who wrote it.
    manual: Option<Manual>,
    /// Where ready replicas are that activators cannot connect to.
    unreachable: Vec<SocketAddr>,
    /// What its exclusive group leaves it.
    share: Option<Share>,
    drain: Option<Drain>,
    outgoing: Outgoing,
    /// When replicas that the platform replaces were last let go.
    let_go: Option<Timestamp>,
    asked: Option<Asked>,
    /// Until when the load of each replica stays asked for, because another shrink is likely.
    loads_until: Option<Timestamp>,
    last_error: Option<String>,
    stories: Vec<crate::event::Happening>,
}

impl Scaled {
    pub(crate) fn new(now: Timestamp, revision: Arc<Revision>, fresh: bool) -> Self {
        Self {
            delay: DelayWindow::new(*revision.scaling.scale_down_delay),
            revision,
            first_seen: now,
            counted: false,
            requested: Replicas::ZERO,
            ready: Replicas::ZERO,
            terminating: Replicas::ZERO,
            trouble: None,
            endpoints: Arc::new([]),
            last_busy: BTreeMap::new(),
            rings: None,
            open: Vec::new(),
            covered_from: 0,
            memory: Memory::default(),
            desired: None,
            why: None,
            floor: None,
            idle: Idle::default(),
            initialised: !fresh,
            traffic_seen: false,
            manual: None,
            unreachable: Vec::new(),
            share: None,
            drain: None,
            outgoing: Outgoing::default(),
            let_go: None,
            asked: None,
            loads_until: None,
            last_error: None,
            stories: Vec::new(),
        }
    }

    /// Its settings changed.
    pub(crate) fn apply(&mut self, context: Context<'_>, revision: Arc<Revision>) {
        self.revision = revision;
        self.floor = self.floor.filter(|_| !*self.revision.scaling.exact);
        if let Some(rings) = &mut self.rings {
            rings.resize(&self.revision.scaling, context.now.whole_seconds());
        }
        self.recheck(context, Trigger::Recheck);
    }

    pub(crate) fn set_endpoints(&mut self, now: Timestamp, endpoints: Arc<[Endpoint]>) {
        self.outgoing.follow(now, &endpoints);
        self.last_busy.retain(|id, _| endpoints.iter().any(|endpoint| endpoint.id == *id));
        self.endpoints = endpoints;
    }

    /// The platform shows other counts. They trigger no evaluation (engineering 26).
    pub(crate) fn set_replicas(&mut self, context: Context<'_>, counts: Counts) {
        let Counts { requested, ready, terminating, trouble, foreign } = counts;
        let now = context.now;
        let first = !self.counted;
        if first {
            self.counted = true;
            self.memory = Memory::at_creation(now, ready);
            // Asleep is a decision: the first request pokes it.
            self.desired = requested.is_zero().then_some(Replicas::ZERO);
        }
        let before = (self.ordered(), self.staying());
        self.note_writer(now, first, requested, foreign);
        if self.asked.is_some_and(|asked| asked.to == requested) {
            self.asked = None;
        }
        (self.requested, self.ready, self.terminating, self.trouble) = (requested, ready, terminating, trouble);
        if ready >= self.revision.scaling.initial_scale.max(*self.revision.scaling.min_scale) {
            self.initialised = true;
        }
        let turn = self.idle.replicas(now, requested, ready.min(requested));
        self.tell_turn(turn);
        // News of those that leave must not have time limits looked at earlier on one platform than on another.
        if first || before != (self.ordered(), self.staying()) {
            self.recheck(context, Trigger::Recheck);
        }
        if first && self.load(context).total() > 0 {
            // Requests came before the platform told its counts.
            if self.desired == Some(Replicas::ZERO) {
                self.poke(context, 0);
            }
            self.raise_floor(context);
        }
    }

    /// Whether it has a slot: one that is asleep costs nothing.
    pub(crate) fn awake(&self, context: Context<'_>) -> bool {
        let load = context.reporters.load(context.now, &self.revision.id).total();
        !self.requested.is_zero()
            || load > 0
            || self.desired != Some(Replicas::ZERO)
            || self.idle.retry_at().is_some()
            || self.floor.is_some()
            || !self.open.is_empty()
            || self.rings.as_ref().is_some_and(|rings| !rings.is_empty(context.reporters.closed()))
    }

    pub(crate) fn sleep(&mut self) {
        self.rings = None;
        self.open.clear();
        self.last_busy.clear();
    }

    /// The regular 2 s tick.
    pub(crate) fn tick(&mut self, context: Context<'_>) {
        if !self.counted {
            return;
        }
        let permanent = self.trouble.as_ref().is_some_and(|trouble| trouble.permanent);
        let turn = self.idle.tick(context.now, &self.revision.scaling, permanent);
        self.tell_turn(turn);
        let closed = context.reporters.closed();
        self.close(closed);
        let mut rings = self.rings.take().unwrap_or_else(|| Collection::new(&self.revision.scaling));
        // Zeros are recorded while it is awake; asleep, the rings run empty and are dropped.
        if !self.requested.is_zero() || self.load(context).total() > 0 {
            rings.advance(closed);
        }
        // What is missing ends no floor: it waits as it is until everybody reports again.
        let known = self.coverage(context) == Coverage::Full;
        if known {
            let newest = self.newest_need(context, &rings, closed);
            self.floor = self.floor.and_then(|floor| floor.tick(newest));
        }
        self.evaluate(context, Trigger::Tick, &rings, closed);
        if known && self.floor.zip(self.why).is_some_and(|(floor, why)| floor.reached(&why)) {
            self.floor = None;
            self.recheck(context, Trigger::Tick);
        }
        self.rings = Some(rings);
    }

    /// What the load asks for at a tick: what is there now, or was in the busiest second of the panic window. A moment
    /// between the answers of many requests and the next ones of the same clients is no end of the load.
    fn newest_need(&self, context: Context<'_>, rings: &Collection, closed: u64) -> Option<Backlog> {
        let busiest = Replicas::ceil(rings.busiest(closed)).get();
        backlog(&self.revision.scaling, self.load(context).total().max(busiest), self.staying())
    }

    /// Knative's poke: the last decision was zero and there is load. The newest load stands in for the open second.
    pub(crate) fn poke(&mut self, context: Context<'_>, arrived: u64) {
        if !self.counted {
            return;
        }
        let mut rings = self.rings.clone().unwrap_or_else(|| Collection::new(&self.revision.scaling));
        self.open.iter().for_each(|sample| rings.record(*sample));
        let load = context.reporters.load(context.now, &self.revision.id).total();
        let mut second = context.reporters.closed().max(rings.newest().unwrap_or(0));
        if load > 0 {
            second = context.now.whole_seconds().max(second + 1);
            #[expect(clippy::cast_precision_loss, reason = "requests of one second")]
            rings.record(Sample { second, concurrency: f64::from(load), requests: arrived.max(1) as f64 });
        }
        self.evaluate(context, Trigger::Poke, &rings, second);
    }

    /// An urgent frame: only a floor, so that the windowed state stays Knative's.
    pub(crate) fn raise_floor(&mut self, context: Context<'_>) {
        let load = self.load(context).total();
        let Some(asked) = backlog(&self.revision.scaling, load, self.staying()) else { return };
        self.floor = Some(Floor::raise(self.floor, asked));
        self.recheck(context, Trigger::Urgent);
    }

    fn evaluate(&mut self, context: Context<'_>, trigger: Trigger, rings: &Collection, second: u64) {
        let (now, spec) = (context.now, &self.revision.scaling);
        let seen = Observation {
            concurrency: rings.reading(domain::Signal::Concurrency, second),
            rps: rings.reading(domain::Signal::Rps, second),
            delay: self.delay.as_ref().and_then(|delay| delay.floor(now)),
            ..self.observe(context, trigger)
        };
        let decision = decide(now, spec, &self.memory, &seen);
        self.memory = decision.after;
        if let (Some(delay), Some(undelayed)) = (&mut self.delay, decision.undelayed) {
            delay.record(now, undelayed);
        }
        if decision.why.desired.is_some() {
            self.desired = decision.why.desired;
        }
        self.idle.decided(now, spec, self.desired);
        self.why = Some(decision.why);
    }

    /// Applies today's limits to the last evaluation.
    pub(crate) fn recheck(&mut self, context: Context<'_>, trigger: Trigger) {
        if !self.counted {
            return;
        }
        self.idle.expire(context.now, self.requested);
        let seen = self.observe(context, trigger);
        let spec = &self.revision.scaling;
        let asleep = || Why { desired: self.desired, ..unknown(context.now, spec, &seen) };
        let last = self.why.unwrap_or_else(asleep);
        self.why = Some(conclude(context.now, spec, &last, &seen));
    }

    fn observe(&self, context: Context<'_>, trigger: Trigger) -> Observation {
        Observation {
            trigger,
            ready: self.staying(),
            requested: self.ordered(),
            concurrency: None,
            rps: None,
            delay: None,
            initialised: self.initialised,
            idleness: self.idleness(context.now),
            backlog: self.floor.map(|floor| floor.asked),
            hold: self.hold(context),
            at_most: self.at_most(),
        }
    }

    /// When a limit passes between two ticks.
    fn due(&self, now: Timestamp) -> bool {
        self.why.as_ref().and_then(next_check).is_some_and(|at| at <= now)
    }

    pub(crate) fn load(&self, context: Context<'_>) -> Load {
        context.reporters.load(context.now, &self.revision.id)
    }

    pub(crate) const fn why(&self) -> Option<&Why> {
        self.why.as_ref()
    }

    /// Who gets nothing new because it is to leave; `None` when the load of each replica is of no interest.
    pub(crate) fn leaving(&self, now: Timestamp) -> Option<Vec<EndpointId>> {
        let victims = self.drain.iter().flat_map(Drain::victims).chain(self.outgoing.victims());
        let asks = self.drain.is_some() || !self.outgoing.is_empty() || self.may_shrink_again(now);
        asks.then(|| victims.cloned().collect())
    }

    /// Whether it is worth a look every 100 ms.
    pub(crate) fn needs_attention(&self, now: Timestamp) -> bool {
        self.drain.is_some()
            || !self.outgoing.is_empty()
            || self.may_shrink_again(now)
            || self.asked.is_some()
            || self.manual_passes()
            || self.waits_for_a_slot()
            || self.why.as_ref().is_some_and(|why| why.replicas != self.requested || next_check(why).is_some())
            || matches!(self.why.as_ref().map(|why| why.idleness), Some(Idleness::Failed { .. }))
    }
}
