//! One cold replica, asked until it passes or until the platform knows better.
//!
//! Invariant: until its port listens it is only connected to; then one check at a time, each within its timeout
//! (kpa-behaviour 10.2).

use super::connects;
use crate::gate::Cold;
use crate::headers::Next;
use crate::revisions::Handle;
use crate::tls::stream::ToReplica;
use domain::probe::{CONNECT_PAUSE, pause};
use domain::{Limits, Probe, ProbeCheck, Protocol};
use runtime::Clock;
use runtime::net::Connect;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Probes `cold` until it passes, which opens it, or is no longer cold.
pub(super) async fn until_it_passes<C: Connect>(handle: Arc<Handle>, cold: Cold, connector: C, clock: Clock) {
    let Cold { endpoint, probe, since } = cold;
    while handle.gate.is_cold(&endpoint) && !connects(&connector, endpoint.address).await {
        sleep(CONNECT_PAUSE).await;
    }
    let mut successes = 0;
    while handle.gate.is_cold(&endpoint) {
        let begun = clock.now();
        successes = if passes(&connector, &handle, endpoint.address, &probe).await { successes + 1 } else { 0 };
        let now = clock.now();
        if successes >= probe.success_threshold.max(1) {
            tracing::debug!(revision = %handle.id, replica = %endpoint.id, "it answers; the platform does not say ready yet");
            handle.gate.passed(now, &endpoint);
            return;
        }
        sleep(pause(now - since, now - begun)).await;
    }
}

/// Makes one check of the replica at `address`.
async fn passes<C: Connect>(connector: &C, handle: &Handle, address: SocketAddr, probe: &Probe) -> bool {
    let at = |port: &Option<u16>| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
    let limits = handle.gate.limits();
    // Where the replica serves, a check goes the way of a request; what another port speaks is not known.
    let connect = async |port: &Option<u16>, next: Next| {
        let to = at(port);
        if *limits.backend_tls && to == address {
            return handle.backend.connect(connector, (to, next), &limits, probe.timeout).await;
        }
        connector.connect(to).await.ok().map(ToReplica::Plain)
    };
    let check = async {
        match &probe.check {
            ProbeCheck::Tcp { port } => connect(port, spoken(&limits)).await.is_some(),
            ProbeCheck::Http { port, path, headers } => {
                let Some(stream) = connect(port, Next::Http1).await else { return false };
                let status = platform::probe::get(stream, at(port), path, headers).await;
                status.is_ok_and(platform::probe::passes)
            }
            // Only the replica's own machine can run it; the gate gives none of these.
            ProbeCheck::Exec { .. } => false,
        }
    };
    timeout(probe.timeout, check).await.unwrap_or(false)
}

/// What a check agrees on with a replica where it sends nothing.
pub(super) fn spoken(limits: &Limits) -> Next {
    match *limits.protocol {
        Protocol::H2c => Next::Http2,
        Protocol::Auto | Protocol::Http1 => Next::Http1,
    }
}
