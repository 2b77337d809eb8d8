//! Processes that the benchmark starts.
//!
//! Invariant: when the value is dropped the process and what it started is gone: TERM first, KILL to the whole group if that is not heard.

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is looked whether it did.
const LOOK: Duration = Duration::from_millis(5);

/// A running process in a group of its own.
#[derive(Debug)]
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Starts `command`; its output goes nowhere but its errors to ours.
    pub(crate) fn start(mut command: Command, name: &str) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Ok(Self(command.spawn().with_context(|| format!("cannot start {name}"))?))
    }

    /// Its process id, also that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Ok(group) = i32::try_from(self.0.id()) else { return };
        if self.has_ended() {
            return;
        }
        let group = Pid::from_raw(group);
        // To the whole group: an nginx master that is killed would leave its worker behind.
        let _ = killpg(group, Signal::SIGTERM);
        let looks = GRACE.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
