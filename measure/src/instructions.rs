//! Does an operation any number of times, for a tool that counts instructions (`loadtest/instructions.py`), or requests on two
//! workers in turn, for one that looks at the memory they touch (`loadtest/shared_memory.py`).
//!
//! Invariant: a program of its own, compiled in one piece, so that nothing but what it calls changes its figures.

mod operations;
mod proxy;
mod two_workers;
#[path = "../../autoscaler/core/benches/world/mod.rs"]
mod world;

use clap::Parser;
use std::num::NonZeroU32;
use std::process::ExitCode;

/// The programs' own: what it costs is part of what is counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Does an operation so many times; without one, prints the name of each, and how often it is done for a count.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which one.
    #[arg(requires = "times")]
    name: Option<String>,
    /// How often.
    times: Option<u32>,
    /// So many requests on each of two workers instead.
    #[arg(long, value_name = "TIMES", conflicts_with = "name")]
    two_workers: Option<u32>,
    /// With this container-concurrency.
    #[arg(long, requires = "two_workers")]
    limit: Option<NonZeroU32>,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments { two_workers: Some(times), limit, .. } => two_workers::run(limit, times),
        Arguments { name: Some(name), times: Some(times), .. } => operations::run(&name, times),
        _ => {
            operations::ALL.iter().for_each(|operation| println!("{} {}", operation.name, operation.times));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}
