//! The two programs as turmoil hosts: the very code that `kpa run` starts, on simulated sockets and clocks.
//!
//! Invariant: nothing of them is replaced but sockets, clock and platform; frames cross the simulated network.

use crate::cluster::{Cluster, Seat};
use crate::net::{SimConnect, SimListener};
use activator::reporter::ReporterSettings;
use activator::{Activator, Setup};
use autoscaler::{Autoscaler, BrainSettings, Trust};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use domain::report::FRAME_BYTES_MAX;
use domain::{Ack, Frame, ReporterId};
use platform::trust::Shown;
use runtime::net::Listener;
use runtime::{Clock, PhaseSender, Tasks, WakeLog};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where clients connect.
pub(crate) const TRAFFIC: u16 = 8080;
/// Where frames and questions go.
pub(crate) const FRAMES: u16 = 8081;

/// How long an activator that was told to leave still takes new connections.
const DRAIN_DELAY: Duration = Duration::from_secs(1);

/// The name of an activator, as a host and as a reporter.
pub(crate) fn activator_name(number: usize) -> String {
    format!("activator-{number}")
}

/// The name of an autoscaler, as a host and as a leader.
pub(crate) fn autoscaler_name(number: usize) -> String {
    format!("autoscaler-{number}")
}

/// One life of an activator.
pub(crate) async fn run_activator(cluster: Arc<Cluster>, number: usize, boot: u64, seed: u64) -> turmoil::Result {
    let (name, tasks, stop) = (activator_name(number), Tasks::new(), CancellationToken::new());
    cluster.ledger().failed.insert(name.clone(), tasks.failed());
    cluster.ledger().stops.insert(name.clone(), stop.clone());
    let setup = Setup {
        connector: SimConnect,
        platform: Arc::new(Seat { cluster, autoscaler: None }),
        settings: activator::Settings { drain_delay: DRAIN_DELAY, ..activator::Settings::default() },
        reporter: ReporterSettings { id: ReporterId::new(&name), boot, shown: Shown::Nothing },
        clock: Clock::start(),
        wakes: Arc::new(WakeLog::new()),
        phase: PhaseSender::new(),
        seed,
        neighbours: None,
    };
    let listener = SimListener::bind(TRAFFIC).await?;
    let (activator, runs) = Activator::start(setup, 1, &tasks);
    let run = runs.into_iter().next().ok_or("there is one worker")?;
    let leave = async {
        stop.cancelled().await;
        activator.drain().await;
        tasks.stop();
    };
    tokio::join!(run.serve(listener, None), leave);
    Ok(())
}

/// One life of an autoscaler.
pub(crate) async fn run_autoscaler(cluster: Arc<Cluster>, number: usize) -> turmoil::Result {
    let (name, tasks) = (autoscaler_name(number), Tasks::new());
    cluster.ledger().failed.insert(name.clone(), tasks.failed());
    let seat = Arc::new(Seat { cluster: Arc::clone(&cluster), autoscaler: Some(number) });
    let settings = autoscaler::Settings {
        id: ReporterId::new(&name),
        trust: Trust::Everyone,
        brain: BrainSettings::default(),
        audience: None,
        word: None,
    };
    let autoscaler = Autoscaler::new(settings, seat, Clock::start(), None);
    let router = autoscaler.router().layer(from_fn(move |request, next| {
        let cluster = Arc::clone(&cluster);
        async move { listen(&cluster, number, request, next).await }
    }));
    autoscaler.start(&tasks);
    let mut listener = SimListener::bind(FRAMES).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tasks.spawn("connection", runtime::admin::serve_connection(stream, router.clone(), tasks.stopping()));
    }
}

/// Notes every frame that is acknowledged, and what it is answered.
async fn listen(cluster: &Cluster, number: usize, request: Request, next: Next) -> Response {
    if request.uri().path() != "/v1/frames" {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, FRAME_BYTES_MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let frame = serde_json::from_slice::<Frame>(&body);
    let (head, body) = next.run(Request::from_parts(head, Body::from(body))).await.into_parts();
    let Ok(body) = to_bytes(body, FRAME_BYTES_MAX).await else { return StatusCode::BAD_GATEWAY.into_response() };
    match (frame, serde_json::from_slice::<Ack>(&body)) {
        (Ok(frame), Ok(ack)) => cluster.ledger().told(number, &frame, &ack),
        (frame, ack) => cluster.ledger().violation(format!("a frame was not understood: {frame:?}, {ack:?}")),
    }
    Response::from_parts(head, Body::from(body))
}
