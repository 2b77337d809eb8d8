//! Measures what kpa itself adds to a cold start: first waiting request to scale call, and probe success to first byte.
//!
//! Invariant: both ends of a span come from kpa's own clock (`GET /v1/wakes`); nothing measured here includes our own
//! delay in asking.

use crate::run::{Client, Plan};
use crate::stats::{Latencies, Percentiles};
use crate::{net, output, values};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Where kpa lists its revisions.
const REVISIONS: &str = "/v1/revisions";
/// Where kpa lists its latest wakes.
const WAKES: &str = "/v1/wakes";
/// How often kpa is asked whether the revision sleeps.
const ASK: Duration = Duration::from_millis(50);
/// How long the last stage of a wake may take to be listed after the answer has been read.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// Settings of the measurement.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The admin and API address of a running kpa.
    #[arg(long, default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
    /// Its traffic address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    proxy: SocketAddr,
    /// Which revision, as namespace/name. It must be able to sleep.
    #[arg(long, default_value = "default/custom-model-autoscaling")]
    revision: String,
    /// The domain its host name ends with.
    #[arg(long, default_value = "example.com")]
    domain: String,
    /// The path that is asked for with GET.
    #[arg(long, default_value = "/")]
    path: String,
    /// Cold starts to measure.
    #[arg(long, default_value_t = 20)]
    starts: u32,
    /// How long to wait for the revision to fall asleep each time.
    #[arg(long, default_value = "5m", value_parser = values::duration)]
    sleep_limit: Duration,
    /// Measures as many again while every core is kept busy.
    #[arg(long)]
    under_load: bool,
    /// Fails when the idle p90 from first waiting request to scale call is over this many milliseconds.
    #[arg(long)]
    max_scale_call: Option<f64>,
    /// Fails when the idle p90 from probe success to first byte is over this many milliseconds.
    #[arg(long)]
    max_first_byte: Option<f64>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

/// One cold start as kpa tells it: milliseconds on one clock; a stage that has not come is missing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wake {
    revision: String,
    first_waiting: f64,
    scale_called: Option<f64>,
    probe_succeeded: Option<f64>,
    first_byte: Option<f64>,
}

/// The two spans of one cold start.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spans {
    scale_call: Duration,
    first_byte: Duration,
}

impl Wake {
    /// The spans, once every stage has come. A stage before its predecessor is an error of the list, not a zero.
    fn spans(&self) -> anyhow::Result<Option<Spans>> {
        let (Some(called), Some(probed), Some(byte)) = (self.scale_called, self.probe_succeeded, self.first_byte)
        else {
            return Ok(None);
        };
        let span = |from: f64, to: f64| {
            Duration::try_from_secs_f64((to - from) / 1000.0)
                .with_context(|| format!("a stage at {to} ms after {from}"))
        };
        Ok(Some(Spans { scale_call: span(self.first_waiting, called)?, first_byte: span(probed, byte)? }))
    }
}

/// What is read of a revision's status.
#[derive(Debug, Deserialize)]
struct Status {
    id: String,
    replicas: u32,
    ready: u32,
}

/// Distributions over one series of cold starts, in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    starts: u64,
    /// First waiting request to scale call.
    scale_call_ms: Percentiles,
    /// Probe success to first byte forwarded.
    first_byte_ms: Percentiles,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    idle: Series,
    under_load: Option<Series>,
}

