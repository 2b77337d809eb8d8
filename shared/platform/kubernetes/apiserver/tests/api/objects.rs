//! Creating, changing and deleting objects.

use crate::samples::*;
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_gets_its_identity_and_keeps_it() {
    let server = server();
    let made = server.post(DEPLOYMENTS, &deployment("a", 2));
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    let mut other = made.clone();
    other["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let (code, reason, message) = server.refused(Method::PUT, &format!("{DEPLOYMENTS}/a"), Some(&other));
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("Precondition failed: UID in precondition"), "{message}");
    let mut forged = made.clone();
    forged["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    forged["metadata"]["generation"] = json!(99);
    let kept = server.put(&format!("{DEPLOYMENTS}/a"), &forged);
    assert_eq!(kept, made, "nothing of this is a client's to write");
}

#[tokio::test]
async fn refusals_carry_the_real_reasons_and_texts() {
    let server = server();
    server.post(DEPLOYMENTS, &deployment("a", 1));
    assert_eq!(
        server.refused(Method::GET, &format!("{DEPLOYMENTS}/b"), None),
        (404, "NotFound".into(), "deployments.apps \"b\" not found".into())
    );
    assert_eq!(
        server.refused(Method::POST, DEPLOYMENTS, Some(&deployment("a", 1))),
        (409, "AlreadyExists".into(), "deployments.apps \"a\" already exists".into())
    );
    let gone = "/apis/apps/v1/namespaces/nowhere/deployments";
    assert_eq!(
        server.refused(Method::POST, gone, Some(&deployment("a", 1))),
        (404, "NotFound".into(), "namespaces \"nowhere\" not found".into())
    );
    assert_eq!(server.refused(Method::GET, "/apis/apps/v1/namespaces/default/daemonsets", None).0, 404);
    assert_eq!(server.refused(Method::POST, "/apis/apps/v1/deployments", Some(&deployment("c", 1))).0, 405);
    let foreign = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "x" } });
    assert_eq!(server.refused(Method::POST, DEPLOYMENTS, Some(&foreign)).0, 400);
    let mistyped = json!({ "metadata": { "name": "x" }, "spec": { "replicas": "three" } });
    let (code, reason, message) = server.refused(Method::POST, DEPLOYMENTS, Some(&mistyped));
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert!(message.starts_with("Deployment in version \"v1\" cannot be handled as a Deployment: "), "{message}");
}

#[tokio::test]
async fn versions_guard_every_write_that_names_one() {
    let server = server();
    let uri = format!("{DEPLOYMENTS}/a");
    let first = server.post(DEPLOYMENTS, &deployment("a", 1));
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    server.put(&uri, &second);
    second["spec"]["replicas"] = json!(3);
    assert_eq!(
        server.refused(Method::PUT, &uri, Some(&second)),
        (
            409,
            "Conflict".into(),
            "Operation cannot be fulfilled on deployments.apps \"a\": the object has been modified; please apply your \
             changes to the latest version and try again"
                .into()
        )
    );
    let stale =
        json!({ "metadata": { "resourceVersion": first["metadata"]["resourceVersion"] }, "spec": { "replicas": 3 } });
    assert_eq!(server.refused(Method::PATCH, &uri, Some(&stale)).0, 409);
    second["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(server.put(&uri, &second)["spec"]["replicas"], 3, "a PUT without a version overwrites");
    let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "me" } });
    server.put(&format!("{LEASES}/l"), &lease);
    let (code, _, message) = server.refused(Method::PUT, &format!("{LEASES}/l"), Some(&lease));
    assert_eq!(code, 422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
}

#[tokio::test]
async fn generation_follows_the_spec_and_a_write_of_nothing_is_none() {
    let server = server();
    let uri = format!("{DEPLOYMENTS}/a");
    let made = server.post(DEPLOYMENTS, &deployment("a", 1));
    let revision = server.revision();
    assert_eq!(server.put(&uri, &made), made);
    assert_eq!(server.merge(&uri, &json!({ "spec": { "replicas": 1 } })), made);
    assert_eq!(server.revision(), revision, "nothing changed");
    let labelled = server.merge(&uri, &json!({ "metadata": { "labels": { "x": "y" } } }));
    assert_eq!(labelled["metadata"]["generation"], 1);
    let status = json!({ "status": { "replicas": 1, "readyReplicas": 1 } });
    let written = server.merge(&format!("{uri}/status"), &status);
    assert_eq!(written["metadata"]["generation"], 1);
    assert_eq!(written["status"]["readyReplicas"], 1);
    assert_eq!(server.merge(&uri, &json!({ "spec": { "replicas": 5 } }))["metadata"]["generation"], 2);
    let through_main = server.merge(&uri, &json!({ "status": { "readyReplicas": 9 } }));
    assert_eq!(through_main["status"]["readyReplicas"], 1, "status is written through its subresource only");
    let through_status = server.merge(&format!("{uri}/status"), &json!({ "spec": { "replicas": 9 } }));
    assert_eq!(through_status["spec"]["replicas"], 5, "and nothing else is written through it");
    // The real server hands a Deployment's annotations on to ReplicaSets, so they count.
    let annotated = server.merge(&uri, &json!({ "metadata": { "annotations": { "x": "y" } } }));
    assert_eq!(annotated["metadata"]["generation"], 3);
}

