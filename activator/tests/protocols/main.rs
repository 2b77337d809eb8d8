//! Protocols that people route through the activator, spoken by clients and servers that nobody here wrote.
//!
//! Invariant: each is shown through a cold start: the first call waits for the first replica, and nothing of it is lost.

#![cfg(test)]

mod events;
mod grpc;
#[path = "../stories/h2.rs"]
#[allow(dead_code, reason = "shared with the stories, which use all of it")]
mod h2;
mod http1;
mod pairs;
#[path = "../stories/rig.rs"]
#[allow(dead_code, reason = "shared with the stories, which use all of it")]
mod rig;
mod websocket;
#[path = "../stories/wire.rs"]
#[allow(dead_code, reason = "shared with the stories, which use all of it")]
mod wire;
