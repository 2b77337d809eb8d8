//! Chaos: the built program with a folder of YAML and real sockets, while replicas are killed, stopped, made to refuse,
//! reset and lie, manifests are edited and broken, the folder of state is deleted, and kpa itself is killed.
//!
//! Judged from outside: a request fails only where the replicas' own ledgers show that a fault of ours took it; none that
//! must not be repeated begins twice; no replica has more than its limit; nothing is left afterwards. The plan follows from
//! the seed, its timing from the machine. `CHAOS_SEED` repeats a plan, `CHAOS_SECONDS` is the length of the load with
//! faults (default 18).
//!
//! What kpa cannot know is excused too, and counted in the table: bytes in the socket of a process that never read them.
//!
//! The wall clock jumps where libfaketime is installed (Debian: `libfaketime`); elsewhere this is left out, and said.
//!
//! This program is also the replica (`chaos replica …`), so it has no harness; its pure parts are tested in `rules.rs`.

#![expect(clippy::print_stdout, reason = "the report of a test program without a harness")]
#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod clients;
mod clock;
mod content;
mod faults;
mod judge;
mod ledger;
mod phases;
mod plan;
mod program;
mod replica;
mod report;
mod rude;
mod services;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

/// The name that a filter of `cargo test` is compared with.
const NAME: &str = "chaos";
/// Length of the load with faults, in seconds, and how many edits come in it.
const SHORT: (u64, usize) = (18, 200);
/// From this length on there are as many edits as in a long run.
const LONG: (u64, usize) = (300, 5_000);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "replica") {
        return match replica::main(&args[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("replica: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| NAME.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let seconds = number("CHAOS_SECONDS").unwrap_or(SHORT.0);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let edits = if seconds >= LONG.0 { LONG.1 } else { SHORT.1 };
    println!("chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}, {edits} edits");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let passed = runtime.block_on(phases::run(seed, Duration::from_secs(seconds), edits));
    if passed {
        println!("chaos: passed");
        ExitCode::SUCCESS
    } else {
        println!("chaos: FAILED; the same plan again: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
        ExitCode::FAILURE
    }
}

/// A number from the environment; a value that is none ends the run.
#[expect(clippy::disallowed_methods, reason = "a test program without a command line of its own")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?}: expected a whole number")))
}