/// Measures and prints.
///
/// # Errors
///
/// kpa cannot be reached, does not know the revision, or the revision never sleeps.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    if args.starts == 0 {
        bail!("at least one cold start");
    }
    net::runtime()?.block_on(async {
        let idle = series(&args, "idle").await?;
        let under_load = if args.under_load {
            let _busy = Busy::every_core();
            Some(series(&args, "under load").await?)
        } else {
            None
        };
        let outcome = Outcome { idle, under_load };
        if args.json {
            output::line(&serde_json::to_string_pretty(&outcome)?);
        } else {
            print("idle", &outcome.idle);
            outcome.under_load.iter().for_each(|series| print("under load", series));
        }
        let over = |limit: Option<f64>, p90: f64| limit.is_some_and(|limit| p90 > limit);
        let failed = over(args.max_scale_call, outcome.idle.scale_call_ms.p90)
            || over(args.max_first_byte, outcome.idle.first_byte_ms.p90);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn print(name: &str, series: &Series) {
    output::line(&format!("{name}, {} cold starts", series.starts));
    output::line(&format!("  first waiting request -> scale call    {}", series.scale_call_ms));
    output::line(&format!("  probe success -> first byte forwarded  {}", series.first_byte_ms));
}

async fn series(args: &Args, name: &str) -> anyhow::Result<Series> {
    let (mut scale_calls, mut first_bytes) = (Latencies::new(), Latencies::new());
    for n in 0..args.starts {
        asleep(args).await?;
        // Starts fall into every part of kpa's one-second ticks, not always the same.
        tokio::time::sleep(Duration::from_millis(u64::from(n) * 137 % 1000)).await;
        let spans = cold_start(args).await?;
        scale_calls.record(spans.scale_call);
        first_bytes.record(spans.first_byte);
        output::notice(&format!("{name} {}: {:?} and {:?}", n + 1, spans.scale_call, spans.first_byte));
    }
    Ok(Series {
        starts: scale_calls.len(),
        scale_call_ms: scale_calls.percentiles(),
        first_byte_ms: first_bytes.percentiles(),
    })
}

/// Waits until the revision has no replica, asked for or ready.
async fn asleep(args: &Args) -> anyhow::Result<()> {
    let limit = Instant::now() + args.sleep_limit;
    loop {
        let revisions: Vec<Status> = ask(args.admin, REVISIONS).await?;
        match revisions.iter().find(|status| status.id == args.revision) {
            None => bail!("kpa does not know {}", args.revision),
            Some(status) if status.replicas == 0 && status.ready == 0 => return Ok(()),
            Some(_) if Instant::now() > limit => bail!("{} is not asleep after {:?}", args.revision, args.sleep_limit),
            Some(_) => tokio::time::sleep(ASK).await,
        }
    }
}

/// One request at zero, and what kpa then says about it.
async fn cold_start(args: &Args) -> anyhow::Result<Spans> {
    let before = newest(args).await?.map(|wake| wake.first_waiting);
    let (namespace, name) = args.revision.split_once('/').context("the revision is written namespace/name")?;
    let host = format!("{name}.{namespace}.{}", args.domain);
    let mut plan = Plan::get(args.proxy, &args.path)?.for_host(&host)?;
    plan.timeout = args.sleep_limit;
    let client = &mut Client::many(&Arc::new(plan), 1);
    let Some(client) = client.first_mut() else { bail!("no client") };
    match client.exchange(Instant::now()).await {
        Ok(answer) if answer.status == 200 => (),
        Ok(answer) => bail!("a cold start was answered {}", answer.status),
        Err(kind) => bail!("a cold start failed: {}", kind.as_str()),
    }
    let limit = Instant::now() + LISTED_WITHIN;
    loop {
        let fresh = newest(args).await?.filter(|wake| before.is_none_or(|before| wake.first_waiting > before));
        if let Some(spans) = fresh.map(|wake| wake.spans()).transpose()?.flatten() {
            return Ok(spans);
        }
        if Instant::now() > limit {
            bail!("kpa does not list the wake with all its stages");
        }
        tokio::time::sleep(ASK).await;
    }
}

async fn newest(args: &Args) -> anyhow::Result<Option<Wake>> {
    let wakes: Vec<Wake> = ask(args.admin, WAKES).await?;
    Ok(wakes.into_iter().rfind(|wake| wake.revision == args.revision))
}

async fn ask<T: for<'de> Deserialize<'de>>(admin: SocketAddr, path: &str) -> anyhow::Result<T> {
    let body = Client::fetch(&Plan::get(admin, path)?).await.with_context(|| format!("http://{admin}{path}"))?;
    serde_json::from_slice(&body).with_context(|| format!("http://{admin}{path} is not as expected"))
}

/// Threads that do nothing, one a core, until dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn every_core() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