#[tokio::test]
async fn names_are_generated_and_equal_seeds_make_equal_names() {
    let object = json!({ "metadata": { "generateName": "run-" } });
    let make = || {
        let server = server();
        server.post(CONFIG_MAPS, &object)["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let name = make();
    assert!(name.starts_with("run-") && name.len() == 9, "{name}");
    assert_eq!(name, make());
}

#[tokio::test]
async fn what_the_server_adds_is_there() {
    let server = server();
    let mut bare = deployment("a", 0);
    bare["spec"].as_object_mut().unwrap().remove("replicas");
    let made = server.post(DEPLOYMENTS, &bare);
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    let service = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80 }] } });
    let service = server.post("/api/v1/namespaces/default/services", &service);
    assert!(service["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("10.96.")), "{service}");
    assert_eq!(service["spec"]["ports"][0], json!({ "port": 80, "protocol": "TCP", "targetPort": 80 }));
    let headless = json!({ "metadata": { "name": "h" }, "spec": { "clusterIP": "None" } });
    assert_eq!(server.post("/api/v1/namespaces/default/services", &headless)["spec"]["clusterIP"], "None");
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "v" } });
    let secret = server.post("/api/v1/namespaces/default/secrets", &secret);
    assert_eq!((&secret["data"]["k"], &secret["type"]), (&json!("dg=="), &json!("Opaque")));
    assert!(secret.get("stringData").is_none());
}

#[tokio::test]
async fn unknown_fields_fall_away_or_are_refused_when_asked() {
    let server = server();
    let mut object = deployment("a", 1);
    object["spec"]["replicaz"] = json!(3);
    let (code, _, message) =
        server.refused(Method::POST, &format!("{DEPLOYMENTS}?fieldValidation=Strict"), Some(&object));
    assert_eq!(code, 400);
    assert!(message.ends_with("strict decoding error: unknown field \"spec.replicaz\""), "{message}");
    assert!(server.post(DEPLOYMENTS, &object)["spec"].get("replicaz").is_none());
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    let server = server();
    let revision = server.revision();
    let made = server.post(&format!("{DEPLOYMENTS}?dryRun=All"), &deployment("a", 1));
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(server.revision(), revision);
    assert_eq!(server.refused(Method::GET, &format!("{DEPLOYMENTS}/a"), None).0, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let server = server();
    let mut object = config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["kpa.dev/a", "kpa.dev/b"]);
    let uri = format!("{CONFIG_MAPS}/a");
    server.post(CONFIG_MAPS, &object);
    let marked = server.delete(&uri);
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    let revision = server.revision();
    server.delete(&uri);
    assert_eq!(server.revision(), revision, "a second deletion changes nothing");
    let more = json!({ "metadata": { "finalizers": ["kpa.dev/a", "kpa.dev/b", "kpa.dev/c"] } });
    let (code, _, message) = server.refused(Method::PATCH, &uri, Some(&more));
    assert_eq!(code, 422);
    assert!(message.contains("no new finalizers can be added"), "{message}");
    server.merge(&uri, &json!({ "metadata": { "finalizers": ["kpa.dev/b"] } }));
    server.get(&uri);
    server.merge(&uri, &json!({ "metadata": { "finalizers": null } }));
    assert_eq!(server.refused(Method::GET, &uri, None).0, 404);
}

#[tokio::test]
async fn deletions_have_preconditions_and_policies() {
    let server = server();
    let made = server.post(DEPLOYMENTS, &deployment("a", 1));
    let uri = format!("{DEPLOYMENTS}/a");
    let wrong = json!({ "preconditions": { "uid": "x" } });
    assert_eq!(server.refused(Method::DELETE, &uri, Some(&wrong)).0, 409);
    let wrong = json!({ "preconditions": { "resourceVersion": "1" } });
    assert_eq!(server.refused(Method::DELETE, &uri, Some(&wrong)).0, 409);
    let right = json!({ "preconditions": { "uid": made["metadata"]["uid"] }, "propagationPolicy": "Foreground" });
    let marked = server.ok(Method::DELETE, &uri, Some(&right));
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(marked["metadata"]["generation"], 2);
    server.post(DEPLOYMENTS, &deployment("b", 1));
    let status = server.delete(&format!("{DEPLOYMENTS}/b"));
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(status["details"]["kind"], "deployments");
}

