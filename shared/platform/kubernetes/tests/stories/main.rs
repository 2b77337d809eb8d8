//! Both platforms on an API server in memory, with a paused clock: what is told, what is written, what is given back.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one change among all")]

mod cluster;
mod election;
mod proxy;
mod publisher;
mod takeover;
mod world;
