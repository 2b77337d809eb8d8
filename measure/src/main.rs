//! Measures the programs from inside: the instructions of what is hot, and the CPU of an autoscaler over many revisions.
//!
//! Invariant: calls what production calls, and is built with it: its instructions are those of the shipped code.

mod control_loop;
mod operations;
mod proxy;
mod reporters;
mod steady;
#[path = "../../autoscaler/core/benches/world/mod.rs"]
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The programs' own: what it costs is part of what is counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(version, about = "Measures the programs from inside")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the name of each operation, and how often it is done when its instructions are counted.
    List,
    /// Do an operation so many times, under a tool that counts instructions (loadtest/instructions.py).
    Do {
        /// Which one.
        name: String,
        /// How often.
        times: u32,
    },
    /// CPU seconds per second of an autoscaler to which two activators report each second.
    ControlLoop(control_loop::Arguments),
    /// One row of it.
    #[command(hide = true)]
    ControlLoopRow(control_loop::RowArguments),
    /// The activators of it.
    #[command(hide = true)]
    Reporters(reporters::Arguments),
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::List => {
            operations::ALL.iter().for_each(|operation| println!("{} {}", operation.name, operation.times));
            Ok(())
        }
        What::Do { name, times } => operations::run(&name, times),
        What::ControlLoop(arguments) => control_loop::table(&arguments),
        What::ControlLoopRow(arguments) => control_loop::row(&arguments),
        What::Reporters(arguments) => reporters::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}
