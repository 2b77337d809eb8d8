//! What an activator has resident: doing nothing, with many services, with idle connections, and holding requests.
//!
//! Invariant: every figure is that of a fresh process of its own, and what was scaled down is said.

mod clients;
mod figure;
mod subject;
mod tls;

use crate::model_server::lean;
use crate::{net, output};
use anyhow::{Context as _, bail};
use clients::{Idle, Uploads};
use figure::Figure;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use subject::Subject;
use tls::Tls;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Descriptors that are neither a client's nor a replica's connection.
const DESCRIPTORS_SPARE: u64 = 3000;
/// How long memory may take to come back: product figure.
const COME_BACK: Duration = Duration::from_secs(60);
/// How long it is left alone before the count begins.
const SETTLE: Duration = Duration::from_secs(20);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests that are held and answered before anything is measured.
const WARM_UP: usize = 100;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Settings of the measurement.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Requests held, connections and services.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// The activator's binary. Default: beside this one, then target/dist/activator.
    #[arg(long)]
    activator: Option<PathBuf>,
    /// Measures idle connections over TLS, too, with a whole handshake each, and what CPU they take.
    #[arg(long)]
    tls: bool,
    /// Leaves out what does not hold requests.
    #[arg(long, conflicts_with = "tls")]
    held: bool,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures; the exit status says whether every figure that has a limit keeps it.
