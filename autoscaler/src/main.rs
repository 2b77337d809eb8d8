//! The autoscaler as a program of its own.
//!
//! Invariant: says what it cannot do instead of pretending.

use clap::Parser;
use std::process::ExitCode;

/// Status for wrong use, from sysexits.h.
const EX_USAGE: u8 = 64;

/// Decides how many replicas each workload should have, from what activators report.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {}

#[expect(clippy::print_stderr, reason = "the one thing it has to say, before any log is set up")]
fn main() -> ExitCode {
    let Arguments {} = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let failed = error.use_stderr();
            // Nothing is left to be done when even this cannot be written.
            let _ = error.print();
            return if failed { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    eprintln!(
        "autoscaler: the Kubernetes platform is not part of this build, so there is nothing to scale.\n\
         To run workloads on this machine, autoscaler included: kpa run PATH"
    );
    ExitCode::from(EX_USAGE)
}
