//! The same through the client that the project uses.

use crate::samples::*;
use apiserver::Server;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

fn client(server: &Server) -> Client {
    Client::new(server.clone(), "default")
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("fits its type")
}

#[tokio::test(start_paused = true)]
async fn a_deployment_lives() {
    let server = server();
    let api: Api<Deployment> = Api::default_namespaced(client(&server));
    let made = api.create(&PostParams::default(), &typed(deployment("a", 2))).await.expect("created");
    assert_eq!(made.metadata.generation, Some(1));
    let scale = api.get_scale("a").await.expect("has a scale");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
    assert_eq!(scale.status.and_then(|status| status.selector).as_deref(), Some("app=a"));
    let patch = json!({ "spec": { "replicas": 0 } });
    let scale = api.patch_scale("a", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), None, "zero is left out");
    let missing = api.get("b").await.expect_err("does not exist");
    assert!(matches!(&missing, kube::Error::Api(status) if status.is_not_found()), "{missing}");
    let list = api.list(&ListParams::default()).await.expect("listed");
    assert_eq!(list.items.len(), 1);
    api.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(api.get_opt("a").await.expect("asked"), None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_by_its_version() {
    let server = server();
    let api: Api<Lease> = Api::default_namespaced(client(&server));
    let lease = json!({
        "metadata": { "name": "kpa" },
        "spec": { "holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15 },
    });
    let mut lease: Lease = api.create(&PostParams::default(), &typed(lease)).await.expect("created");
    let stale = lease.clone();
    lease.spec.as_mut().expect("has a spec").holder_identity = Some("b".to_owned());
    api.replace("kpa", &PostParams::default(), &lease).await.expect("replaced");
    let late = api.replace("kpa", &PostParams::default(), &stale).await.expect_err("too late");
    assert!(matches!(&late, kube::Error::Api(status) if status.is_conflict()), "{late}");
}

#[tokio::test(start_paused = true)]
async fn a_raw_watch_tells_every_change_and_ends_in_time() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let from = server.revision().to_string();
    let mut events = api.watch(&WatchParams::default().timeout(10), &from).await.expect("watches").boxed();
    api.create(&PostParams::default(), &typed(config_map("a", &json!({})))).await.expect("created");
    api.delete("a", &DeleteParams::default()).await.expect("deleted");
    let mut told = Vec::new();
    while let Some(event) = events.try_next().await.expect("no error") {
        told.push(match event {
            WatchEvent::Added(object) => format!("added {}", object.name_any()),
            WatchEvent::Deleted(object) => format!("deleted {}", object.name_any()),
            WatchEvent::Modified(_) | WatchEvent::Bookmark(_) | WatchEvent::Error(_) => format!("{event:?}"),
        });
    }
    assert_eq!(told, ["added a", "deleted a"]);
}

/// What a watcher's events come to, and that they go on over a dropped watch and a compaction.
async fn follows(config: watcher::Config) {
    let server = server();
    let api: Api<Pod> = Api::default_namespaced(client(&server));
    server.post(PODS, &pod("a", &json!({})));
    let (store, writer) = reflector::store();
    let mut events = reflector(writer, watcher(api, config).default_backoff()).boxed();
    let mut until = async |wanted: &[&str]| {
        tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let mut names: Vec<String> = store.state().iter().map(|pod| pod.name_any()).collect();
                names.sort_unstable();
                if names == wanted {
                    return;
                }
                let _ = events.next().await.expect("a watcher goes on for ever");
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{wanted:?} not seen; log: {:?}", server.faults().log().len()));
    };
    until(&["a"]).await;
    server.post(PODS, &pod("b", &json!({})));
    until(&["a", "b"]).await;
    server.faults().break_watches(&apiserver::Matching::any());
    server.post(PODS, &pod("c", &json!({})));
    until(&["a", "b", "c"]).await;
    server.faults().refuse();
    server.delete(&format!("{PODS}/a"));
    server.faults().compact();
    server.faults().accept();
    server.post(PODS, &pod("d", &json!({})));
    until(&["b", "c", "d"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_by_lists() {
    follows(watcher::Config::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_by_streaming_lists() {
    follows(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_is_served_and_watched() {
    let server = server();
    server.post(PODS, &pod("a", &json!({ "app": "x" })));
    let api: Api<Pod> = Api::default_namespaced(client(&server));
    let partial: Api<PartialObjectMeta<Pod>> = Api::default_namespaced(client(&server));
    let list = api.list_metadata(&ListParams::default().labels("app=x")).await.expect("listed");
    assert_eq!(list.items[0].name_any(), "a");
    let mut events = watcher(partial, watcher::Config::default()).applied_objects().boxed();
    let first = events.next().await.expect("an event").expect("no error");
    assert_eq!(first.labels().get("app").map(String::as_str), Some("x"));
}
