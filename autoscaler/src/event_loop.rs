//! One task owns the brain: everything that happens passes through one `select!`.
//!
//! Invariant: a turn takes one event, at most 512 rows or one slot of evaluations, and never waits for anybody; what is
//! urgent is taken first.

use crate::applier::{Done, Order, Orders};
use crate::metrics::{Meters, Turn};
use crate::stage::Stage;
use crate::story;
use autoscaler_core::{Brain, BrainSettings, Command, Event, FrameChunk, Kept, RevisionStatus};
use domain::{Ack, Change, EndpointState, ReporterId, RevisionId};
use futures_util::StreamExt;
use platform::trust::Token;
use platform::{Leadership, Platform};
use runtime::{Clock, WakeLog};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// A revision's 2 s tick falls into one of 20 slots of this length (engineering, section 27).
pub const SLOT: Duration = Duration::from_millis(100);
/// What the metrics say of the whole is set this often: every 20 slots.
pub const PUBLISH_EVERY: Duration = Duration::from_secs(2);
/// Chunks that may wait, urgent and regular each.
pub const CHUNKS_MAX: usize = 128;
/// Questions of the API that may wait.
pub const QUERIES_MAX: usize = 16;
/// Outcomes of scale calls that may wait.
pub const OUTCOMES_MAX: usize = 64;

/// A part of a frame; the last one with the way back.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) chunk: FrameChunk,
    pub(crate) reply: Option<oneshot::Sender<Ack>>,
}

/// A question about the brain's state.
#[derive(Debug)]
pub(crate) enum Query {
    Statuses(oneshot::Sender<Vec<RevisionStatus>>),
    History(RevisionId, oneshot::Sender<Vec<Kept>>),
}

/// The loop's ends that others hold.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    urgent: mpsc::Sender<Delivery>,
    rows: mpsc::Sender<Delivery>,
    queries: mpsc::Sender<Query>,
    activators: watch::Receiver<Arc<[ReporterId]>>,
}

/// The loop is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Inbox {
    /// Waits for room, not for the chunk to be handled.
    pub(crate) async fn deliver(&self, urgent: bool, delivery: Delivery) -> Result<(), Gone> {
        let channel = if urgent { &self.urgent } else { &self.rows };
        channel.send(delivery).await.map_err(|_| Gone)
    }

    /// Waits for room, not for the answer.
    pub(crate) async fn ask(&self, query: Query) -> Result<(), Gone> {
        self.queries.send(query).await.map_err(|_| Gone)
    }

    /// Whether the platform lists an activator of this name.
    pub(crate) fn lists(&self, name: &str) -> bool {
        self.activators.borrow().iter().any(|activator| activator.as_str() == name)
    }
}

/// What the loop works with.
pub(crate) struct Surroundings {
    pub(crate) id: ReporterId,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) clock: Clock,
    pub(crate) wakes: Option<Arc<WakeLog>>,
    pub(crate) orders: Orders,
    pub(crate) meters: Arc<Meters>,
    pub(crate) stage: Option<Stage>,
    pub(crate) word: Option<Token>,
}

/// The loop.
pub(crate) struct EventLoop {
    brain: Brain,
    around: Surroundings,
    leadership: Leadership,
    /// What the brain was told last.
    leads: bool,
    activators: watch::Sender<Arc<[ReporterId]>>,
    urgent: mpsc::Receiver<Delivery>,
    rows: mpsc::Receiver<Delivery>,
    queries: mpsc::Receiver<Query>,
    outcomes: mpsc::Receiver<Done>,
    synced: watch::Sender<bool>,
    /// Reused by every turn.
    commands: Vec<Command>,
    published: Instant,
    doubts: story::Doubts,
}

impl EventLoop {
    /// The loop, the ends that others hold, where outcomes are sent, and whether the platform has told everything.
    pub(crate) fn new(
        settings: BrainSettings,
        around: Surroundings,
    ) -> (Self, Inbox, mpsc::Sender<Done>, watch::Receiver<bool>) {
        let (urgent, urgent_end) = mpsc::channel(CHUNKS_MAX);
        let (rows, rows_end) = mpsc::channel(CHUNKS_MAX);
        let (queries, queries_end) = mpsc::channel(QUERIES_MAX);
        let (outcomes, outcomes_end) = mpsc::channel(OUTCOMES_MAX);
        let (synced, is_synced) = watch::channel(false);
        let (activators, listed) = watch::channel(Arc::default());
        let event_loop = Self {
            brain: Brain::new(around.clock.now(), settings),
            around,
            leadership: Leadership::Follower,
            leads: false,
            activators,
            urgent: urgent_end,
            rows: rows_end,
            queries: queries_end,
            outcomes: outcomes_end,
            synced,
            commands: Vec::new(),
            published: Instant::now(),
            doubts: story::Doubts::default(),
        };
        (event_loop, Inbox { urgent, rows, queries, activators: listed }, outcomes, is_synced)
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.around.platform.watch();
        let mut leadership = self.around.platform.leadership();
        let mut slots = interval_at(self.next_slot(), SLOT);
        // A late slot is one slot: the brain sees from the time which ones have passed.
        slots.set_missed_tick_behavior(MissedTickBehavior::Skip);
        leadership.mark_changed();
        loop {
            tokio::select! {
                biased; // A wake must not wait behind anything; then what changes the meaning of rows; then rows.
                () = stop.cancelled() => break,
                Some(delivery) = self.urgent.recv() => self.turn(Turn::Urgent, |me| me.frame(delivery)),
                Some(done) = self.outcomes.recv() => self.turn(Turn::Outcome, |me| me.outcome(done)),
                Ok(()) = leadership.changed() => {
                    let now = *leadership.borrow_and_update();
                    self.turn(Turn::Leadership, |me| me.lead(now));
                }
                Some(change) = changes.next() => self.turn(Turn::Change, |me| me.change(change)),
                Some(delivery) = self.rows.recv() => self.turn(Turn::Rows, |me| me.frame(delivery)),
                _ = slots.tick() => self.turn(Turn::Slot, Self::slot),
                Some(query) = self.queries.recv() => self.turn(Turn::Query, |me| me.answer(query)),
            }
        }
    }

