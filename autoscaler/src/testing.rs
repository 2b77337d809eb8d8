//! What the tests of this crate share: an autoscaler on a platform in memory, spoken to through its router.

use crate::{Autoscaler, BrainSettings, Settings, Token, Trust};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use domain::report::{FRAME_MEDIA_TYPE, FRAME_VERSION};
use domain::{Ack, Frame, Millis, ReporterId, RequestMillis, RevisionId, Row};
use http_body_util::BodyExt;
use platform::fake::Fake;
use platform::fixed::default_revision;
use runtime::{Clock, Tasks, WakeLog};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// How long a replica of the fake platform needs to start.
pub(crate) const START: Duration = Duration::from_secs(5);

pub(crate) fn model() -> RevisionId {
    RevisionId::new("default", "model")
}

/// A platform with one revision and one activator, `a-1`.
pub(crate) fn platform() -> Fake {
    let fake = Fake::new();
    fake.apply(default_revision(model()), START);
    fake.set_activators(vec![ReporterId::new("a-1")]);
    fake
}

/// A running autoscaler.
pub(crate) struct Running {
    pub(crate) router: Router,
    pub(crate) fake: Fake,
    pub(crate) tasks: Tasks,
    pub(crate) wakes: Arc<WakeLog>,
    pub(crate) clock: Clock,
}

pub(crate) fn settings(token: Option<&str>) -> Settings {
    Settings {
        id: ReporterId::new("s-1"),
        trust: trust(token),
        brain: BrainSettings::default(),
        audience: None,
        word: None,
    }
}

fn trust(token: Option<&str>) -> Trust {
    token.map_or(Trust::Everyone, |token| Trust::Secret(Token::new(token)))
}

/// Starts one and waits until it knows the platform.
pub(crate) async fn start(fake: Fake, token: Option<&str>) -> Running {
    start_with(fake, trust(token)).await
}

pub(crate) async fn start_with(fake: Fake, trust: Trust) -> Running {
    let (clock, wakes, tasks) = (Clock::start(), Arc::new(WakeLog::new()), Tasks::new());
    let autoscaler =
        Autoscaler::new(Settings { trust, ..settings(None) }, Arc::new(fake.clone()), clock, Some(wakes.clone()));
    let router = autoscaler.router();
    let mut synced = autoscaler.synced();
    autoscaler.start(&tasks);
    synced.wait_for(|synced| *synced).await.unwrap();
    Running { router, fake, tasks, wakes, clock }
}

/// A regular frame of `reporter`, with a name for [`model`] as number 0.
pub(crate) fn frame(reporter: &str, tick: u64, rows: Vec<Row>) -> Frame {
    Frame {
        v: FRAME_VERSION,
        reporter: ReporterId::new(reporter),
        boot: 7,
        tick,
        seq: tick,
        at: Millis(tick * 1000),
        leaving: false,
        draining: false,
        sharing: None,
        urgent: false,
        complete: true,
        names: vec![(0, model())],
        rows,
    }
}

/// `load` requests, waiting ones among them, held for `tick` seconds so far.
pub(crate) fn row(tick: u64, in_flight: u32, queued: u32) -> Row {
    let load = u64::from(in_flight + queued);
    Row { n: 0, area: RequestMillis(load * tick * 1000), requests: load, in_flight, queued, ..Row::default() }
}

pub(crate) fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/frames").header(header::CONTENT_TYPE, FRAME_MEDIA_TYPE).body(body.into()).unwrap()
}

pub(crate) async fn call(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

pub(crate) async fn get(router: &Router, path: &str) -> (StatusCode, serde_json::Value) {
    let (status, body) = call(router, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

/// Sends a frame that must be taken.
pub(crate) async fn send(router: &Router, frame: &Frame) -> Ack {
    let (status, body) = call(router, post(serde_json::to_vec(frame).unwrap())).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}
