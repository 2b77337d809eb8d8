//! The whole product on a cluster in memory: an API server on a socket, controllers, pods that are real processes on
//! loopback addresses of their own, and the built activator and autoscaler with the rights that are installed.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]
#![expect(
    clippy::print_stderr,
    reason = "what was answered instead of what was wanted is shown with a test that fails"
)]

/// As in our programs: the API server is in this process, and not to be what a measurement measures.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "../support/mod.rs"]
mod support;

mod cold;
mod crowd;
mod given;
mod history;
mod leaders;
mod many;
mod objects;
mod operator;
mod outage;
mod restarts;
mod rights;
mod service;
mod sharing;
mod takeover;
mod uninstall;
mod world;
