//! A platform in memory, for tests and simulations.
//!
//! Invariant: deterministic. Time is tokio's and may be paused; replicas progress when somebody polls a watch or calls
//! `scale`, and nothing is spawned.

mod call;
mod running;

pub use call::{AddressOf, Reach, ScaleCall};

use crate::board::Board;
use crate::{Leadership, Platform, ScaleError};
use domain::{Change, EndpointId, Peer, Probe, Replicas, ReporterId, Revision, RevisionId, ScaleTargetRef, Trouble};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use running::{Replica, Running};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The platform. Clones are the same one.
#[derive(Clone)]
pub struct Fake {
    board: Board,
    state: Arc<Mutex<State>>,
    leadership: Arc<watch::Sender<Leadership>>,
    reach: Arc<watch::Sender<Reach>>,
    address_of: AddressOf,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("reach", &*self.reach.borrow()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    revisions: BTreeMap<RevisionId, Running>,
    calls: Vec<ScaleCall>,
    failures: VecDeque<ScaleError>,
    /// From being told to leave to being gone.
    stop_delay: Duration,
    /// Replicas started so far; numbers are never used again.
    started: u32,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// No revision, leading for ever, replicas at 10.0.0.0/8 port 8080.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Arc::new(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), 8080)
        }))
    }

    /// Replicas listen where `address_of` says.
    #[must_use]
    pub fn at(address_of: AddressOf) -> Self {
        Self {
            board: Board::new(),
            state: Arc::default(),
            leadership: Arc::new(watch::Sender::new(Leadership::Leader { until: None })),
            reach: Arc::default(),
            address_of,
        }
    }

    /// Declares a revision, or changes its settings. A new one has no replica; its replicas need `start_delay` each.
    pub fn apply(&self, revision: Revision, start_delay: Duration) {
        let id = revision.id.clone();
        let mut state = self.state.lock();
        let known = state.revisions.contains_key(&id);
        let running = state.revisions.entry(id.clone()).or_insert_with(|| Running {
            target: revision.target.clone(),
            requested: Replicas::ZERO,
            replicas: Vec::new(),
            version: 0,
            start_delay,
            trouble: None,
            early_probe: None,
        });
        running.target = revision.target.clone();
        running.start_delay = start_delay;
        self.board.tell(Change::Applied(Arc::new(revision)));
        if !known {
            running.tell(&id, &self.board);
        }
    }

    /// Replicas that are told to leave from now on are shown as draining for so long before they are gone. Default zero.
    pub fn set_stop_delay(&self, stop_delay: Duration) {
        self.state.lock().stop_delay = stop_delay;
    }

    /// Forgets a revision and ends its replicas.
    pub fn remove(&self, id: &RevisionId) {
        if self.state.lock().revisions.remove(id).is_some() {
            self.board.tell(Change::Deleted(id.clone()));
        }
    }

    /// Somebody else writes the count. Nothing happens to an unknown revision.
    pub fn set_replicas(&self, id: &RevisionId, to: Replicas) {
        self.resize(id, to, &[]);
    }

    /// A replica dies and is replaced by another one, which needs its start delay. `false` if there is none of that name.
    pub fn crash(&self, id: &RevisionId, endpoint: &EndpointId) -> bool {
        let requested = {
            let mut state = self.state.lock();
            let Some(running) = state.revisions.get_mut(id) else { return false };
            let before = running.replicas.len();
            running.replicas.retain(|replica| replica.id != *endpoint);
            if running.replicas.len() == before {
                return false;
            }
            running.requested
        };
        self.resize(id, requested, &[]);
        true
    }

    /// A replica becomes ready now, however much of its start delay is left. For worlds whose hosts have clocks of their
    /// own. `false` if there is none of that name.
    pub fn set_ready(&self, id: &RevisionId, endpoint: &EndpointId) -> bool {
        let mut state = self.state.lock();
        let Some(running) = state.revisions.get_mut(id) else { return false };
        let Some(replica) = running.replicas.iter_mut().find(|replica| replica.id == *endpoint) else { return false };
        if !std::mem::replace(&mut replica.ready, true) {
            running.tell(id, &self.board);
        }
        true
    }

    /// Reports why replicas do not become ready; `None` takes it back.
    pub fn set_trouble(&self, id: &RevisionId, trouble: Option<Trouble>) {
        if let Some(running) = self.state.lock().revisions.get_mut(id) {
            running.trouble = trouble;
            running.tell(id, &self.board);
        }
    }

    /// Activators may find out by `probe` that replicas answer before they are ready; `None` takes it back.
    pub fn set_early_probe(&self, id: &RevisionId, probe: Option<Probe>) {
        if let Some(running) = self.state.lock().revisions.get_mut(id) {
            running.early_probe = probe;
            running.tell(id, &self.board);
        }
    }

    /// The next calls of `scale` fail like this, in order, one each.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = ScaleError>) {
        self.state.lock().failures.extend(failures);
    }

    /// Cuts or heals the way of `scale` calls. Watches are untouched.
    pub fn set_reach(&self, reach: Reach) {
        self.reach.send_replace(reach);
    }

    /// Gives or takes the right to act.
    pub fn set_leadership(&self, leadership: Leadership) {
        self.leadership.send_replace(leadership);
    }

    /// Lists the activators that should be reporting.
    pub fn set_activators(&self, activators: Vec<ReporterId>) {
        self.board.tell(Change::Activators(activators));
    }

    /// Lists the autoscalers that frames are sent to.
    pub fn set_autoscalers(&self, autoscalers: Vec<Peer>) {
        self.board.tell(Change::Autoscalers(autoscalers));
    }

    /// Every call of `scale` so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<ScaleCall> {
        self.state.lock().calls.clone()
    }

    /// The count last asked for; `None` for an unknown revision.
    #[must_use]
    pub fn requested(&self, id: &RevisionId) -> Option<Replicas> {
        self.state.lock().revisions.get(id).map(|running| running.requested)
    }

    /// How many replicas were ever started.
    #[must_use]
    pub fn started(&self) -> u32 {
        self.state.lock().started
    }

    fn resize(&self, id: &RevisionId, to: Replicas, remove_first: &[EndpointId]) {
        let mut state = self.state.lock();
        let State { revisions, started, stop_delay, .. } = &mut *state;
        let Some(running) = revisions.get_mut(id) else { return };
        let now = Instant::now();
        running.settle(now);
        running.requested = to;
        running.shrink(remove_first, now + *stop_delay);
        running.settle(now);
        while running.staying().count() < to.get() as usize {
            *started += 1;
            running.replicas.push(Replica {
                id: EndpointId::new(&format!("{}-{started}", id.name())),
                address: (self.address_of)(*started),
                ready_at: now + running.start_delay,
                ready: running.start_delay.is_zero(),
                gone_at: None,
            });
        }
        running.tell(id, &self.board);
    }

    /// Lets every replica whose time has come become ready or be gone; the next such moment.
    fn settle(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut next = None;
        for (id, running) in &mut state.revisions {
            if running.settle(now) {
                running.tell(id, &self.board);
            }
            next = running.replicas.iter().filter_map(Replica::due).chain(next).min();
        }
        next
    }

    /// Carries out a call that has arrived.
    fn carry_out(&self, call: &ScaleCall) -> Result<(), ScaleError> {
        let (id, now) = {
            let mut state = self.state.lock();
            if let Some(failure) = state.failures.pop_front() {
                return Err(failure);
            }
            let found = state.revisions.iter().find(|(_, running)| running.target == call.target);
            let Some((id, running)) = found else { return Err(ScaleError::NotFound(call.target.clone())) };
            (id.clone(), running.requested)
        };
        let lowers = call.to < call.from;
        // A decision to raise must not lower what somebody else has raised further meanwhile.
        if lowers && now != call.from || !lowers && now > call.to {
            return Err(ScaleError::Changed { now });
        }
        self.resize(&id, call.to, &call.remove_first);
        Ok(())
    }
}

impl Platform for Fake {
    fn watch(&self) -> BoxStream<'static, Change> {
        let watch = self.board.watch();
        unfold((self.clone(), watch), |(fake, mut watch)| async move {
            loop {
                let due = fake.settle();
                let change = tokio::select! {
                    biased; // What has happened is told before more is let happen.
                    change = watch.next() => change,
                    () = until(due) => continue,
                };
                return change.map(|change| (change, (fake, watch)));
            }
        })
        .boxed()
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let call = ScaleCall {
                at: Instant::now(),
                target: target.clone(),
                from,
                to,
                remove_first: remove_first.to_vec(),
                answer: None,
            };
            let index = {
                let mut state = self.state.lock();
                state.calls.push(call.clone());
                state.calls.len() - 1
            };
            let mut reach = self.reach.subscribe();
            let answer = match reach.wait_for(|reach| *reach != Reach::Silent).await.map(|reach| *reach) {
                Ok(Reach::Open) => self.carry_out(&call),
                Ok(Reach::Refused | Reach::Silent) | Err(_) => Err(ScaleError::Unreachable("partitioned".into())),
            };
            self.state.lock().calls[index].answer = Some(answer.clone());
            answer
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// Resolves at `due`; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
