//! Faults, and the log.

use crate::samples::*;
use apiserver::{Broken, Matching, Reply, Server, Verb};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

async fn ask(
    server: &Server,
    method: Method,
    uri: &str,
    body: &Value,
) -> Result<http::Response<apiserver::Body>, Broken> {
    let media = if method == Method::PATCH { MERGE_PATCH } else { "application/json" };
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request =
        Request::builder().method(method).uri(uri).header("content-type", media).header("user-agent", "kpa/1");
    server.clone().oneshot(request.body(Full::new(body)).unwrap()).await
}

async fn get(server: &Server, uri: &str) -> StatusCode {
    ask(server, Method::GET, uri, &Value::Null).await.expect("answered").status()
}

#[tokio::test(start_paused = true)]
async fn canned_answers_strike_what_they_match_and_no_more() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let scale = format!("{DEPLOYMENTS}/a/scale");
    let patch = json!({ "spec": { "replicas": 5 } });
    let matching = || Matching::any().verb(Verb::Patch).resource("deployments/scale").namespace("default").name("a");
    for (reply, code) in [
        (Reply::Conflict, 409),
        (Reply::Gone, 410),
        (Reply::TooMany { retry_after_seconds: 3 }, 429),
        (Reply::Internal, 500),
        (Reply::Unavailable, 503),
        (Reply::Timeout, 504),
    ] {
        server.faults().answer_next(1, matching(), reply);
        assert_eq!(get(&server, &scale).await, StatusCode::OK, "a read is not meant");
        let struck = ask(&server, Method::PATCH, &scale, &patch).await.unwrap();
        assert_eq!(struck.status().as_u16(), code);
        let retry = struck.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry.as_deref(), (code == 429).then_some("3"));
        let body = struck.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["code"], code);
        assert_eq!(server.get(&scale)["spec"]["replicas"], 1, "it was not carried out");
    }
    server.faults().lose_answers(1, matching(), Reply::Timeout);
    assert_eq!(ask(&server, Method::PATCH, &scale, &patch).await.unwrap().status().as_u16(), 504);
    assert_eq!(server.get(&scale)["spec"]["replicas"], 5, "it was carried out, and its answer lost");
    assert_eq!(ask(&server, Method::PATCH, &scale, &patch).await.unwrap().status().as_u16(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_is_silent_and_goes_on_where_it_was() {
    let server = server();
    let mut watch =
        ask(&server, Method::GET, &format!("{PODS}?watch=1&timeoutSeconds=60"), &Value::Null).await.unwrap();
    server.faults().freeze();
    server.post(PODS, &pod("a", &json!({})));
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, watch.body_mut().frame()).await.is_err(), "neither event, end nor reset");
    assert!(timeout(hour, get(&server, PODS)).await.is_err());
    let waiting = get(&server, PODS);
    tokio::pin!(waiting);
    assert!(timeout(hour, &mut waiting).await.is_err());
    server.faults().thaw();
    assert_eq!(waiting.await, StatusCode::OK, "what waited is answered");
    let event = watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&event).contains("\"ADDED\""));
    assert!(watch.body_mut().frame().await.is_none(), "its time is long over");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_breaks_what_is_open() {
    let server = server();
    let mut watch = ask(&server, Method::GET, &format!("{PODS}?watch=1"), &Value::Null).await.unwrap();
    server.faults().refuse();
    assert_eq!(watch.body_mut().frame().await.unwrap().unwrap_err(), Broken);
    assert!(ask(&server, Method::GET, PODS, &Value::Null).await.is_err());
    server.faults().accept();
    assert_eq!(get(&server, PODS).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn selected_watches_are_ended_or_broken() {
    let server = server();
    let watch = async |uri: &str| ask(&server, Method::GET, &format!("{uri}?watch=1"), &Value::Null).await.unwrap();
    let mut pods = watch(PODS).await;
    let mut leases = watch(LEASES).await;
    let mut slices = watch("/apis/discovery.k8s.io/v1/endpointslices").await;
    assert_eq!(server.faults().watches(&Matching::any()), 3);
    assert_eq!(server.faults().end_watches(&Matching::any().resource("pods")), 1);
    assert!(pods.body_mut().frame().await.is_none());
    assert_eq!(server.faults().break_watches(&Matching::any().resource("leases")), 1);
    assert!(leases.body_mut().frame().await.unwrap().is_err());
    assert!(timeout(Duration::from_secs(9), slices.body_mut().frame()).await.is_err(), "this one was not meant");
}

#[tokio::test(start_paused = true)]
async fn delays_hold_what_they_match() {
    let server = server();
    server.faults().delay(Matching::any().resource("leases"), Duration::from_secs(3));
    let before = Instant::now();
    get(&server, PODS).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    get(&server, LEASES).await;
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    server.faults().clear();
    get(&server, LEASES).await;
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn the_log_remembers_the_last_requests() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    let patch = json!({ "spec": { "replicas": 2 } });
    ask(&server, Method::PATCH, &format!("{DEPLOYMENTS}/a/scale"), &patch).await.unwrap();
    let log = server.faults().logged(&Matching::any().verb(Verb::Patch));
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].status, log[0].manager.as_str()), (StatusCode::OK, "kpa"));
    assert_eq!((log[0].asked.resource.as_str(), log[0].asked.user.as_str()), ("deployments/scale", "kubernetes-admin"));
    assert_eq!(serde_json::from_str::<Value>(&log[0].body).unwrap(), patch);
    for _ in 0..apiserver::LOG_MAX {
        get(&server, "/version").await;
    }
    assert_eq!(server.faults().log().len(), apiserver::LOG_MAX);
    assert!(server.faults().logged(&Matching::any().verb(Verb::Patch)).is_empty(), "the oldest is forgotten");
}

/// The status line of an answer over a real connection.
async fn over_socket(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn on_a_socket_refusing_closes_the_listener_and_accepting_opens_it_again() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let story = async {
        assert!(over_socket(address).await.unwrap().ends_with("ok"));
        let mut open = TcpStream::connect(address).await.unwrap();
        server.faults().refuse();
        let mut byte = [0];
        assert!(!matches!(open.read(&mut byte).await, Ok(1..)), "an open connection ends");
        assert!(over_socket(address).await.is_err());
        server.faults().accept();
        // The listener is back once the serving task has seen it; nothing else tells when.
        timeout(Duration::from_secs(10), async {
            while over_socket(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it listens again");
    };
    tokio::select! {
        ended = server.serve(listener) => panic!("serving ended: {ended:?}"),
        () = story => {}
    }
}
