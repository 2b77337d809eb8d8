//! A sample model server: loads for a while, predicts (KServe v1), chats (OpenAI, streamed or not), fails when told to.
//!
//! Invariant: it serves nothing but its health before it has loaded, and SIGTERM loses nothing that was accepted.

mod api;
mod chat;
mod inference;
pub(crate) mod lean;

pub use inference::{Service, Settings, Stats, WhenFull};

use crate::{net, output, values};
use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Settings of the server; each is a flag and an environment variable, so that a manifest can set either.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port to serve on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Address to serve on.
    #[arg(long, env = "BIND_ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// How long loading takes; until then /healthz answers 503 and nothing else is served.
    #[arg(long, env = "LOAD_TIME", default_value = "0", value_parser = values::duration)]
    pub load_time: Duration,
    /// Does not even listen while it loads.
    #[arg(long, env = "LISTEN_LATE")]
    pub listen_late: bool,
    /// How long one prediction takes.
    #[arg(long, env = "SERVICE_TIME", default_value = "0", value_parser = values::duration)]
    pub service_time: Duration,
    /// Requests served at once; 0 is no limit.
    #[arg(long, env = "CONCURRENCY", default_value_t = 0)]
    pub concurrency: usize,
    /// What happens to a request beyond the limit.
    #[arg(long, env = "WHEN_FULL", value_enum, default_value_t = WhenFull::Queue)]
    pub when_full: WhenFull,
    /// Tokens of a chat answer; a request's `max_tokens` lowers it.
    #[arg(long, env = "TOKENS", default_value_t = 16)]
    pub tokens: u32,
    /// Time between two tokens.
    #[arg(long, env = "TOKEN_INTERVAL", default_value = "20ms", value_parser = values::duration)]
    pub token_interval: Duration,
    /// Size of the answer to GET /, in bytes.
    #[arg(long, env = "BODY_BYTES", default_value_t = 2)]
    pub body_bytes: usize,
    /// Part of the predictions and chats that fail with 500, from 0 to 1.
    #[arg(long, env = "FAIL_RATE", default_value = "0", value_parser = values::fraction)]
    pub fail_rate: f64,
    /// Which ones fail.
    #[arg(long, env = "FAIL_SEED", default_value_t = 1)]
    pub fail_seed: u64,
    /// Name that /v1/models lists; every name is served.
    #[arg(long, env = "MODEL_NAME", default_value = "custom-model")]
    pub model_name: String,
    /// Threads. One costs the least on a small machine.
    #[arg(long, env = "WORKERS", default_value_t = 1)]
    pub workers: usize,
    /// Answers everything with the body of GET /, but /events with an event each token interval, at the least cost: the
    /// backend of a proxy benchmark.
    #[arg(long)]
    pub lean: bool,
}

impl Args {
    fn settings(&self) -> Settings {
        Settings {
            load_time: self.load_time,
            service_time: self.service_time,
            concurrency: self.concurrency,
            when_full: self.when_full,
            tokens: self.tokens,
            token_interval: self.token_interval,
            body_bytes: self.body_bytes,
            fail_rate: self.fail_rate,
            fail_seed: self.fail_seed,
            model_name: self.model_name.clone(),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// The port cannot be had.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let _ = net::raise_open_files();
    let service = Arc::new(Service::new(args.settings()));
    let stop = CancellationToken::new();
    let workers = args.workers.max(1);
    let args = &args;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers)
            .map(|_| {
                let (service, stop) = (Arc::clone(&service), stop.clone());
                scope.spawn(move || worker(args, service, stop, false))
            })
            .collect();
        let first = worker(args, service, stop.clone(), true);
        stop.cancel();
        let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a worker died")));
        std::iter::once(first).chain(others).collect::<anyhow::Result<()>>()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One thread's runtime, with a listener of its own. The first one takes the signals.
fn worker(args: &Args, service: Arc<Service>, stop: CancellationToken, first: bool) -> anyhow::Result<()> {
    net::runtime()?.block_on(async {
        if first {
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let stop = stop.clone();
            net::spawn(async move {
                tokio::select! { biased; _ = term.recv() => (), _ = int.recv() => () }
                stop.cancel();
            });
        }
        if args.listen_late {
            tokio::select! { biased; () = stop.cancelled() => return Ok(()), () = service.loaded() => () }
        }
        let address = SocketAddr::new(args.bind, args.port);
        let listener = net::listen(address, args.workers > 1).with_context(|| format!("cannot listen on {address}"))?;
        if first {
            output::notice(&format!("serving on http://{}, loaded after {:?}", listener.local_addr()?, args.load_time));
        }
        if args.lean {
            lean::serve(listener, args.body_bytes, args.token_interval, stop).await;
        } else {
            serve(listener, service, stop).await;
        }
        Ok(())
    })
}

/// Serves HTTP/1.1 and cleartext HTTP/2 on `listener` until `stop`, then finishes what it has.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted =
            tokio::select! { biased; () = stop.cancelled() => break, accepted = listener.accept() => accepted };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors: give the running requests a chance to return some.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = Arc::clone(&service);
        let answer = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(api::answer(&service, request).await) }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection(TokioIo::new(stream), answer).into_owned();
        let watched = connections.watch(connection);
        net::spawn(async move {
            // A client that breaks the protocol or leaves has nobody to be told about it.
            let _ = watched.await;
        });
    }
    drop(listener);
    connections.shutdown().await;
}
