//! The side door: `/live`, `/ready`, `/metrics` and `/config`, to which a program adds its own routes.
//!
//! Invariant: runs on the control thread, never on one that serves requests, so it answers when the data plane is
//! jammed; every connection of it is counted and has a clock.

use crate::phase::{Phase, PhaseSender};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once; further ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// A request head must be complete, and an idle connection used again, within this time.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Exchanges that run when the server is told to stop may take this long.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection (out of files, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Renders the settings in force as JSON. Secrets are the renderer's to leave out.
pub type ConfigSource = Arc<dyn Fn() -> String + Send + Sync>;

/// The building blocks of an admin server.
#[derive(Clone)]
pub struct Admin {
    phase: PhaseSender,
    metrics: Metrics,
    config: Option<ConfigSource>,
    more: Router,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("phase", &self.phase.now()).finish_non_exhaustive()
    }
}

impl Admin {
    /// Readiness follows `phase`; `/metrics` shows `metrics`.
    #[must_use]
    pub fn new(phase: PhaseSender, metrics: Metrics) -> Self {
        Self { phase, metrics, config: None, more: Router::new() }
    }

    /// Adds routes of the program's own.
    #[must_use]
    pub fn routes(mut self, more: Router) -> Self {
        self.more = self.more.merge(more);
        self
    }

    /// Adds `/config`.
    #[must_use]
    pub fn config(mut self, source: ConfigSource) -> Self {
        self.config = Some(source);
        self
    }

    /// The routes, to be merged with the program's own.
    pub fn router(self) -> Router {
        let Self { phase, metrics, config, more } = self;
        let router =
            more.route("/live", get(async || "live\n")).route("/ready", get(async move || ready(phase.now()))).route(
                "/metrics",
                get(async move || {
                    // A page over 10 000 revisions takes a third of a second, which whatever else runs on this thread
                    // must not wait for.
                    let page = tokio::task::spawn_blocking(move || metrics.render()).await;
                    let page = page.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
                    Ok::<_, StatusCode>(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page))
                }),
            );
        match config {
            Some(config) => {
                router.route("/config", get(async move || ([(header::CONTENT_TYPE, "application/json")], config())))
            }
            None => router,
        }
    }
}

fn ready(phase: Phase) -> impl IntoResponse {
    match phase {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped\n"),
    }
}

/// Serves `router` on `listener` until `stop`; then lets running exchanges finish for [`STOP_GRACE`] and returns.
/// HTTP/1.1 only.
pub async fn serve(listener: TcpListener, router: Router, tasks: &Tasks, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased; // Stopping first: a connection accepted now would only be closed.
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn("admin connection", async move {
                    serve_connection(stream, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Each connection bounds itself, so this ends.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = room.acquire_many(all).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// Serves one connection of any kind until it ends; after `stop` it finishes the running exchange, for at most
/// [`STOP_GRACE`].
pub async fn serve_connection<I>(io: I, router: Router, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        biased; // The exchange first: one that is complete should not be cut by a stop at the same moment.
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(STOP_GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!("an admin exchange was cut: it did not end in {STOP_GRACE:?}"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

#[cfg(test)]
mod tests;
