//! Kinds that we write besides: Leases, Events, EndpointSlices, roles.

use crate::replay::calls::{MERGE_PATCH, Recorder, Stopped};
use serde_json::{Value, json};

pub(super) async fn run(calls: &mut Recorder) -> Result<(), Stopped> {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";
    let lease = json!({ "metadata": { "name": "l" }, "spec": {
        "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 0,
    } });
    let made = calls.post("a lease", leases, lease.clone()).await?;
    let l = &format!("{leases}/l");
    let mut taken = made.clone();
    taken["spec"]["holderIdentity"] = json!("b");
    calls.put("a lease is taken", l, taken).await?;
    calls.put("a lease with a stale version", l, made).await?;
    calls.put("a lease without a version", l, lease).await?;
    let odd = json!({ "spec": { "renewTime": "yesterday" } });
    calls.patch("a lease with a time that is none", MERGE_PATCH, l, odd).await?;

    let events = "/apis/events.k8s.io/v1/namespaces/{ns}/events";
    let event = json!({
        "metadata": { "name": "e" }, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Scaling", "reason": "Scaled",
        "type": "Normal", "note": "1 to 2", "reportingController": "kpa.dev/autoscaler", "reportingInstance": "a",
        "regarding": { "kind": "ConfigMap", "namespace": "{ns}", "name": "a", "apiVersion": "v1" },
    });
    calls.post("an event", events, event.clone()).await?;
    calls.post("an event again", events, event).await?;
    calls.get("an event in the core group", "/api/v1/namespaces/{ns}/events/e").await?;
    let series = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" } });
    calls.patch("an event happens again", MERGE_PATCH, &format!("{events}/e"), series).await?;
    let about = "/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name%3Da,reason%3DScaled";
    calls.get("events about one object", about).await?;
    let reason = json!({ "metadata": { "name": "f" }, "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Scaled" });
    calls.post("an event about nothing", events, reason).await?;

    let slice = json!({
        "metadata": { "name": "slice", "labels": { "kubernetes.io/service-name": "by-hand" } }, "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8000 }],
        "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": true } }],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices";
    let made = calls.post("an endpoint slice", slices, slice).await?;
    let mut changed = made;
    changed["endpoints"][0]["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    calls.put("an endpoint leaves", &format!("{slices}/slice"), changed).await?;
    let family = json!({ "addressType": "IPv6" });
    calls.patch("refused: another family", MERGE_PATCH, &format!("{slices}/slice"), family).await?;
    calls.get("slices of a service", &format!("{slices}?labelSelector=kubernetes.io/service-name%3Dby-hand")).await?;
    calls.delete("an endpoint slice goes", &format!("{slices}/slice"), Value::Null).await?;
    Ok(())
}
