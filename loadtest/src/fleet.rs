//! Load on many revisions at once that comes and goes, single answers and streams mixed: days of a fleet in minutes.
//!
//! Invariant: how many clients each revision has, and when, follows from the seed; every request is recorded once, and a
//! stream that ends without saying so is a failure.

use crate::run::{Bounds, Plan, closed_loop};
use crate::stats::Recorder;
use crate::{net, output, values};
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Steps of load in one busy time: it grows and falls between them without a pause.
const STEPS: std::ops::RangeInclusive<u32> = 1..=3;

/// Settings of the load.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    proxy: SocketAddr,
    /// How many revisions: PREFIX-0, PREFIX-1 and so on.
    #[arg(long, default_value_t = 40)]
    revisions: u32,
    /// What their names begin with.
    #[arg(long, default_value = "fleet")]
    prefix: String,
    /// Their namespace and domain, as hosts have them.
    #[arg(long, default_value = "default.example.com")]
    domain: String,
    /// Starts no busy time after this; those under way are finished.
    #[arg(long, default_value = "20m", value_parser = values::duration)]
    duration: Duration,
    /// What the load follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Most clients that a revision has at once.
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// Part of the clients that stream tokens, from 0 to 1.
    #[arg(long, default_value = "0.2", value_parser = values::fraction)]
    streams: f64,
    /// Mean length of one step of a busy time.
    #[arg(long, default_value = "4s", value_parser = values::duration)]
    busy: Duration,
    /// Mean time between two busy times.
    #[arg(long, default_value = "14s", value_parser = values::duration)]
    pause: Duration,
    /// How long one request may take.
    #[arg(long, default_value = "2m", value_parser = values::duration)]
    timeout: Duration,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// Ends with status 1 unless every request got a good answer.
    #[arg(long)]
    expect_all: bool,
}

/// One step of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Clients that want single answers.
    unary: usize,
    /// Clients that read streams.
    streaming: usize,
    length: Duration,
    /// Quiet time after it.
    pause: Duration,
}

/// The load of one revision.
struct Steps {
    rng: SmallRng,
    clients: usize,
    streams: f64,
    busy: Duration,
    pause: Duration,
    /// Steps left of this busy time.
    left: u32,
}

impl Steps {
    fn new(args: &Args, revision: u32) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(args.seed.wrapping_mul(1 << 32).wrapping_add(u64::from(revision))),
            clients: args.clients.max(1),
            streams: args.streams,
            busy: args.busy,
            pause: args.pause,
            left: 0,
        }
    }

    /// Between half and one and a half times the mean.
    fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(self.rng.random_range(0.5..1.5))
    }

    fn next(&mut self) -> Step {
        if self.left == 0 {
            self.left = self.rng.random_range(STEPS);
        }
        self.left -= 1;
        let clients = self.rng.random_range(1..=self.clients);
        let streaming = (0..clients).filter(|_| self.rng.random_bool(self.streams)).count();
        let length = self.around(self.busy);
        let pause = if self.left == 0 { self.around(self.pause) } else { Duration::ZERO };
        Step { unary: clients - streaming, streaming, length, pause }
    }
}

/// Sends the load and prints what came of it.
///
/// # Errors
///
/// The flags make no sense.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let _ = net::raise_open_files();
    net::runtime()?.block_on(async {
        let (unary, streamed) = (Arc::new(Mutex::new(Recorder::default())), Arc::new(Mutex::new(Recorder::default())));
        let started = Instant::now();
        let revisions: Vec<_> = (0..args.revisions)
            .map(|revision| drive(&args, revision, started + args.duration, &unary, &streamed))
            .collect::<anyhow::Result<_>>()?;
        join_all(revisions).await;
        let elapsed = started.elapsed();
        let (unary, streamed) = (unary.lock().summary(elapsed, 200), streamed.lock().summary(elapsed, 200));
        if args.json {
            output::line(&json!({ "unary": unary, "streams": streamed, "seed": args.seed }).to_string());
        } else {
            output::line(&format!("seed {}\nsingle answers\n{unary}\nstreams\n{streamed}", args.seed));
        }
        let failed = unary.failed + streamed.failed > 0 || unary.requests + streamed.requests == 0;
        Ok(if args.expect_all && failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// The load of one revision until `until`.
fn drive<'a>(
    args: &'a Args,
    revision: u32,
    until: Instant,
    unary: &'a Arc<Mutex<Recorder>>,
    streamed: &'a Arc<Mutex<Recorder>>,
) -> anyhow::Result<impl Future<Output = ()> + 'a> {
    let host = format!("{}-{revision}.{}", args.prefix, args.domain);
    let plan = |path: &str, body: &'static str| {
        let mut plan = Plan::get(args.proxy, path)?.posting(body).for_host(&host)?;
        plan.timeout = args.timeout;
        anyhow::Ok(plan)
    };
    let single = Arc::new(plan("/v1/models/custom-model:predict", r#"{"instances": [[6.8, 2.8, 4.8, 1.4]]}"#)?);
    let mut stream = plan("/v1/chat/completions", r#"{"stream": true}"#)?;
    stream.streaming = true;
    let stream = Arc::new(stream);
    let mut steps = Steps::new(args, revision);
    Ok(async move {
        // Not all in the same second.
        let first = steps.around(args.pause);
        tokio::time::sleep(first).await;
        while Instant::now() < until {
            let step = steps.next();
            let bounds = Bounds { length: Some(step.length), requests: None };
            join(
                closed_loop(&single, step.unary, bounds, unary),
                closed_loop(&stream, step.streaming, bounds, streamed),
            )
            .await;
            tokio::time::sleep(step.pause).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn steps(flags: &str, revision: u32) -> Vec<Step> {
        let args = Cli::parse_from(format!("fleet {flags}").split_whitespace()).args;
        let mut steps = Steps::new(&args, revision);
        (0..200).map(|_| steps.next()).collect()
    }

    #[test]
    fn the_load_follows_from_the_seed() {
        assert_eq!(steps("--seed 7", 3), steps("--seed 7", 3));
        assert_ne!(steps("--seed 7", 3), steps("--seed 7", 4), "each revision has its own");
        assert_ne!(steps("--seed 7", 3), steps("--seed 8", 3));
    }

    #[test]
    fn it_stays_within_its_bounds_and_comes_to_rest_again_and_again() {
        let steps = steps("--clients 5 --streams 0.5 --busy 4s --pause 10s", 0);
        for step in &steps {
            assert!((1..=5).contains(&(step.unary + step.streaming)), "{step:?}");
            assert!((2.0..6.0).contains(&step.length.as_secs_f64()), "{step:?}");
            assert!(step.pause.is_zero() || (5.0..15.0).contains(&step.pause.as_secs_f64()), "{step:?}");
        }
        assert!(steps.iter().any(|step| step.streaming > 0) && steps.iter().any(|step| step.unary > 0));
        let runs = steps.split(|step| !step.pause.is_zero());
        assert!(runs.into_iter().all(|run| run.len() <= 3), "a pause after three steps at the latest");
    }
}
