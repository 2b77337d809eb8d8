use super::*;
use crate::Autoscaler;
use crate::testing::{call, frame, platform, post, row, send, settings, start, start_with};
use axum::http::StatusCode;
use domain::{ReporterId, RevisionId, Row};
use futures_util::future::BoxFuture;
use futures_util::stream;
use platform::trust::{Caller, Identifies, ServiceAccount};
use proptest::prelude::*;
use runtime::Clock;

mod fuzz;

fn encoded(frame: &Frame) -> Vec<u8> {
    serde_json::to_vec(frame).unwrap()
}

/// The refusal that `request` meets: status and code, with the bound's name in the message.
async fn refused(router: &Router, request: Request, code: &str, says: &str) -> StatusCode {
    let (status, body) = call(router, request).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], code, "{body}");
    assert!(body["message"].as_str().unwrap().contains(says), "{body}");
    status
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_answered_with_its_number_and_the_leader() {
    let running = start(platform(), None).await;
    let ack = send(&running.router, &frame("a-1", 4, vec![row(4, 1, 0)])).await;
    assert_eq!((ack.seq, ack.leader), (4, Some(ReporterId::new("s-1"))));
}

#[tokio::test(start_paused = true)]
async fn only_those_who_know_the_token_are_heard() {
    let running = start(platform(), Some("secret")).await;
    let good = encoded(&frame("a-1", 1, vec![]));
    for shown in [None, Some("secret"), Some("Bearer secre"), Some("Bearer secret1"), Some("Bearer ")] {
        let mut request = post(good.clone());
        if let Some(shown) = shown {
            request.headers_mut().insert(header::AUTHORIZATION, shown.parse().unwrap());
        }
        let status = refused(&running.router, request, "unauthorized", "token").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{shown:?}");
    }
    let mut request = post(good);
    request.headers_mut().insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
    assert_eq!(call(&running.router, request).await.0, StatusCode::OK);
}

/// Knows whose a token is by its text.
#[derive(Debug)]
struct Registry;

