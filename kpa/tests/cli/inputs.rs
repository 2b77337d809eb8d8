//! Where `kpa run` and `kpa check` take manifests from: files as they were found, patches, standard input.

use crate::support::{Kpa, http_get, kpa, run, wait_for};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Serves the folder it runs in.
const SERVE: &str = "python3 -m http.server $(PORT) --bind 127.0.0.1";
const IMAGE: &str = "ghcr.io/kyryl-opens-ml/app-fastapi:latest";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name)
}

fn patch(annotation: &str) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-fastapi\n  annotations:\n    {annotation}\n")
}

/// The exit code and what is printed, with `input` on standard input.
fn run_with(folder: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = kpa(folder, args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who does not read it has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A Deployment and a Service as somebody wrote them for a cluster: an image, no probe, no annotation, a Secret that is
/// not there, and the port that kpa itself is often given.
#[test]
fn a_manifest_that_knows_nothing_of_kpa_runs_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example("app-fastapi.yaml"), folder.path().join("app.yaml")).unwrap();
    let image = format!("{IMAGE}={SERVE}");
    let kpa = Kpa::start(folder.path(), &["app.yaml", "--image", &image], "");
    wait_for("two replicas", || (kpa.shown("app-fastapi")["ready"] == 2).then_some(()));
    for host in ["app-fastapi.default.example.com", "app-fastapi", "localhost"] {
        let (head, body) = http_get(kpa.proxy, host, "/app.yaml").unwrap();
        assert!(head.contains(" 200 ") && body.contains("replicas : 2"), "{host}: {head}\n{}", kpa.log());
    }
    let log = kpa.log();
    for (is_warning, told) in [
        (false, "metadata.annotations: carries no autoscaling.knative.dev/* or kpa.dev/* annotation"),
        (false, "it runs at spec.replicas, routed and not scaled"),
        (true, "there is no Secret default/wandb; expected a Secret document beside it, or a file wandb.env"),
    ] {
        let found = log.lines().any(|line| line.contains(told) && line.contains("WARN: ") == is_warning);
        assert!(found, "{told:?} is missing:\n{log}");
    }
    assert_eq!(kpa.shown("app-fastapi")["replicas"], 2, "it is not scaled");
}

#[test]
fn a_patch_is_followed_and_a_broken_one_keeps_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example("app-fastapi.yaml"), folder.path().join("app.yaml")).unwrap();
    let write = |text: &str| {
        // As editors do it: another file takes the name.
        fs::write(folder.path().join(".patch.new"), text).unwrap();
        fs::rename(folder.path().join(".patch.new"), folder.path().join("patch.yaml")).unwrap();
    };
    let max = |count: &str| patch(&format!("autoscaling.knative.dev/max-scale: {count:?}"));
    write(&max("4"));
    let image = format!("{IMAGE}={SERVE}");
    let kpa = Kpa::start(folder.path(), &["app.yaml", "--patch", "patch.yaml", "--image", &image], "");
    let shows = |count: u64| wait_for("max-scale", || (kpa.shown("app-fastapi")["maxPods"] == count).then_some(()));
    let says = |told: &str| wait_for(told, || kpa.log().contains(told).then_some(()));
    shows(4);
    write(&max("5"));
    shows(5);
    write(&max("five"));
    says(
        "patch.yaml:6 Deployment default/app-fastapi: metadata.annotations[\"autoscaling.knative.dev/max-scale\"]: \"five\"",
    );
    write("kind: [");
    says("patch.yaml:1: kind: ");
    says("what this file last said of its objects stays in force");
    shows(5);
    write(&max("6"));
    shows(6);
    says("no longer wrong");
}

