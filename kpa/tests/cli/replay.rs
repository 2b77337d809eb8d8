//! `kpa replay` against numbers from knative-behaviour 5 and 6, worked out by hand.

use crate::support::{kpa, run};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// `seconds` lines of the same load.
fn constant(folder: &Path, seconds: u32, concurrency: f64, ready: u32) {
    let line = |t| format!("{{\"t\":{t},\"concurrency\":{concurrency},\"requests\":20,\"ready\":{ready}}}\n");
    fs::write(folder.join("samples"), (0..seconds).map(line).collect::<String>()).unwrap();
}

fn ticks(folder: &Path, args: &[&str]) -> Vec<Value> {
    let (code, out, errors) = run(folder, &[&["replay", "--samples", "samples"], args].concat());
    assert_eq!((code, errors.as_str()), (0, ""));
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ten in flight for 70 s. Target 10 at 70 %: 10 / 7, so 2. Target 1: 10 / 0.7, so 15.
#[test]
fn ten_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    for (annotations, ready, wanted) in [
        (["target=10", "max-scale=20"], 1, 2),
        (["target=10", "max-scale=20"], 2, 2),
        (["autoscaling.knative.dev/target=1", "max-scale=20"], 1, 15),
        (["target=1", "max-scale=12"], 15, 12),
    ] {
        constant(folder.path(), 70, 10.0, ready);
        let ticks = ticks(folder.path(), &[&["--annotations"], annotations.as_slice()].concat());
        let times: Vec<u64> = ticks.iter().map(|tick| tick["t"].as_u64().unwrap()).collect();
        assert_eq!(times, (1..=34).map(|tick| 2 * tick).collect::<Vec<_>>());
        let last = ticks.last().unwrap();
        assert_eq!(last["bounded"], wanted, "{annotations:?}");
        assert_eq!((&last["stable"], &last["panic"]), (&10.0.into(), &10.0.into()));
        assert_eq!(last["why"]["demand"]["stable"]["reading"], 10.0);
    }
}

/// Ten in flight, target 10, one ready: ceil(10 / 7) = 2 is twice the ready count, so it panics at 200 %. With two ready
/// it is as much as there is, and calm.
#[test]
fn panic_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    for (ready, mode) in [(1, "panic"), (2, "stable")] {
        constant(folder.path(), 70, 10.0, ready);
        // More than one ready at the start is a start in panic; it ends a stable window later.
        assert_eq!(ticks(folder.path(), &["--annotations", "target=10"]).last().unwrap()["mode"], mode);
    }
}

#[test]
fn settings_of_a_deployment_with_its_cluster_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = |name: &str, target: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  annotations:\n    \
             autoscaling.knative.dev/target: \"{target}\"\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    \
             metadata: {{labels: {{app: a}}}}\n    spec: {{containers: [{{name: a, image: acme/a:1}}]}}\n---\n"
        )
    };
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata:\n  \
                  container-concurrency-target-percentage: \"100\"\n";
    let path = folder.path().join("app.yaml");
    fs::write(&path, deployment("a", "2") + config).unwrap();
    constant(folder.path(), 10, 10.0, 1);
    let last = |args: &[&str]| ticks(folder.path(), args).last().unwrap()["desired"].clone();
    assert_eq!(last(&["--file", "app.yaml"]), 5, "10 / (2 x 100 %)");

    fs::write(&path, deployment("a", "2") + &deployment("b", "10")).unwrap();
    assert_eq!(last(&["--file", "app.yaml", "--name", "b"]), 2);
    assert_eq!(last(&["--file", "app.yaml", "--name", "default/a"]), 8);
    let fails = |args: &[&str]| {
        let (code, out, errors) = run(folder.path(), &[&["replay", "--samples", "samples"], args].concat());
        assert_eq!(out, "");
        (code, errors)
    };
    let (code, errors) = fails(&["--file", "app.yaml"]);
    assert!(code == 1 && errors.contains("choose one with --name: default/a, default/b"), "{errors}");
    let (code, errors) = fails(&["--file", "app.yaml", "--name", "c"]);
    assert!(code == 1 && errors.contains("no such Deployment"), "{errors}");
    fs::write(&path, deployment("a", "two")).unwrap();
    let (code, errors) = fails(&["--file", "app.yaml"]);
    assert!(code == 1 && errors.contains("\"two\""), "{errors}");
    assert_eq!(fails(&["--file", "app.yaml", "--annotations", "target=1"]).0, 2, "one or the other");
    assert_eq!(fails(&["--annotations", "target"]).0, 2);
}

#[test]
fn samples_come_from_standard_input_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        kpa(folder.path(), &["replay", "--samples", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"t\":0,\"ready\":1}\n{\"t\":2,\"ready\":1}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.split(|byte| *byte == b'\n').count()), (Some(0), 2));
    fs::write(folder.path().join("samples"), "{\"t\":0}\n{\"t\":-1}\n").unwrap();
    let (code, out, errors) = run(folder.path(), &["replay", "--samples", "samples"]);
    assert_eq!((code, out.as_str()), (1, ""), "nothing is printed before all lines are right");
    assert!(errors.starts_with("kpa: samples:2: "), "{errors}");
}
