//! The generator against the sample server, over real sockets: counts are exact.

use super::*;
use crate::model_server::{self, Service, Settings, WhenFull};
use crate::stats::{ErrorKind, Summary};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    service: Arc<Service>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start(settings: Settings) -> Self {
        let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Service::new(settings));
        let stop = CancellationToken::new();
        let task = net::spawn(model_server::serve(listener, Arc::clone(&service), stop.clone()));
        Self { address, service, stop, task }
    }

    fn predicting(&self) -> Plan {
        let path = "/v1/models/custom-model:predict";
        Plan::get(self.address, path).unwrap().posting(r#"{"instances":[[1.0,2.0]]}"#)
    }

    fn chatting(&self) -> Plan {
        let mut plan = Plan::get(self.address, "/v1/chat/completions").unwrap().posting(r#"{"stream":true}"#);
        plan.streaming = true;
        plan
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn count(requests: u64) -> Bounds {
    Bounds { length: None, requests: Some(requests) }
}

async fn closed(plan: Plan, in_flight: usize, requests: u64) -> Summary {
    let results: Arc<Mutex<Recorder>> = Arc::default();
    closed_loop(&Arc::new(plan), in_flight, count(requests), &results).await;
    results.lock().summary(Duration::from_secs(1), 200)
}

#[tokio::test]
async fn a_closed_loop_holds_exactly_its_number_in_flight() {
    let server = Server::start(Settings { service_time: Duration::from_millis(20), ..Settings::default() });
    let summary = closed(server.predicting(), 10, 200).await;
    assert_eq!((summary.requests, summary.ok, summary.failed), (200, 200, 0));
    let stats = server.service.stats();
    assert_eq!((stats.requests, stats.most_running, stats.running), (200, 10, 0));
    server.stop().await;
}

#[tokio::test]
async fn http2_shares_a_connection_and_counts_the_same() {
    let server = Server::start(Settings { service_time: Duration::from_millis(5), ..Settings::default() });
    let results = Arc::default();
    let mut plan = Plan::get(server.address, &format!("http://{}/", server.address)).unwrap();
    plan.http2 = true;
    closed_loop(&Arc::new(plan), 8, count(100), &results).await;
    assert_eq!(results.lock().summary(Duration::ZERO, 200).ok, 100);
    server.stop().await;
}

#[tokio::test]
async fn a_burst_is_one_request_a_connection() {
    let server = Server::start(Settings { service_time: Duration::from_millis(50), ..Settings::default() });
    let results = Arc::default();
    burst(&Arc::new(server.predicting()), 300, &results).await;
    assert_eq!(results.lock().summary(Duration::ZERO, 200).ok, 300);
    assert_eq!(server.service.stats().requests, 300);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_server_cannot_hide_its_queue_from_an_open_loop() {
    // 20 requests 5 ms apart, 25 ms each, one at a time: the last one ends about 500 ms after the first, 400 ms late.
    let service_time = Duration::from_millis(25);
    let server = Server::start(Settings { service_time, concurrency: 1, ..Settings::default() });
    let results = Arc::default();
    let schedule = Schedule::new(200.0).unwrap();
    open_loop(&Arc::new(server.predicting()), schedule, 100, count(20), &results).await;
    let summary = results.lock().summary(Duration::ZERO, 200);
    assert_eq!(summary.ok, 20);
    assert!(summary.latency_ms.max >= 400.0, "{}", summary.latency_ms);
    server.stop().await;
}

#[tokio::test]
async fn an_open_loop_is_bounded_and_says_so() {
    let server = Server::start(Settings { service_time: Duration::from_millis(300), ..Settings::default() });
    let results = Arc::default();
    let schedule = Schedule::new(1000.0).unwrap();
    open_loop(&Arc::new(server.predicting()), schedule, 5, count(20), &results).await;
    let summary = results.lock().summary(Duration::ZERO, 200);
    assert_eq!((summary.ok, summary.errors[&ErrorKind::NotSent]), (5, 15));
    server.stop().await;
}

#[tokio::test]
async fn refusals_and_failures_are_told_apart_from_answers() {
    let rejecting = Settings {
        service_time: Duration::from_millis(200),
        concurrency: 1,
        when_full: WhenFull::Reject,
        ..Settings::default()
    };
    let server = Server::start(rejecting);
    let results = Arc::default();
    burst(&Arc::new(server.predicting()), 5, &results).await;
    let summary = results.lock().summary(Duration::ZERO, 200);
    assert_eq!((summary.ok, summary.statuses[&503]), (1, 4));
    server.stop().await;

    let server = Server::start(Settings { fail_rate: 1.0, ..Settings::default() });
    assert_eq!(closed(server.predicting(), 1, 3).await.statuses[&500], 3);
    server.stop().await;

    let server = Server::start(Settings { load_time: Duration::from_secs(3600), ..Settings::default() });
    assert_eq!(closed(server.predicting(), 1, 3).await.statuses[&503], 3);
    server.stop().await;

    let nobody = Plan::get(([127, 0, 0, 1], net::free_port().unwrap()).into(), "/").unwrap();
    assert_eq!(closed(nobody, 1, 2).await.errors[&ErrorKind::Connect], 2);
}

#[tokio::test]
async fn a_stop_finishes_the_streams_it_has() {
    let tokens = Settings { tokens: 10, token_interval: Duration::from_millis(20), ..Settings::default() };
    let server = Server::start(tokens);
    let results: Arc<Mutex<Recorder>> = Arc::default();
    let plan = Arc::new(server.chatting());
    let load = net::spawn({
        let results = Arc::clone(&results);
        async move { closed_loop(&plan, 4, count(4), &results).await }
    });
    while server.service.stats().running < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.stop().await;
    load.await.unwrap();
    let summary = results.lock().summary(Duration::ZERO, 200);
    assert_eq!((summary.ok, summary.failed), (4, 0));
}

#[tokio::test]
async fn a_cut_stream_is_a_failure_even_if_it_ends_politely() {
    let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
    let mut plan = Plan::get(listener.local_addr().unwrap(), "/").unwrap();
    plan.streaming = true;
    net::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ndata: {}\n\n").await;
        }
    });
    assert_eq!(closed(plan, 1, 2).await.errors[&ErrorKind::CutStream], 2);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure() {
    let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
    let plan = Plan::get(listener.local_addr().unwrap(), "/").unwrap();
    net::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
    });
    assert_eq!(closed(plan, 1, 2).await.errors[&ErrorKind::CutBody], 2);
}
