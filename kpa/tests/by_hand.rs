//! What a person does with a running kpa, and what they see when something goes wrong: the built program, real sockets and
//! real processes.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{Running, free_address, http_get, kpa, run, wait_for};
use tempfile::TempDir;

/// Answers `/slow` only when there is a file called `open`; says what it was asked.
const SERVER: &str = r#"
import http.server, os, signal, socketserver, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        while self.path == "/slow" and not os.path.exists("open"):
            time.sleep(0.02)
        os.write(1, f"asked for {self.path}\n".encode())
        body = f"{os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A Deployment. `annotations` and `env` in YAML's flow form, without braces.
fn deployment(name: &str, replicas: u32, annotations: &str, env: &str, command: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}, tier: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 100\n      \
         containers:\n        - {{name: main, image: x, ports: [{{containerPort: 8080}}], env: [{env}], command: {command}}}\n---\n"
    )
}

const SERVE: &str = "[python3, server.py]";

/// A running kpa in a folder of its own.
struct Kpa {
    folder: PathBuf,
    _dir: TempDir,
    running: Running,
    proxy: SocketAddr,
    admin: SocketAddr,
}

impl Kpa {
    fn start(manifest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        fs::write(folder.join("server.py"), SERVER).unwrap();
        fs::write(folder.join("app.yaml"), manifest).unwrap();
        let (proxy, admin) = (free_address(), free_address());
        let running = start(&folder, proxy, admin);
        let kpa = Self { folder, _dir: dir, running, proxy, admin };
        kpa.ready();
        kpa
    }

    fn ready(&self) {
        wait_for("ready", || {
            http_get(self.admin, "admin", "/ready").filter(|(head, _)| head.starts_with("HTTP/1.1 200"))
        });
        wait_for("its services", || (self.say(&["get"]).1.lines().count() > 1).then_some(()));
    }

    /// A command on it.
    fn say(&self, args: &[&str]) -> (i32, String, String) {
        let admin = self.admin.to_string();
        let place: &[&str] = if args[0] == "logs" { &[] } else { &["--admin", &admin] };
        run(&self.folder, &[args, place].concat())
    }

    /// A command on it that must succeed.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, out, errors) = self.say(args);
        assert_eq!(code, 0, "{args:?}: {errors}\n{}", self.log());
        out
    }

    /// A list that it prints, as JSON.
    #[track_caller]
    fn list(&self, args: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// One service as JSON.
    fn service(&self, name: &str) -> Value {
        self.list(&["get", name]).remove(0)
    }

    fn ask(&self, service: &str, path: &str) -> Option<(String, String)> {
        http_get(self.proxy, &format!("{service}.default.example.com"), path)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.running.0.id().try_into().unwrap()), signal).unwrap();
    }

    fn ended(&mut self) -> bool {
        wait_for("the end", || self.running.0.try_wait().unwrap()).success()
    }

    fn ready_pids(&self) -> Vec<u64> {
        let all = self.list(&["get", "replicas", "-l", "app=app,tier in (web)"]);
        all.iter().filter(|one| one["state"] == "ready").filter_map(|one| one["pid"].as_u64()).collect()
    }
}

fn start(folder: &Path, proxy: SocketAddr, admin: SocketAddr) -> Running {
    let (listen, admin) = (proxy.to_string(), admin.to_string());
    let child = kpa(folder, &["run", "app.yaml", "--listen", &listen, "--admin", &admin])
        .stderr(Stdio::from(fs::File::options().append(true).create(true).open(folder.join("log")).unwrap()))
        .spawn()
        .unwrap();
    Running(child)
}

