//! The one command a person types.

mod api;
mod check;
mod cluster;
mod completions;
mod config;
mod exec;
mod explain;
mod get;
mod input;
mod json;
mod logs;
mod operate;
mod output;
mod release;
mod replay;
mod restart;
mod run;
mod scale;
mod selector;
mod table;

use clap::{CommandFactory, Parser, Subcommand};
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
    /// Shows what `kpa run` does with each service, in the columns of `kubectl get hpa`; or its replicas.
    Get(get::Args),
    /// Prints what the replicas of a service said, from their log files.
    Logs(logs::Args),
    /// Keeps a service at a smallest count for some time.
    Scale(scale::Args),
    /// Replaces every process of a service by another of the same version; no request is lost.
    Restart(restart::Args),
    /// Lets go of services: they keep a count, are routed, and are no longer scaled.
    Release(release::Args),
    /// Says why a service has the replicas that it has, and what it waits for.
    Explain(explain::Args),
    /// Reads manifests without running them, or a cluster's Deployments, and says everything that is wrong; exit code 1 with errors.
    Check(check::Args),
    /// Shows every key of config-autoscaler and config-activator with its value and where it comes from.
    Config(config::Args),
    /// Decides over recorded seconds and prints each tick's decision as a JSON line.
    Replay(replay::Args),
    /// Prints a completion script for a shell.
    Completions(completions::Args),
    /// Becomes a replica's command.
    #[command(name = "__exec", hide = true, disable_help_flag = true)]
    Exec(exec::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Get(args) => get::main(&args),
        Command::Logs(args) => logs::main(&args),
        Command::Scale(args) => scale::main(&args),
        Command::Restart(args) => restart::main(&args),
        Command::Release(args) => release::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Config(args) => config::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Completions(args) => completions::main(&args, &Cli::command()),
        Command::Exec(args) => exec::main(args),
    };
    outcome.unwrap_or_else(|error| {
        if output::reader_gone(&error) {
            return ExitCode::SUCCESS;
        }
        output::remark(&format!("kpa: {error:#}"));
        ExitCode::FAILURE
    })
}
