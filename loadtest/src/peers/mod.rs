//! The activator beside nginx and HAProxy: same backend, same requests, one core for each proxy in its turn.
//!
//! Invariant: rounds are interleaved and ratios are taken within a round, so a machine that changes its speed changes all alike.

mod children;
mod generator;
mod pacer;
mod pin;
mod proc_stat;
mod proxy;
mod report;
mod spread;

use crate::net;
use crate::output;
use crate::stats::Latencies;
use anyhow::{Context as _, bail};
use children::Child;
use generator::Load;
use proxy::{Peer, Running};
use report::{AtEqualLoad, Outcome, Round};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Latencies are compared at this part of the slowest proxy's own rate.
const OFFERED_SHARE: f64 = 0.7;
/// Rounds of the comparison of latencies.
const LATENCY_ROUNDS: usize = 3;
/// How long a process may take to answer its first request.
const START_LIMIT: Duration = Duration::from_secs(15);

/// Settings of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Rounds; each loads every proxy once. At least 9 for a ratio worth printing.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of one proxy's turn in a round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Size of the answers, in bytes.
    #[arg(long, default_value_t = 2)]
    body_bytes: usize,
    /// The activator's binary. Default: beside this one, then target/dist/activator.
    #[arg(long)]
    activator: Option<PathBuf>,
    /// Measures only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Leaves out the comparison of latencies at the same offered load.
    #[arg(long)]
    skip_latency: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// Fails when the median ratio to the better peer is larger.
    #[arg(long)]
    max_ratio: Option<f64>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// Fewer than two cores, or no proxy to measure.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    if args.rounds == 0 || args.connections == 0 || !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        bail!("rounds, connections and seconds must be positive, a round at most an hour");
    }
    let _ = net::raise_open_files();
    net::runtime()?.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let outcome = tokio::select! {
            biased;
            _ = term.recv() => bail!("terminated"),
            _ = int.recv() => bail!("interrupted"),
            outcome = measure(&args) => outcome?,
        };
        output::line(&if args.json { serde_json::to_string_pretty(&outcome)? } else { outcome.to_string() });
        Ok(match (args.max_ratio, &outcome.ratio) {
            (Some(limit), Some(ratio)) if ratio.spread.median > limit => ExitCode::FAILURE,
            (Some(_), None) => ExitCode::FAILURE,
            (Some(_) | None, _) => ExitCode::SUCCESS,
        })
    })
}

async fn measure(args: &Args) -> anyhow::Result<Outcome> {
    let cores = pin::Cores::choose()?;
    pin::current_thread(cores.load)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let backend = backend(args).await?;
    let mut proxies = Vec::new();
    for peer in Peer::ALL.iter().filter(|peer| args.only.is_empty() || args.only.contains(peer)) {
        // A process inherits the affinity of the thread that starts it, so it is on its core from its first instruction.
        pin::current_thread(cores.proxy)?;
        let started = proxy::start(*peer, args.activator.as_deref(), backend.address, folder.path());
        pin::current_thread(cores.load)?;
        match started {
            Ok(Some(running)) => proxies.push(running),
            Ok(None) => output::notice(&format!("{peer}: not installed, skipped")),
            Err(error) => output::notice(&format!("{peer}: skipped: {error:#}")),
        }
    }
    for proxy in &mut proxies {
        proxy.ready(START_LIMIT).await?;
    }
    if proxies.is_empty() {
        bail!("no proxy to measure");
    }
    let load = Load { connections: args.connections, length: Duration::from_secs_f64(args.seconds) };
    let warm_up = Load { length: load.length.min(Duration::from_secs(1)), ..load };
    for proxy in &proxies {
        generator::run(proxy.address, &proxy.request(), warm_up).await.with_context(|| proxy.peer.to_string())?;
    }
    let mut rounds = Vec::new();
    for number in 0..args.rounds {
        // Another one begins each time, so that none always follows the same neighbour.
        proxies.rotate_left(usize::from(number > 0));
        for proxy in &proxies {
            rounds.push(turn(number, proxy, &backend.child, load).await?);
        }
        output::notice(&format!("round {} of {} done", number + 1, args.rounds));
    }
    let mut outcome = Outcome::new(args, &rounds);
    if !args.skip_latency {
        outcome.latency = Some(latency(&proxies, load, outcome.slowest_rate() * OFFERED_SHARE).await?);
    }
    Ok(outcome)
}

/// Latency of all proxies at the same offered load, over [`LATENCY_ROUNDS`] interleaved rounds.
async fn latency(proxies: &[Running], load: Load, rate: f64) -> anyhow::Result<AtEqualLoad> {
    let mut merged: BTreeMap<Peer, Latencies> = BTreeMap::new();
    for _ in 0..LATENCY_ROUNDS {
        for proxy in proxies {
            let seen = generator::run_at(proxy.address, &proxy.request(), load, rate).await?;
            merged.entry(proxy.peer).or_default().merge(&seen.latencies);
        }
    }
    let percentiles = merged.into_iter().map(|(peer, latencies)| (peer, latencies.percentiles())).collect();
    Ok(AtEqualLoad { requests_per_second: rate, percentiles })
}

/// One proxy's turn in one round.
async fn turn(number: usize, proxy: &Running, backend: &Child, load: Load) -> anyhow::Result<Round> {
    let before = proc_stat::cpu_of_tree(proxy.child.id())?;
    let load_before = proc_stat::cpu_of_tree(backend.id())? + proc_stat::cpu_of(std::process::id())?;
    let result = generator::run(proxy.address, &proxy.request(), load).await.with_context(|| proxy.peer.to_string())?;
    let cpu = proc_stat::cpu_of_tree(proxy.child.id())?.saturating_sub(before);
    let load_after = proc_stat::cpu_of_tree(backend.id())? + proc_stat::cpu_of(std::process::id())?;
    Ok(Round {
        number,
        peer: proxy.peer,
        elapsed: result.elapsed,
        cpu,
        load_cpu: load_after.saturating_sub(load_before),
        rss_bytes: proc_stat::rss_of_tree(proxy.child.id())?,
        requests: result.requests,
        errors: result.errors,
        latencies: result.latencies,
    })
}

struct Backend {
    child: Child,
    address: SocketAddr,
}

/// The lean sample server, on the core of the load.
async fn backend(args: &Args) -> anyhow::Result<Backend> {
    let port = net::free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["model-server", "--lean", "--port", &port.to_string(), "--body-bytes", &args.body_bytes.to_string()]);
    let child = Child::start(command, "backend")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    generator::until_ok(address, "localhost", "/", START_LIMIT).await.context("the backend does not answer")?;
    Ok(Backend { child, address })
}
