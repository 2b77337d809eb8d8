//! Does an operation any number of times, for a tool that counts instructions: `loadtest/instructions.py`.
//!
//! Invariant: a program of its own, compiled in one piece, so that nothing but what it calls changes its figures.

mod operations;
mod proxy;
#[path = "../../autoscaler/core/benches/world/mod.rs"]
mod world;

use clap::Parser;
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
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
fn main() -> ExitCode {
    let Arguments { name: Some(name), times: Some(times) } = Arguments::parse() else {
        operations::ALL.iter().for_each(|operation| println!("{} {}", operation.name, operation.times));
        return ExitCode::SUCCESS;
    };
    match operations::run(&name, times) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}
