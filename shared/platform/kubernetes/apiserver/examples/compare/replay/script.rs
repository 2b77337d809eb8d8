//! The series of calls, in order.
//!
//! Invariant: it goes the same way whatever is answered, and uses only objects that no controller of a real cluster writes
//! to while their versions are looked at.

mod access;
mod applies;
mod custom;
mod deletion;
mod kinds;
mod lists;
mod objects;
mod patches;
mod refusals;
mod watches;

use super::calls::{Recorder, Stopped};
use serde_json::{Value, json};

/// Carries it out.
pub(crate) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    objects::run(calls).await?;
    lists::run(calls).await?;
    watches::run(calls).await?;
    patches::run(calls).await?;
    applies::run(calls).await?;
    refusals::run(calls).await?;
    kinds::run(calls).await?;
    custom::run(calls).await?;
    access::run(calls).await?;
    deletion::run(calls).await?;
    // Last: by now the server in memory has forgotten its beginning too.
    watches::too_old(calls).await
}

fn config_map(name: &str, labels: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": labels }, "data": { "k": "v" } })
}

/// Paused: no controller makes pods of it.
fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas, "paused": true,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "server:1" }] },
            },
        },
    })
}

/// One that nobody schedules and that needs nothing that a controller makes.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "pods" } },
        "spec": {
            "schedulerName": "nobody", "serviceAccountName": "runner", "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "server:1", "ports": [{ "containerPort": 8000 }] }],
        },
    })
}
