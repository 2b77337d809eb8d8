//! A folder of manifests each of which is wrong in a way of its own, beside good ones.

use crate::support::{Kpa, http_get, run};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What is said of one file: severity, file, line, object, key, what is wrong, what would be right, what happens.
type Told = (&'static str, &'static str, u64, &'static str, &'static str, &'static str, &'static str, &'static str);

const LEFT_OUT: &str = "it is left out; what it declared before stays as it was";
const NOT_SHRUNK: &str = "replicas may be woken and added, never removed";

/// Everything that is said, by file.
const TOLD: &[Told] = &[
    (
        "warning",
        "annotation.yaml",
        7,
        "Deployment default/annotation",
        "metadata.annotations[\"autoscaling.knative.dev/max-scal\"]",
        "is no key that exists",
        "autoscaling.knative.dev/max-scale (did you mean that?)",
        "it is ignored",
    ),
    (
        "error",
        "bounds.yaml",
        6,
        "Deployment default/bounds",
        "metadata.annotations[\"autoscaling.knative.dev/min-scale\"]",
        "5 is more than max-scale 2",
        "a whole number from 0 to 2",
        NOT_SHRUNK,
    ),
    (
        "error",
        "bounds.yaml",
        7,
        "Deployment default/bounds",
        "metadata.annotations[\"autoscaling.knative.dev/max-scale\"]",
        "2 is less than min-scale 5",
        "0, or 5 or more",
        NOT_SHRUNK,
    ),
    (
        "error",
        "command.yaml",
        13,
        "Deployment default/command",
        "spec.template.spec.containers[0].command",
        "nothing says what to run here instead of acme/command:1",
        "--image 'acme/command:1=COMMAND'",
        "it cannot be run",
    ),
    (
        "error",
        "config.yaml",
        7,
        "ConfigMap default/config-autoscaler",
        "data[\"stable-window\"]",
        "\"1s\" is out of range",
        "a duration from 6s to 1h, whole seconds",
        "nothing is scaled down",
    ),
    (
        "warning",
        "field.yaml",
        16,
        "Deployment default/field",
        "spec.template.spec.containers[0].workingdir",
        "is no field of a Deployment",
        "workingDir (did you mean that?)",
        "it is ignored",
    ),
    (
        "error",
        "indentation.yaml",
        14,
        "Deployment default/indentation",
        "spec.template.spec.containers",
        "did not find expected '-' indicator",
        "the fields of one level in one column",
        LEFT_OUT,
    ),
    (
        "error",
        "key.yaml",
        15,
        "Deployment default/key",
        "spec.template.spec.containers[0].image",
        "duplicate mapping key: image",
        "each key once",
        LEFT_OUT,
    ),
    (
        "error",
        "kind.yaml",
        2,
        "",
        "kind",
        "is no Kubernetes object: it has no kind",
        "apiVersion, kind and metadata.name",
        LEFT_OUT,
    ),
    (
        "error",
        "name.yaml",
        4,
        "Deployment default/Not_A_Name",
        "metadata.name",
        "\"Not_A_Name\" is no DNS label",
        "1 to 63 of a-z, 0-9 and -",
        "the object is left out",
    ),
    (
        "error",
        "patches/nothing.yaml",
        4,
        "Deployment default/patchd",
        "metadata.name",
        "there is no Deployment default/patchd to patch",
        "patched (did you mean that?)",
        "it changes nothing",
    ),
    (
        "error",
        "patches/value.yaml",
        6,
        "Deployment default/patched",
        "metadata.annotations[\"autoscaling.knative.dev/target\"]",
        "\"fast\" is not a number",
        "a number, 0.01 or more",
        NOT_SHRUNK,
    ),
    (
        "error",
        "port.yaml",
        6,
        "Deployment default/port",
        "metadata.annotations[\"kpa.dev/port\"]",
        "\"70000\" is out of range",
        "a whole number from 1 to 65535",
        NOT_SHRUNK,
    ),
    (
        "error",
        "probe.yaml",
        22,
        "Deployment default/probe",
        "spec.template.spec.containers[0].readinessProbe.httpGet.port",
        "\"wbe\" is the name of no port of the container",
        "a port of the container",
        "the serving port is probed",
    ),
    (
        "error",
        "quotes.yaml",
        6,
        "Deployment default/quotes",
        "metadata.annotations[\"kpa.dev/local-command\"]",
        "has a quotation mark that is not closed",
        "a command line",
        "a command that was in force stays",
    ),
    (
        "error",
        "secret.yaml",
        6,
        "Secret default/secret",
        "data.TOKEN",
        "is not base64",
        "text in base64; plain text stands under stringData",
        LEFT_OUT,
    ),
    (
        "error",
        "tab.yaml",
        12,
        "Deployment default/tab",
        "spec.template.spec",
        "tabs disallowed",
        "spaces for indentation",
        LEFT_OUT,
    ),
    (
        "error",
        "twice.yaml",
        20,
        "Deployment default/twice",
        "metadata.name",
        "Deployment default/twice is declared twice",
        "one declaration",
        "twice.yaml:1 counts",
    ),
    (
        "error",
        "type.yaml",
        8,
        "Deployment default/type",
        "spec.replicas",
        "\"three\" is not a whole number",
        "a whole number without quotes, such as 2",
        LEFT_OUT,
    ),
    (
        "error",
        "value.yaml",
        6,
        "Deployment default/value",
        "metadata.annotations[\"autoscaling.knative.dev/min-scale\"]",
        "\"two\" is not a whole number",
        "a whole number, 0 or more",
        NOT_SHRUNK,
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

#[test]
fn every_kind_of_mistake_is_named_with_its_place_and_what_would_be_right() {
    let (code, out, errors) = run(&folder(), &["check", "-o", "json", ".", "--patch", "patches"]);
    assert_eq!((code, errors.as_str()), (1, ""));
    assert!(!out.contains("hunter2"), "the value of a Secret is not shown");
    let report: Value = serde_json::from_str(&out).unwrap();
    let found = report["problems"].as_array().unwrap();
    for (found, told) in found.iter().zip(TOLD) {
        let (severity, file, line, object, key, what, expected, consequence) = *told;
        let exact = ["severity", "file", "object", "key"].map(|field| found[field].as_str().unwrap());
        assert_eq!((exact, found["line"].as_u64()), ([severity, file, object, key], Some(line)), "{found:#}");
        for (field, part) in [("what", what), ("expected", expected), ("consequence", consequence)] {
            assert!(found[field].as_str().unwrap().contains(part), "{field} lacks {part:?}: {found:#}");
        }
    }
    assert_eq!(found.len(), TOLD.len(), "{found:#?}");
    let services: Vec<&str> =
        report["services"].as_array().unwrap().iter().map(|service| service["id"].as_str().unwrap()).collect();
    // Those whose mistake leaves something to run are there as well.
    let running = ["annotation", "bounds", "field", "good", "patched", "port", "probe", "twice", "value"];
    assert_eq!(services, running.map(|name| format!("default/{name}")));
}

#[test]
fn the_good_ones_beside_them_run() {
    let state = tempfile::tempdir().unwrap();
    let broken = folder();
    let (manifests, patches) = (broken.to_str().unwrap(), broken.join("patches"));
    let kpa = Kpa::start(state.path(), &[manifests, "--patch", patches.to_str().unwrap()], "");
    for name in ["good", "patched", "probe"] {
        let answer = http_get(kpa.proxy, &format!("{name}.default.example.com"), "/good.yaml");
        let (head, body) = answer.unwrap_or_else(|| panic!("{name}: no answer\n{}", kpa.log()));
        assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{name}: {head}\n{}", kpa.log());
        assert!(body.contains("name: good"), "{name}: {body}");
    }
    let log = kpa.log();
    for (_, file, line, object, key, ..) in TOLD {
        let place = broken.join(file).display().to_string();
        let told = format!("{place}:{line} {object}");
        let told = log.lines().any(|line| line.contains(told.trim_end()) && line.contains(key));
        assert!(told, "{file}:{line} {key} is not in the log:\n{log}");
    }
    assert!(!log.contains("hunter2"));
}
