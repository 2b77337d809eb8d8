//! The whole system under simulation: two activators and two autoscalers on a simulated network that is cut and healed,
//! with programs that crash, replicas that start slowly and die at once, and clients that never repeat a request.
//!
//! Invariants, looked for at every step and by every scenario: no request fails that the rules can save; counts stay within
//! their bounds; nothing shrinks while reports are missing, nor below what the replicas are measured to need; only the
//! leader writes; no replica is stopped while it has a request, or given more than its limit; at rest, what autoscalers
//! were told of is exactly what clients sent.
//!
//! What turmoil cannot do, and what stands in for it: a crash closes the host's connections (FIN, or RST where something
//! was unread), as a living kernel does for a dead process, so a machine that loses power is not simulated; what is lost
//! in a cut is not repeated, so cuts come in two kinds ([`world::Cut`]); a connect to a host behind a cut that loses
//! messages is refused instead of timing out, and one to a crashed host is not answered instead of refused; a FIN behind unread data is seen late ([`net::SimStream`]). RST, half-close
//! and full buffers on real sockets are the activator's own tests. The platform's API is a function call with a delay, and
//! leadership is given by the script: leases are no part of this build.
//!
//! Time is simulated in ticks of 10 ms, so a message between two hosts takes one to three of them.

mod clients;
mod cluster;
mod ledger;
mod net;
mod node;
mod programs;
mod world;

mod activators;
mod autoscalers;
mod idle;
mod limits;
mod zero;

use node::Pace;
use std::time::Duration;
use world::Spec;

/// Two requests for each replica, which needs a second to start and 200 ms for an answer.
const ECHO: Spec = Spec {
    annotations: &[
        ("autoscaling.knative.dev/target", "2"),
        ("autoscaling.knative.dev/target-utilization-percentage", "100"),
        ("autoscaling.knative.dev/max-scale", "10"),
    ],
    pace: Pace { start: secs(1), service: Duration::from_millis(200) },
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
