//! A node of a cluster that was given: its pods are processes of this machine.
//!
//! Invariant: only pods of `default` that name this node are run; what else the cluster puts here stays pending.

use apiserver::controllers::{Kubelet, Lives, PodKey, ProcessOptions, Processes, Told};
use futures_util::StreamExt;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use super::hands::ask;

/// The control plane calls a node lost that said nothing for 40 s.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a status is written again after somebody else changed the pod in between.
const STATUS_TRIES_MAX: usize = 5;

pub(super) struct Node {
    pub(super) name: String,
    kubelet: Arc<Processes>,
    /// Ends with this value.
    _running: JoinSet<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kubelet.end_now();
    }
}

impl Node {
    /// Joins the cluster. `network` are the first two numbers of its pods' addresses.
    pub(super) async fn join(client: Client, network: [u8; 2]) -> Self {
        let name = format!("kpa-e2e-{}", std::process::id());
        // Nothing is scheduled here; our pods name the node themselves.
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": "kpa.dev/e2e", "effect": "NoSchedule"}]},
        });
        let (status, answer) = ask(&client, &Method::POST, "/api/v1/nodes", Some(&node)).await;
        assert!(status.is_success() || status == StatusCode::CONFLICT, "the node: {status} {answer}");
        heartbeat(&client, &name).await;
        let kubelet = Arc::new(Processes::new(ProcessOptions { network, ..ProcessOptions::default() }));
        let lives = Lives::new(Arc::clone(&kubelet) as Arc<dyn Kubelet>, BTreeSet::from([name.clone()]), now());
        let mut running = JoinSet::new();
        running.spawn(run(client, name.clone(), lives));
        Self { name, kubelet, _running: running }
    }
}

fn now() -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(runtime::clock::unix_millis()).unwrap()).unwrap()
}

async fn run(client: Client, name: String, mut lives: Lives) {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let mut changes = pin!(watcher(pods, kube::runtime::watcher::Config::default()));
    let mut beat = tokio::time::interval(HEARTBEAT);
    // What there was, and what a list that has begun again has told so far.
    let (mut known, mut listed) = (BTreeMap::<String, Arc<Pod>>::new(), BTreeSet::new());
    loop {
        tokio::select! {
            Some(change) = changes.next() => match change {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitDone) => known.retain(|uid, pod| {
                    let stays = listed.contains(uid);
                    if !stays {
                        lives.gone(pod);
                    }
                    stays
                }),
                Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                    let (key, pod) = (PodKey::of(&pod), Arc::new(pod));
                    listed.insert(key.uid.clone());
                    known.insert(key.uid.clone(), Arc::clone(&pod));
                    if lives.follow(&pod) {
                        remove(&client, &key).await;
                    }
                }
                Ok(Event::Delete(pod)) => {
                    known.remove(&PodKey::of(&pod).uid);
                    lives.gone(&pod);
                }
                // It begins anew by itself.
                Err(error) => eprintln!("the node's watch of its pods: {error}"),
            },
            told = lives.next() => match told {
                Told::Status(key, seen) => {
                    for _ in 0..STATUS_TRIES_MAX {
                        let (found, pod) = ask(&client, &Method::GET, &path(&key), None).await;
                        let Ok(mut pod) = serde_json::from_value::<Pod>(pod) else { break };
                        let Some(status) = lives.status(&key, &seen, &pod).filter(|_| found.is_success()) else { break };
                        pod.status = Some(status);
                        let pod = serde_json::to_value(&pod).unwrap();
                        let (status, answer) =
                            ask(&client, &Method::PUT, &format!("{}/status", path(&key)), Some(&pod)).await;
                        if status != StatusCode::CONFLICT {
                            let is_gone = status == StatusCode::NOT_FOUND;
                            assert!(status.is_success() || is_gone, "the status of {}: {status} {answer}", key.name);
                            break;
                        }
                    }
                }
                Told::Ended(key) => remove(&client, &key).await,
            },
            _ = beat.tick() => heartbeat(&client, &name).await,
        }
    }
}

fn path(key: &PodKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name)
}

/// Takes away a pod that is leaving and has ended.
async fn remove(client: &Client, key: &PodKey) {
    let (_, pod) = ask(client, &Method::GET, &path(key), None).await;
    if pod["metadata"]["deletionTimestamp"].is_string() && pod["metadata"]["uid"] == *key.uid {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": key.uid}});
        let (status, answer) = ask(client, &Method::DELETE, &path(key), Some(&options)).await;
        let is_gone = [StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(&status);
        assert!(status.is_success() || is_gone, "the end of {}: {status} {answer}", key.name);
    }
}

async fn heartbeat(client: &Client, name: &str) {
    let time = now().to_string();
    let status = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "pods are processes of a test",
        "lastHeartbeatTime": time, "lastTransitionTime": time,
    }]}});
    let (status, answer) = ask(client, &Method::PATCH, &format!("/api/v1/nodes/{name}/status"), Some(&status)).await;
    assert!(status.is_success(), "the status of the node: {status} {answer}");
}
