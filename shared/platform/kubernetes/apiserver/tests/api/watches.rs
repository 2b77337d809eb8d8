//! Lists, their pages and versions, and watches from every starting point.

use crate::samples::*;
use apiserver::{Options, Server};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tower::ServiceExt;

/// A watch that has begun.
struct Watching {
    body: apiserver::Body,
    rest: Vec<u8>,
}

impl Watching {
    async fn begin(server: &Server, uri: &str) -> Self {
        Self::begin_as(server, uri, "").await
    }

    async fn begin_as(server: &Server, uri: &str, accept: &str) -> Self {
        let request = Request::get(uri).header("accept", accept).body(Empty::<Bytes>::new()).unwrap();
        let response = server.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; nothing at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("one event a line"));
            }
            let frame = self.body.frame().await?.expect("not broken");
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Whatever has been sent by now, as `TYPE name`.
    async fn so_far(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, self.next()).await {
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            told.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
        told
    }
}

fn with_label(value: &str) -> Value {
    json!({ "metadata": { "labels": { "app": value } } })
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_additions_changes_and_deletions() {
    let server = server();
    server.post(CONFIG_MAPS, &config_map("a", &json!({})));
    let mut all = Watching::begin(&server, &format!("{CONFIG_MAPS}?watch=1")).await;
    let from = server.revision();
    let mut new = Watching::begin(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}")).await;
    assert_eq!(all.so_far().await, ["ADDED a"]);
    server.post(CONFIG_MAPS, &config_map("b", &json!({})));
    server.merge(&format!("{CONFIG_MAPS}/a"), &with_label("x"));
    server.delete(&format!("{CONFIG_MAPS}/b"));
    server.post("/api/v1/namespaces/kube-system/configmaps", &config_map("elsewhere", &json!({})));
    let expected = ["ADDED b", "MODIFIED a", "DELETED b"];
    assert_eq!(all.so_far().await, expected);
    assert_eq!(new.so_far().await, expected);
}

#[tokio::test(start_paused = true)]
async fn falling_out_of_a_selector_is_a_deletion() {
    let server = server();
    let uri = format!("{CONFIG_MAPS}?watch=1&labelSelector=app%3Dx");
    let mut watch = Watching::begin(&server, &uri).await;
    server.post(CONFIG_MAPS, &config_map("a", &json!({ "app": "y" })));
    assert_eq!(watch.so_far().await, Vec::<String>::new());
    server.merge(&format!("{CONFIG_MAPS}/a"), &with_label("x"));
    server.merge(&format!("{CONFIG_MAPS}/a"), &json!({ "data": { "k": "2" } }));
    assert_eq!(watch.so_far().await, ["ADDED a", "MODIFIED a"]);
    let left = server.merge(&format!("{CONFIG_MAPS}/a"), &with_label("y"));
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "x", "the state in which it was last selected");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_at_the_end_of_a_streamed_list() {
    let server = server();
    server.post(CONFIG_MAPS, &config_map("a", &json!({})));
    let uri = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = Watching::begin(&server, &uri).await;
    assert_eq!(watch.next().await.unwrap()["type"], "ADDED");
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["object"]["kind"], "ConfigMap");
    server.post(DEPLOYMENTS, &deployment("other", 1));
    let before = tokio::time::Instant::now();
    let bookmark = watch.next().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(60));
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], server.revision().to_string());
    let (code, ..) = server.refused(Method::GET, &format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"), None);
    assert_eq!(code, 422);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_time_is_over() {
    let server = server();
    let mut watch = Watching::begin(&server, &format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=7")).await;
    let before = tokio::time::Instant::now();
    assert_eq!(server.faults().watches(&apiserver::Matching::any()), 1);
    assert_eq!(watch.next().await, None);
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert_eq!(server.faults().watches(&apiserver::Matching::any()), 0);
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_and_says_so() {
    let server = Server::new(Options { history_events_max: 4, ..Options::default() });
    let from = server.revision();
    let mut slow = Watching::begin(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}")).await;
    assert_eq!(slow.so_far().await, Vec::<String>::new());
    for number in 0..5 {
        server.post(CONFIG_MAPS, &config_map(&format!("c{number}"), &json!({})));
    }
    assert_eq!(slow.next().await, None, "a watch that fell behind is ended, not fed from a queue");
    let mut late = Watching::begin(&server, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}")).await;
    let error = late.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    assert_eq!(late.next().await, None);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={from}&resourceVersionMatch=Exact");
    assert_eq!(server.refused(Method::GET, &exact, None).0, 410);
    let future = format!("{CONFIG_MAPS}?resourceVersion={}", server.revision() + 1);
    let (code, reason, message) = server.refused(Method::GET, &future, None);
    assert_eq!((code, reason.as_str()), (504, "Timeout"));
    assert!(message.contains("Too large resource version"), "{message}");
}

#[tokio::test]
async fn pages_are_one_state_whatever_is_written_between_them() {
    let server = server();
    for name in ["a", "b", "c", "d", "e"] {
        server.post(CONFIG_MAPS, &config_map(name, &json!({})));
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2"));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete(&format!("{CONFIG_MAPS}/c"));
    server.post(CONFIG_MAPS, &config_map("bb", &json!({})));
    let token = first["metadata"]["continue"].as_str().unwrap().replace('=', "%3D").replace('+', "%2B");
    let next = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let second = server.get(&next);
    assert_eq!(names(&second), ["c", "d"], "as it was when the list began");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    server.faults().compact();
    let (code, reason, _) = server.refused(Method::GET, &next, None);
    assert_eq!((code, reason.as_str()), (410, "Expired"));
    assert_eq!(server.refused(Method::GET, &format!("{CONFIG_MAPS}?continue=nonsense"), None).0, 400);
}

#[tokio::test]
async fn selectors_select_and_unknown_fields_are_refused() {
    let server = server();
    for (name, app) in [("a", "x"), ("b", "y")] {
        server.post(PODS, &pod(name, &json!({ "app": app, "tier": "t" })));
    }
    server.post(&format!("{PODS}/b/binding"), &json!({ "metadata": { "name": "b" }, "target": { "name": "n1" } }));
    for (query, wanted) in [
        ("labelSelector=app%3Dx", vec!["a"]),
        ("labelSelector=app!%3Dx,tier", vec!["b"]),
        ("labelSelector=app%20in%20(x,y),!gone", vec!["a", "b"]),
        ("labelSelector=app%20notin%20(x,y)", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=spec.nodeName%3D", vec!["a"]),
        ("fieldSelector=spec.nodeName%3Dn1,status.phase%3DPending", vec!["b"]),
        ("fieldSelector=status.phase!%3DPending", vec![]),
    ] {
        assert_eq!(names(&server.get(&format!("{PODS}?{query}"))), wanted, "{query}");
    }
    let (code, _, message) = server.refused(Method::GET, &format!("{PODS}?fieldSelector=spec.color%3Dred"), None);
    assert_eq!((code, message.as_str()), (400, "field label not supported for Pod: spec.color"));
    assert_eq!(server.refused(Method::GET, &format!("{PODS}?labelSelector=-a%3Db"), None).0, 400);
    assert_eq!(server.refused(Method::GET, &format!("{PODS}?labelSelector=a%20in%20(b"), None).0, 400);
}

#[tokio::test(start_paused = true)]
async fn tables_and_metadata_are_forms_of_the_same() {
    let server = server();
    server.post(DEFINITIONS, &definition());
    server.post(DEPLOYMENTS, &deployment("a", 2));
    let widget = json!({ "metadata": { "name": "w" }, "spec": { "mode": "Act" } });
    server.post("/apis/test.dev/v1/namespaces/default/widgets", &widget);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let ask = async |uri: &str, accept: &str| {
        let request = Request::get(uri).header("accept", accept).body(Empty::<Bytes>::new()).unwrap();
        let body = server.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    tokio::time::advance(Duration::from_secs(75)).await;
    let shown = ask(DEPLOYMENTS, table).await;
    assert_eq!(shown["rows"][0]["cells"], json!(["a", "0/2", 0, 0, "main", "server:1", "app=a", "75s"]));
    assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let shown = ask("/apis/test.dev/v1/namespaces/default/widgets", table).await;
    let heads: Vec<&str> =
        shown["columnDefinitions"].as_array().unwrap().iter().filter_map(|head| head["name"].as_str()).collect();
    assert_eq!(heads, ["Name", "Mode", "Ready", "Age"]);
    assert_eq!(shown["rows"][0]["cells"], json!(["w", "Act", null, "75s"]));
    let partial = ask(DEPLOYMENTS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await;
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("spec").is_none());
    let mut watch = Watching::begin_as(&server, &format!("{DEPLOYMENTS}?watch=1"), table).await;
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    let refused = ask(DEPLOYMENTS, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(refused["code"], 406);
}

/// What a random client does.
#[derive(Debug, Clone)]
enum Step {
    Create(u8, u8),
    Label(u8, u8),
    Delete(u8),
    Drop,
    Compact,
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_u8, 0..2_u8).prop_map(|(name, label)| Step::Create(name, label)),
        4 => (0..6_u8, 0..2_u8).prop_map(|(name, label)| Step::Label(name, label)),
        3 => (0..6_u8).prop_map(Step::Delete),
        1 => Just(Step::Drop),
        1 => Just(Step::Compact),
        4 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Lists, then watches from there; lists again when told to; and so always ends with what a list says.
async fn follows(steps: Vec<Step>) {
    let server = Server::new(Options { history_events_max: 8, ..Options::default() });
    let query = "labelSelector=app%3D0";
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let mut version = String::new();
    let mut watch: Option<Watching> = None;
    for step in steps.into_iter().chain([Step::Read]) {
        let uri = |name: u8| format!("{CONFIG_MAPS}/c{name}");
        match step {
            Step::Create(name, label) => {
                let object = config_map(&format!("c{name}"), &json!({ "app": label.to_string() }));
                let _ = server.ask(Method::POST, CONFIG_MAPS, Some(&object));
            }
            Step::Label(name, label) => {
                let _ = server.ask(Method::PATCH, &uri(name), Some(&with_label(&label.to_string())));
            }
            Step::Delete(name) => drop(server.ask(Method::DELETE, &uri(name), None)),
            Step::Drop => watch = None,
            Step::Compact => server.faults().compact(),
            Step::Read => loop {
                if version.is_empty() {
                    let list = server.get(&format!("{CONFIG_MAPS}?{query}"));
                    version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
                    known = list["items"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item["metadata"].clone()))
                        .collect();
                }
                let open = match &mut watch {
                    Some(open) => open,
                    None => {
                        let uri = format!("{CONFIG_MAPS}?watch=1&{query}&resourceVersion={version}");
                        watch.insert(Watching::begin(&server, &uri).await)
                    }
                };
                match tokio::time::timeout(Duration::ZERO, open.next()).await {
                    Err(_) => break,
                    Ok(None) => watch = None,
                    Ok(Some(event)) if event["type"] == "ERROR" => {
                        assert_eq!(event["object"]["code"], 410);
                        (watch, version) = (None, String::new());
                    }
                    Ok(Some(event)) => {
                        let metadata = &event["object"]["metadata"];
                        version = metadata["resourceVersion"].as_str().unwrap().to_owned();
                        let name = metadata["name"].as_str().unwrap().to_owned();
                        let known_before = known.contains_key(&name);
                        match event["type"].as_str().unwrap() {
                            "DELETED" => {
                                assert!(known.remove(&name).is_some(), "{name} was not known");
                            }
                            word => {
                                assert_eq!(known_before, word == "MODIFIED", "{word} {name}");
                                known.insert(name, metadata.clone());
                            }
                        }
                    }
                }
            },
        }
    }
    let list = server.get(&format!("{CONFIG_MAPS}?{query}"));
    let listed: BTreeMap<String, Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), item["metadata"].clone()))
        .collect();
    assert_eq!(known, listed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn list_and_watch_come_to_the_state(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(follows(steps));
    }
}
