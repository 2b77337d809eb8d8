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

/// `whole` is the command line; what it hides is not completed either.
pub(crate) fn main(args: &Args, whole: &clap::Command) -> anyhow::Result<ExitCode> {
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = clap::Command::new("kpa").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "kpa", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
