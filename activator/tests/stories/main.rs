//! Stories of the whole activator over real loopback sockets: one file a subject.
//!
//! Invariant: time is real, so nothing sleeps to let something happen; every wait is for a condition and has a bound. Where
//! the story is about time (`early`), clock and network are the test's own.

#![cfg(test)]

mod affinity;
mod backend_tls;
mod backend_trust;
mod bodies;
mod broken_uploads;
mod clocks;
mod concurrency;
mod disconnects;
mod early;
mod ejection;
mod h2;
mod hangups;
mod headers;
mod holding;
mod http2;
mod limits;
mod memory;
mod outcomes;
mod pace;
mod panics;
mod pki;
mod reports;
mod retries;
mod rig;
mod routing;
mod sharing;
mod tls;
mod tls_names;
mod tls_replica;
mod tls_revoked;
mod tunnels;
mod unread;
mod uploads;
mod watchdog;
mod wire;
