//! `kpa __exec`: the few lines between the supervisor and a replica's command.

use std::ffi::OsString;
use std::process::ExitCode;

/// What the supervisor puts before a replica's command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[expect(clippy::print_stderr, reason = "its standard error is the replica's log")]
pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let Err(error) = platform_local::exec_shim::run(args.command.into_iter());
    eprintln!("kpa: {error}");
    Ok(ExitCode::from(error.exit_code()))
}
