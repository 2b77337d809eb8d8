//! The examples for a cluster, and the commands of the document about it: what they name is there.

use crate::objects::{Objects, deploy, items, listed, objects, read, text};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "examples/kubernetes";

/// Every file of the folder with its objects.
fn examples() -> Vec<(String, Objects)> {
    let mut found: Vec<(String, Objects)> = std::fs::read_dir(deploy(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), objects(&read(&path))))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 8);
    found
}

/// The objects of one kind in all examples.
fn all(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = examples()
        .into_iter()
        .flat_map(|(_, objects)| objects)
        .filter(|((k, ..), _)| k == kind)
        .map(|(_, o)| o)
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

#[test]
fn every_example_is_in_the_list_and_the_document() {
    let (list, document) = (read(&deploy(FOLDER).join("README.md")), read(&document()));
    for (name, _) in examples() {
        assert!(list.contains(&format!("]({name})")), "README.md does not list {name}");
        assert!(document.contains(&format!("{FOLDER}/{name})")), "docs/kubernetes.md does not mention {name}");
    }
}

fn document() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.md")
}

/// The Deployments say nothing that the program would not understand; that it needs something to run here is not their fault.
#[test]
fn annotations_of_the_examples_are_understood() {
    let mut checked = 0;
    for (name, objects) in examples() {
        let deployments = objects.values().filter(|object| text(object, "/kind") == "Deployment");
        let images: Vec<String> = deployments
            .map(|object| format!("{}=true", text(object, "/spec/template/spec/containers/0/image")))
            .collect();
        if images.is_empty() {
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_kpa"));
        command.current_dir(deploy(FOLDER)).args(["check", &name, "-o", "json"]);
        for image in &images {
            command.args(["--image", image]);
        }
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {report}");
        assert_eq!(items(&report, "/services").len(), images.len(), "{name}");
        for problem in items(&report, "/problems") {
            // A key of the other platform.
            let other = (text(problem, "/key"), text(problem, "/what"));
            assert_eq!(other, ("kpa.dev/service", "means nothing on one machine"), "{name}: {problem}");
        }
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

/// The count is not Git's.
#[test]
fn no_example_writes_a_count() {
    for deployment in all("Deployment") {
        assert!(deployment.pointer("/spec/replicas").is_none(), "{deployment}");
    }
    let [application] = &all("Application")[..] else { panic!("one Application") };
    assert_eq!(text(application, "/spec/ignoreDifferences/0/jsonPointers/0"), "/spec/replicas");
    assert_eq!(text(application, "/spec/syncPolicy/syncOptions/0"), "RespectIgnoreDifferences=true");
    let [release] = &all("HelmRelease")[..] else { panic!("one HelmRelease") };
    assert_eq!(text(release, "/spec/driftDetection/ignore/0/paths/0"), "/spec/replicas");
}

/// Whatever leads to the activator names its Service and a port that this has.
#[test]
fn ways_in_lead_to_the_activator() {
    let base = listed("base");
    let service = &base[&("Service".to_owned(), "kpa-system".to_owned(), "kpa-activator".to_owned())];
    let [port] = items(service, "/spec/ports") else { panic!("one port") };

    let [ingress] = &all("Ingress")[..] else { panic!("one Ingress") };
    assert_eq!(text(ingress, "/metadata/namespace"), "kpa-system", "a backend is in the Ingress's own namespace");
    let backend = ingress.pointer("/spec/rules/0/http/paths/0/backend/service").unwrap();
    assert_eq!((text(backend, "/name"), &backend["port"]["name"]), ("kpa-activator", &port["name"]));

    let [route] = &all("HTTPRoute")[..] else { panic!("one HTTPRoute") };
    let backend = route.pointer("/spec/rules/0/backendRefs/0").unwrap();
    assert_eq!((text(backend, "/namespace"), text(backend, "/name")), ("kpa-system", "kpa-activator"));
    assert_eq!(backend["port"], port["port"]);
    let [grant] = &all("ReferenceGrant")[..] else { panic!("one ReferenceGrant") };
    assert_eq!(text(grant, "/metadata/namespace"), "kpa-system");
    assert_eq!(text(grant, "/spec/from/0/namespace"), text(route, "/metadata/namespace"));
    assert_eq!(text(grant, "/spec/to/0/name"), "kpa-activator");

    let names = all("Service");
    let external: Vec<&str> =
        names.iter().map(|name| text(name, "/spec/externalName")).filter(|name| !name.is_empty()).collect();
    assert_eq!(external, ["kpa-activator.kpa-system.svc.cluster.local"]);
    assert_eq!(port["port"], 80, "a name maps no port, so the examples use HTTP's own");
}

/// A proxy in front that gives up before a cold start ends would make the promise of holding worthless.
#[test]
fn the_ingress_waits_longer_than_a_start_may_take() {
    let [ingress] = &all("Ingress")[..] else { panic!("one Ingress") };
    let annotation = |name: &str| {
        text(&ingress["metadata"]["annotations"], &format!("/nginx.ingress.kubernetes.io~1{name}")).to_owned()
    };
    let start_deadline = domain::Limits::default().start_deadline.value;
    for name in ["proxy-read-timeout", "proxy-send-timeout"] {
        let seconds: u64 = annotation(name).parse().unwrap();
        assert!(seconds > start_deadline.as_secs(), "{name}: {seconds}");
    }
    assert_eq!((annotation("proxy-body-size"), annotation("proxy-buffering")), ("0".to_owned(), "off".to_owned()));
    let [route] = &all("HTTPRoute")[..] else { panic!("one HTTPRoute") };
    assert_eq!(
        route.pointer("/spec/rules/0/timeouts").unwrap(),
        &serde_json::json!({"request": "0s", "backendRequest": "0s"})
    );
}

#[test]
fn the_tenants_policy_lets_the_activators_in() {
    let base = listed("base");
    let pods = &base[&("Deployment".to_owned(), "kpa-system".to_owned(), "kpa-activator".to_owned())];
    let labels = pods.pointer("/spec/template/metadata/labels").unwrap();
    let [policy] = &all("NetworkPolicy")[..] else { panic!("one NetworkPolicy") };
    let [peer] = items(policy, "/spec/ingress/0/from") else { panic!("one peer, or either half would be enough") };
    assert_eq!(text(peer, "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"), "kpa-system");
    let wanted = peer.pointer("/podSelector/matchLabels").and_then(Value::as_object).unwrap();
    assert!(!wanted.is_empty() && wanted.iter().all(|(label, value)| labels.get(label) == Some(value)), "{wanted:?}");
}

/// `kubectl apply -k FOLDER`, `-f FILE` and `helm … CHART` of the document exist.
#[test]
fn commands_of_the_document_name_what_there_is() {
    let root = deploy("..");
    let mut checked = 0;
    for line in read(&document())
        .lines()
        .filter(|line| ["kubectl ", "helm ", "docker "].iter().any(|tool| line.starts_with(tool)))
    {
        for word in line.split('#').next().unwrap().split_whitespace().filter(|word| word.starts_with("deploy/")) {
            let path = root.join(word);
            let expected = if line.contains(" -k ") { path.join("kustomization.yaml") } else { path };
            assert!(expected.exists(), "{line}: {}", expected.display());
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}
