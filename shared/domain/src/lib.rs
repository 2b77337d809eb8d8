//! The words of the field as types, shared by every program and both platforms.
//!
//! Invariant: no clock, no I/O, no async runtime, no logging; everything here can be made in a test by hand.
//!
//! ```text
//! annotations + config ──> Revision { Limits, ScalingSpec }     Frame { Row … } ──> Ack
//!                              └── Change ──> activator, autoscaler      └── activator ⇄ autoscaler
//! ```

pub mod activator_config;
pub mod affinity;
pub mod annotations;
pub mod change;
mod config_map;
pub mod defaults;
pub mod duration;
pub mod endpoint;
pub mod hash;
pub mod host;
pub mod limits;
pub mod origin;
pub mod pem;
pub mod probe;
pub mod problem;
pub mod report;
pub mod revision;
pub mod scaling;
pub mod signal;
pub mod time;
pub mod trust;
pub mod units;
pub mod why;

pub use activator_config::{ActivatorConfig, Forwarding};
pub use affinity::SessionAffinity;
pub use change::{Change, Foreign, Peer, Trouble};
pub use endpoint::{Endpoint, EndpointId, EndpointState};
pub use limits::{Limits, LoadBalancing, OnDisconnect, Protocol};
pub use origin::{Origin, Resolved};
pub use pem::Certificates;
pub use probe::{Probe, ProbeCheck};
pub use problem::{Problem, Severity};
pub use report::{Ack, Frame, ReporterId, Row, Sharing, StartFailed};
pub use revision::{Mode, Refusal, Revision, RevisionId, Route, ScaleTargetRef};
pub use scaling::{Aggregation, Manual, ScalingSpec};
pub use signal::{Signal, SignalSpec};
pub use time::{BadWallTime, Millis, Timestamp, WallTime};
pub use trust::TrustedProxies;
pub use units::{Fraction, Replicas, RequestMillis};
pub use why::Why;
