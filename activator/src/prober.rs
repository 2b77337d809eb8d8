//! Looks after replicas that the platform cannot vouch for: suspects, and cold ones that may answer before it says so
//! (kpa-behaviour 4.4).
//!
//! Invariants: one probe at a time per replica; suspects with a pause that doubles, cold ones as kpa-behaviour 10.2 says;
//! a replica that left is not probed again, nor a cold one that became ready.

mod cold;

use crate::bounds::Bounds;
use crate::revisions::Handle;
use crate::worker::Suspect;
use domain::{EndpointId, RevisionId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use runtime::net::Connect;
use runtime::{Clock, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Suspects looked after at once. A further one is none: nobody would clear it.
pub const SUSPECTS_MAX: usize = 1024;
/// Cold replicas probed at once. Each costs at most a hundred connects a second; the others wait for a place, or for the
/// platform to say that they are ready.
pub const COLD_MAX: usize = 128;
/// Cold replicas of one revision probed at once: one that starts many must not take every place.
pub const COLD_PER_REVISION_MAX: usize = 16;
/// First pause before a suspect is asked again; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Revisions that have cold replicas which nobody probes yet; each at most once.
#[derive(Debug, Default)]
pub struct ColdList {
    revisions: Mutex<BTreeMap<RevisionId, Arc<Handle>>>,
    raised: Notify,
}

impl ColdList {
    /// `handle`'s replicas have changed: those that are cold are probed.
    pub fn look_at(&self, handle: &Arc<Handle>) {
        if handle.gate.cold().unprobed > 0 {
            self.revisions.lock().insert(handle.id.clone(), Arc::clone(handle));
            self.raised.notify_one();
        }
    }

    /// As many cold replicas as there are places for, given that `under_way` are probed.
    fn take(&self, under_way: usize) -> Vec<(Arc<Handle>, crate::gate::Cold)> {
        let mut taken = Vec::new();
        self.revisions.lock().retain(|_, handle| {
            let free = COLD_MAX.saturating_sub(under_way + taken.len());
            let own = COLD_PER_REVISION_MAX.saturating_sub(handle.gate.cold().probed);
            taken.extend(handle.gate.take_cold(free.min(own)).into_iter().map(|cold| (Arc::clone(handle), cold)));
            handle.gate.cold().unprobed > 0
        });
        taken
    }
}

/// Clears suspects that accept a connection again, and opens cold replicas that pass their probe.
pub async fn run<C: Connect + Clone>(
    mut suspects: mpsc::Receiver<Suspect>,
    list: Arc<ColdList>,
    bounds: Arc<Bounds>,
    connector: C,
    clock: Clock,
    tasks: Tasks,
) {
    let suspected = Arc::<Mutex<BTreeSet<EndpointId>>>::default();
    let mut probes = FuturesUnordered::new();
    loop {
        for (handle, cold) in list.take(probes.len()) {
            probes.push(cold::until_it_passes(handle, cold, connector.clone(), clock));
        }
        tokio::select! {
            biased; // Those that end make room for others.
            Some(()) = probes.next() => {}
            () = list.raised.notified() => {}
            suspect = suspects.recv() => match suspect {
                // Its pass has been taken back: it is as cold as before.
                Some(suspect) if suspect.handle.gate.is_cold(&suspect.endpoint) => list.look_at(&suspect.handle),
                Some(suspect) => look_after(suspect, &suspected, &bounds, connector.clone(), clock, &tasks),
                None => return,
            },
        }
    }
}

fn look_after<C: Connect>(
    suspect: Suspect,
    suspected: &Arc<Mutex<BTreeSet<EndpointId>>>,
    bounds: &Arc<Bounds>,
    connector: C,
    clock: Clock,
    tasks: &Tasks,
) {
    let id = suspect.endpoint.id.clone();
    {
        let mut known = suspected.lock();
        if known.contains(&id) {
            return;
        }
        if known.len() >= SUSPECTS_MAX {
            drop(known);
            return suspect.leave_unwatched(bounds, clock.now());
        }
        known.insert(id.clone());
    }
    let suspected = Arc::clone(suspected);
    tasks.spawn("probe a suspect", async move {
        rehabilitate(suspect, connector, clock).await;
        suspected.lock().remove(&id);
    });
}

async fn rehabilitate<C: Connect>(suspect: Suspect, connector: C, clock: Clock) {
    let Suspect { handle, endpoint } = suspect;
    // One that accepts connections and breaks them passes each time: what it is given then is all that can show more.
    let mut pause = PAUSE.saturating_mul(1 << endpoint.broken.begin_round().min(16)).min(PAUSE_MAX);
    loop {
        tokio::time::sleep(pause).await;
        if !handle.gate.endpoints().iter().any(|(known, _)| Arc::ptr_eq(known, &endpoint)) {
            return;
        }
        if reaches(&connector, &handle, endpoint.address).await {
            endpoint.reach.connected();
            handle.gate.set_suspect(clock.now(), &endpoint.id, false);
            return;
        }
        endpoint.reach.failed(clock.now());
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether a request would get a connection to `address`, which is a replica of `handle`.
async fn reaches<C: Connect>(connector: &C, handle: &Handle, address: std::net::SocketAddr) -> bool {
    let limits = handle.gate.limits();
    if !*limits.backend_tls {
        return connects(connector, address).await;
    }
    let to = (address, cold::spoken(&limits));
    handle.backend.connect(connector, to, &limits, CONNECT_LIMIT).await.is_some()
}

/// Whether `address` accepts a connection.
async fn connects<C: Connect>(connector: &C, address: std::net::SocketAddr) -> bool {
    let connected = tokio::time::timeout(CONNECT_LIMIT, connector.connect(address)).await;
    matches!(connected, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revisions::Revisions;
    use domain::{Endpoint, EndpointState, Probe, ProbeCheck, Timestamp};

    #[test]
    fn places_have_a_bound_for_each_revision_and_in_all() {
        const EACH: usize = COLD_PER_REVISION_MAX + 1;
        let (revisions, list) = (Revisions::new(1, Arc::default()), ColdList::default());
        let starting = |n: usize| Endpoint {
            id: EndpointId::new(&n.to_string()),
            address: "127.0.0.1:1".parse().unwrap(),
            state: EndpointState::Starting,
            early_probe: Some(Probe {
                check: ProbeCheck::Tcp { port: None },
                timeout: CONNECT_LIMIT,
                period: CONNECT_LIMIT,
                failure_threshold: 1,
                success_threshold: 1,
            }),
        };
        let endpoints: Vec<_> = (0..EACH).map(starting).collect();
        let count = COLD_MAX / COLD_PER_REVISION_MAX + 1;
        for n in 0..count {
            let id = RevisionId::new("default", &n.to_string());
            let handle = revisions.apply(Arc::new(platform::fixed::default_revision(id)));
            handle.gate.set_endpoints(Timestamp::ZERO, 1, &endpoints);
            list.look_at(&handle);
        }
        let first = list.take(0);
        assert_eq!(first.len(), COLD_MAX);
        assert!(list.take(COLD_MAX).is_empty());
        // One passes: its own revision is the first with another, and has room for it.
        let (handle, cold) = &first[0];
        handle.gate.passed(Timestamp::ZERO, &cold.endpoint);
        let next = list.take(COLD_MAX - 1);
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].0.id, handle.id);
        let unprobed: usize = revisions.all().iter().map(|handle| handle.gate.cold().unprobed).sum();
        assert_eq!(unprobed, count * EACH - COLD_MAX - 1);
    }

    #[test]
    fn a_suspect_whom_nobody_can_look_after_is_used_again() {
        let revisions = Revisions::new(1, Arc::default());
        let handle = revisions.apply(Arc::new(platform::fixed::default_revision(RevisionId::new("default", "model"))));
        let ready = |name| Endpoint {
            id: EndpointId::new(name),
            address: "127.0.0.1:1".parse().unwrap(),
            state: EndpointState::Ready,
            early_probe: None,
        };
        handle.gate.set_endpoints(Timestamp::ZERO, 1, &[ready("a"), ready("b")]);
        let usable = || handle.gate.endpoints().iter().filter(|(_, usable)| *usable).count();
        let full = (0..SUSPECTS_MAX).map(|n| EndpointId::new(&n.to_string())).collect();
        let suspected = Arc::new(Mutex::new(full));
        let suspect = || {
            handle.gate.set_suspect(Timestamp::ZERO, &EndpointId::new("a"), true);
            let endpoint = Arc::clone(&handle.gate.endpoints()[0].0);
            Suspect { handle: Arc::clone(&handle), endpoint }
        };
        let (clock, tasks) = (Clock::start(), Tasks::new());
        look_after(suspect(), &suspected, revisions.bounds(), runtime::net::Tcp, clock, &tasks);
        assert_eq!((usable(), revisions.bounds().unwatched(), suspected.lock().len()), (2, 1, SUSPECTS_MAX));
        // One that is looked after already stays what it is.
        suspected.lock().pop_first();
        suspected.lock().insert(EndpointId::new("a"));
        look_after(suspect(), &suspected, revisions.bounds(), runtime::net::Tcp, clock, &tasks);
        assert_eq!((usable(), revisions.bounds().unwatched()), (1, 1));
    }
}
