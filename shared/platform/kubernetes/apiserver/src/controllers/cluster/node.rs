//! How a node joins.
//!
//! Invariant: one that is there already stays as it is.

use http::Method;
use serde_json::json;

use super::NodeOptions;
use crate::Server;

pub(super) fn join(server: &Server, node: &NodeOptions) {
    let mut labels = node.labels.clone();
    labels.entry("kubernetes.io/hostname".to_owned()).or_insert_with(|| node.name.clone());
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {},
    });
    let (made, answer) = server.request(&Method::POST, "/api/v1/nodes", Some(&object));
    if !made.is_success() {
        tracing::debug!(node = node.name, "{}", answer["message"]);
        return;
    }
    let now = super::store::seconds(server.now());
    let status = json!({"status": {
        "allocatable": node.allocatable,
        "capacity": node.allocatable,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    let path = format!("/api/v1/nodes/{}/status", node.name);
    let (written, answer) = server.request(&Method::PATCH, &path, Some(&status));
    if !written.is_success() {
        tracing::warn!(node = node.name, "status of the node was refused, no pod will go there: {}", answer["message"]);
    }
}
