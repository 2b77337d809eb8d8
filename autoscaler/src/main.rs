//! The autoscaler as a program of its own: on a cluster. On one machine it runs inside `kpa run`.
//!
//! Invariant: every autoscaler hears every frame and decides; the one that holds the lease writes.

use anyhow::Context;
use autoscaler::{Autoscaler, BrainSettings, Settings};
use clap::Parser;
use domain::{ReporterId, WallTime};
use platform::trust::{ServiceAccount, Token, Trust};
use platform_kubernetes::arguments::ClusterArguments;
use platform_kubernetes::cluster::ClusterPlatform;
use platform_kubernetes::elector::{Elector, Place, Standing, identity};
use platform_kubernetes::lease;
use platform_kubernetes::publisher::Publisher;
use platform_kubernetes::review::Reviewer;
use platform_kubernetes::right::Right;
use platform_kubernetes::settings::{Client, connect};
use platform_kubernetes::token::AUDIENCE;
use rand::RngExt;
use runtime::{Admin, Clock, Metrics, Phase, PhaseSender, Stop, Tasks, telemetry};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Status for wrong use, from sysexits.h.
const EX_USAGE: u8 = 64;
/// The Lease by which it is decided who writes.
const LEASE: &str = "kpa-autoscaler";

/// Decides how many replicas each workload should have, from what activators report.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where frames, the read API, /ready, /live and /metrics are served.
    #[arg(long, env = "KPA_LISTEN", default_value = "0.0.0.0:9090")]
    listen: SocketAddr,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The service account of the activators: whose frames are taken.
    #[arg(long, env = "KPA_ACTIVATOR_ACCOUNT", default_value = "kpa-activator")]
    activator_account: String,
    /// Label selector of namespaces whose workloads are scaled.
    #[arg(long, env = "KPA_NAMESPACE_SELECTOR")]
    namespace_selector: Option<String>,
    /// Label selector of Deployments that are scaled.
    #[arg(long, env = "KPA_OBJECT_SELECTOR")]
    object_selector: Option<String>,
    /// Existing Services may be made to lead to the activators (kpa.dev/take-over). Needs the rights of the component take-over.
    #[arg(long, env = "KPA_TAKE_OVER")]
    take_over: bool,
    /// How long a leader that is gone is waited for.
    #[arg(long, env = "KPA_LEASE_DURATION", default_value = "15s", value_parser = span)]
    lease_duration: Duration,
    /// How long a leader may fail to renew before it gives up.
    #[arg(long, env = "KPA_RENEW_DEADLINE", default_value = "10s", value_parser = span)]
    renew_deadline: Duration,
    /// How often the lease is renewed, or looked at.
    #[arg(long, env = "KPA_RETRY_PERIOD", default_value = "2s", value_parser = span)]
    retry_period: Duration,
    /// What to log, such as info or info,autoscaler=debug.
    #[arg(long, env = "KPA_LOG", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, env = "KPA_LOG_FORMAT", value_enum, default_value = "human")]
    log_format: telemetry::LogFormat,
}

fn span(text: &str) -> Result<Duration, String> {
    domain::duration::parse(text).map_err(|error| error.to_string())
}

#[expect(clippy::print_stderr, reason = "why it cannot run, perhaps before any log is set up")]
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let failed = error.use_stderr();
            // Nothing is left to be done when even this cannot be written.
            let _ = error.print();
            return if failed { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let lease = lease::Settings::new(arguments.lease_duration, arguments.renew_deadline, arguments.retry_period);
    let lease = match lease {
        Ok(lease) => lease,
        Err(wrong) => {
            wrong.iter().for_each(|wrong| eprintln!("autoscaler: {wrong}"));
            return ExitCode::from(EX_USAGE);
        }
    };
    start(arguments, lease).unwrap_or_else(|error| {
        eprintln!("autoscaler: {error}");
        ExitCode::FAILURE
    })
}

fn start(arguments: Arguments, lease: lease::Settings) -> anyhow::Result<ExitCode> {
    telemetry::logs(arguments.log_format, &arguments.log)?;
    let _files = runtime::rlimit::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, _) = connect(arguments.cluster.context.as_deref()).await?;
        let tasks = Tasks::new();
        let outcome = run(arguments, lease, client, &tasks).await;
        // Also after an error: tasks that go with the runtime have not died.
        tasks.stop();
        outcome
    })
}

async fn run(arguments: Arguments, lease: lease::Settings, client: Client, tasks: &Tasks) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals(tasks)?;
    let (clock, phase, metrics) = (Clock::start(), PhaseSender::new(), Metrics::install()?);
    metrics.keep_up(tasks);
    let listener = tokio::net::TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {} (--listen chooses another address)", arguments.listen))?;

    let cluster = &arguments.cluster;
    let mut settings = cluster.settings();
    settings.namespace_selector.clone_from(&arguments.namespace_selector);
    settings.object_selector.clone_from(&arguments.object_selector);
    settings.take_over = arguments.take_over;
    let place = Place { namespace: cluster.namespace.clone(), name: LEASE.to_owned() };
    let candidate = identity(&cluster.pod_name, runtime::clock::unix_millis());
    let (elector, standing) = Elector::new(client.clone(), place, &candidate, lease, wall_clock);
    let right = Right::Elected(standing.clone());
    let (platform, work) = ClusterPlatform::new(client.clone(), settings, right.clone());
    let publisher = Arc::new(Publisher::new(client.clone(), &platform, right, &cluster.pod_name));
    let spawner = tasks.clone();
    let reviews = Arc::new(move |name, task| spawner.spawn(name, task));
    let identifies = Arc::new(Reviewer::new(client, AUDIENCE, reviews, wall_clock));
    let account = ServiceAccount { namespace: cluster.namespace.clone(), name: arguments.activator_account.clone() };
    let settings = Settings {
        id: ReporterId::new(&cluster.pod_name),
        trust: Trust::Pods { identifies, account },
        brain: BrainSettings { unseen_traffic_holds: true, ..BrainSettings::default() },
        audience: Some(publisher.clone()),
        word: Some(Token::new(&format!("{:032x}", rand::rng().random::<u128>()))),
    };
    let autoscaler = Autoscaler::new(settings, platform, clock, None);
    let stopping = tasks.stopping();
    tasks.service("cluster", until(tasks, work));
    tasks.service("publisher", until(tasks, async move { publisher.run().await }));
    tasks.service("elector", elector.run(async move { stopping.cancelled().await }));
    tracing::info!("listening on http://{} as {candidate}", arguments.listen);

    let serving = autoscaler::run(autoscaler, listener, Admin::new(phase.clone(), metrics), phase.clone(), tasks);
    let failed = tasks.failed();
    let healthy = tokio::select! {
        biased; // A death is told before a wish.
        () = failed.cancelled() => false,
        () = stop.drain.cancelled() => true,
        () = serving => false,
    };
    phase.advance(Phase::Draining);
    leave(&standing, &stop, healthy).await;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gives the lease up, so that another autoscaler acts at once; nobody waits for that where something has died.
async fn leave(standing: &Standing, stop: &Stop, healthy: bool) {
    if !healthy {
        return;
    }
    tokio::select! {
        biased;
        () = stop.force.cancelled() => {}
        () = standing.resign() => {}
    }
}

/// Runs `work`, which never ends, until the program stops.
fn until(tasks: &Tasks, work: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
    let stopping = tasks.stopping();
    async move {
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = work => {}
        }
    }
}

fn wall_clock() -> WallTime {
    WallTime::from_unix_millis(runtime::clock::unix_millis())
}
