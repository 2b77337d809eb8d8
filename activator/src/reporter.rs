//! Tells every autoscaler what is in flight, once a second and at once where that cannot wait (kpa-behaviour 7.1).
//!
//! Invariants: readings are cumulative and taken on numbered ticks of our own schedule; per autoscaler at most one regular
//! and one urgent frame is on its way, so nothing queues; the last word about a revision is never dropped.

pub mod book;
mod entry;
pub mod post;
#[cfg(test)]
mod tests;
pub mod urgent;

use crate::gate::StartFailure;
use crate::line::{Line, LineError};
use crate::revisions::{Handle, Revisions};
use activator_core::Part;
use book::{FrameClock, Identity, Kind, Names, Receiver};
use domain::{Ack, EndpointId, Millis, Peer, ReporterId, RequestMillis, RevisionId, Row, Timestamp};
use entry::Entry;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use platform::trust::Shown;
use post::post;
use runtime::net::Connect;
use runtime::{Clock, Tasks};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use urgent::Look;

/// How long a directive holds unrepeated: more than 2.5 s, so that whoever gave it and hears nothing has given up first.
pub const DIRECTIVE_LIFE: Duration = Duration::from_secs(3);
/// How long an activator that starts waits for the acting autoscaler to say how replicas are shared: longer than that one
/// waits for activators that it has not heard yet.
pub const SHARING_PATIENCE: Duration = Duration::from_secs(15);
/// Between two regular frames.
pub const TICK: Duration = Duration::from_secs(1);

/// Who the activator is to the autoscalers.
#[derive(Debug, Clone)]
pub struct ReporterSettings {
    /// Its name.
    pub id: ReporterId,
    /// A number drawn at this start.
    pub boot: u64,
    /// Shown as a bearer token.
    pub shown: Shown,
}

/// What the reporter is told of the activator's end.
#[derive(Debug)]
enum Ending {
    /// No new requests are taken.
    Draining,
    /// The last frame is due; whoever waits for that.
    Leave(oneshot::Sender<()>),
}

/// Tells the reporter of the activator's end.
#[derive(Debug, Clone)]
pub struct Leave(mpsc::Sender<Ending>);

impl Leave {
    /// Tells autoscalers from now on that no new requests are taken.
    pub async fn draining(&self) {
        // An error means that the reporter has ended, and then nobody is told anything.
        let _ = self.0.send(Ending::Draining).await;
    }

    /// Sends a frame that says `leaving` and waits until every autoscaler has it or its time is over.
    pub async fn leave(&self) {
        let (done, told) = oneshot::channel();
        if self.0.send(Ending::Leave(done)).await.is_ok() {
            // An error means that the reporter has ended, and then there is nobody to wait for.
            let _ = told.await;
        }
    }
}

/// One autoscaler.
#[derive(Default)]
struct Target {
    peer: Option<Peer>,
    receiver: Receiver,
    regular: Option<Line>,
    urgent: Option<Line>,
    /// What is to be told at once and was not sent to it yet.
    owed: BTreeSet<RevisionId>,
    failing: bool,
}

/// What is shown with the next frame. A token that no header can hold is not shown, and the answer says that it is missing.
fn authorization(shown: &Shown) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", shown.now()?.reveal())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What came back from one frame.
struct Posted {
    to: ReporterId,
    sent: Timestamp,
    kind: Kind,
    line: Line,
    rows: Vec<Row>,
    complete: bool,
    answer: Result<Ack, LineError>,
}

/// The reporting side of an activator.
pub struct Reporter<C> {
    connector: C,
    identity: Identity,
    shown: Shown,
    revisions: Arc<Revisions>,
    clock: Clock,
    workers: usize,
    peers: watch::Receiver<Vec<Peer>>,
    leave: mpsc::Receiver<Ending>,
    tasks: Tasks,
    booted: Instant,
    seq: u64,
    names: Names,
    entries: HashMap<RevisionId, Entry>,
    /// Revisions to look at as soon as an urgent frame may name them.
    looks: BTreeMap<RevisionId, Look>,
    targets: BTreeMap<ReporterId, Target>,
    load_of: BTreeMap<ReporterId, BTreeSet<RevisionId>>,
    /// When the acting autoscaler was heard last.
    directed: Option<Instant>,
    posts: FuturesUnordered<BoxFuture<'static, Posted>>,
}

