//! What an autoscaler over many revisions costs: the whole of it in a process, as on a cluster, but for the platform.
//!
//! Invariant: frames come over loopback HTTP from another process, and only the autoscaler's own CPU time is counted.

mod reporters;
mod steady;
#[path = "../../autoscaler/core/benches/world/told.rs"]
mod told;

use anyhow::{Context, bail};
use autoscaler::{Autoscaler, BrainSettings, Settings, Token, Trust};
use clap::{Parser, Subcommand};
use domain::ReporterId;
use nix::sys::resource::{UsageWho, getrusage};
use reporters::{NAMES, TOKEN};
use runtime::{Admin, Clock, Metrics, PhaseSender, Tasks};
use std::collections::BTreeMap;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use steady::{Nobody, Steady};
use tokio::time::{Instant, sleep};

/// Before anything is counted: the first frames, with their names, and one round in which every gauge is made.
const WARM_UP: Duration = Duration::from_secs(6);
const GAUGES_A_SECOND: u32 = 5_000;
/// Turns that take longer than this many seconds are counted; a bound of the histogram.
const LONG_TURN: f64 = 0.0025;
/// The most that the platform's first listing may take.
const SYNC_LIMIT: Duration = Duration::from_secs(120);

/// As the programs have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// CPU seconds per second of an autoscaler to which two activators report each second.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Revisions, all in all.
    #[arg(long, default_value_t = 10_000)]
    revisions: u32,
    /// How many of them have requests: a row of the table each. Default: none, one in a hundred, all.
    #[arg(long, value_delimiter = ',')]
    active: Vec<u32>,
    /// How long each row is measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Fail if the autoscaler took more than so many hundredths of a core.
    #[arg(long)]
    percent_max: Option<f64>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What it runs as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// One row.
    #[command(hide = true)]
    Row(RowArguments),
    /// The activators of a row.
    #[command(hide = true)]
    Reporters(reporters::Arguments),
}

#[derive(Debug, clap::Args)]
struct RowArguments {
    revisions: u32,
    active: u32,
    seconds: u64,
    percent_max: f64,
}

#[expect(clippy::print_stderr, reason = "why it failed")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.part {
        None => table(&arguments),
        Some(Part::Row(arguments)) => row(arguments),
        Some(Part::Reporters(arguments)) => reporters::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control-loop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One process for each row.
#[expect(clippy::print_stdout, reason = "the table")]
fn table(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { revisions, active, seconds, percent_max, part: _ } = arguments;
    let active = match &active[..] {
        [] => &[0, revisions / 100, *revisions],
        given => given,
    };
    println!("revisions   active  frames/s    rows/s  CPU of a core  longest turn  turns/s  over 2.5 ms  RSS MiB");
    for active in active {
        let row = [revisions.to_string(), active.to_string(), seconds.to_string()];
        let most = percent_max.unwrap_or(f64::INFINITY).to_string();
        let status = myself()?.arg("row").args(row).arg(most).status()?;
        if !status.success() {
            bail!("the row of {active} active revisions ended with {status}");
        }
    }
    Ok(())
}

fn myself() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe().context("where this program lies")?))
}

/// The other process; ended with this value.
struct Reporters(Child);

impl Drop for Reporters {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an autoscaler and prints what it took.
fn row(arguments: &RowArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let outcome = measure(arguments, &tasks).await;
        tasks.stop();
        outcome
    })
}

