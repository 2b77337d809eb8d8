//! The client against an imitation of kpa's API, and the arithmetic of one wake.

use super::*;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;

fn wake(stages: &str) -> Wake {
    serde_json::from_str(&format!(r#"{{"revision":"default/a","firstWaiting":1000.5,{stages}}}"#)).unwrap()
}

#[test]
fn spans_need_every_stage() {
    let whole = wake(r#""scaleCalled":1002.0,"probeSucceeded":3000.25,"firstByte":3004.25,"later":"ignored""#);
    let (scale_call, first_byte) = (Duration::from_micros(1500), Duration::from_millis(4));
    assert_eq!(whole.spans().unwrap(), Some(Spans { scale_call, first_byte }));
    let open = wake(r#""scaleCalled":1002.0,"probeSucceeded":null"#);
    assert_eq!(open.spans().unwrap(), None);
}

#[test]
fn a_stage_before_its_predecessor_is_an_error() {
    assert!(wake(r#""scaleCalled":999.0,"probeSucceeded":3000.0,"firstByte":3001.0"#).spans().is_err());
}

/// An imitation of kpa, traffic and admin on one port: every request to `/` makes a wake of `default/a`, whose last
/// stage is listed only when the list is asked for a second time.
async fn imitation() -> SocketAddr {
    let listener = net::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let wakes: Arc<Mutex<(u32, bool)>> = Arc::default();
    net::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let wakes = Arc::clone(&wakes);
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &mut wakes.lock());
                async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(answer))) }
            });
            net::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn answer(request: &Request<Incoming>, (wakes, listed): &mut (u32, bool)) -> String {
    match request.uri().path() {
        "/v1/revisions" => {
            r#"[{"id":"default/b","replicas":3,"ready":3},{"id":"default/a","replicas":0,"ready":0}]"#.into()
        }
        "/v1/wakes" => {
            let whole = |n: u32, last: bool| {
                let at = n * 1000;
                let byte = if last { (at + 500 + 7).to_string() } else { "null".into() };
                format!(
                    r#"{{"revision":"default/a","firstWaiting":{at},"scaleCalled":{},"probeSucceeded":{},"firstByte":{byte}}}"#,
                    at + n,
                    at + 500,
                )
            };
            let list: Vec<String> = (1..=*wakes).map(|n| whole(n, n < *wakes || *listed)).collect();
            *listed = true;
            format!("[{}]", list.join(","))
        }
        _ => {
            assert_eq!(request.headers()["host"], "a.default.example.com");
            *wakes += 1;
            *listed = false;
            "ok".into()
        }
    }
}

fn args(address: SocketAddr, revision: &str) -> Args {
    Args {
        admin: address,
        proxy: address,
        revision: revision.to_owned(),
        domain: "example.com".to_owned(),
        path: "/".to_owned(),
        starts: 3,
        sleep_limit: Duration::from_millis(200),
        under_load: false,
        max_scale_call: None,
        max_first_byte: None,
        json: false,
    }
}

#[tokio::test]
async fn each_cold_start_is_measured_once_by_kpas_own_clock() {
    let series = series(&args(imitation().await, "default/a"), "test").await.unwrap();
    assert_eq!(series.starts, 3);
    let near = |got: f64, wanted: f64| (got - wanted).abs() < wanted / 500.0;
    assert!(near(series.scale_call_ms.p50, 2.0) && near(series.scale_call_ms.max, 3.0), "{}", series.scale_call_ms);
    assert!(near(series.first_byte_ms.p50, 7.0), "{}", series.first_byte_ms);
}

#[tokio::test]
async fn one_that_does_not_sleep_or_exist_is_an_error() {
    let address = imitation().await;
    let awake = series(&args(address, "default/b"), "test").await.unwrap_err();
    assert!(awake.to_string().contains("not asleep"), "{awake}");
    let unknown = series(&args(address, "default/c"), "test").await.unwrap_err();
    assert!(unknown.to_string().contains("does not know"), "{unknown}");
}
