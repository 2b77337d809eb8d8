use super::*;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tower::ServiceExt;

fn admin(phase: &PhaseSender) -> Router {
    let (_, metrics) = Metrics::detached();
    metrics.add_source(Arc::new(|page| page.push_str("kpa_up 1\n")));
    Admin::new(phase.clone(), metrics).config(Arc::new(|| r#"{"port":8080}"#.into())).router()
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_follows_the_phase_and_liveness_does_not() {
    let phase = PhaseSender::new();
    let router = admin(&phase);
    for (to, status, word) in [
        (Phase::Starting, 503, "starting\n"),
        (Phase::Ready, 200, "ready\n"),
        (Phase::Draining, 503, "draining\n"),
        (Phase::Stopped, 503, "stopped\n"),
    ] {
        phase.advance(to);
        assert_eq!(get(&router, "/ready").await, (StatusCode::from_u16(status).unwrap(), word.into()));
        assert_eq!(get(&router, "/live").await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn programs_add_their_routes() {
    let own = Router::new().route("/v1/own", axum::routing::get(async || "own"));
    let router = admin(&PhaseSender::new()).merge(own);
    assert_eq!(get(&router, "/v1/own").await.1, "own");
    assert_eq!(get(&router, "/metrics").await.1, "kpa_up 1\n");
    assert_eq!(get(&router, "/config").await.1, r#"{"port":8080}"#);
    assert_eq!(get(&router, "/nothing").await.0, StatusCode::NOT_FOUND);
}

/// A connection served in memory; the second value ends with it.
fn connect(router: Router, stop: &CancellationToken) -> (DuplexStream, tokio::sync::oneshot::Receiver<()>) {
    let (near, far) = tokio::io::duplex(4096);
    let (ended, over) = tokio::sync::oneshot::channel();
    let stop = stop.clone();
    Tasks::new().spawn("test connection", async move {
        serve_connection(far, router, stop).await;
        let _ = ended.send(());
    });
    (near, over)
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    let (mut client, over) = connect(admin(&PhaseSender::new()), &CancellationToken::new());
    client.write_all(b"GET /live HTTP/1.1\r\nho").await.unwrap();
    let started = tokio::time::Instant::now();
    over.await.unwrap();
    let waited = started.elapsed();
    assert!(waited >= HEADER_READ_TIMEOUT && waited < HEADER_READ_TIMEOUT * 2, "{waited:?}");
}

/// A route that answers when told, and tells when it was reached.
fn slow(reached: &Arc<Notify>, go: &Arc<Notify>) -> Router {
    let (reached, go) = (reached.clone(), go.clone());
    Router::new().route(
        "/slow",
        axum::routing::get(async move || {
            reached.notify_one();
            go.notified().await;
            "done"
        }),
    )
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_running_exchange_finish() {
    let (reached, go, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
    let (mut client, over) = connect(slow(&reached, &go), &stop);
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reached.notified().await;
    stop.cancel();
    go.notify_one();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    over.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let (reached, go, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
    let (mut client, over) = connect(slow(&reached, &go), &stop);
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    reached.notified().await;
    let told = tokio::time::Instant::now();
    stop.cancel();
    over.await.unwrap();
    assert_eq!(told.elapsed().as_secs(), STOP_GRACE.as_secs());
}

#[tokio::test]
async fn a_real_listener_serves_and_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    let (inner, token) = (tasks.clone(), stop.clone());
    let router = admin(&PhaseSender::new());
    tasks.spawn("server", async move { serve(listener, router, &inner, token).await });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.cancel();
    tasks.wait().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
