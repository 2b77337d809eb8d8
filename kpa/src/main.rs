//! The one command a person types.

mod exec;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs services from Kubernetes YAML on this machine, scales them to what they are asked, and shows why.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs Deployments as local processes, from zero to as many as their load needs.
    Run(run::Args),
    /// Becomes a replica's command.
    #[command(name = "__exec", hide = true, disable_help_flag = true)]
    Exec(exec::Args),
}

#[expect(clippy::print_stderr, reason = "what goes wrong before there is a log is said on standard error")]
fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Exec(args) => exec::main(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("kpa: {error:#}");
        ExitCode::FAILURE
    })
}