#[test]
fn standard_input_is_read_once_by_check_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(example("app-fastapi.yaml")).unwrap();
    let image = format!("{IMAGE}={SERVE}");
    let (code, text, errors) = run_with(folder.path(), &["check", "-", "--image", &image], &example);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    assert!(text.starts_with("<stdin>\n  4 Deployment default/app-fastapi\n"), "{text}");
    let (code, _, errors) = run_with(folder.path(), &["check", "-", "-"], &example);
    assert!(code == 1 && errors.contains("standard input (-) can be read once, and is named 2 times"), "{errors}");

    fs::write(folder.path().join("patch.yaml"), patch("autoscaling.knative.dev/min-scale: \"1\"")).unwrap();
    let kpa = Kpa::start(folder.path(), &["-", "--patch", "patch.yaml", "--image", &image], &example);
    let (head, body) = http_get(kpa.proxy, "app-fastapi.default.example.com", "/patch.yaml").unwrap();
    assert!(head.contains(" 200 ") && body.contains("min-scale"), "it runs in the current folder: {head}");
    // An edit makes everything be read again; what came from standard input is still there.
    fs::write(folder.path().join("patch.yaml"), patch("autoscaling.knative.dev/min-scale: \"2\"")).unwrap();
    wait_for("the edit", || (kpa.shown("app-fastapi")["minPods"] == 2).then_some(()));
}

/// Secret values reach the replica, and nothing else.
#[test]
fn the_values_of_secrets_are_shown_nowhere() {
    const VALUES: [&str; 3] = ["from-a-document", "from-a-file", "in-base64"];
    let folder = tempfile::tempdir().unwrap();
    let server = "import http.server, os\nclass H(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        \
                  body = (os.environ['URL'] + os.environ['B'] + os.environ['F_C']).encode()\n        \
                  self.send_response(200)\n        self.send_header('Content-Length', str(len(body)))\n        \
                  self.end_headers()\n        self.wfile.write(body)\n    def log_message(self, *_): pass\n\
                  http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n";
    fs::write(folder.path().join("server.py"), server).unwrap();
    fs::write(folder.path().join("file.env"), "B=from-a-file\n").unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {A: from-a-document}\ndata: {C: aW4tYmFzZTY0}\n";
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app\n  annotations: {kpa.dev/mode: shadow}\n\
                      spec:\n  template:\n    spec:\n      containers:\n        - name: main\n          \
                      command: [python3, server.py, $(URL)]\n          \
                      envFrom: [{prefix: F_, secretRef: {name: keys}}]\n          env:\n            \
                      - {name: A, valueFrom: {secretKeyRef: {name: keys, key: A}}}\n            \
                      - {name: B, valueFrom: {secretKeyRef: {name: file, key: B}}}\n            \
                      - {name: GONE, valueFrom: {secretKeyRef: {name: keys, key: GONE}}}\n            \
                      - {name: URL, value: http://$(A)@host}\n";
    fs::write(folder.path().join("app.yaml"), format!("{secret}{deployment}")).unwrap();
    let kpa = Kpa::start(folder.path(), &[".", "--log", "trace"], "");
    let (head, body) = http_get(kpa.proxy, "app", "/").unwrap();
    assert!(head.contains(" 200 ") && VALUES.iter().all(|value| body.contains(value)), "{head}\n{body}\n{}", kpa.log());

    let mut shown = vec![("the log".to_owned(), kpa.log())];
    for format in ["wide", "json", "yaml"] {
        shown.push((format!("kpa get -o {format}"), kpa.get(&["-o", format])));
    }
    let pages = ["/v1/revisions", "/v1/revisions/default/app", "/v1/revisions/default/app/decisions", "/v1/wakes"];
    for page in pages.into_iter().chain(["/metrics", "/config", "/ready"]) {
        let (head, body) = http_get(kpa.admin, "admin", page).unwrap();
        assert!(head.contains(" 200 ") || page == "/config", "{page}: {head}");
        shown.push((page.to_owned(), body));
    }
    for args in [&["check", "-v", "."][..], &["check", "-o", "json", "."]] {
        shown.push((args.join(" "), run(folder.path(), args).1));
    }
    let mut folders = vec![folder.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => shown.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default())),
            }
        }
    }
    assert!(shown.iter().any(|(_, text)| text.contains("GONE")), "what is wrong is told without them");
    for (place, text) in shown {
        for value in VALUES.into_iter().chain(["aW4tYmFzZTY0"]) {
            assert!(!text.contains(value), "{place} shows {value}: {text}");
        }
    }
}
