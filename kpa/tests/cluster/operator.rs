//! What an operator sees: Events, conditions, and the commands of `kpa` with the rights of a person.

use crate::service::requests;
use crate::support::wait_for;
use crate::world::World;
use http::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::TcpStream;

const BRIEF: [(&str, &str); 2] = [("autoscaling.knative.dev/target", "2"), ("autoscaling.knative.dev/window", "6s")];

fn brief(more: &[(&str, &str)]) -> Value {
    BRIEF
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The notes of the Events of a Deployment with this reason.
fn notes(world: &World, name: &str, reason: &str) -> Vec<String> {
    let events = world.get("/apis/events.k8s.io/v1/namespaces/default/events");
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let about = |event: &Value| event["regarding"]["name"] == name && event["reason"] == reason;
    events.iter().filter(|event| about(event)).filter_map(|event| Some(event["note"].as_str()?.to_owned())).collect()
}

fn condition(world: &World, name: &str, kind: &str) -> Option<String> {
    let conditions = world.workload(name)["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == kind && one["status"] == "True")?;
    found["message"].as_str().map(str::to_owned)
}

/// The account `person` gets the rights that the document says a person needs, and no others.
fn grant(world: &World) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rbac.md");
    let text = std::fs::read_to_string(path).unwrap();
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("\n```").next().unwrap();
    let roles: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    assert_eq!(roles.len(), 2);
    let version = "rbac.authorization.k8s.io/v1";
    for role in roles {
        let (kind, name) = (role["kind"].as_str().unwrap().to_owned(), role["metadata"]["name"].clone());
        let within =
            role["metadata"]["namespace"].as_str().map_or_else(String::new, |own| format!("namespaces/{own}/"));
        let plural = kind.to_lowercase();
        world.install_one(&format!("/apis/{version}/{within}{plural}s"), &role);
        let binding = json!({
            "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "person", "namespace": "kpa-system"}],
        });
        world.install_one(&format!("/apis/{version}/{within}{plural}bindings"), &binding);
    }
}

#[test]
fn a_count_that_somebody_else_writes_is_left_alone_and_named() {
    let world = World::new();
    grant(&world);
    world.deploy("model", 0, &brief(&[("kpa.dev/manual", "hold")]), &json!({}));
    let autoscaler = world.autoscaler(0).ready();
    let activator = world.activator(0).ready();
    activator.has_route("model");
    assert_eq!(requests(&activator, "model", 5, 1), 0, "{}", activator.log());
    assert_eq!(world.replicas("model"), 1);
    assert_eq!(notes(&world, "model", "WrittenByHand"), Vec::<String>::new(), "what we wrote is no interference");

    let path = "/apis/apps/v1/namespaces/default/deployments/model/scale";
    let scale = json!({"spec": {"replicas": 3}});
    let (status, answer) = world.request(&Method::PATCH, &format!("{path}?fieldManager=kubectl"), Some(&scale));
    assert!(status.is_success(), "{answer}");
    let note = wait_for("an Event", || notes(&world, "model", "WrittenByHand").pop());
    assert!(note.starts_with("kubectl wrote 3 replicas where there were 1: left alone until"), "{note}");
    wait_for("held", || (world.workload("model")["status"]["mode"] == "held").then_some(()));
    let message = condition(&world, "model", "WrittenByHand").unwrap();
    assert!(message.contains("kubectl") && message.contains("kpa.dev/manual: hold"), "{message}");
    // Far longer than its window: nothing takes the three away.
    wait_for("three ready", || (world.ready("model") == 3).then_some(()));
    let wide = world.kpa("person", &["get", "-o", "wide", "--cluster"]);
    assert!(wide.contains("held") && wide.contains("kept at 3: somebody else wrote this count"), "{wide}");
    let told = world.kpa("person", &["explain", "model", "--cluster"]);
    assert!(
        told.contains("somebody else wrote 3: it is left alone") && told.contains("WrittenByHand: kubectl"),
        "{told}"
    );

    // An autoscaler that starts anew leaves alone what the one before it left alone.
    drop(autoscaler);
    let _again = world.autoscaler(1).ready();
    world.annotate("model", &brief(&[("kpa.dev/manual", "hold"), ("kpa.dev/queue-depth", "7")]));
    wait_for("the new setting", || {
        (world.workload("model")["spec"]["resolved"]["limits"]["queueDepth"]["value"] == 7).then_some(())
    });
    assert_eq!((world.replicas("model"), condition(&world, "model", "WrittenByHand").is_some()), (3, true));
}

#[test]
fn what_is_refused_or_wrong_is_told_on_the_deployment_and_by_the_commands() {
    let world = World::new();
    grant(&world);
    world.deploy("foreign", 1, &json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}), &json!({}));
    world.deploy("rivalled", 1, &brief(&[]), &json!({}));
    world.deploy("wrong", 1, &brief(&[("autoscaling.knative.dev/min-scale", "3")]), &json!({}));
    world.create(
        "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
        &json!({
            "metadata": {"name": "by-cpu"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rivalled"},
                "maxReplicas": 3,
            },
        }),
    );
    let _autoscaler = world.autoscaler(0).ready();
    wait_for("its object", || (world.workload("wrong")["status"]["minPods"] == 3).then_some(()));
    world.annotate("wrong", &brief(&[("autoscaling.knative.dev/min-scale", "three")]));

    let first = |name: &str, reason: &str| wait_for(reason, || notes(&world, name, reason).pop());
    assert!(
        first("foreign", "NotScaled").contains("its class \"hpa.autoscaling.knative.dev\" is another autoscaler's")
    );
    let rival = first("rivalled", "AnotherAutoscaler");
    assert!(rival.starts_with("HorizontalPodAutoscaler by-cpu scales it too; expected no"), "{rival}");
    let wrong = first("wrong", "InvalidValue");
    assert!(
        wrong.contains("min-scale") && wrong.contains("\"three\"") && wrong.contains("last good value 3"),
        "{wrong}"
    );
    for (name, reason) in [("foreign", "NotScaled"), ("rivalled", "AnotherAutoscaler"), ("wrong", "InvalidValue")] {
        assert_eq!(notes(&world, name, reason).len(), 1, "{name}: once");
    }

    let (code, checked, errors) = world.kpa_ended("person", &["check", "--cluster"]);
    assert_eq!((code, errors.as_str()), (1, ""), "{checked}");
    for line in [
        "  Deployment default/foreign\n    not scaled: its class",
        "    warning: spec.replicas: HorizontalPodAutoscaler by-cpu scales it too\n",
        "    error: metadata.annotations[\"autoscaling.knative.dev/min-scale\"]: \"three\"",
        "      the last good value 3 stays in force\n",
        "3 Deployments with annotations of ours in namespace default, 1 not scaled: 1 error, 1 warning, 0 notices\n",
    ] {
        assert!(checked.contains(line), "{line}\n--- in\n{checked}");
    }
    assert_eq!(world.kpa_ended("person", &["check", "--cluster", "foreign"]).0, 0, "nothing of it is an error");
    let ignored = world.kpa("person", &["get", "--ignored", "-A"]);
    assert!(ignored.contains("foreign") && !ignored.contains("rivalled"), "{ignored}");
    let config = world.kpa("person", &["config", "wrong", "-n", "default"]);
    let row = config.lines().find(|line| line.starts_with("min-scale ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["min-scale", "3", "last", "good", "value"], "{config}");
    let maps = world.kpa("person", &["config", "--cluster"]);
    assert!(maps.contains("CONFIG-AUTOSCALER") && maps.contains("CONFIG-ACTIVATOR"), "{maps}");
}

/// A server that listens elsewhere than its Deployment says, and has no probe: the kubelet calls it ready.
#[test]
fn replicas_that_are_ready_and_cannot_be_reached_are_told() {
    let world = World::new();
    let elsewhere = json!({"env": [{"name": "PORT", "value": "8001"}]});
    world.deploy("model", 1, &brief(&[("autoscaling.knative.dev/min-scale", "1")]), &elsewhere);
    let _autoscaler = world.autoscaler(0).ready();
    let activator = world.activator(0).ready();
    wait_for("ready", || (world.ready("model") == 1).then_some(()));
    wait_for("known to be", || {
        (activator.metric("activator_replicas_usable", "model").as_deref() == Some("1")).then_some(())
    });
    let mut waiting = TcpStream::connect(activator.address).unwrap();
    write!(waiting, "GET / HTTP/1.1\r\nhost: model.default.example.com\r\n\r\n").unwrap();
    let message = wait_for("a condition", || condition(&world, "model", "EndpointsUnreachable"));
    assert!(message.contains("NetworkPolicy") && message.contains(":8000"), "{message}\n{}", activator.log());
    wait_for("an Event", || notes(&world, "model", "EndpointsUnreachable").pop());
    drop(waiting);
}
