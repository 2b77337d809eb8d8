//! `kpa run`: activator, autoscaler and the local platform in one process.
//!
//! Invariant: activator and autoscaler share no call: frames and answers go over loopback HTTP as they do on a cluster.
//! They share the process's clock and the log of wakes, so that a cold start's stages are stamped on one clock.

use crate::input::Manifests;
use crate::operate::Operate;
use activator::reporter::ReporterSettings;
use activator::threads::Threads;
use activator::tls::arguments::TlsArguments;
use activator::{Activator, Settings, Setup};
use anyhow::Context;
use autoscaler::{Autoscaler, BrainSettings, Token, Trust};
use domain::{Peer, ReporterId, RevisionId, WallTime};
use platform::Platform;
use platform::trust::Shown;
use platform_local::{Inputs, LocalPlatform, Options, Output, Shutdown};
use rand::RngExt;
use runtime::net::Tcp;
use runtime::rlimit::OpenFiles;
use runtime::{Admin, Clock, Metrics, Phase, PhaseSender, Stop, Tasks, WakeLog, telemetry};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use telemetry::LogFormat;

/// Settings of `kpa run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    manifests: Manifests,
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: TlsArguments,
    /// Where programs of your own connect that name a service by Knative-Serving-Namespace and Knative-Serving-Revision; off
    /// by default. Whoever reaches it reaches every service.
    #[arg(long, value_name = "ADDRESS:PORT")]
    internal_listen: Option<SocketAddr>,
    /// Where /ready, /live, /metrics and the API that `kpa get` reads are served.
    #[arg(long, default_value = crate::api::DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    admin: SocketAddr,
    /// Where counts, records and logs of replicas are kept; one kpa at a time.
    #[arg(long, default_value = crate::api::DEFAULT_STATE_DIR, value_name = "FOLDER")]
    state_dir: PathBuf,
    /// Ports for replicas.
    #[arg(long, default_value = "20000-29999", value_name = "FIRST-LAST", value_parser = ports)]
    ports: (u16, u16),
    /// Threads that serve requests, 1 to 64.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Do not show the replicas' output; it is in the log files of the state folder either way.
    #[arg(long)]
    quiet_replicas: bool,
    /// What to log, such as info or info,access=debug.
    #[arg(long, env = "KPA_LOG", default_value = "info")]
    log: String,
    /// How log lines look: human or json.
    #[arg(long, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
}

fn ports(text: &str) -> Result<(u16, u16), &'static str> {
    let usage = "expected FIRST-LAST, such as 20000-29999";
    let (first, last) = text.split_once('-').ok_or(usage)?;
    let (first, last) = (first.parse().map_err(|_| usage)?, last.parse().map_err(|_| usage)?);
    if first == 0 || first > last { Err(usage) } else { Ok((first, last)) }
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::logs(args.log_format, &args.log)?;
    // Before signals are taken: while somebody types, Ctrl-C ends the program as ever.
    let inputs = args.manifests.inputs()?;
    let files = runtime::rlimit::raise_open_files()?;
    tracing::debug!(?files, "open files");
    let clock_runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = Tasks::new();
    let outcome = clock_runtime.block_on(run(args, inputs, files, &tasks));
    // Also after an error: tasks that go with the runtime have not died.
    tasks.stop();
    outcome
}

