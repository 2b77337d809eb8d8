//! `kpa check`.

use crate::support::run;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A Deployment that runs, with `annotations` on line 6 and after, and the container's own fields at its end.
fn deployment(name: &str, annotations: &str, container: &str) -> String {
    format!(
        "# {name}\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\n\
         spec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    metadata: {{labels: {{app: a}}}}\n    spec:\n      \
         containers:\n        - name: main\n          image: acme/a:1\n          {container}\n"
    )
}

const RUN: &str = "command: [run, it]";
const MIN: &str = "autoscaling.knative.dev/min-scale: \"0\"";

fn json(folder: &Path, args: &[&str]) -> (i32, Value) {
    let (code, out, errors) = run(folder, &[&["check", "-o", "json"], args].concat());
    assert_eq!(errors, "");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn the_text_groups_by_file_and_object() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("apps")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join("apps").join(name), text).unwrap();
    write("b.yaml", &deployment("b", "kpa.dev/hosts: shop.example.org, kpa.dev/widow: \"1\"", RUN));
    write("c.yaml", "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\n");
    write("a.yaml", &deployment("a", "kpa.dev/hosts: shop.example.org, autoscaling.knative.dev/target: x", RUN));
    let (code, text, _) = run(folder.path(), &["check", "apps"]);
    assert_eq!(code, 1);
    let expected = r#"apps/a.yaml
  6 Deployment default/a
    error: metadata.annotations["autoscaling.knative.dev/target"]: "x" is not a number
"#;
    assert!(text.starts_with(expected), "{text}");
    let rest = r#"apps/b.yaml
  Deployment default/b
    warning: kpa.dev/hosts: the host shop.example.org belongs to default/a
      expected a host that nobody else has
      requests for it go to default/a
  6 Deployment default/b
    warning: metadata.annotations["kpa.dev/widow"]: "#;
    assert!(text.contains(rest), "{text}");
    let end = "apps/c.yaml\n  1 StatefulSet default/db\n    not used: only Deployments are run in this release\n\
               2 services in 3 files: 1 error, 2 warnings, 0 notices\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn warnings_pass_and_a_clean_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), deployment("a", MIN, RUN)).unwrap();
    let (code, text, _) = run(folder.path(), &["check", "a.yaml"]);
    assert_eq!((code, text.as_str()), (0, "1 service in 1 file: 0 errors, 0 warnings, 0 notices\n"));
    fs::write(folder.path().join("a.yaml"), deployment("a", "kpa.dev/widow: \"1\"", RUN)).unwrap();
    let (code, text, _) = run(folder.path(), &["check", "a.yaml"]);
    assert!(code == 0 && text.contains("1 warning,"), "{text}");
    let (code, text, errors) = run(folder.path(), &["check", "missing"]);
    assert!(code == 1 && text.is_empty() && errors.contains("missing: No such file"), "{errors}");
    assert_eq!(run(folder.path(), &["check"]).0, 2);
}

/// A wrong config-autoscaler concerns every service and is one problem.
#[test]
fn a_wrong_config_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: {stable-window: 1s}\n";
    let text = [config, &deployment("a", MIN, RUN), &deployment("b", MIN, RUN)].join("---\n");
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    let (code, report) = json(folder.path(), &["all.yaml"]);
    assert_eq!((code, report["problems"].as_array().unwrap().len()), (1, 1), "{report:#}");
    assert_eq!(report["problems"][0]["object"], "ConfigMap default/config-autoscaler");
    assert!(report["services"][0]["mode"].as_str().unwrap().starts_with("invalid"));
}

#[test]
fn an_image_can_be_stood_in_for_and_settings_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), deployment("a", MIN, "tty: false")).unwrap();
    assert_eq!(run(folder.path(), &["check", "a.yaml"]).0, 1);
    let (code, text, _) = run(folder.path(), &["check", "-v", "a.yaml", "--image", "acme/a=serve --port $(PORT)"]);
    assert_eq!(code, 0, "{text}");
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["default/a", "(a.yaml)"][..],
        &["hosts", "a.default.example.com"],
        &["mode", "act"],
        &["command", "serve", "--port", "$(PORT)"],
        &["min-scale", "0", "(annotation)"],
        &["window", "60s", "(default)"],
    ] {
        assert!(words.iter().any(|line| line.as_slice() == row), "{row:?} in {text}");
    }
}

/// Names, claims and their losers as a running kpa would have them.
#[test]
fn claims_follow_config_activator() {
    let folder = tempfile::tempdir().unwrap();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-activator}\ndata: {domain: lan, allowed-hosts: default=ai.io}\n";
    let divided = |name: &str, prefix: &str| {
        deployment(name, &format!("kpa.dev/hosts: \"ai.io,no.io\", kpa.dev/path-prefix: {prefix}"), RUN)
    };
    let text = [config, &divided("a", "/v1/"), &divided("b", "/v1"), &divided("c", "/v2")].join("---\n");
    fs::write(folder.path().join("all.yaml"), text).unwrap();
    let (code, report) = json(folder.path(), &["all.yaml"]);
    assert_eq!(report["services"][0]["hosts"], serde_json::json!(["a.default.lan", "ai.io/v1", "no.io/v1"]));
    let told: Vec<&str> =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["what"].as_str().unwrap()).collect();
    assert_eq!((code, told.len()), (0, 4), "{told:#?}");
    assert!(told.contains(&"the host ai.io below /v1 belongs to default/a"), "{told:#?}");
    assert_eq!(told.iter().filter(|what| what.contains("allowed-hosts")).count(), 3, "{told:#?}");
}

/// The examples of the repository are without fault; that with a missing Secret and a limit says so and no more.
#[test]
fn the_examples_are_clean() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let (code, text, _) = run(&examples, &["check", ".", "--patch", "app-fastapi-patch.yaml"]);
    let places: Vec<&str> = text.lines().filter(|line| !line.starts_with("   ")).collect();
    let expected = [
        "app-fastapi.yaml",
        "  21 Deployment default/app-fastapi",
        "  26 Deployment default/app-fastapi",
        "6 services in 6 files: 0 errors, 1 warning, 1 notice",
    ];
    assert_eq!((code, places.as_slice()), (0, &expected[..]), "{text}");
    let (code, text, _) = run(&examples, &["check", "python-servers"]);
    assert_eq!((code, text.as_str()), (0, "3 services in 3 files: 0 errors, 0 warnings, 0 notices\n"));
}
