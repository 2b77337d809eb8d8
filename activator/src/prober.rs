//! Looks after replicas that the platform cannot vouch for: suspects, and cold ones that may answer before it says so
//! (kpa-behaviour 4.4).
//!
//! Invariant: one probe at a time per replica, with a pause that doubles; a replica that left is not probed again.

use crate::worker::Suspect;
use domain::EndpointId;
use parking_lot::Mutex;
use runtime::net::Connect;
use runtime::{Clock, Tasks};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Suspects looked after at once.
pub const SUSPECTS_MAX: usize = 1024;
/// First pause before a suspect is asked again; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Clears suspects that accept a connection again.
pub async fn run<C: Connect + Clone>(mut suspects: mpsc::Receiver<Suspect>, connector: C, clock: Clock, tasks: Tasks) {
    let under_way = Arc::<Mutex<BTreeSet<EndpointId>>>::default();
    while let Some(suspect) = suspects.recv().await {
        let id = suspect.endpoint.id.clone();
        {
            let mut known = under_way.lock();
            if known.len() >= SUSPECTS_MAX || !known.insert(id.clone()) {
                continue;
            }
        }
        let (connector, under_way) = (connector.clone(), Arc::clone(&under_way));
        tasks.spawn("probe a suspect", async move {
            rehabilitate(suspect, connector, clock).await;
            under_way.lock().remove(&id);
        });
    }
}

async fn rehabilitate<C: Connect>(suspect: Suspect, connector: C, clock: Clock) {
    let Suspect { handle, endpoint } = suspect;
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        if !handle.gate.endpoints().iter().any(|(known, _)| Arc::ptr_eq(known, &endpoint)) {
            return;
        }
        let answered = tokio::time::timeout(CONNECT_LIMIT, connector.connect(endpoint.address)).await;
        if matches!(answered, Ok(Ok(_))) {
            handle.gate.set_suspect(clock.now(), &endpoint.id, false);
            return;
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
