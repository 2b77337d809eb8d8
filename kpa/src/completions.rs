//! `kpa completions`: scripts that teach a shell our commands.

use crate::output;
use clap_complete::Shell;
use std::process::ExitCode;

/// Settings of `kpa completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell. For bash: `source <(kpa completions bash)`.
    shell: Shell,
}

pub(crate) fn main(args: &Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "kpa", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
