//! `kpa get` against a server that gives recorded answers.

use crate::support::{Running, free_address, kpa, run, wait_for};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A real answer of `GET /v1/revisions`, one service, its settings shortened.
const RECORDED: &str = include_str!("recorded.json");

/// Answers `GET /v1/revisions` with whatever is in `answer` until it is dropped.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<Mutex<usize>>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    fn start(body: &str) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, body.to_owned())));
        let asked = Arc::new(Mutex::new(0));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (given, counted) = (answer.clone(), asked.clone());
        let route = get(async move || {
            *counted.lock() += 1;
            given.lock().clone()
        });
        let router = Router::new().route("/v1/revisions", route);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let ends = async {
                    // The sender's end is the signal.
                    let _ = stopped.await;
                };
                axum::serve(listener, router).with_graceful_shutdown(ends).await.unwrap();
            });
        });
        Self { address, answer, asked, _stop: stop }
    }

    fn get(&self, args: &[&str]) -> (i32, String, String) {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), &[&["get", "--admin", &self.address.to_string()], args].concat())
    }
}

#[test]
fn the_recorded_service_in_every_format() {
    let server = Server::start(RECORDED);
    assert_eq!(
        server.get(&[]),
        (
            0,
            "NAME                       REFERENCE                             TARGETS   MINPODS   MAXPODS   REPLICAS   AGE\n\
             custom-model-autoscaling   Deployment/custom-model-autoscaling   10/7      0         10        2          9m16s\n"
                .to_owned(),
            String::new()
        )
    );
    let (_, wide, _) = server.get(&["-o", "wide", "custom-model-autoscaling"]);
    let tail = "AGE     READY   MODE     IN-FLIGHT   QUEUED   REASON\n";
    assert!(wide.lines().next().unwrap().ends_with(tail.trim_end()), "{wide}");
    assert!(wide.ends_with("9m16s   2       stable   10          0        stable 10.0 / (10 x 0.70) -> 2\n"), "{wide}");

    let (_, json, _) = server.get(&["-o", "json"]);
    let (got, recorded): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&json).unwrap(), serde_json::from_str(RECORDED).unwrap());
    assert_eq!(got, recorded, "nothing is lost");
}

/// The whole arithmetic, in the order of its steps, and every setting with its origin.
#[test]
fn yaml_shows_the_arithmetic() {
    let (code, yaml, _) = Server::start(RECORDED).get(&["-o", "yaml"]);
    assert_eq!(code, 0);
    let back: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(RECORDED).unwrap();
    for whole in ["settings", "problems", "conditions", "reason", "minPods"] {
        assert_eq!(back[0][whole], recorded[0][whole], "{whole} reads back the same");
    }
    let mut rest = yaml.as_str();
    for part in [
        "- id: default/custom-model-autoscaling\n",
        "  reason: stable 10.0 / (10 x 0.70) -> 2\n",
        "  lastDecision:\n    at: 555.301s\n",
        "      stable:\n        signal: concurrency\n        reading: 10.0\n        total: 10.0\n        utilization: 0.7\n        wanted: 2\n",
        "    up: 2000\n    down: 1\n",
        "    stableWant: 2\n    panicWant: 2\n",
        "    desired: 2\n    min: 0\n    max: 10\n",
        "      retained:\n        until: 600.500s\n",
        "    replicas: 2\n",
        "  - key: target\n    value: \"10\"\n    origin: annotation\n",
        "  - key: window\n    value: 60s\n    origin: default\n",
        "  problems:\n  - severity: notice\n",
        "  conditions:\n  - type: Coverage\n    status: true\n",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing or out of order in\n{yaml}"));
        rest = &rest[at..];
    }
}

#[test]
fn what_goes_wrong_is_one_sentence() {
    let server = Server::start(RECORDED);
    let fails = |args: &[&str], sentence: &str| {
        let (code, out, errors) = server.get(args);
        assert_eq!((code, out.as_str(), errors.as_str()), (1, "", &*format!("kpa: {sentence}\n")));
    };
    fails(&["nobody"], "there is no service nobody; there is: default/custom-model-autoscaling");
    *server.answer.lock() = (
        StatusCode::SERVICE_UNAVAILABLE,
        r#"{"code":"busy","message":"the autoscaler does not answer; it is busy or stopping"}"#.into(),
    );
    fails(&[], "the autoscaler does not answer; it is busy or stopping");
    *server.answer.lock() = (StatusCode::NOT_FOUND, "not here".into());
    let address = server.address;
    fails(&[], &format!("{address} does not answer as kpa does: GET /v1/revisions gives 404 Not Found"));
    *server.answer.lock() = (StatusCode::OK, "[]".into());
    let (code, out, remarks) = server.get(&[]);
    assert_eq!((code, out.as_str(), remarks.as_str()), (0, "", "No resources found.\n"));
    *server.answer.lock() = (StatusCode::OK, "<html>".into());
    assert!(server.get(&[]).2.contains(&format!("{address} does not answer as this kpa understands it")));

    let folder = tempfile::tempdir().unwrap();
    let nobody = free_address().to_string();
    let (code, out, errors) = run(folder.path(), &["get", "--admin", &nobody]);
    let sentence =
        format!("kpa: nothing listens on {nobody}: start `kpa run PATH`, or name its address with --admin\n");
    assert_eq!((code, out.as_str(), errors), (1, "", sentence));
    assert_eq!(server.get(&["-o", "xml"]).0, 2);
}

#[test]
fn watch_prints_a_row_when_one_changes() {
    let server = Server::start(RECORDED);
    let folder = tempfile::tempdir().unwrap();
    let child = kpa(folder.path(), &["get", "-w", "--admin", &server.address.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("NAME "));
    assert!(lines.next().unwrap().ends_with("10        2          9m16s"));
    // An older age alone is no change: it is seen twice and not printed.
    *server.answer.lock() = (StatusCode::OK, RECORDED.replace("\"ageSeconds\": 556", "\"ageSeconds\": 3600"));
    let before = *server.asked.lock();
    wait_for("two more looks", || (*server.asked.lock() >= before + 2).then_some(()));
    let grown = RECORDED.replace("\"replicas\": 2,\n    \"age", "\"replicas\": 3,\n    \"age");
    assert_ne!(grown, RECORDED);
    *server.answer.lock() = (StatusCode::OK, grown.replace("556", "7200"));
    assert!(lines.next().unwrap().ends_with("10        3          120m"));
    // It ends with what it watches.
    drop(server);
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert_eq!(lines.next(), None);
}