impl<C: Connect + Clone> Reporter<C> {
    /// A reporter for `workers` workers that follows the list of autoscalers in `peers`.
    pub fn new(
        settings: ReporterSettings,
        connector: C,
        revisions: Arc<Revisions>,
        clock: Clock,
        workers: usize,
        peers: watch::Receiver<Vec<Peer>>,
        tasks: Tasks,
    ) -> (Self, Leave) {
        let (sender, leave) = mpsc::channel(1);
        let reporter = Self {
            connector,
            identity: Identity { id: settings.id, boot: settings.boot, draining: false, sharing: None },
            shown: settings.shown,
            revisions,
            clock,
            workers: workers.max(1),
            peers,
            leave,
            tasks,
            booted: Instant::now(),
            seq: 0,
            names: Names::default(),
            entries: HashMap::new(),
            looks: BTreeMap::new(),
            targets: BTreeMap::new(),
            load_of: BTreeMap::new(),
            directed: None,
            posts: FuturesUnordered::new(),
        };
        (reporter, Leave(sender))
    }

    /// Reports until the process ends.
    pub async fn run(mut self) {
        self.booted = Instant::now();
        let urgent = Arc::clone(self.revisions.urgent());
        let mut next_tick = self.booted + TICK;
        self.follow_peers();
        loop {
            let due = self.next_urgent();
            tokio::select! {
                biased;
                () = urgent.wait() => self.raised(&urgent.take()),
                () = tokio::time::sleep_until(due.unwrap_or(next_tick)), if due.is_some() => self.send_urgent(),
                Some(posted) = self.posts.next(), if !self.posts.is_empty() => self.posted(posted),
                () = tokio::time::sleep_until(next_tick) => {
                    next_tick += TICK;
                    if next_tick < Instant::now() {
                        // The process stood still: ticks that were missed are one gap, not a burst.
                        next_tick = self.booted + TICK * self.tick_at(Instant::now()).saturating_add(1);
                    }
                    self.forget_directives();
                    self.wait_for_sharing();
                    self.send_all(Kind::Regular);
                }
                changed = self.peers.changed() => match changed {
                    Ok(()) => self.follow_peers(),
                    Err(_) => return,
                },
                Some(ending) = self.leave.recv() => match ending {
                    Ending::Draining => self.identity.draining = true,
                    Ending::Leave(done) => {
                        self.send_all(Kind::Leaving);
                        while let Some(posted) = self.posts.next().await {
                            self.posted(posted);
                        }
                        let _ = done.send(());
                        // The last word is the last: a frame after it would say that we stay.
                        return std::future::pending().await;
                    }
                },
            }
        }
    }

    fn tick_at(&self, now: Instant) -> u32 {
        u32::try_from((now - self.booted).as_secs()).unwrap_or(u32::MAX)
    }

    fn follow_peers(&mut self) {
        let peers = self.peers.borrow_and_update().clone();
        self.targets.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        self.load_of.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        for peer in peers {
            let target = self.targets.entry(peer.id.clone()).or_insert_with(|| Target {
                receiver: Receiver::new(),
                regular: Some(Line::default()),
                urgent: Some(Line::default()),
                ..Target::default()
            });
            target.peer = Some(peer);
        }
    }

    /// The counters of one revision as they stand.
    fn read(&mut self, handle: &Arc<Handle>) -> Row {
        let now = self.clock.now();
        let n = self.names.number(&handle.id);
        let (area, requests, load) = self.entries.entry(handle.id.clone()).or_default().read(handle, now);
        let queued = handle.gate.waiting().min(load);
        let endpoints = if self.load_of.values().any(|wanted| wanted.contains(&handle.id)) {
            handle.gate.endpoints().iter().map(|(endpoint, _)| (endpoint.id.clone(), endpoint.load())).collect()
        } else {
            Vec::new()
        };
        Row {
            n,
            area: RequestMillis(area),
            requests,
            in_flight: load - queued,
            queued,
            endpoints_version: handle.gate.endpoints_version(),
            endpoints,
            drained: handle.gate.drained(),
            held: handle.gate.held(),
            unreachable: handle.gate.unreachable(),
        }
    }

    /// Notes what was told.
    fn told(&mut self, handle: &Handle, row: &Row) {
        self.set_alarms(handle, row, row.load());
        if let Some(entry) = self.entries.get_mut(&handle.id) {
            entry.told = row.clone();
        }
    }

    fn send_all(&mut self, kind: Kind) {
        let handles = self.revisions.all();
        let mut rows = Vec::new();
        for handle in handles {
            if handle.counters().is_empty() && handle.gate.drained().is_empty() && handle.gate.held().is_empty() {
                continue;
            }
            let row = self.read(&handle);
            self.told(&handle, &row);
            rows.push(row);
        }
        let now = Instant::now();
        for to in self.targets.keys().cloned().collect::<Vec<_>>() {
            self.post(now, &to, &rows, kind);
        }
    }

