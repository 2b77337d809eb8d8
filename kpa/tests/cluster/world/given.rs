//! A cluster that was given by `KPA_E2E=1` and `KUBECONFIG`: its API server and controllers, a node of ours, and nobody else.
//!
//! Invariant: it is taken only when nothing of ours and no Deployment is in the way, and left as it was found.

use http::{Method, StatusCode};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

use super::hands::Hands;
use super::node::Node;
use super::relay::Relay;
use super::{OURS, network};
use crate::support::wait_for;

/// The first two numbers of the addresses of pods and programs, as `198.18`. An API server refuses those of 127.0.0.0/8.
const NETWORK: &str = "KPA_E2E_NETWORK";

/// One test at a time has it.
static ALONE: Mutex<()> = Mutex::new(());

pub(super) struct Given {
    pub(super) relay: Relay,
    pub(super) node: Node,
    pub(super) network: [u8; 2],
    pub(super) client: Client,
    /// Its entry in the kubeconfig, led through the relay.
    pub(super) entry: Value,
    /// What was made outside of the two namespaces and goes at the end.
    pub(super) installed: Mutex<Vec<String>>,
    _alone: MutexGuard<'static, ()>,
}

impl Given {
    pub(super) fn take(runtime: &Runtime, kubeconfig: &Path) -> (Self, Arc<Hands>) {
        let alone = ALONE.lock();
        runtime.block_on(async {
            let read = Kubeconfig::read_from(kubeconfig).unwrap();
            let context = read.current_context.clone().expect("a current-context in the kubeconfig");
            let named = read.contexts.iter().find(|one| one.name == context).and_then(|one| one.context.as_ref());
            let cluster = &named.unwrap().cluster;
            let found = read.clusters.iter().find(|one| one.name == *cluster).and_then(|one| one.cluster.as_ref());
            let mut entry = serde_json::to_value(found.unwrap()).unwrap();
            let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
            config.default_retry = false;
            let url = config.cluster_url.clone();
            let scheme = url.scheme_str().unwrap_or("https");
            let port = url.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
            let host = url.host().unwrap();
            let relay = Relay::start(format!("{host}:{port}")).await;
            entry["server"] = json!(format!("{scheme}://{}", relay.address));
            if scheme == "https" && entry["tls-server-name"].is_null() {
                entry["tls-server-name"] = json!(host.trim_matches(['[', ']']));
            }
            let client = Client::try_from(config).unwrap();
            let hands = Arc::new(Hands::Given(client.clone(), runtime.handle().clone()));
            let network = match std::env::var_os(NETWORK) {
                Some(text) => text
                    .to_str()
                    .and_then(|text| text.split_once('.'))
                    .and_then(|(first, second)| Some([first.parse().ok()?, second.parse().ok()?]))
                    .unwrap_or_else(|| panic!("{NETWORK}: {}; expected two numbers, as 198.18", text.display())),
                None => [127, network()],
            };
            is_free(&client).await;
            let node = Node::join(client.clone(), network).await;
            let installed = Mutex::default();
            (Self { relay, node, network, client, entry, installed, _alone: alone }, hands)
        })
    }

    /// Takes everything away again.
    pub(super) fn leave(&self, hands: &Hands) {
        let now = json!({"gracePeriodSeconds": 0});
        let delete = |path: &str, options: Option<&Value>| {
            let (status, answer) = hands.request(&Method::DELETE, path, options);
            assert!(status.is_success() || status == StatusCode::NOT_FOUND, "DELETE {path}: {status} {answer}");
        };
        let names = |path: &str| -> Vec<String> {
            let list = hands.request(&Method::GET, path, None).1;
            let items = list["items"].as_array().into_iter().flatten();
            items.map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        for kind in [
            "apis/apps/v1/namespaces/default/deployments",
            "apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            "apis/events.k8s.io/v1/namespaces/default/events",
        ] {
            delete(&format!("/{kind}"), None);
        }
        let services = "/api/v1/namespaces/default/services";
        for name in names(services).iter().filter(|name| *name != "kubernetes") {
            delete(&format!("{services}/{name}"), None);
        }
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        delete(&format!("{slices}?labelSelector=endpointslice.kubernetes.io/managed-by=kpa.dev"), None);
        let pods = "/api/v1/namespaces/default/pods";
        wait_for("that its pods are gone", || names(pods).is_empty().then_some(()));

        // Nobody ends the pods that stand for our programs.
        delete(&format!("/api/v1/namespaces/{OURS}/pods"), Some(&now));
        let mut paths = std::mem::take(&mut *self.installed.lock());
        paths.push(format!("/api/v1/nodes/{}", self.node.name));
        for path in paths.iter().rev() {
            delete(path, None);
        }
        for path in &paths {
            wait_for(path, || (hands.request(&Method::GET, path, None).0 == StatusCode::NOT_FOUND).then_some(()));
        }
    }
}

/// Panics when the cluster is somebody's: everything in `default` is deleted at the end.
async fn is_free(client: &Client) {
    let (ours, _) = super::hands::ask(client, &Method::GET, &format!("/api/v1/namespaces/{OURS}"), None).await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let (_, deployments) = super::hands::ask(client, &Method::GET, path, None).await;
    let is_empty = deployments["items"].as_array().is_some_and(Vec::is_empty);
    assert!(
        ours == StatusCode::NOT_FOUND && is_empty,
        "this cluster is in use: namespace {OURS} {ours}, Deployments in default: {deployments}; expected one to be used up"
    );
}