#[tokio::test]
async fn a_running_pod_goes_when_its_node_says_so() {
    let server = server();
    let uri = format!("{PODS}/a");
    server.post(PODS, &pod("a", &json!({})));
    let binding = json!({ "metadata": { "name": "a" }, "target": { "kind": "Node", "name": "n1" } });
    server.post(&format!("{uri}/binding"), &binding);
    assert_eq!(server.refused(Method::POST, &format!("{uri}/binding"), Some(&binding)).0, 409);
    let marked = server.delete(&uri);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    let sooner = server.ok(Method::DELETE, &uri, Some(&json!({ "gracePeriodSeconds": 5 })));
    assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
    server.delete(&uri);
    assert_eq!(server.get(&uri)["metadata"]["deletionGracePeriodSeconds"], 5, "never later again");
    server.ok(Method::DELETE, &format!("{uri}?gracePeriodSeconds=0"), None);
    assert_eq!(server.refused(Method::GET, &uri, None).0, 404);
    server.post(PODS, &pod("b", &json!({})));
    server.delete(&format!("{PODS}/b"));
    assert_eq!(server.names("", "pods", "default"), Vec::<String>::new(), "one that runs nowhere goes at once");
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let server = server();
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        server.post(CONFIG_MAPS, &config_map(name, &json!({ "app": app })));
    }
    let gone = server.delete(&format!("{CONFIG_MAPS}?labelSelector=app%3Dx"));
    assert_eq!(names(&gone), ["a", "c"]);
    assert_eq!(server.names("", "configmaps", "default"), ["b"]);
}

#[tokio::test]
async fn a_namespace_takes_its_content_with_it() {
    let server = server();
    server.post("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } }));
    let inside = "/api/v1/namespaces/shop/configmaps";
    let mut held = config_map("a", &json!({}));
    held["metadata"]["finalizers"] = json!(["kpa.dev/x"]);
    server.post(inside, &held);
    server.post(inside, &config_map("b", &json!({})));
    let marked = server.delete("/api/v1/namespaces/shop");
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(server.names("", "configmaps", "shop"), ["a"]);
    let (code, reason, message) = server.refused(Method::POST, inside, Some(&config_map("c", &json!({}))));
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert!(message.contains("because it is being terminated"), "{message}");
    server.merge(&format!("{inside}/a"), &json!({ "metadata": { "finalizers": null } }));
    assert_eq!(server.refused(Method::GET, "/api/v1/namespaces/shop", None).0, 404);
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let server = server();
    for name in ["a", "b"] {
        server.post(PODS, &pod(name, &json!({ "app": "x" })));
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        server.merge(&format!("{PODS}/{name}/status"), &ready);
    }
    let budget = json!({
        "metadata": { "name": "x" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "x" } } },
    });
    server.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", &budget);
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "a" } });
    server.post(&format!("{PODS}/a/eviction"), &eviction);
    assert_eq!(server.names("", "pods", "default"), ["b"]);
    let (code, reason, message) = server.refused(Method::POST, &format!("{PODS}/b/eviction"), Some(&eviction));
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(message, "Cannot evict pod as it would violate the pod's disruption budget.");
}

#[tokio::test]
async fn an_event_is_the_same_in_both_groups() {
    let server = server();
    let event = json!({
        "metadata": { "name": "e" }, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Scale", "reason": "Woken",
        "note": "0 to 1", "type": "Normal", "reportingController": "kpa", "reportingInstance": "a",
        "regarding": { "kind": "Deployment", "name": "d", "namespace": "default" },
    });
    server.post("/apis/events.k8s.io/v1/namespaces/default/events", &event);
    let old = server.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dd");
    assert_eq!(old["items"][0]["message"], "0 to 1");
    assert_eq!(old["items"][0]["involvedObject"]["kind"], "Deployment");
    let new = server.get("/apis/events.k8s.io/v1/namespaces/default/events/e");
    assert_eq!((&new["note"], &new["apiVersion"]), (&json!("0 to 1"), &json!("events.k8s.io/v1")));
}

#[tokio::test]
async fn discovery_names_everything_that_is_served() {
    let server = server();
    let groups = server.get("/apis");
    for group in groups["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let path = format!("/apis/{}", version["groupVersion"].as_str().unwrap());
            assert!(!server.get(&path)["resources"].as_array().unwrap().is_empty(), "{path}");
        }
    }
    let core = server.get("/api/v1");
    let pods = core["resources"].as_array().unwrap().iter().find(|one| one["name"] == "pods").unwrap();
    assert_eq!((&pods["shortNames"], &pods["namespaced"]), (&json!(["po"]), &json!(true)));
    assert_eq!(server.get("/version")["minor"], "33");
    assert_eq!(server.get("/readyz"), "ok");
}
