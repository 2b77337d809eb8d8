//! What the local platform is given, and why it may not start.

use crate::files::Inputs;
use domain::{Peer, ReporterId, RevisionId, WallTime};
use futures_core::future::BoxFuture;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// How the platform runs its tasks: by name, so that their deaths are noticed. Every task
/// given ends by itself: the replicas' with their process, the others with the last clone of the platform.
pub type Spawn = Arc<dyn Fn(&'static str, BoxFuture<'static, ()>) + Send + Sync>;

/// Told of each replica that has just passed its probe, before anybody can send it a request.
pub type OnReady = Arc<dyn Fn(&RevisionId) + Send + Sync>;

/// Reads the wall clock: for the moments in log files, and for what is set until a moment.
pub type WallClock = fn() -> WallTime;

/// Where replicas' output goes, besides the log files of the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// To standard error, each line behind `name-slot | `.
    #[default]
    Prefixed,
    /// Nowhere.
    None,
}

/// Settings of a [`crate::LocalPlatform`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where manifests are read from.
    pub inputs: Inputs,
    /// Where locks, counts, records and logs are kept. Created if missing.
    pub state_dir: PathBuf,
    /// What to run instead of an image, by image name.
    pub images: BTreeMap<String, String>,
    /// Absolute path of a program, and arguments, that call [`crate::exec_shim::run`] with what follows them
    /// (`["/usr/bin/kpa", "__exec"]`).
    pub shim: Vec<OsString>,
    /// Where replicas listen. Default [`crate::DEFAULT_PORTS`].
    pub ports: RangeInclusive<u16>,
    /// Where replicas' output goes.
    pub output: Output,
    /// GPUs of this machine; `None` counts them.
    pub gpus: Option<u32>,
    /// The autoscalers that frames are sent to.
    pub autoscalers: Vec<Peer>,
    /// The activators that should be reporting.
    pub activators: Vec<ReporterId>,
    /// The wall clock.
    pub wall_clock: WallClock,
}

/// How [`crate::LocalPlatform::shutdown`] ends replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// preStop, TERM, then KILL after the termination grace period.
    Drain,
    /// KILL now.
    Kill,
}

/// Why the platform does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process uses the state directory.
    #[error("{dir} is in use by {who}; stop it, or choose another state directory", dir = dir.display(), who = who(*pid))]
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// Who uses it, if it says so.
        pid: Option<u32>,
    },
    /// The state directory cannot be used.
    #[error("state directory {}: {error}", dir.display())]
    StateDir {
        /// The state directory.
        dir: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file or folder of manifests cannot be read at all.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The shim is missing or no absolute path.
    #[error("the exec shim {0:?} is not an absolute path")]
    Shim(OsString),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

fn who(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
