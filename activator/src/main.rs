//! The activator as a program of its own: on a cluster, or in front of fixed addresses. On one machine, beside an
//! autoscaler, it runs inside `kpa run`.

use activator::reporter::ReporterSettings;
use activator::threads::Threads;
use activator::tls::arguments::TlsArguments;
use activator::{Activator, Settings, Setup};
use clap::Parser;
use domain::{ReporterId, RevisionId};
use platform::Platform;
use platform::fixed::{Fixed, FixedPlatform};
use platform::trust::Shown;
use platform_kubernetes::arguments::ClusterArguments;
use platform_kubernetes::proxy::ProxyPlatform;
use platform_kubernetes::settings::{self as kubernetes, connect};
use platform_kubernetes::token::TokenFile;
use runtime::net::Tcp;
use runtime::rlimit::OpenFiles;
use runtime::{Admin, Clock, Metrics, PhaseSender, Stop, Tasks, WakeLog, telemetry};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An HTTP proxy that counts concurrency, holds requests and spreads them over replicas.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: TlsArguments,
    /// Where /ready, /live and /metrics are served.
    #[arg(long, default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
    /// Worker threads, 1 to 64.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// A service and its replicas: NAMESPACE/NAME=ADDRESS:PORT[,ADDRESS:PORT…]. May be repeated. With it no cluster is
    /// asked, and nothing is scaled.
    #[arg(long, value_parser = upstream)]
    upstream: Vec<(RevisionId, Vec<SocketAddr>)>,
    /// An annotation that every --upstream is taken to have, such as kpa.dev/container-concurrency=10. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "upstream")]
    annotation: Vec<(String, String)>,
    /// A key of config-activator, such as forwarded=off. May be repeated. On a cluster the ConfigMap is read instead.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "upstream")]
    set: Vec<(String, String)>,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// On a cluster: how long new connections are accepted after SIGTERM, unless config-activator says otherwise.
    #[arg(long, env = "KPA_DRAIN_DELAY", default_value = "10s", value_parser = span)]
    drain_delay: Duration,
    /// On a cluster: how long requests and tunnels may go on after that, unless config-activator says otherwise.
    #[arg(long, env = "KPA_DRAIN_GRACE", default_value = "1h", value_parser = span)]
    drain_grace: Duration,
    /// What to log, such as info or info,access=debug.
    #[arg(long, env = "KPA_LOG", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, env = "KPA_LOG_FORMAT", value_enum, default_value = "human")]
    log_format: telemetry::LogFormat,
}

fn span(text: &str) -> Result<Duration, String> {
    domain::duration::parse(text).map_err(|error| error.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn upstream(text: &str) -> Result<(RevisionId, Vec<SocketAddr>), String> {
    let (id, addresses) = text.split_once('=').ok_or("expected NAMESPACE/NAME=ADDRESS:PORT")?;
    let id = id.parse().map_err(|error: domain::revision::BadRevisionId| error.to_string())?;
    let addresses: Result<Vec<SocketAddr>, _> = addresses.split(',').map(str::parse).collect();
    Ok((id, addresses.map_err(|error| format!("{error}: expected ADDRESS:PORT[,ADDRESS:PORT…]"))?))
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    telemetry::logs(arguments.log_format, &arguments.log)?;
    let files = runtime::rlimit::raise_open_files()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments, files))
}

async fn run(arguments: Arguments, files: OpenFiles) -> anyhow::Result<ExitCode> {
    // Before anything runs: what cannot be used ends the program with nothing but its own error.
    let tls = arguments.tls.load().await?;
    let (tasks, clock, phase, metrics) = (Tasks::new(), Clock::start(), PhaseSender::new(), Metrics::install()?);
    metrics.keep_up(&tasks);
    let stop = Stop::on_signals(&tasks)?;
    let workers = usize::from(arguments.workers);
    let listeners = runtime::listen::bind(arguments.listen, workers)?;
    let admin = tokio::net::TcpListener::bind(arguments.admin).await?;
    tracing::info!("listening on http://{}, admin on http://{}", arguments.listen, arguments.admin);
    let secure_listeners =
        arguments.tls.tls_listen.map(|address| runtime::listen::bind(address, workers)).transpose()?;
    if let Some(address) = arguments.tls.tls_listen {
        tracing::info!("listening on https://{address}");
    }

    let boot = runtime::clock::unix_millis();
    let (platform, reporter, neighbours) = if arguments.upstream.is_empty() {
        let (platform, reporter) = cluster(&arguments, boot, &tasks).await?;
        let neighbours = platform.activators();
        (platform as Arc<dyn Platform>, reporter, Some(neighbours))
    } else {
        let reporter = ReporterSettings { id: ReporterId::new("activator"), boot, shown: Shown::Nothing };
        let fixed = Fixed {
            upstreams: arguments.upstream,
            annotations: BTreeMap::from_iter(arguments.annotation),
            config: BTreeMap::from_iter(arguments.set),
        };
        (fixed_platform(fixed)? as Arc<dyn Platform>, reporter, None)
    };
    let (activator, runs) = Activator::start(
        Setup {
            connector: Tcp,
            platform,
            settings: Settings::default(),
            reporter,
            clock,
            wakes: Arc::new(WakeLog::new()),
            phase: phase.clone(),
            seed: boot,
            neighbours,
        },
        workers,
        &tasks,
    );
    let revisions = Arc::clone(activator.revisions());
    revisions.bounds().share_descriptors(files.now);
    let secure = secure_listeners.zip(tls.follow(&revisions, &tasks));
    let threads = Threads::start(runs, listeners, Vec::new(), secure)?;
    metrics.add_source(Arc::new(move |out| activator::metrics::render(&revisions, clock, out)));
    let admin_stop = tasks.stopping();
    let router = Admin::new(phase, metrics).router();
    let admin_tasks = tasks.clone();
    tasks.service("admin", async move { runtime::admin::serve(admin, router, &admin_tasks, admin_stop).await });

    let (failed, ended) = (tasks.failed(), threads.ended());
    let healthy = tokio::select! {
        biased;
        () = failed.cancelled() => false,
        () = ended.cancelled() => false,
        () = stop.drain.cancelled() => true,
    };
    tokio::select! {
        biased;
        () = stop.force.cancelled() => {}
        () = activator.drain(), if healthy => {}
    }
    tasks.stop();
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In front of addresses that never change.
fn fixed_platform(fixed: Fixed) -> anyhow::Result<Arc<FixedPlatform>> {
    let platform = FixedPlatform::with(fixed).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", problems.join("\n"))
    })?;
    Ok(Arc::new(platform))
}

/// What an activator has of a cluster: what it routes, and how it is known to autoscalers.
async fn cluster(
    arguments: &Arguments,
    boot: u64,
    tasks: &Tasks,
) -> anyhow::Result<(Arc<ProxyPlatform>, ReporterSettings)> {
    let Arguments { cluster, drain_delay, drain_grace, .. } = arguments;
    let (client, _) = connect(cluster.context.as_deref()).await?;
    let settings = kubernetes::Settings { drain_delay: *drain_delay, drain_grace: *drain_grace, ..cluster.settings() };
    let (platform, work) = ProxyPlatform::new(client, settings);
    let stopping = tasks.stopping();
    tasks.service("cluster", async move {
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = work => {}
        }
    });
    let shown = Shown::Fresh(Arc::new(TokenFile::new(&cluster.token_file)));
    Ok((platform, ReporterSettings { id: ReporterId::new(&cluster.pod_name), boot, shown }))
}