/// One exchange with fields of one's own; the status line.
fn post(address: SocketAddr, path: &str, fields: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_service_is_floored_restarted_released_and_read_by_hand() {
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: front}\n";
    let bounds = r#""autoscaling.knative.dev/max-scale": "4""#;
    let mut kpa = Kpa::start(&(deployment("app", 1, bounds, "", SERVE) + ingress));
    assert_eq!(kpa.say(&["get", "replicas"]), (0, String::new(), "No resources found.\n".into()));
    let ignored = kpa.ok(&["get", "--ignored"]);
    assert!(ignored.contains("Ingress   default/front   it has no meaning on one machine"), "{ignored}");

    // A floor, kept within max-scale.
    let (code, _, errors) = kpa.say(&["scale", "app", "--min", "5", "--for", "1h"]);
    assert!(code == 1 && errors.contains("max-scale of 4 (annotation); ask for at most 4"), "{errors}");
    let set = kpa.ok(&["scale", "app", "--min", "2", "--for", "1h"]);
    assert!(set.starts_with("default/app: at least 2 until 20"), "{set}");
    let before = wait_for("two replicas", || Some(kpa.ready_pids()).filter(|pids| pids.len() == 2));
    let wide = kpa.ok(&["get", "-o", "wide"]);
    assert!(wide.contains("   2 (until 20"), "{wide}");

    // A restart under load.
    let (stop, asked, failed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let fine = kpa.ask("app", "/").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200"));
                    (if fine { &asked } else { &failed }).fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let said = kpa.say(&["restart", "app"]);
        stop.store(true, Ordering::Relaxed);
        assert!(said.1.starts_with("default/app: restarting 2 replicas\n"), "{said:?}");
        assert!(said.0 == 0 && said.1.ends_with("default/app: restarted, 2 ready\n"), "{said:?}");
    });
    let counts = (asked.into_inner(), failed.into_inner());
    assert!(counts.0 > 0 && counts.1 == 0, "answered, failed: {counts:?}\n{}", kpa.log());
    let after = kpa.ready_pids();
    assert!(after.len() == 2 && after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");

    // A change needs the token and an honest Host; another kpa on the same folder is told who has it.
    let (own, path) = (format!("host: {}\r\n", kpa.admin), "/v1/local/services/default/app/restart");
    assert!(post(kpa.admin, path, &own, "").contains(" 401 "));
    assert!(post(kpa.admin, path, "host: rebound.example.com\r\n", "").contains(" 403 "));
    let token = fs::read_to_string(kpa.folder.join(".kpa").join("token")).unwrap();
    let page = format!("{own}authorization: Bearer {token}\r\norigin: http://example.com\r\n");
    assert!(post(kpa.admin, path, &page, "").contains(" 403 "));
    let (floor, json) = (path.replace("restart", "floor"), "content-type: application/json\r\n");
    let honest = format!("{own}{json}authorization: Bearer {token}\r\n");
    for body in ["", "{}", r#"{"min": 2, "for": "soon"}"#, &format!(r#"{{"min": 2, "for": "{}"}}"#, "1".repeat(5000))] {
        assert!(post(kpa.admin, &floor, &honest, body).contains(" 400 "), "{body:?}");
    }
    let (code, _, errors) = run(&kpa.folder, &["run", "app.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let who = format!(".kpa is in use by process {}; stop it", kpa.running.0.id());
    assert!(code == 1 && errors.contains(&who), "{errors}");

    // Followed logs, new replicas included.
    let mut reader = Running(
        support::kpa(&kpa.folder, &["logs", "app", "-f", "--tail", "0"]).stdout(Stdio::piped()).spawn().unwrap(),
    );
    let mut lines = BufReader::new(reader.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The reader begins at the end, wherever that is when it starts.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                kpa.ask("app", "/followed").unwrap();
            }
        });
        let line = lines.find(|line| line.ends_with(" | asked for /followed"));
        stop.store(true, Ordering::Relaxed);
        assert!(line.is_some_and(|line| line.starts_with("app-")));
    });
    drop(reader);

    // Let go, and taken back.
    let said = kpa.ok(&["release", "app"]);
    assert_eq!(said, "default/app: released with 2 replicas; routed, and no longer scaled\n");
    let released = || (kpa.service("app")["mode"] == "released").then_some(());
    wait_for("mode released", released);
    assert!(kpa.ask("app", "/").unwrap().0.starts_with("HTTP/1.1 200"), "it is still routed");
    let (_, _, errors) = kpa.say(&["scale", "app", "--min", "1", "--for", "1h"]);
    assert!(errors.contains("`kpa release default/app --undo` takes it back"), "{errors}");

    // All of it outlives kpa, and logs are there without it.
    kpa.signal(Signal::SIGTERM);
    assert!(kpa.ended(), "{}", kpa.log());
    let said = kpa.ok(&["logs", "app-0"]);
    assert!(said.lines().all(|line| line.starts_with("asked for /")) && said.lines().count() > 0, "{said}");
    assert!(kpa.ok(&["logs", "default/app", "--since", "1h"]).contains("| asked for /followed\n"));
    assert_eq!(kpa.ok(&["logs", "app", "--replica", "0", "--tail", "1"]).lines().count(), 1);
    kpa.running = start(&kpa.folder, kpa.proxy, kpa.admin);
    kpa.ready();
    assert_eq!(
        (kpa.service("app")["mode"].as_str(), kpa.service("app")["minPods"].as_u64()),
        (Some("released"), Some(2))
    );
    let said = kpa.ok(&["release", "--all", "--undo"]);
    assert_eq!(said, "default/app: taken back with 2 replicas; scaled again\n");
    assert_eq!(kpa.ok(&["scale", "app", "--clear"]), "default/app: no floor; min-scale is 0\n");
    wait_for("min-scale as declared", || (kpa.service("app")["minPods"] == 0).then_some(()));
}

