//! Slices of many pods, and the conditions, ports and families of single ones.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::Endpoint;
use serde_json::{Value, json};

use super::super::testing::{Bench, pod, read};
use super::*;

fn service(change: &Value) -> Service {
    let mut base = json!({
        "metadata": {"name": "model", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": "model"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    });
    json_patch::merge(&mut base, change);
    read(&base)
}

fn pod_json(number: usize, change: &Value) -> Value {
    let mut base = json!({
        "metadata": {
            "name": format!("p{number:03}"), "namespace": "default", "uid": format!("u{number:03}"),
            "labels": {"app": "model"},
        },
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": format!("10.0.{}.{}", number / 250, number % 250 + 1),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    json_patch::merge(&mut base, change);
    base
}

fn sizes(bench: &Bench) -> Vec<usize> {
    let mut sizes: Vec<usize> = bench.world.list::<EndpointSlice>(None).map(|slice| slice.endpoints.len()).collect();
    sizes.sort_unstable();
    sizes
}

fn stage(pods: usize) -> (Bench, EndpointSlices) {
    let mut bench = Bench::default();
    bench.add(service(&json!({})).into());
    for number in 0..pods {
        bench.add(Pod::clone(&pod(&pod_json(number, &json!({})))).into());
    }
    let mut slices = EndpointSlices::new(ENDPOINTS_PER_SLICE);
    bench.settle(&mut [&mut slices]);
    (bench, slices)
}

/// The endpoint of a pod, or none.
fn of_pod(service: &Service, change: &Value) -> Option<Endpoint> {
    let pods = [pod(&pod_json(1, change))];
    let mut writes = endpoint_slices(service, &pods, &[], &[], 100);
    let Some(Write::Create(Object::EndpointSlice(slice))) = writes.pop() else { panic!("{writes:?}") };
    slice.endpoints.first().cloned()
}

#[test]
fn two_hundred_and_fifty_pods_fill_three_slices() {
    let (bench, _) = stage(250);
    assert_eq!(sizes(&bench), [50, 100, 100]);
    let slices: Vec<&Arc<EndpointSlice>> = bench.world.list::<EndpointSlice>(None).collect();
    let all: BTreeSet<&String> =
        slices.iter().flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses).collect();
    assert_eq!(all.len(), 250, "each pod once");
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels[SERVICE_NAME], "model");
    assert_eq!(labels[MANAGED_BY], MANAGER);
    assert_eq!(labels["team"], "a");
    assert!(labels.contains_key("service.kubernetes.io/headless"));
    assert_eq!(slices[0].metadata.owner_references.as_ref().unwrap()[0].uid, "s");
    assert_eq!(slices[0].address_type, "IPv4");
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8000));
}

#[test]
fn a_change_of_one_pod_writes_one_slice() {
    let (mut bench, mut slices) = stage(250);
    let from = bench.changes.len();
    bench.remove(&id(&*pod(&pod_json(7, &json!({})))));
    bench.settle(&mut [&mut slices]);
    let written = bench.changes[from..].iter().filter(|change| matches!(change.object(), Object::EndpointSlice(_)));
    assert_eq!(written.count(), 1);
    assert_eq!(sizes(&bench).iter().sum::<usize>(), 249);
    // A new pod fills the only place that is free, or the last slice.
    bench.add(Pod::clone(&pod(&pod_json(300, &json!({})))).into());
    let from = bench.changes.len();
    bench.settle(&mut [&mut slices]);
    assert_eq!(bench.changes.len(), from + 1);
    assert_eq!(sizes(&bench), [50, 100, 100]);
}

#[test]
fn without_pods_one_empty_slice_remains() {
    let (mut bench, mut slices) = stage(3);
    for number in 0..3 {
        bench.remove(&id(&*pod(&pod_json(number, &json!({})))));
    }
    bench.settle(&mut [&mut slices]);
    assert_eq!(sizes(&bench), [0]);
    let from = bench.changes.len();
    bench.settle(&mut [&mut slices]);
    assert_eq!(bench.changes.len(), from, "and nothing more is written");
}

#[test]
fn a_lagging_cache_does_not_double_slices() {
    let mut bench = Bench::default();
    let key = bench.add(service(&json!({})).into()).id();
    bench.add(Pod::clone(&pod(&pod_json(1, &json!({})))).into());
    let mut slices = EndpointSlices::new(100);
    let stale = bench.world.clone();
    bench.step(&mut slices, &stale, &key);
    bench.step(&mut slices, &stale, &key);
    assert_eq!(sizes(&bench), [1]);
}

#[test]
fn conditions_follow_the_pod() {
    #[track_caller]
    fn check(service_change: &Value, pod_change: &Value, wanted: (bool, bool, bool)) {
        let endpoint = of_pod(&service(service_change), pod_change).unwrap();
        let found = endpoint.conditions.unwrap();
        assert_eq!((found.ready, found.serving, found.terminating), (Some(wanted.0), Some(wanted.1), Some(wanted.2)));
    }
    let plain = json!({});
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let publish = json!({"spec": {"publishNotReadyAddresses": true}});
    check(&plain, &plain, (true, true, false));
    check(&plain, &unready, (false, false, false));
    check(&plain, &leaving, (false, true, true));
    check(&publish, &unready, (true, false, false));
    check(&publish, &leaving, (true, true, true));
    let endpoint = of_pod(&service(&plain), &plain).unwrap();
    let target = endpoint.target_ref.unwrap();
    assert_eq!((target.name.as_deref(), target.uid.as_deref()), (Some("p001"), Some("u001")));
    assert_eq!(endpoint.node_name.as_deref(), Some("n"));
    assert_eq!(of_pod(&service(&plain), &json!({"status": {"podIP": null}})), None, "no address yet");
    assert_eq!(of_pod(&service(&plain), &json!({"status": {"phase": "Failed"}})), None);
}

#[test]
fn both_families_have_slices_of_their_own() {
    let both = service(&json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
    let ips = json!({"status": {"podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}]}});
    let writes = endpoint_slices(&both, &[pod(&pod_json(1, &ips))], &[], &[], 100);
    let found: Vec<(String, Vec<String>)> = writes
        .iter()
        .map(|write| {
            let Write::Create(Object::EndpointSlice(slice)) = write else { panic!("{write:?}") };
            (slice.address_type.clone(), slice.endpoints[0].addresses.clone())
        })
        .collect();
    assert_eq!(
        found,
        [("IPv4".to_owned(), vec!["10.0.0.9".to_owned()]), ("IPv6".to_owned(), vec!["fd00::9".to_owned()])]
    );
}

#[test]
fn pods_with_other_ports_stand_in_other_slices() {
    let mut bench = Bench::default();
    bench.add(service(&json!({})).into());
    bench.add(Pod::clone(&pod(&pod_json(1, &json!({})))).into());
    let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9000}]}]}});
    bench.add(Pod::clone(&pod(&pod_json(2, &other))).into());
    let nameless = json!({"spec": {"containers": [{"name": "c"}]}});
    bench.add(Pod::clone(&pod(&pod_json(3, &nameless))).into());
    let mut slices = EndpointSlices::new(100);
    bench.settle(&mut [&mut slices]);
    let mut ports: Vec<Option<i32>> = bench
        .world
        .list::<EndpointSlice>(None)
        .map(|slice| slice.ports.as_ref().and_then(|ports| ports.first()?.port))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [None, Some(8000), Some(9000)]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut bench = Bench::default();
    bench.add(service(&json!({"spec": {"selector": null}})).into());
    let foreign: EndpointSlice = read(&json!({
        "metadata": {"name": "f", "namespace": "default", "labels": {SERVICE_NAME: "model", MANAGED_BY: "somebody"}},
        "addressType": "IPv4",
        "endpoints": [],
    }));
    bench.add(foreign.into());
    bench.add(Pod::clone(&pod(&pod_json(1, &json!({})))).into());
    let from = bench.changes.len();
    bench.settle(&mut [&mut EndpointSlices::new(100)]);
    assert_eq!(bench.changes.len(), from);
}
