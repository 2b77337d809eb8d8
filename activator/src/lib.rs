//! The activator: an HTTP proxy that counts what is in flight per revision, holds requests while a service is at zero, and
//! spreads them over replicas.
//!
//! Invariant: everything that touches the world arrives as an argument: listeners, connector, platform, clock, stop.

pub mod body;
pub mod bounds;
pub mod connection;
pub mod deadline;
pub mod error;
pub mod follow;
pub mod gate;
pub mod guesses;
pub mod headers;
pub mod http1;
pub mod line;
pub mod local;
pub mod metrics;
pub mod prober;
pub mod reach;
pub mod reporter;
pub mod request;
pub mod revisions;
pub mod serve;
pub mod settings;
pub mod sharing;
pub mod stack;
pub mod steps;
pub mod threads;
pub mod tls;
pub mod upstream;
pub mod worker;

pub use serve::{Activator, Setup};
pub use settings::Settings;

/// Header fields in one message; beyond: 431.
pub const HEADERS_MAX: usize = 100;
/// Bytes of one message head; beyond: 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request's target, authority included; beyond: 414.
pub const URI_BYTES_MAX: usize = 16 * 1024;
