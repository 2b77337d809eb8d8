//! The dull runner of the supervisor: carries news to it, its actions to processes, and its view to the watchers.
//!
//! Invariant: one task owns the supervisor; whatever changed is told before anything else is waited for.

mod operate;

use crate::feed::Feed;
use crate::operate::Operate;
use crate::options::{Shutdown, WallClock};
use crate::replica::{self, Context, Order};
use crate::state::Memory;
use crate::supervisor::{Action, Seen, Supervisor, View};
use domain::{Change, EndpointId, Mode, Refusal, Replicas, Revision, RevisionId, ScaleTargetRef, Timestamp};
use platform::ScaleError;
use platform::manifest::{Entry, Manifests};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// News taken in one turn before what follows from them is told.
const BATCH: usize = 256;

/// Something the outside wants.
#[derive(Debug)]
pub(crate) enum Request {
    /// The manifests as they are now.
    Declare(Arc<Manifests>),
    /// See [`platform::Platform::scale`].
    Scale {
        target: ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: Vec<EndpointId>,
        reply: oneshot::Sender<Result<(), ScaleError>>,
    },
    /// What a person asks for.
    Operate(Operate),
    /// End every replica; answered when none is left.
    Shutdown { how: Shutdown, reply: oneshot::Sender<()> },
}

/// The runner's state.
pub(crate) struct Runner {
    supervisor: Supervisor,
    feed: Arc<Feed>,
    context: Context,
    origin: Instant,
    wall_clock: WallClock,
    /// As declared; [`Self::published`] is what the watchers see of it.
    revisions: BTreeMap<RevisionId, Arc<Revision>>,
    published: BTreeMap<RevisionId, Arc<Revision>>,
    labels: BTreeMap<RevisionId, BTreeMap<String, String>>,
    targets: BTreeMap<ScaleTargetRef, RevisionId>,
    orders: BTreeMap<EndpointId, watch::Sender<Order>>,
    /// What the watchers were last told.
    told: BTreeMap<RevisionId, View>,
    version: u64,
    memory: watch::Sender<Memory>,
    waiting_for_the_end: Vec<oneshot::Sender<()>>,
}

impl Runner {
    pub(crate) fn new(
        supervisor: Supervisor,
        feed: Arc<Feed>,
        context: Context,
        memory: watch::Sender<Memory>,
        wall_clock: WallClock,
    ) -> Self {
        Self {
            supervisor,
            feed,
            context,
            origin: Instant::now(),
            wall_clock,
            revisions: BTreeMap::new(),
            published: BTreeMap::new(),
            labels: BTreeMap::new(),
            targets: BTreeMap::new(),
            orders: BTreeMap::new(),
            told: BTreeMap::new(),
            version: 0,
            memory,
            waiting_for_the_end: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(Instant::now().saturating_duration_since(self.origin))
    }

    /// Runs until nobody can ask for anything any more.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut news: mpsc::Receiver<(EndpointId, Seen)>,
    ) {
        loop {
            let check = self.supervisor.next_check(self.now()).map(|at| self.origin + at.since_start());
            let check = check.into_iter().chain(self.next_end()).min();
            let alarm = async {
                match check {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // News of processes first: a decision should see what is.
            tokio::select! {
                biased;
                seen = news.recv() => {
                    // The runner holds a sender itself, so there is always one.
                    let Some((id, seen)) = seen else { return };
                    self.seen(&id, seen);
                    for _ in 1..BATCH {
                        let Ok((id, seen)) = news.try_recv() else { break };
                        self.seen(&id, seen);
                    }
                }
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    self.handle(request);
                }
                () = alarm => {}
            }
            self.turn();
        }
    }

    /// Does what follows and tells it.
    pub(crate) fn turn(&mut self) {
        self.end_floors();
        for action in self.supervisor.next(self.now()) {
            self.perform(action);
        }
        self.publish();
        if self.supervisor.processes() == 0 {
            for waiting in self.waiting_for_the_end.drain(..) {
                // Whoever asked may have given up.
                let _ = waiting.send(());
            }
        }
    }

    fn seen(&mut self, id: &EndpointId, seen: Seen) {
        match &seen {
            Seen::Exited(failure) => {
                self.orders.remove(id);
                tracing::debug!(replica = %id, what = %failure.message, "ended");
            }
            Seen::PortTaken => {
                self.orders.remove(id);
                tracing::debug!(replica = %id, "its port belongs to somebody else; trying another");
            }
            Seen::Started(_) | Seen::Ready | Seen::Unready | Seen::FixedPort(_) | Seen::Unhealthy(_) => {
                tracing::debug!(replica = %id, ?seen, "seen");
            }
        }
        self.supervisor.seen(self.now(), id, seen);
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Declare(declared) => self.declare(&declared),
            Request::Scale { target, from, to, remove_first, reply } => {
                let done = self.scale(&target, from, to, &remove_first);
                // Whoever asked may have given up; the count stands.
                drop(reply.send(done));
            }
            Request::Operate(asked) => self.operate(asked),
            Request::Shutdown { how, reply } => {
                match how {
                    Shutdown::Drain => self.supervisor.stop_all(),
                    Shutdown::Kill => self.supervisor.kill_all(),
                }
                self.waiting_for_the_end.push(reply);
            }
        }
    }

