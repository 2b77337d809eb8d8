//! X.
use std::process::ExitCode;
/// Settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {}
/// Runs.
///
/// # Errors
///
/// None yet.
pub fn main(_args: Args) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
