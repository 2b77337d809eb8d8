//! The whole autoscaler on a platform in memory: frames in, scale calls out.

use crate::testing::{Running, START, frame, get, model, platform, row, send, settings, start};
use crate::{Autoscaler, run};
use axum::http::StatusCode;
use domain::report::FRAME_MEDIA_TYPE;
use domain::{Frame, Replicas, ReporterId, RequestMillis, Row, Timestamp};
use parking_lot::Mutex;
use platform::Leadership;
use platform::contract::View;
use runtime::{Admin, Clock, Phase, PhaseSender, Tasks};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An urgent frame: `queued` requests wait where none waited.
fn urgent(queued: u32) -> Frame {
    Frame { urgent: true, ..frame("a-1", 1, vec![row(0, 0, queued)]) }
}

/// Regular frames once a second, `in_flight` in each, for `secs`.
async fn report(running: &Running, from_tick: u64, secs: u64, in_flight: u32) {
    for tick in from_tick..from_tick + secs {
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(&running.router, &frame("a-1", tick, vec![row(tick, in_flight, 0)])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_wakes_its_revision_at_once() {
    let running = start(platform(), None).await;
    let mut view = View::of(&running.fake);
    running.wakes.first_waiting(&model(), running.clock.now());
    let began = running.clock.now();
    send(&running.router, &urgent(1)).await;
    view.until(|view| view.requested(&model()) == 1).await;
    assert_eq!(running.clock.now(), began, "without waiting for a tick");
    view.until(|view| view.ready(&model()) == 1).await;
    // The loop hears of it in the same moment, and answers questions after everything else.
    get(&running.router, "/v1/revisions").await;
    let (_, wakes) = get(&running.router, "/v1/wakes").await;
    let millis = |at: Timestamp| at.since_start().as_secs_f64() * 1000.0;
    assert_eq!(wakes[0]["revision"], "default/model");
    assert_eq!(wakes[0]["firstWaiting"], millis(began));
    assert_eq!(wakes[0]["scaleCalled"], millis(began));
    assert_eq!(wakes[0]["probeSucceeded"], millis(began + START));
    assert!(wakes[0]["firstByte"].is_null());
    assert_eq!(running.fake.calls().len(), 1, "one transition, however many ask");
}

#[tokio::test(start_paused = true)]
async fn a_follower_decides_silently() {
    let fake = platform();
    fake.set_leadership(Leadership::Follower);
    let running = start(fake, None).await;
    let ack = send(&running.router, &urgent(3)).await;
    assert_eq!(ack.leader, None);
    report(&running, 2, 5, 3).await;
    assert_eq!(running.fake.calls(), []);
    // Its windows are warm: it acts as soon as it leads.
    let mut view = View::of(&running.fake);
    running.fake.set_leadership(Leadership::Leader { until: None });
    report(&running, 7, 3, 3).await;
    view.until(|view| view.requested(&model()) >= 1).await;
    assert_eq!(send(&running.router, &frame("a-1", 11, vec![])).await.leader, Some(ReporterId::new("s-1")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_asked_for_again() {
    let running = start(platform(), None).await;
    running.fake.fail_next([platform::ScaleError::Unreachable("once".into())]);
    let mut view = View::of(&running.fake);
    send(&running.router, &urgent(1)).await;
    report(&running, 2, 5, 1).await;
    view.until(|view| view.requested(&model()) == 1).await;
    assert_eq!(running.fake.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_api_shows_what_is_and_names_what_could_have_been_meant() {
    let running = start(platform(), None).await;
    send(&running.router, &urgent(1)).await;
    let (status, all) = get(&running.router, "/v1/revisions").await;
    assert_eq!((status, all.as_array().unwrap().len()), (StatusCode::OK, 1));
    let (status, one) = get(&running.router, "/v1/revisions/default/model").await;
    assert_eq!((status, &one["name"]), (StatusCode::OK, &"model".into()));
    assert_eq!(one["queued"], 1);
    let (status, decisions) = get(&running.router, "/v1/revisions/default/model/decisions").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!decisions.as_array().unwrap().is_empty());
    let (status, error) = get(&running.router, "/v1/revisions/default/modle").await;
    assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    assert_eq!(error["message"], "there is no revision default/modle; there is only default/model");
    let (status, _) = get(&running.router, "/v1/revisions/default/modle/decisions").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn every_revision_has_its_gauges() {
    let (recorder, page) = runtime::Metrics::detached();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let running = start(platform(), None).await;
    send(&running.router, &urgent(2)).await;
    report(&running, 2, 3, 2).await;
    let page = page.render();
    for line in [
        "autoscaler_requested_replicas{namespace=\"default\",revision=\"model\"} 1",
        "autoscaler_in_flight_requests{namespace=\"default\",revision=\"model\"} 2",
        "autoscaler_scale_calls_total{namespace=\"default\",revision=\"model\",outcome=\"accepted\"} 1",
        "autoscaler_frames_total{kind=\"urgent\"} 1",
        "autoscaler_leader 1",
        "autoscaler_awake_revisions 1",
        "autoscaler_contradictions_total 0",
        "autoscaler_frames_doubted_total 0",
        "autoscaler_events_dropped_total 0",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}

/// An activator that does what it is told: it stops sending to leaving replicas and says so.
#[tokio::test(start_paused = true)]
async fn an_idle_revision_falls_asleep_in_two_phases() {
    let running = start(platform(), None).await;
    let mut view = View::of(&running.fake);
    send(&running.router, &urgent(1)).await;
    view.until(|view| view.endpoints(&model()).len() == 1).await;
    let replica = view.endpoints(&model())[0].id.clone();
    let (mut drained, mut told_at) = (Vec::new(), None);
    let mut tick = 5;
    while running.fake.requested(&model()) == Some(Replicas::ONE) {
        tick += 1;
        assert!(tick < 200, "it never fell asleep");
        tokio::time::sleep(Duration::from_secs(1)).await;
        // One request that ran for a second and was answered; then nothing.
        let idle = Row { area: RequestMillis(1000), requests: 1, drained: drained.clone(), ..row(tick, 0, 0) };
        let ack = send(&running.router, &frame("a-1", tick, vec![idle])).await;
        if let Some((revision, victims)) = ack.drain.first() {
            assert_eq!((revision, victims), (&model(), &vec![replica.clone()]));
            told_at.get_or_insert(tick);
            drained = victims.clone();
        }
    }
    let calls = running.fake.calls();
    let last = calls.last().unwrap();
    assert_eq!((last.from, last.to), (Replicas::ONE, Replicas::ZERO));
    assert_eq!(last.remove_first, [replica], "exactly the one that was drained");
    assert!(told_at.is_some_and(|told| told < tick), "told in a frame before it was stopped");
    assert_eq!(calls.len(), 2, "one way up, one way down: {calls:?}");
}

/// What is logged on this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_the_story_of_a_wake_in_calm_lines() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let running = start(platform(), None).await;
    send(&running.router, &urgent(1)).await;
    report(&running, 2, 6, 1).await;
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].starts_with("INFO default/model: woken"), "{log}");
    assert!(lines[1].starts_with("INFO default/model: scaled 0 -> 1 because "), "{log}");
    assert_eq!(lines[2], "INFO default/model: ready in 5.0 s", "{log}");
}

/// The program as it is served: one listener for admin, API and frames. Real sockets, hence real time.
#[tokio::test]
async fn one_listener_serves_everything_and_stops_when_told() {
    let (tasks, phase) = (Tasks::new(), PhaseSender::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, metrics) = runtime::Metrics::detached();
    let admin = Admin::new(phase.clone(), metrics);
    let autoscaler = Autoscaler::new(settings(None), Arc::new(platform()), Clock::start(), None);
    let (of_server, mut phases) = (tasks.clone(), phase.subscribe());
    tasks.spawn("server", async move { run(autoscaler, listener, admin, phase, &of_server).await });
    phases.wait_for(|phase| *phase == Phase::Ready).await.unwrap();
    let body = serde_json::to_string(&frame("a-1", 1, vec![])).unwrap();
    let length = body.len();
    for (request, answer) in [
        ("GET /ready HTTP/1.0\r\n\r\n".into(), "ready\n"),
        ("GET /v1/wakes HTTP/1.0\r\n\r\n".into(), "[]"),
        (
            format!(
                "POST /v1/frames HTTP/1.0\r\ncontent-type: {FRAME_MEDIA_TYPE}\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
            r#""leader":"s-1"}"#,
        ),
    ] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.0 200") && said.ends_with(answer), "{said}");
    }
    tasks.stop();
    tasks.wait().await;
    assert!(!tasks.failed().is_cancelled());
}