    fn scale(
        &mut self,
        target: &ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &[EndpointId],
    ) -> Result<(), ScaleError> {
        let revision = self.targets.get(target).ok_or_else(|| ScaleError::NotFound(target.clone()))?.clone();
        let requested = self.supervisor.requested(&revision).unwrap_or_default();
        if let Some(why) = self.published.get(&revision).and_then(|shown| refuses(shown, requested, to)) {
            return Err(ScaleError::Refused(why.into()));
        }
        let now = self.now();
        self.supervisor.scale(now, &revision, from, to, remove_first)?;
        self.remember(&revision, Some(to));
        Ok(())
    }

    fn remember(&self, revision: &RevisionId, requested: Option<Replicas>) {
        self.memory.send_if_modified(|memory| match requested {
            Some(count) => {
                if !count.is_zero() {
                    memory.last_nonzero.insert(revision.clone(), count);
                }
                memory.requested.insert(revision.clone(), count) != Some(count)
            }
            None => {
                let nonzero = memory.last_nonzero.remove(revision).is_some();
                let by_hand = memory.overrides.forget(revision);
                memory.requested.remove(revision).is_some() || nonzero || by_hand
            }
        });
    }

    /// Takes over the manifests: new and changed revisions, and those that are gone.
    pub(crate) fn declare(&mut self, declared: &Manifests) {
        let present: BTreeSet<RevisionId> = declared.entries.iter().map(|entry| entry.revision.id.clone()).collect();
        let gone: Vec<_> =
            self.revisions.values().filter(|revision| !present.contains(&revision.id)).cloned().collect();
        for revision in gone.into_iter().filter(|revision| revision.mode != Mode::Removed) {
            self.supervisor.remove(&revision.id);
            self.remember(&revision.id, None);
            let removed = Arc::new(Revision { mode: Mode::Removed, ..(*revision).clone() });
            self.revisions.insert(removed.id.clone(), removed);
            self.show(&revision.id);
        }
        for Entry { revision, workload, labels, .. } in &declared.entries {
            let id = revision.id.clone();
            let shown = self.memory.borrow().overrides.effective(revision, (self.wall_clock)());
            let first = self.first_count(&shown, workload.replicas);
            self.supervisor.apply(Arc::new(workload.clone()), first);
            self.supervisor.set_drain_timeout(&id, *revision.scaling.drain_timeout);
            self.supervisor.set_exclusive(&id, revision.scaling.exclusive_group.is_some());
            if is_fixed(revision) {
                self.fix(&id, workload.replicas);
            }
            self.targets.retain(|_, target_of| *target_of != id);
            self.targets.insert(revision.target.clone(), id.clone());
            self.labels.insert(id.clone(), labels.clone());
            self.revisions.insert(id.clone(), Arc::clone(revision));
            self.show(&id);
        }
    }

    /// Tells the watchers what a revision is now, with what was set by hand, if that is news.
    fn show(&mut self, id: &RevisionId) {
        let Some(declared) = self.revisions.get(id) else { return };
        let shown = self.memory.borrow().overrides.effective(declared, (self.wall_clock)());
        if self.published.get(id).is_none_or(|known| *known != shown) {
            self.feed.publish(Change::Applied(Arc::clone(&shown)));
            self.published.insert(id.clone(), shown);
        }
    }

    /// What is asked for of a revision that is new: what was last asked for, else nothing before somebody asks; or what
    /// the manifest says, when nobody ever will.
    fn first_count(&self, revision: &Revision, replicas: Replicas) -> Replicas {
        let remembered = self.memory.borrow().requested.get(&revision.id).copied();
        match &revision.mode {
            Mode::Act | Mode::Invalid(_) => remembered.unwrap_or(Replicas::ZERO),
            Mode::Shadow | Mode::Paused | Mode::Refused(_) | Mode::Removed => remembered.unwrap_or(replicas),
        }
    }