///
/// # Errors
///
/// No activator, or it does not answer.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let files = net::raise_open_files();
    let most = usize::try_from(files.saturating_sub(DESCRIPTORS_SPARE))?;
    let count = args.count.min(most) / 100 * 100;
    if count == 0 {
        bail!("{} at a time need more than {files} open files (ulimit -Hn), and at least 100", args.count);
    }
    if count < args.count {
        output::notice(&format!(
            "scaled down: {count} instead of {}, for at most {files} files may be open",
            args.count
        ));
    }
    let figures = net::runtime()?.block_on(measure(&args, count))?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&figures)?);
    } else {
        figures.iter().for_each(|figure| output::line(&figure.to_string()));
    }
    Ok(if figures.iter().all(Figure::kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, count: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if !args.held {
        idle(args, &mut figures).await.context("idle")?;
        services(args, count, &mut figures).await.context("idle services")?;
        connections(args, count, None, &mut figures).await.context("idle connections")?;
    }
    if args.tls {
        connections(args, count, Some(&Tls::new()?), &mut figures).await.context("idle connections over TLS")?;
    }
    held(args, count, Protocol::Http1, &mut figures).await.context("held over HTTP/1.1")?;
    held(args, count, Protocol::Http2, &mut figures).await.context("held over HTTP/2")?;
    Ok(figures)
}

async fn idle(args: &Args, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let subject = Subject::start(args.activator.as_deref(), 1, nobody()?, None).await?;
    figures.push(Figure::mib("idle", subject.rss()?).at_most(30));
    Ok(())
}

async fn services(args: &Args, count: usize, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let subject = Subject::start(args.activator.as_deref(), count, nobody()?, None).await?;
    figures.push(Figure::mib(format!("{count} idle services"), subject.rss()?).at_most(150));
    Ok(())
}

/// Connections that are answered once and stay, over TLS where it is given.
async fn connections(args: &Args, count: usize, tls: Option<&Tls>, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let replica = nobody()?;
    let _replica = Replica::start(replica)?;
    let subject = Subject::start(args.activator.as_deref(), 1, replica, tls).await?;
    let (before, busy) = (subject.rss()?, subject.cpu()?);
    let idle = Idle::open(subject.address, tls, count).await?;
    let (with, busy) = (subject.rss()?, subject.cpu()?.saturating_sub(busy));
    let over = if tls.is_some() { " over TLS" } else { "" };
    figures.push(Figure::mib(format!("{count} idle connections{over}, each answered once"), with));
    figures.push(Figure::kib("  each", with.saturating_sub(before) / count as u64));
    if args.tls {
        let each = u64::try_from(busy.as_micros())? / count as u64;
        figures.push(Figure::number("  microseconds of CPU each, to begin and to answer", each));
    }
    drop(idle);
    Ok(())
}

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// So many uploads that wait, or have been refused.
async fn hold(subject: &Subject, protocol: Protocol, count: usize) -> anyhow::Result<Uploads> {
    let uploads = match protocol {
        Protocol::Http1 => Uploads::over_http1(subject.address, count).await?,
        Protocol::Http2 => Uploads::over_http2(subject.address, count).await?,
    };
    let settled = until(PATIENCE, async || Ok(subject.held().await? + uploads.ended() >= count)).await?;
    if settled.is_none() {
        bail!("only {} of {count} are held", subject.held().await?);
    }
    Ok(uploads)
}

/// Requests wait with uploads of 64 MiB behind them, are released and end, and the process is as before.
async fn held(args: &Args, count: usize, protocol: Protocol, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let replica = nobody()?;
    let subject = Subject::start(args.activator.as_deref(), 1, replica, None).await?;
    // What a process has that has done the same in small: its code is in memory.
    {
        let few = hold(&subject, protocol, WARM_UP).await?;
        let _replica = Replica::start(replica)?;
        if until(PATIENCE, async || Ok(few.ended() >= WARM_UP)).await?.is_none() {
            bail!("only {} of {WARM_UP} were answered", few.ended());
        }
        few.leave();
    }
    // The least of what it has then: what it still gives back is not what it has.
    let mut before = u64::MAX;
    until(SETTLE, async || {
        before = before.min(subject.rss()?);
        Ok(false)
    })
    .await?;
    let sockets = subject::socket_memory()?;
    let uploads = hold(&subject, protocol, count).await?;
    uploads.offered_all_that_fits(LOOK).await;
    // What its metrics say of held ones lacks those that are just being tried again.
    let (refused, with) = (uploads.ended(), subject.rss()?);
    let waiting = count - refused;
    let name = if protocol == Protocol::Http1 { "HTTP/1.1" } else { "HTTP/2, 100 connections" };
    figures.push(Figure::mib(format!("{waiting} held over {name}, 64 MiB offered each"), with).at_most(250));
    let each = Figure::kib("  each", with.saturating_sub(before) / waiting.max(1) as u64);
    figures.push(if protocol == Protocol::Http1 { each.at_most(24) } else { each });
    if refused > 0 {
        figures.push(Figure::number("  refused, as they would not fit", refused as u64));
    }
    figures.push(Figure::mib("  kernel memory of all sockets", subject::socket_memory()?.saturating_sub(sockets)));

    let descriptors = subject.descriptors()?;
    let _replica = Replica::start(replica)?;
    let (mut most, uploads) = (descriptors, &uploads);
    let ended = until(PATIENCE, async || {
        most = most.max(subject.descriptors()?);
        Ok(uploads.ended() >= count)
    });
    if ended.await?.is_none() {
        bail!("only {} of {count} were answered", uploads.ended());
    }
    figures
        .push(Figure::number("  answered 200 after their release", uploads.answered() as u64).at_least(waiting as u64));
    figures.push(
        Figure::number("  further descriptors for their release", most.saturating_sub(descriptors)).at_most(2000),
    );
    uploads.leave();
    let back = until(COME_BACK, async || Ok(subject.rss()? * 100 <= before * 120)).await?;
    let after = subject.rss()?;
    figures.push(Figure::mib(format!("  before {:.1} MiB, after", figure::to_mib(before)), after));
    // One more than is allowed when it never was.
    let seconds = back.unwrap_or(COME_BACK + Duration::from_secs(1)).as_secs();
    figures.push(Figure::number("  seconds until it was back to within 20 %", seconds).at_most(COME_BACK.as_secs()));
    Ok(())
}

/// Waits until `done`; how long that took, or nothing if it was longer than `limit`.
async fn until(
    limit: Duration,
    mut done: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Option<Duration>> {
    let started = Instant::now();
    loop {
        if done().await? {
            return Ok(Some(started.elapsed()));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// An address that nobody listens on.
fn nobody() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], net::free_port()?)))
}

/// A replica that answers, until it is dropped.
struct Replica(CancellationToken);

impl Replica {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let listener = net::listen(address, false)?;
        net::spawn(lean::serve_without_reading(listener, stop.clone()));
        Ok(Self(stop))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