async fn run(args: Args, inputs: Inputs, files: OpenFiles, tasks: &Tasks) -> anyhow::Result<ExitCode> {
    let tls = args.tls.load().await?;
    let stop = Stop::on_signals(tasks)?;
    let (clock, wakes, seed) = (Clock::start(), Arc::new(WakeLog::new()), rand_seed());
    let metrics = Metrics::install()?;
    metrics.keep_up(tasks);

    // Every address is taken before anything is started.
    let workers = usize::from(args.workers);
    let listeners = runtime::listen::bind(args.listen, workers)
        .with_context(|| format!("cannot listen on {} (--listen chooses another address)", args.listen))?;
    let internal = match args.internal_listen {
        None => Vec::new(),
        Some(address) => runtime::listen::bind(address, workers)
            .with_context(|| format!("cannot listen on {address} (--internal-listen chooses another address)"))?,
    };
    let secure = match args.tls.tls_listen {
        None => None,
        Some(address) => Some(
            runtime::listen::bind(address, workers)
                .with_context(|| format!("cannot listen on {address} (--tls-listen chooses another address)"))?,
        ),
    };
    let admin = bind_admin(args.admin)?;
    let admin_address = admin.local_addr()?;

    let (activator_id, autoscaler_id) = (ReporterId::new("activator"), ReporterId::new("autoscaler"));
    let stamps = (clock, Arc::clone(&wakes));
    let platform = local_platform(&args, inputs, tasks, stamps, admin_address, (&activator_id, &autoscaler_id)).await?;
    platform.problems().iter().for_each(platform_local::tell);
    for ignored in platform.ignored() {
        tracing::info!("{} {} {}: not used: {}", ignored.place, ignored.kind, ignored.name, ignored.reason);
    }

    let token = Token::new(&format!("{:032x}", seed_wide()));
    let phase = PhaseSender::new();
    let trust = Trust::Secret(token.clone());
    let settings =
        autoscaler::Settings { id: autoscaler_id, trust, brain: BrainSettings::default(), audience: None, word: None };
    let (activator, runs) = Activator::start(
        Setup {
            connector: Tcp,
            platform: Arc::new(platform.clone()) as Arc<dyn Platform>,
            // What the platform tells later is the same; this way the first connection has it too.
            settings: Settings::from(&platform.manifests().activator),
            reporter: ReporterSettings {
                id: activator_id,
                boot: runtime::clock::unix_millis(),
                shown: Shown::Fixed(token),
            },
            clock,
            wakes: Arc::clone(&wakes),
            phase: phase.clone(),
            seed,
            neighbours: None,
        },
        workers,
        tasks,
    );
    let revisions = Arc::clone(activator.revisions());
    revisions.bounds().share_descriptors(files.now);
    let secure = secure.zip(tls.follow(&revisions, tasks));
    let by_hand = Operate::new(platform.clone(), Arc::clone(&revisions)).router();
    let autoscaler = AutoscalerThread::start(
        settings,
        Arc::new(platform.clone()),
        (clock, wakes),
        admin,
        Admin::new(phase.clone(), metrics.clone()).routes(by_hand),
    )?;
    until_known(&phase, tasks, &stop).await;
    let threads = Threads::start(runs, listeners, internal, secure)?;
    metrics.add_source(Arc::new(move |out| activator::metrics::render(&revisions, clock, out)));
    greet(&args, admin_address, &platform);

    let (failed, ended) = (tasks.failed(), threads.ended());
    let healthy = tokio::select! {
        biased; // A death is told before a wish.
        () = failed.cancelled() => false,
        () = ended.cancelled() => false,
        () = autoscaler.failed.cancelled() => false,
        () = stop.drain.cancelled() => true,
    };
    // Where something has died nobody can be waited for.
    let how = if healthy {
        tokio::select! {
            biased; // Impatience first.
            () = stop.force.cancelled() => Shutdown::Kill,
            () = activator.drain() => Shutdown::Drain,
        }
    } else {
        Shutdown::Kill
    };
    phase.advance(Phase::Draining);
    autoscaler.stop.stop();
    tokio::select! {
        biased;
        () = stop.force.cancelled() => platform.shutdown(Shutdown::Kill).await,
        () = platform.shutdown(how) => {}
    }
    phase.advance(Phase::Stopped);
    tracing::info!("stopped");
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until the activator knows its services. That is a moment; whoever connects meanwhile waits in the listeners'
/// backlog, where a worker would have to refuse.
async fn until_known(phase: &PhaseSender, tasks: &Tasks, stop: &Stop) {
    let (mut phase, failed) = (phase.subscribe(), tasks.failed());
    tokio::select! {
        biased; // A death is told before a wish, and is seen again by whoever goes on.
        () = failed.cancelled() => {}
        () = stop.drain.cancelled() => {}
        _ = phase.wait_for(|phase| *phase >= Phase::Ready) => {}
    }
}

fn bind_admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} (--admin chooses another address)"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn local_platform(
    args: &Args,
    inputs: Inputs,
    tasks: &Tasks,
    (clock, wakes): (Clock, Arc<WakeLog>),
    autoscaler: SocketAddr,
    (activator_id, autoscaler_id): (&ReporterId, &ReporterId),
) -> anyhow::Result<LocalPlatform> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let spawner = tasks.clone();
    let options = Options {
        inputs,
        state_dir: args.state_dir.clone(),
        images: args.manifests.images(),
        shim: vec![own.into(), "__exec".into()],
        ports: args.ports.0..=args.ports.1,
        output: if args.quiet_replicas { Output::None } else { Output::Prefixed },
        gpus: None,
        autoscalers: vec![Peer { id: autoscaler_id.clone(), address: autoscaler }],
        activators: vec![activator_id.clone()],
        wall_clock: || WallTime::from_unix_millis(runtime::clock::unix_millis()),
    };
    let spawn = Arc::new(move |name, task| spawner.spawn(name, task));
    let on_ready = Arc::new(move |revision: &RevisionId| wakes.ready_seen(revision, clock.now()));
    Ok(LocalPlatform::start(options, spawn, on_ready).await?)
}

/// The autoscaler on a runtime and a thread of its own, with the admin server.
struct AutoscalerThread {
    stop: Tasks,
    failed: tokio_util::sync::CancellationToken,
}

impl AutoscalerThread {
    fn start(
        settings: autoscaler::Settings,
        platform: Arc<dyn Platform>,
        (clock, wakes): (Clock, Arc<WakeLog>),
        listener: TcpListener,
        admin: Admin,
    ) -> anyhow::Result<Self> {
        let tasks = Tasks::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inner = tasks.clone();
        std::thread::Builder::new().name("autoscaler".into()).spawn(move || {
            runtime.block_on(async move {
                let autoscaler = Autoscaler::new(settings, platform, clock, Some(wakes));
                // The process is ready when its activator is; the autoscaler's own readiness is nobody's business here.
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => autoscaler::run(autoscaler, listener, admin, PhaseSender::new(), &inner).await,
                    Err(error) => tracing::error!(%error, "the admin address cannot be served"),
                }
                inner.failed().cancel();
            });
        })?;
        Ok(Self { failed: tasks.failed(), stop: tasks })
    }
}

fn greet(args: &Args, admin: SocketAddr, platform: &LocalPlatform) {
    let manifests = platform.manifests();
    let domains = manifests.activator.domains();
    for entry in &manifests.entries {
        tracing::info!(
            "{}: http://{} with Host {}",
            entry.revision.id,
            args.listen,
            domains.public_host(&entry.revision.id)
        );
    }
    if let Some(address) = args.tls.tls_listen {
        tracing::info!("https://{address} takes the same over TLS");
    }
    if let Some(address) = args.internal_listen {
        tracing::info!("http://{address} takes Knative-Serving-Namespace and Knative-Serving-Revision at their word");
    }
    let services = crate::output::count(manifests.entries.len(), "service");
    tracing::info!("{services}; kpa get shows them (API on http://{admin})");
}

/// Two processes choose differently; one that is told its seed could repeat itself.
fn rand_seed() -> u64 {
    rand::rng().random()
}

fn seed_wide() -> u128 {
    rand::rng().random()
}