#[test]
fn shadow_only_reports_and_paused_is_woken_once() {
    let shadow = r#"kpa.dev/mode: shadow, "autoscaling.knative.dev/target": "1""#;
    let paused = "kpa.dev/mode: paused";
    let manifest = deployment("watched", 1, shadow, "", SERVE) + &deployment("still", 0, paused, "", SERVE);
    let kpa = Kpa::start(&manifest);
    wait_for("the replica of the manifest", || (kpa.service("watched")["ready"] == 1).then_some(()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| kpa.ask("watched", "/slow").unwrap());
        }
        let status = wait_for("a wish for more", || {
            Some(kpa.service("watched")).filter(|status| status["wanted"].as_u64() > Some(1))
        });
        fs::write(kpa.folder.join("open"), "").unwrap();
        assert_eq!((status["mode"].as_str(), status["replicas"].as_u64()), (Some("shadow"), Some(1)), "{status}");
    });
    assert!(!kpa.log().contains("default/watched: scaled"), "{}", kpa.log());

    assert_eq!(kpa.service("still")["replicas"], 0);
    let (head, _) = kpa.ask("still", "/").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{}", kpa.log());
    let status = kpa.service("still");
    assert_eq!((status["mode"].as_str(), status["replicas"].as_u64()), (Some("paused"), Some(1)), "{status}");
}

#[test]
fn a_start_that_fails_is_refused_with_its_reason_until_the_next_may_be_tried() {
    let deadline = r#"kpa.dev/start-deadline: "1s", "autoscaling.knative.dev/max-scale": "1""#;
    let manifest = deployment("deaf", 1, deadline, "", "[sleep, '1000']")
        + &deployment("broken", 1, deadline, "", "[sh, '-c', 'echo no weights >&2; exit 3']");
    let kpa = Kpa::start(&manifest);
    let refused = |service: &str| {
        let (head, body) = kpa.ask(service, "/").unwrap();
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("x-kpa-reason: start_failed"), "{head}\n{body}");
        let retry_after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse::<u32>().ok());
        assert!(retry_after.is_some_and(|secs| (1..=10).contains(&secs)), "{head}");
        body
    };
    refused("deaf");
    // The activator's own clock may be the first to see the deadline pass; the autoscaler's comes with its next tick.
    let status =
        wait_for("the failed start", || Some(kpa.service("deaf")).filter(|status| status["mode"] == "start-failed"));
    refused("deaf");
    assert!(status["retryAfterSeconds"].as_f64().is_some_and(|secs| secs <= 10.0), "{status}");

    let body = refused("broken");
    assert!(body.contains("ended with status 3: no weights"), "the client hears why: {body}");
    assert!(kpa.log().contains("CrashLoopBackOff"), "{}", kpa.log());
    assert!(kpa.log().contains("ended with status 3: no weights (2 times in a row); tried again 10 s after that"));
}

#[test]
fn a_second_signal_ends_at_once_what_does_not_want_to_end() {
    let stubborn = "{name: STUBBORN, value: 'yes'}";
    let mut kpa = Kpa::start(&deployment("app", 1, r#""autoscaling.knative.dev/max-scale": "1""#, stubborn, SERVE));
    assert!(kpa.ask("app", "/").unwrap().0.starts_with("HTTP/1.1 200"));
    let pid = kpa.ready_pids()[0];
    kpa.signal(Signal::SIGINT);
    wait_for("the drain", || kpa.log().contains("SIGINT: finishing what runs; once more stops at once").then_some(()));
    assert!(kpa.running.0.try_wait().unwrap().is_none(), "it waits for its replica, which has 100 s");
    kpa.signal(Signal::SIGINT);
    // Sooner than those 100 s.
    assert!(kpa.ended(), "{}", kpa.log());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "nothing is left behind");
}
