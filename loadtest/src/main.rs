//! The `loadtest` command.

use clap::{Parser, Subcommand};
use loadtest::{cold_start, fleet, memory, model_server, output, peers, run};
use std::process::ExitCode;

/// Load tests and benchmarks for kpa, and the sample model server they are run against.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A sample model server: slow to load, streams tokens, can fail on purpose.
    ModelServer(model_server::Args),
    /// Sends requests: exactly N in flight, at a fixed rate, or N at the same instant.
    Run(run::Args),
    /// Load on many revisions at once that comes and goes, single answers and streams mixed.
    Fleet(fleet::Args),
    /// Measures what an activator has resident: idle, with many services and connections, and holding requests.
    Memory(memory::Args),
    /// Compares the activator with nginx, HAProxy and Envoy on the same machine, one core each.
    Peers(peers::Args),
    /// Measures the machinery of cold starts against a running kpa.
    ColdStart(cold_start::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::ModelServer(args) => model_server::main(args),
        Command::Run(args) => run::main(args),
        Command::Fleet(args) => fleet::main(args),
        Command::Memory(args) => memory::main(args),
        Command::Peers(args) => peers::main(args),
        Command::ColdStart(args) => cold_start::main(args),
    };
    outcome.unwrap_or_else(|error| {
        output::notice(&format!("loadtest: {error:#}"));
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_has_one_mode() {
        let parse = |flags: &str| Cli::try_parse_from(format!("loadtest run http://a/ {flags}").split_whitespace());
        assert!(parse("--in-flight 10 --duration 70s").is_ok());
        assert!(parse("--burst 1000 --expect-all").is_ok());
        assert!(parse("--in-flight 10 --rate 5").is_err());
        assert!(parse("--burst 10 --duration 5s").is_err());
    }
}
