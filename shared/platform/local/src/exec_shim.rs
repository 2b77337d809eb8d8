//! The few lines that run between us and a replica's command: `kpa __exec PARENT COMMAND [ARG…]`.
//!
//! Invariant: when this process's parent dies, the command gets TERM, whenever that happens. Setting it here and not
//! between fork and exec keeps the spawn on the posix_spawn path, without unsafe code and without copying page tables.

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why the command was not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The shim is started by the supervisor and not by a person.
    #[error("expected: PARENT-PID COMMAND [ARG…]")]
    Usage,
    /// The parent ended before its death could be asked to be signalled.
    #[error("the supervisor is gone")]
    ParentGone,
    /// The parent-death signal could not be set.
    #[error("no parent-death signal: {0}")]
    DeathSignal(nix::Error),
    /// The command could not be run.
    #[error("cannot run {command:?}: {error}")]
    Exec {
        /// Its name.
        command: OsString,
        /// What the system says.
        error: std::io::Error,
    },
}

impl ExecError {
    /// The exit status a shell would give: 127 for a command that is not there, 126 for one that cannot run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { error, .. } if error.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            Self::Usage => 64,
            Self::ParentGone | Self::DeathSignal(_) => 71,
        }
    }
}

/// Becomes the command. `args` are what follows the shim's own prefix in [`crate::Options::shim`].
///
/// # Errors
/// It returns only when the command could not be run; print the error and end with [`ExecError::exit_code`].
pub fn run(mut args: impl Iterator<Item = OsString>) -> Result<Infallible, ExecError> {
    let parent = args.next().and_then(|pid| pid.to_str()?.parse::<i32>().ok()).ok_or(ExecError::Usage)?;
    let command = args.next().ok_or(ExecError::Usage)?;
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(ExecError::DeathSignal)?;
    // A parent that died before the line above sends nothing; by now somebody else is our parent.
    if getppid().as_raw() != parent {
        return Err(ExecError::ParentGone);
    }
    let error = Command::new(&command).args(args).exec();
    Err(ExecError::Exec { command, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(args: &[&str]) -> ExecError {
        run(args.iter().map(OsString::from)).expect_err("it does not become the command")
    }

    #[test]
    fn without_a_parent_and_a_command_there_is_nothing_to_do() {
        assert_eq!(run_with(&[]).exit_code(), 64);
        assert_eq!(run_with(&["1x", "true"]).exit_code(), 64);
        assert_eq!(run_with(&["1"]).exit_code(), 64);
    }
}
