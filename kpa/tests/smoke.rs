//! One service from zero to zero with the built program, real sockets and a real process.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use support::{Running, free_address, http_get, kpa, run, wait_for};

/// Says who it is, and then serves.
const SERVER: &str = concat!(
    "import os\nwith open(\"pids\", \"a\") as pids:\n    pids.write(f\"{os.getpid()}\\n\")\n",
    include_str!("support/hello.py")
);

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: smoke
  annotations:
    autoscaling.knative.dev/target: "10"
    kpa.dev/local-command: "python3 server.py"
spec:
  selector: {matchLabels: {app: smoke}}
  template:
    metadata: {labels: {app: smoke}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: main
          image: smoke:latest
          ports: [{containerPort: 8080}]
"#;

/// The replicas that were ever started and live now.
fn replicas(folder: &Path) -> Vec<String> {
    let pids = fs::read_to_string(folder.join("pids")).unwrap_or_default();
    let is_ours = |pid: &str| {
        // A number alone may have been given to somebody else since.
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
            && fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("server.py"))
    };
    pids.lines().filter(|pid| is_ours(pid)).map(ToOwned::to_owned).collect()
}

#[test]
fn a_request_wakes_a_service_and_a_signal_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    fs::write(folder.join("server.py"), SERVER).unwrap();
    fs::write(folder.join("smoke.yaml"), MANIFEST).unwrap();
    let (proxy, admin, internal) = (free_address(), free_address(), free_address());
    let (listen, admin_text) = (proxy.to_string(), admin.to_string());
    let child = kpa(&folder, &["run", "smoke.yaml", "--listen", &listen, "--admin", &admin_text])
        .args(["--state-dir", "state", "--internal-listen", &internal.to_string()])
        .stderr(Stdio::from(fs::File::create(folder.join("log")).unwrap()))
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    wait_for("ready", || {
        assert!(running.0.try_wait().unwrap().is_none(), "{}", log());
        http_get(admin, "admin", "/ready").filter(|(head, _)| head.starts_with("HTTP/1.1 200"))
    });
    // Ready is the activator; the autoscaler may learn of the service a moment later.
    let shown = || {
        let (code, out, _) = run(&folder, &["get", "smoke", "-o", "json", "--admin", &admin_text]);
        let list: serde_json::Value = serde_json::from_str(&out).ok().filter(|_| code == 0)?;
        Some((list[0]["replicas"].as_u64()?, list[0]["ready"].as_u64()?))
    };
    let before = (wait_for("the service in kpa get", shown), replicas(&folder).len());
    assert_eq!(before, ((0, 0), 0), "nothing runs before somebody asks");

    let (head, body) = http_get(proxy, "smoke.default.example.com", "/").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && body == "hello\n", "{head}\n{body}\n{}", log());
    assert!(head.contains("x-kpa-cold: true"), "{head}");
    let named = "any\r\nknative-serving-namespace: default\r\nknative-serving-revision: smoke";
    let (head, body) = http_get(internal, named, "/").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && body == "hello\n", "{head}\n{body}");
    assert!(http_get(proxy, named, "/").unwrap().0.starts_with("HTTP/1.1 404"), "not by the front door");
    wait_for("one replica in kpa get", || (shown()? == (1, 1)).then_some(()));
    assert_eq!(replicas(&folder).len(), 1, "{}", log());
    let (_, wakes) = http_get(admin, "admin", "/v1/wakes").unwrap();
    let wakes: serde_json::Value = serde_json::from_str(&wakes).unwrap();
    let stages = ["firstWaiting", "scaleCalled", "probeSucceeded", "firstByte"].map(|stage| wakes[0][stage].as_f64());
    assert!(stages.iter().all(Option::is_some) && stages.is_sorted(), "every stage, in its order: {wakes}");
    let (_, table, _) = run(&folder, &["get", "--admin", &admin_text]);
    assert!(table.starts_with("NAME    REFERENCE          TARGETS"), "{table}");

    kill(Pid::from_raw(running.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = wait_for("the end", || running.0.try_wait().unwrap());
    assert!(status.success(), "{status}\n{}", log());
    assert_eq!(replicas(&folder), Vec::<String>::new());
    for (part, what) in [("woken by a request", "wake"), ("scaled 0 -> 1", "scale"), ("ready in", "readiness")] {
        assert!(log().contains(part), "the log does not tell of the {what}:\n{}", log());
    }
}