    /// Sends a frame, unless one of its kind is still on its way: then the newest readings wait for the next.
    fn post(&mut self, now: Instant, to: &ReporterId, rows: &[Row], kind: Kind) {
        let (at, tick) = ((now - self.booted).as_millis(), u64::from(self.tick_at(now)));
        let Some(target) = self.targets.get_mut(to) else { return };
        let Some(peer) = &target.peer else { return };
        let line = match kind {
            Kind::Urgent => target.urgent.take(),
            Kind::Regular => target.regular.take(),
            Kind::Leaving => Some(target.regular.take().unwrap_or_default()),
        };
        let Some(mut line) = line else { return };
        self.seq += 1;
        let clock = FrameClock { tick, seq: self.seq, at: Millis(u64::try_from(at).unwrap_or(u64::MAX)) };
        let frame = target.receiver.frame(&self.identity, &self.names, clock, rows, kind);
        let (connector, authorization) = (self.connector.clone(), authorization(&self.shown));
        let (tasks, address, to) = (self.tasks.clone(), peer.address, to.clone());
        let sent = self.clock.now();
        self.posts.push(Box::pin(async move {
            let answer = post(&mut line, &connector, address, authorization, &frame, &tasks).await;
            Posted { to, sent, kind, line, complete: frame.complete, rows: frame.rows, answer }
        }));
    }

    fn posted(&mut self, posted: Posted) {
        let Some(target) = self.targets.get_mut(&posted.to) else { return };
        match posted.kind {
            Kind::Urgent => target.urgent = Some(posted.line),
            Kind::Regular | Kind::Leaving => target.regular = Some(posted.line),
        }
        match posted.answer {
            Ok(ack) => {
                if std::mem::take(&mut target.failing) {
                    tracing::info!(autoscaler = %posted.to, "reports arrive again");
                }
                target.receiver.acknowledge(posted.rows, posted.complete, ack.resync);
                self.obey(&posted.to, posted.sent, ack);
            }
            Err(error) => {
                if !std::mem::replace(&mut target.failing, true) {
                    tracing::warn!(autoscaler = %posted.to, %error, "reports do not arrive; traffic goes on");
                }
            }
        }
        if posted.kind == Kind::Urgent {
            self.catch_up(&posted.to);
        }
    }

    /// Does what the answer of the acting autoscaler asks for.
    fn obey(&mut self, from: &ReporterId, sent: Timestamp, ack: Ack) {
        self.load_of.insert(from.clone(), ack.load_of.into_iter().collect());
        // A follower names nobody as leaving, and often nobody as leader: that must not undo what the leader named.
        if ack.leader.as_ref() != Some(from) {
            return;
        }
        self.directed = Some(Instant::now());
        let now = self.clock.now();
        let mut drain: HashMap<RevisionId, BTreeSet<EndpointId>> =
            ack.drain.into_iter().map(|(id, endpoints)| (id, endpoints.into_iter().collect())).collect();
        for handle in self.revisions.all() {
            handle.gate.set_drain(now, drain.remove(&handle.id).unwrap_or_default());
        }
        if let Some(sharing) = ack.sharing.filter(|_| self.revisions.shares().are_wanted()) {
            let shares = self.revisions.shares();
            shares.follow(&self.revisions, (sent, now), &self.identity.id, sharing);
            // After every gate goes by it: what is told next is true.
            self.identity.sharing = shares.part().fingerprint();
        }
        for failed in ack.start_failed {
            if let Some(handle) = self.revisions.get(&failed.revision) {
                let retry_at = now + Duration::from_millis(failed.retry_after.0);
                handle.gate.fail_start(&StartFailure { reason: failed.reason.into(), retry_at });
            }
        }
    }

    /// An activator that starts uses no replica of limited concurrency until it is told which are its own; but requests do
    /// not wait for ever when nobody says so.
    fn wait_for_sharing(&mut self) {
        if *self.revisions.shares().part() != Part::Nothing {
            return;
        }
        let patience = if self.directed.is_some() { SHARING_PATIENCE } else { DIRECTIVE_LIFE };
        if self.booted.elapsed() > patience {
            tracing::warn!(
                "no autoscaler says how replicas are shared: kpa.dev/container-concurrency is kept for each activator"
            );
            self.revisions.shares().take_all(&self.revisions, self.clock.now());
        }
    }

    /// Uses every replica again when nobody acts any more: no request waits until somebody does (kpa-behaviour 7.4).
    fn forget_directives(&mut self) {
        if self.directed.take_if(|directed| directed.elapsed() >= DIRECTIVE_LIFE).is_none() {
            return;
        }
        for handle in self.revisions.all() {
            handle.gate.set_drain(self.clock.now(), BTreeSet::new());
        }
    }
}
