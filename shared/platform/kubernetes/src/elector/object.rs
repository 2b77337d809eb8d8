//! The record of an election as a Lease object, and back.
//!
//! Invariant: whatever a Lease holds can be read; what others wrote into the object beside the record stays.

use super::Place;
use crate::lease::{Record, Version, WallMicros};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use std::time::Duration;

/// What a Lease says. What is missing or makes no sense reads as released, as zero or as long ago.
pub(super) fn read(lease: &Lease) -> (Version, Record) {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    let micros = |time: Option<MicroTime>| time.map_or(0, |time| time.0.as_microsecond());
    let record = Record {
        holder: spec.holder_identity.unwrap_or_default(),
        held_for: Duration::from_secs(seconds),
        acquired: micros(spec.acquire_time),
        renewed: micros(spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or_default(),
    };
    (Version(lease.metadata.resource_version.clone().unwrap_or_default()), record)
}

/// The object that holds `record`, made from the one that was `stored`, to replace the version `over`.
pub(super) fn written(stored: Option<&Lease>, place: &Place, over: Option<&Version>, record: &Record) -> Lease {
    // A new object has nothing of one that is gone.
    let mut lease = stored.filter(|_| over.is_some()).cloned().unwrap_or_default();
    lease.metadata.namespace = Some(place.namespace.clone());
    lease.metadata.name = Some(place.name.clone());
    lease.metadata.resource_version = over.map(|version| version.0.clone());
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(record.holder.clone());
    spec.lease_duration_seconds = Some(i32::try_from(record.held_for.as_secs()).unwrap_or(i32::MAX));
    spec.acquire_time = micro_time(record.acquired);
    spec.renew_time = micro_time(record.renewed);
    spec.lease_transitions = Some(record.transitions);
    lease
}

fn micro_time(micros: WallMicros) -> Option<MicroTime> {
    jiff::Timestamp::from_microsecond(micros).ok().map(MicroTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { namespace: "kpa".into(), name: "kpa-autoscaler".into() }
    }

    fn record() -> Record {
        let held_for = Duration::from_secs(15);
        let (acquired, renewed) = (1_700_000_000_000_001, 1_700_000_002_000_002);
        Record { holder: "a_1".into(), held_for, acquired, renewed, transitions: 3 }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let lease = written(None, &place(), None, &record());
        assert_eq!(read(&lease), (Version(String::new()), record()));
        let text = serde_json::to_string(&lease).unwrap();
        assert!(text.contains("\"renewTime\":\"2023-11-14T22:13:22.000002Z\""), "{text}");
        assert_eq!(read(&serde_json::from_str(&text).unwrap()).1, record());
    }

    #[test]
    fn what_others_wrote_stays_unless_the_object_is_new() {
        let labelled = serde_json::json!({
            "metadata": { "name": "kpa-autoscaler", "labels": { "team": "models" }, "resourceVersion": "7", "uid": "u" },
            "spec": { "strategy": "OldestEmulationVersion" },
        });
        let labelled: Lease = serde_json::from_value(labelled).unwrap();
        let over = written(Some(&labelled), &place(), Some(&Version("9".into())), &record());
        assert_eq!(over.metadata.labels, labelled.metadata.labels);
        assert_eq!(over.spec.as_ref().unwrap().strategy.as_deref(), Some("OldestEmulationVersion"));
        assert_eq!(over.metadata.resource_version.as_deref(), Some("9"));
        let new = written(Some(&labelled), &place(), None, &record());
        assert_eq!((new.metadata.labels, new.metadata.uid, new.metadata.resource_version), (None, None, None));
    }

    #[test]
    fn whatever_a_lease_holds_can_be_read() {
        for spec in [
            serde_json::json!({}),
            serde_json::json!({ "leaseDurationSeconds": -1, "leaseTransitions": -7 }),
            serde_json::json!({ "leaseDurationSeconds": i32::MAX, "renewTime": "9999-12-30T22:00:00.999999Z" }),
        ] {
            let lease: Lease = serde_json::from_value(serde_json::json!({ "metadata": {}, "spec": spec })).unwrap();
            let (_, record) = read(&lease);
            let again = written(None, &place(), None, &Record { renewed: record.renewed.saturating_add(1), ..record });
            assert!(again.spec.is_some());
        }
        assert_eq!(read(&Lease::default()).1.holder, "");
        assert_eq!(micro_time(i64::MAX), None);
    }
}