    fn fix(&mut self, id: &RevisionId, replicas: Replicas) {
        let now = self.now();
        let Some(current) = self.supervisor.requested(id) else { return };
        if let Err(error) = self.supervisor.scale(now, id, current, replicas, &[]) {
            tracing::error!(revision = %id, %error, "spec.replicas could not be taken over");
        }
        self.remember(id, Some(replicas));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(launch) => {
                let (orders, order) = watch::channel(Order::Run);
                self.orders.insert(launch.id.clone(), orders);
                (self.context.spawn)("replica", Box::pin(replica::run(self.context.clone(), launch, order)));
            }
            Action::Stop(id) => self.order(&id, Order::Stop),
            Action::Kill(id) => self.order(&id, Order::Kill),
        }
    }

    fn order(&self, id: &EndpointId, order: Order) {
        if let Some(orders) = self.orders.get(id) {
            orders.send_if_modified(|now| {
                let forward = order > *now;
                *now = order.max(*now);
                forward
            });
        }
    }

    /// Forgets the revisions whose objects are gone and whose last replica has ended.
    fn forget_ended(&mut self) {
        let ended: Vec<_> = self.revisions.keys().filter(|id| self.supervisor.view(id).is_none()).cloned().collect();
        for id in ended {
            self.revisions.remove(&id);
            self.published.remove(&id);
            self.labels.remove(&id);
            self.targets.retain(|_, revision| *revision != id);
            self.told.remove(&id);
            self.feed.publish(Change::Deleted(id));
        }
    }

    /// Tells what differs from what was last told.
    fn publish(&mut self) {
        self.forget_ended();
        for id in self.revisions.keys() {
            let Some(view) = self.supervisor.view(id) else { continue };
            let before = self.told.get(id);
            if before.is_none_or(|before| before.endpoints != view.endpoints) {
                self.version += 1;
                self.feed.publish(Change::Endpoints {
                    revision: id.clone(),
                    version: self.version,
                    endpoints: view.endpoints.clone().into(),
                });
            }
            let counts = |view: &View| (view.requested, view.ready, view.terminating, view.trouble.clone());
            if before.is_none_or(|before| counts(before) != counts(&view)) {
                self.tell_trouble(id, before, &view);
                self.feed.publish(Change::Replicas {
                    revision: id.clone(),
                    requested: view.requested,
                    ready: view.ready,
                    terminating: view.terminating,
                    trouble: view.trouble.clone(),
                    // Here only we write it: `kpa scale` raises the bound.
                    foreign: None,
                });
            }
            self.told.insert(id.clone(), view);
        }
    }

    fn tell_trouble(&self, id: &RevisionId, before: Option<&View>, view: &View) {
        let Some(trouble) = &view.trouble else { return };
        if before.and_then(|before| before.trouble.as_ref()) != Some(trouble) {
            tracing::warn!(revision = %id, reason = %trouble.reason, "{}", trouble.message);
        }
    }
}

/// Whether nobody scales it.
fn is_fixed(revision: &Revision) -> bool {
    revision.mode == Mode::Refused(Refusal::NotAnnotated)
}

/// Why a count is not taken over from an autoscaler that has not heard yet that it should leave this revision alone. Letting
/// drained replicas go at the same count is no change, and the first request at zero may wake one (kpa-behaviour 1.8).
fn refuses(shown: &Revision, requested: Replicas, to: Replicas) -> Option<&'static str> {
    let wakes = requested.is_zero() && to == Replicas::ONE;
    match &shown.mode {
        _ if to == requested => None,
        Mode::Refused(Refusal::NotAnnotated) => Some("it carries none of our annotations and runs at spec.replicas"),
        Mode::Shadow => Some("it is in mode shadow: its replicas are left alone"),
        Mode::Paused | Mode::Refused(_) if wakes => None,
        Mode::Paused => Some("it is paused: its replicas are left alone"),
        Mode::Refused(Refusal::Released) => Some("it was released: its replicas are left alone"),
        Mode::Refused(_) => Some("it belongs to another autoscaler: its replicas are left alone"),
        Mode::Act | Mode::Invalid(_) | Mode::Removed => None,
    }
}
