//! A readiness check, and how long to wait before the next one of a replica that is still starting.
//!
//! Invariant: the schedule is arithmetic; whoever probes brings the time and makes the check (kpa-behaviour 10.2).

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Between connects until the port listens: a refusal costs next to nothing.
pub const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Longest wait between checks of a replica that has not passed yet.
pub const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The wait after a check that took `last`, `elapsed` after the start, once the port listens: a loading single-threaded
/// server is not slowed by being asked, and a start that takes long is not asked often.
#[must_use]
pub fn pause(elapsed: Duration, last: Duration) -> Duration {
    CONNECT_PAUSE.max(elapsed / 50).max(last).min(PAUSE_MAX)
}

/// A readiness check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is checked.
    pub check: ProbeCheck,
    /// How long one check may take. Kubernetes: `timeoutSeconds`, default 1 s.
    pub timeout: Duration,
    /// Time between checks once it succeeded. Kubernetes: `periodSeconds`, default 10 s.
    pub period: Duration,
    /// Failures in a row that make a ready replica unready. Kubernetes default 3.
    pub failure_threshold: u32,
    /// Successes in a row that make it ready. Kubernetes default 1.
    pub success_threshold: u32,
}

/// What a readiness check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeCheck {
    /// The port accepts a connection.
    Tcp {
        /// `None`: the port that serves.
        port: Option<u16>,
    },
    /// GET answers 200 to 399.
    Http {
        /// `None`: the port that serves.
        port: Option<u16>,
        /// Path with query.
        path: String,
        /// Extra headers, name and value.
        headers: Vec<(String, String)>,
    },
    /// The command ends with status 0.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_the_start_time() {
        let ms = Duration::from_millis;
        for (elapsed, last, expected) in [
            (0, 0, 10),
            (400, 1, 10),
            (500, 1, 10),
            (1_000, 1, 20),
            (5_000, 1, 100),
            (1_000, 60, 60),
            (12_500, 1, 250),
            (90_000, 1, 250),
            (1_000, 900, 250),
        ] {
            assert_eq!(pause(ms(elapsed), ms(last)), ms(expected), "{elapsed} {last}");
        }
    }
}