    /// The next moment that is a whole number of slots after the clock's start.
    fn next_slot(&self) -> Instant {
        let slots = self.around.clock.now().as_millis() / SLOT.as_millis() as u64 + 1;
        self.around.clock.instant(domain::Timestamp::from_millis(slots * SLOT.as_millis() as u64))
    }

    fn turn(&mut self, turn: Turn, work: impl FnOnce(&mut Self)) {
        let began = Instant::now();
        // First of all, and by the clock: nobody withdraws a right that ended while this process was stopped.
        if self.leads {
            self.tell_leadership(began);
        }
        work(self);
        self.around.meters.turn(turn, began.elapsed());
    }

    fn handle(&mut self, event: Event) {
        self.brain.handle(self.around.clock.now(), event, &mut self.commands);
        for command in self.commands.drain(..) {
            match command {
                Command::Scale { revision, target, from, to, remove_first, why: _ } => {
                    // A follower decides silently.
                    if self.leads {
                        self.around.orders.give(Order { revision, target, from, to, remove_first });
                    }
                }
                Command::Tell(story) => {
                    self.around.meters.story(&story);
                    story::tell(&story);
                    if let Some(stage) = self.around.stage.as_mut().filter(|_| self.leads) {
                        stage.tell(&story);
                    }
                }
            }
        }
    }

    fn frame(&mut self, Delivery { chunk, reply }: Delivery) {
        let (reporter, seq) = (chunk.header.reporter.clone(), chunk.header.seq);
        self.handle(Event::Frame(chunk));
        if let Some(reply) = reply {
            let mut ack = self.brain.ack(self.around.clock.now(), &reporter);
            ack.seq = seq;
            if self.leads {
                ack.leader = Some(self.around.id.clone());
            }
            ack.sharing = ack
                .sharing
                .zip(self.around.word.as_ref())
                .map(|(sharing, word)| domain::Sharing { word: word.reveal().to_owned(), ..sharing });
            // The sender may have given up; its next frame is answered as completely.
            let _ = reply.send(ack);
        }
    }

    fn outcome(&mut self, Done { revision, to, outcome }: Done) {
        self.handle(Event::ScaleDone { revision, to, result: outcome });
    }

    fn lead(&mut self, leadership: Leadership) {
        self.leadership = leadership;
        self.tell_leadership(Instant::now());
    }

    /// Tells the brain if the right to act came or went; a renewal is no news.
    fn tell_leadership(&mut self, now: Instant) {
        let leads = self.leadership.leads(now);
        if std::mem::replace(&mut self.leads, leads) != leads {
            self.around.meters.leads(leads);
            self.handle(Event::Leadership(leads));
        }
    }

    fn change(&mut self, change: Change) {
        if let Some(wakes) = &self.around.wakes {
            stamp_ready(wakes, &change, self.around.clock);
        }
        let synced = change == Change::Synced;
        if let Change::Activators(activators) = &change {
            self.activators.send_replace(activators.as_slice().into());
        }
        self.handle(Event::Change(change));
        if synced {
            self.synced.send_replace(true);
        }
    }

    fn slot(&mut self) {
        self.handle(Event::Tick);
        if let Some(stage) = self.around.stage.as_mut().filter(|_| self.leads) {
            stage.show(&self.brain, self.around.clock.now());
        }
        self.doubts.tell(Instant::now(), self.brain.doubts());
        self.around.meters.publish_in_turn(&self.brain, self.around.clock.now());
        if self.published.elapsed() >= PUBLISH_EVERY {
            self.published = Instant::now();
            let dropped = self.around.stage.as_ref().map_or(0, Stage::dropped);
            self.around.meters.publish(&self.brain, dropped);
        }
    }

    fn answer(&mut self, query: Query) {
        // Whoever asked may have given up.
        match query {
            Query::Statuses(reply) => drop(reply.send(self.brain.statuses(self.around.clock.now()))),
            Query::History(revision, reply) => drop(reply.send(self.brain.history(&revision))),
        }
    }
}

/// The platform's news that a replica is ready is the latest that the probe can have succeeded; a platform that probes
/// in this process has said so itself, earlier.
fn stamp_ready(wakes: &WakeLog, change: &Change, clock: Clock) {
    match change {
        Change::Endpoints { revision, endpoints, .. } => {
            if endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready) {
                wakes.ready_seen(revision, clock.now());
            }
        }
        Change::Replicas { revision, ready, .. } => {
            if !ready.is_zero() {
                wakes.ready_seen(revision, clock.now());
            }
        }
        Change::Synced
        | Change::Applied(_)
        | Change::Deleted(_)
        | Change::TrafficSeen(_)
        | Change::Activators(_)
        | Change::Autoscalers(_)
        | Change::ActivatorConfig(_) => {}
    }
}

#[cfg(test)]
mod tests;