impl Identifies for Registry {
    fn who<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller, Doubt>> {
        Box::pin(async move {
            let account = |name: &str| ServiceAccount { namespace: "kpa".into(), name: name.into() };
            let (name, pod) = match token {
                "silence" => std::future::pending().await,
                "nobody can be asked" => return Err(Doubt::Unknown("away".into())),
                "a model's" => ("model", Some("a-1".into())),
                "made by hand" => ("activator", None),
                token => match token.strip_prefix("pod ") {
                    Some(pod) => ("activator", Some(pod.to_owned())),
                    None => return Err(Doubt::Refused("expired".into())),
                },
            };
            Ok(Caller { account: account(name), pod })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_cluster_only_listed_activators_are_heard_and_each_for_itself() {
    let account = ServiceAccount { namespace: "kpa".into(), name: "activator".into() };
    let running = start_with(platform(), Trust::Pods { identifies: Arc::new(Registry), account }).await;
    let shown = |token: &str, reporter: &str| {
        let mut request = post(encoded(&frame(reporter, 1, vec![])));
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        request
    };
    for (token, reporter, status, code, says) in [
        ("wrong", "a-1", 401, "unauthorized", "token"),
        ("nobody can be asked", "a-1", 503, "unchecked", "checked"),
        ("silence", "a-1", 503, "unchecked", "checked"),
        ("a model's", "a-1", 403, "forbidden", "kpa/model"),
        ("made by hand", "a-1", 403, "forbidden", "not made for a pod"),
        ("pod a-2", "a-2", 403, "forbidden", "a-2 is not listed"),
        ("pod a-1", "a-2", 403, "forbidden", "a-1 speaks for a-2"),
    ] {
        assert_eq!(refused(&running.router, shown(token, reporter), code, says).await, status, "{token}");
    }
    assert_eq!(refused(&running.router, post(encoded(&frame("a-1", 1, vec![]))), "unauthorized", "").await, 401);
    assert_eq!(call(&running.router, shown("pod a-1", "a-1")).await.0, StatusCode::OK);
    // The list is followed.
    running.fake.set_activators(vec![ReporterId::new("a-2")]);
    send_until_refused(&running.router, || shown("pod a-1", "a-1")).await;
    assert_eq!(call(&running.router, shown("pod a-2", "a-2")).await.0, StatusCode::OK);
}

/// Sends until the loop has seen what the platform told.
async fn send_until_refused(router: &Router, request: impl Fn() -> Request) {
    while call(router, request()).await.0 == StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_frames_are_read() {
    let running = start(platform(), None).await;
    let good = encoded(&frame("a-1", 1, vec![]));
    let mut json = post(good.clone());
    json.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    let status = refused(&running.router, json, "media_type", FRAME_MEDIA_TYPE).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut with_parameter = post(good);
    let value = format!("{}; charset=utf-8", FRAME_MEDIA_TYPE.to_uppercase());
    with_parameter.headers_mut().insert(header::CONTENT_TYPE, value.parse().unwrap());
    assert_eq!(call(&running.router, with_parameter).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_bounded_whether_its_length_is_announced_or_not() {
    let running = start(platform(), None).await;
    let bound = FRAME_BYTES_MAX.to_string();
    let mut announced = post("{}");
    announced.headers_mut().insert(header::CONTENT_LENGTH, (FRAME_BYTES_MAX + 1).into());
    assert_eq!(refused(&running.router, announced, "too_large", &bound).await, StatusCode::PAYLOAD_TOO_LARGE);
    let piece = Bytes::from(vec![b' '; 1024 * 1024]);
    let pieces = stream::iter((0..9).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let streamed = post(Body::from_stream(pieces));
    assert_eq!(refused(&running.router, streamed, "too_large", &bound).await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn rows_and_names_are_bounded() {
    let running = start(platform(), None).await;
    let most = |count: usize| (0..count).map(|n| Row { n: n as u32, ..Row::default() }).collect::<Vec<_>>();
    assert_eq!(send(&running.router, &frame("a-1", 1, most(FRAME_ROWS_MAX))).await.seq, 1);
    let rows = post(encoded(&frame("a-1", 2, most(FRAME_ROWS_MAX + 1))));
    let bound = FRAME_ROWS_MAX.to_string();
    assert_eq!(refused(&running.router, rows, "too_many_rows", &bound).await, StatusCode::PAYLOAD_TOO_LARGE);
    let id = RevisionId::new("d", "m");
    let names = (0..=FRAME_ROWS_MAX).map(|n| (n as u32, id.clone())).collect();
    let names = post(encoded(&Frame { names, ..frame("a-1", 3, vec![]) }));
    refused(&running.router, names, "too_many_rows", &bound).await;
}

#[tokio::test(start_paused = true)]
async fn reporters_are_bounded_and_the_silent_make_room() {
    let running = start(platform(), None).await;
    for n in 0..REPORTERS_MAX {
        send(&running.router, &frame(&format!("a-{n}"), 1, vec![])).await;
    }
    let newcomer = || post(encoded(&frame("newcomer", 1, vec![])));
    let status = refused(&running.router, newcomer(), "too_many_reporters", "64").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    // Those already heard go on being heard, and one that leaves gives its place.
    send(&running.router, &frame("a-0", 2, vec![])).await;
    send(&running.router, &Frame { leaving: true, ..frame("a-1", 2, vec![]) }).await;
    assert_eq!(call(&running.router, newcomer()).await.0, StatusCode::OK);
    let another = || post(encoded(&frame("another", 1, vec![])));
    refused(&running.router, another(), "too_many_reporters", "64").await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(call(&running.router, another()).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn another_major_version_is_refused_and_counted() {
    let (recorder, page) = runtime::Metrics::detached();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let running = start(platform(), None).await;
    for body in [r#"{"v":2,"everything":"else"}"#, r#"{"v":70000}"#] {
        let status = refused(&running.router, post(body), "version", "speaks version 1").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let same_shape = encoded(&Frame { v: 2, ..frame("a-1", 1, vec![]) });
    refused(&running.router, post(same_shape), "version", "version 2").await;
    assert!(page.render().contains("autoscaler_frames_refused_total{why=\"version\"} 3"));
    refused(&running.router, post(r#"{"v":1}"#), "malformed", "missing field").await;
    refused(&running.router, post("[["), "malformed", "not a frame").await;
}

#[tokio::test(start_paused = true)]
async fn a_reporter_has_a_name_of_bounded_length() {
    let running = start(platform(), None).await;
    for name in [String::new(), "x".repeat(REPORTER_NAME_MAX + 1)] {
        let status = refused(&running.router, post(encoded(&frame(&name, 1, vec![]))), "reporter_name", "253").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    send(&running.router, &frame(&"x".repeat(REPORTER_NAME_MAX), 1, vec![])).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_broken_body_holds_nothing_up() {
    let running = start(platform(), None).await;
    let began = Instant::now();
    let never = post(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
    assert_eq!(refused(&running.router, never, "slow", "800ms").await, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(began.elapsed(), FRAME_DEADLINE);
    let broken = post(Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))])));
    assert_eq!(refused(&running.router, broken, "broken", "broke off").await, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn frames_read_at_once_are_bounded() {
    let running = start(platform(), None).await;
    let never = || post(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
    let all = futures_util::future::join_all((0..FRAMES_AT_ONCE).map(|_| call(&running.router, never())));
    let began = Instant::now();
    let one_more = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        send(&running.router, &frame("a-1", 1, vec![])).await;
        began.elapsed()
    };
    let (all, answered) = tokio::join!(all, one_more);
    assert!(all.iter().all(|(status, _)| *status == StatusCode::REQUEST_TIMEOUT));
    assert_eq!(answered, FRAME_DEADLINE, "it waits for a place, and gets the first that is free");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_busy_or_gone_is_said_to_be() {
    let platform: Arc<dyn platform::Platform> = Arc::new(platform());
    let autoscaler = Autoscaler::new(settings(None), platform, Clock::start(), None);
    let router = autoscaler.router();
    let good = || post(encoded(&frame("a-1", 1, vec![])));
    assert_eq!(refused(&router, good(), "busy", "busy").await, StatusCode::SERVICE_UNAVAILABLE);
    drop(autoscaler);
    assert_eq!(refused(&router, good(), "stopping", "stopping").await, StatusCode::SERVICE_UNAVAILABLE);
}

proptest! {
    #[test]
    fn whatever_a_reporter_writes_is_read_back(
        rows in prop::collection::vec(any::<(u32, u64, u64, u32, u32, u64)>(), 0..20),
        tick in any::<u64>(),
        urgent in any::<bool>(),
    ) {
        let rows = rows
            .into_iter()
            .map(|(n, area, requests, in_flight, queued, endpoints_version)| Row {
                n, area: domain::RequestMillis(area), requests, in_flight, queued, endpoints_version,
                ..Row::default()
            })
            .collect();
        let sent = Frame { tick, urgent, ..frame("a-1", 1, rows) };
        prop_assert_eq!(parse(&encoded(&sent)), Ok(sent));
    }
}
