//! The load generator: exactly N in flight, a fixed rate, or N requests at the same instant.
//!
//! Invariant: bounded in count or time; and with a rate, latency counts from the moment the request should have left,
//! so a slow server cannot slow its own measurement down.

mod client;
mod modes;
mod plan;
mod schedule;

pub use client::Client;
pub use modes::{Bounds, burst, closed_loop, open_loop};
pub use plan::Plan;
pub use schedule::Schedule;

use crate::stats::Recorder;
use crate::{net, output, values};
use parking_lot::Mutex;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Settings of a run.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    request: plan::RequestArgs,
    /// Holds exactly this many requests in flight: the next one leaves when one is answered. The default, with 1.
    #[arg(long, value_name = "N", group = "mode")]
    in_flight: Option<usize>,
    /// Sends this many requests a second, whether they are answered or not.
    #[arg(long, value_name = "R", group = "mode")]
    rate: Option<f64>,
    /// Opens N connections at the same instant and sends one request on each.
    #[arg(long, value_name = "N", group = "mode", conflicts_with_all = ["duration", "requests"])]
    burst: Option<usize>,
    /// Sends no new request after this; those in flight are waited for. Default 10s unless --requests is given.
    #[arg(long, value_parser = values::duration)]
    duration: Option<Duration>,
    /// Sends this many requests.
    #[arg(long)]
    requests: Option<u64>,
    /// With --rate: requests in flight at most; one that would be beyond counts as failed.
    #[arg(long, default_value_t = 10_000)]
    max_in_flight: usize,
    /// The status of a good answer.
    #[arg(long, default_value_t = 200)]
    expect_status: u16,
    /// Ends with status 1 unless every request got a good answer.
    #[arg(long)]
    expect_all: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends the load and prints what came of it.
///
/// # Errors
///
/// The flags make no sense or the target cannot be resolved.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let _ = net::raise_open_files();
    net::runtime()?.block_on(async {
        let plan = Arc::new(Plan::new(&args.request).await?);
        let recorder = Arc::new(Mutex::new(Recorder::default()));
        let bounds = match (args.duration, args.requests) {
            (None, None) => Bounds { length: Some(Duration::from_secs(10)), requests: None },
            (length, requests) => Bounds { length, requests },
        };
        let started = Instant::now();
        let asked = match (args.burst, args.rate) {
            (Some(connections), _) => {
                burst(&plan, connections, &recorder).await;
                Some(connections as u64)
            }
            (None, Some(rate)) => {
                let schedule = Schedule::new(rate).map_err(anyhow::Error::msg)?;
                open_loop(&plan, schedule, args.max_in_flight, bounds, &recorder).await;
                bounds.requests
            }
            (None, None) => {
                closed_loop(&plan, args.in_flight.unwrap_or(1), bounds, &recorder).await;
                bounds.requests
            }
        };
        let summary = recorder.lock().summary(started.elapsed(), args.expect_status);
        output::line(&if args.json { json!(summary).to_string() } else { summary.to_string() });
        // A run that a duration cut short of its count has not got all its answers either, unless both were given.
        let short = args.duration.is_none() && asked.is_some_and(|asked| summary.requests < asked);
        let failed = summary.failed > 0 || summary.requests == 0 || short;
        Ok(if args.expect_all && failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

#[cfg(test)]
mod tests;