#[expect(clippy::print_stdout, reason = "the row")]
async fn measure(arguments: &RowArguments, tasks: &Tasks) -> anyhow::Result<()> {
    let (clock, phase, metrics) = (Clock::start(), PhaseSender::new(), Metrics::install()?);
    metrics.keep_up(tasks);
    let platform = Arc::new(Steady::new(arguments.revisions, arguments.active, NAMES.map(ReporterId::new).to_vec()));
    let settings = Settings {
        id: ReporterId::new("autoscaler"),
        trust: Trust::Secret(Token::new(TOKEN)),
        brain: BrainSettings { unseen_traffic_holds: true, ..BrainSettings::default() },
        audience: Some(Arc::new(Nobody)),
        word: Some(Token::new("word")),
    };
    let autoscaler = Autoscaler::new(settings, platform.clone(), clock, None);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let (address, mut synced) = (listener.local_addr()?, autoscaler.synced());
    let (admin, own_tasks) = (Admin::new(phase.clone(), metrics.clone()), tasks.clone());
    tasks.spawn("autoscaler", async move { autoscaler::run(autoscaler, listener, admin, phase, &own_tasks).await });
    tokio::time::timeout(SYNC_LIMIT, synced.wait_for(|synced| *synced)).await.context("the first listing")??;

    let reporters = myself()?.arg("reporters").arg(address.to_string()).arg(arguments.active.to_string()).spawn();
    let mut reporters = Reporters(reporters.context("the other process")?);
    sleep(WARM_UP + Duration::from_secs(u64::from(arguments.revisions / GAUGES_A_SECOND))).await;
    let counted_before = Counted::now(&metrics).await?;
    let before = Used::now()?;
    sleep(Duration::from_secs(arguments.seconds)).await;
    let after = Used::now()?;
    let counted = Counted::now(&metrics).await?;
    if let Some(status) = reporters.0.try_wait()? {
        bail!("the activators ended with {status}");
    }
    let seconds = (after.at - before.at).as_secs_f64();
    let grown = |name: &str| (counted.value(name) - counted_before.value(name)) / seconds;
    let awake = counted.value("autoscaler_awake_revisions");
    let percent = 100.0 * (after.cpu - before.cpu).as_secs_f64() / seconds;
    let frames = grown("autoscaler_frames_total{kind=\"regular\"}");
    println!(
        "{:9}{:9}{frames:10.1}{:10.0}{percent:13.1} %{:>14}{:9.0}{:13.0}{:9.0}",
        arguments.revisions,
        awake,
        grown("autoscaler_frame_rows_total"),
        counted.longest_turn(&counted_before),
        counted.turns(&counted_before) / seconds,
        counted.long_turns(&counted_before),
        after.resident_mib,
    );
    if platform.calls() > 0 || (awake - f64::from(arguments.active)).abs() > 0.5 {
        bail!("{} scale calls and {awake} revisions awake under a load that does not change", platform.calls());
    }
    if frames < 1.8 {
        bail!("{frames:.1} frames a second were taken instead of two");
    }
    if percent > arguments.percent_max {
        bail!("{percent:.1} % of a core; at most {} %", arguments.percent_max);
    }
    Ok(())
}

/// What the process has used so far.
struct Used {
    at: Instant,
    cpu: Duration,
    resident_mib: f64,
}

impl Used {
    fn now() -> anyhow::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let span = |time: nix::sys::time::TimeVal| {
            Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
        };
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let kib: f64 = resident.and_then(|kib| kib.parse().ok()).context("VmRSS in /proc/self/status")?;
        let cpu = span(usage.user_time()) + span(usage.system_time());
        Ok(Self { at: Instant::now(), cpu, resident_mib: kib / 1024.0 })
    }
}

/// The autoscaler's own metrics.
struct Counted(BTreeMap<String, f64>);

impl Counted {
    /// Read while the autoscaler goes on, and outside of the time that is measured.
    async fn now(metrics: &Metrics) -> anyhow::Result<Self> {
        let metrics = metrics.clone();
        let page = tokio::task::spawn_blocking(move || metrics.render()).await?;
        let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(Self(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()))
    }

    fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// How many turns of the loop since `before` took at most so many seconds, by that bound.
    fn within(&self, before: &Self) -> Vec<(f64, f64)> {
        let mut within: Vec<(f64, f64)> = Vec::new();
        for (name, value) in &self.0 {
            let labels = name.strip_prefix("autoscaler_turn_seconds_bucket");
            let Some((_, bound)) = labels.and_then(|labels| labels.split_once("le=\"")) else { continue };
            let bound = bound.trim_end_matches("\"}").parse().unwrap_or(f64::INFINITY);
            let count = value - before.value(name);
            match within.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => within.push((bound, count)),
            }
        }
        within.sort_by(|a, b| a.0.total_cmp(&b.0));
        within
    }

    fn turns(&self, before: &Self) -> f64 {
        self.within(before).last().map_or(0.0, |(_, count)| *count)
    }

    fn long_turns(&self, before: &Self) -> f64 {
        let within = self.within(before);
        let short = within.iter().take_while(|(bound, _)| *bound <= LONG_TURN).last().map_or(0.0, |(_, count)| *count);
        self.turns(before) - short
    }

    /// The bound that all of them keep.
    fn longest_turn(&self, before: &Self) -> String {
        let (within, turns) = (self.within(before), self.turns(before));
        let bound = within.iter().find(|(_, count)| *count >= turns).map_or(f64::INFINITY, |(bound, _)| *bound);
        format!("<= {} ms", bound * 1000.0)
    }
}
