//! Replicas as child processes of this machine: the local platform.
//!
//! Invariant: it decides nothing about counts; it runs as many processes as it was asked for, tells which of them
//! answer, and leaves none behind.
//!
//! ```text
//! files ─> manifests ─┐                       ┌─> replica ─> launch ─> spawner ─> exec shim ─> the command
//!          scale ─────┼─> runner ─> supervisor┤      ├─> health ─> probe, procs
//!          seen ──────┘      └─> feed ─> watchers    └─> logs
//! ```

pub mod exec_shim;
mod feed;
mod files;
mod health;
mod launch;
mod local;
mod logs;
mod operate;
mod options;
mod orphans;
mod overrides;
mod ports;
mod probe;
mod process;
mod procs;
mod reaper;
mod replica;
mod runner;
mod state;
mod supervisor;

pub use files::{Inputs, standard_input};
pub use local::{LocalPlatform, tell};
pub use logs::read::{LogError, LogLine, ServiceLogs};
pub use operate::{FloorSet, OperateError, ReleaseDone, ReplicaState, ReplicaStatus, RestartBegun};
pub use options::{OnReady, Options, Output, Shutdown, Spawn, StartError, WallClock};
pub use overrides::{FLOOR_SPAN_MAX, Floor, OVERRIDES_MAX};
pub use ports::{DEFAULT_PORTS, QUARANTINE};
pub use state::TOKEN_FILE;

/// The files that a [`LocalPlatform`] with these inputs would read, with what they say. Paths become absolute.
///
/// # Errors
/// A path that cannot be read at all.
pub fn sources(inputs: &Inputs) -> Result<Vec<platform::manifest::Source>, StartError> {
    files::Files::open(inputs).map(|(_, sources)| sources)
}
