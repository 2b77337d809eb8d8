//! What activators and autoscalers tell each other: the wire format and the trace format (kpa-behaviour 7).
//!
//! Invariant: a [`Row`] holds cumulative readings in the sender's own clock, so a lost frame loses resolution, never
//! data. A row left out means "unchanged and idle"; a missing frame means nothing.

use crate::endpoint::EndpointId;
use crate::hash::{self, fnv};
use crate::revision::RevisionId;
use crate::time::Millis;
use crate::units::RequestMillis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Media type of a [`Frame`] and of an [`Ack`].
pub const FRAME_MEDIA_TYPE: &str = "application/vnd.kpa.frame+json";
/// Version of the format. Unknown fields are ignored; another major version is refused.
pub const FRAME_VERSION: u16 = 1;
/// Largest encoded frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most rows in a frame.
pub const FRAME_ROWS_MAX: usize = 50_000;
/// Most endpoints that a row names as unreachable.
pub const UNREACHABLE_MAX: usize = 16;
/// Most reporters an autoscaler listens to.
pub const REPORTERS_MAX: usize = 64;

/// Names one activator or autoscaler process. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReporterId(Arc<str>);

impl ReporterId {
    /// The process called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReporterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One report of one activator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// [`FRAME_VERSION`].
    pub v: u16,
    /// Who reports.
    pub reporter: ReporterId,
    /// A number drawn at the reporter's start: another one means another life of it.
    pub boot: u64,
    /// The number of the reporter's latest one-second tick since its boot; the first regular frame is tick 1. An urgent
    /// frame carries the number of the tick before it.
    pub tick: u64,
    /// Grows by one with every frame of a boot, regular or urgent.
    pub seq: u64,
    /// The reporter's clock at the reading, since its boot.
    pub at: Millis,
    /// The reporter is about to stop; its counts are final.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leaving: bool,
    /// The reporter takes no new requests and finishes what it has: it gives up what it shares with others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// The [`Sharing::fingerprint`] that the reporter goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<u64>,
    /// Sent between ticks because something cannot wait. Makes no sample.
    #[serde(default, skip_serializing_if = "is_false")]
    pub urgent: bool,
    /// Carries a row for every revision the reporter has ever counted, not only the changed ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub complete: bool,
    /// Numbers introduced for revisions, once per boot and receiver (again after `resync`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<(u32, RevisionId)>,
    /// The readings.
    #[serde(default)]
    pub rows: Vec<Row>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The readings of one revision. On the wire an array in field order:
/// `[n, area, requests, in_flight, queued, endpoints_version]`, then, only if present, the load per endpoint, the
/// endpoints no longer sent to, the endpoints held for others and those that cannot be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The number given to the revision in `names`.
    pub n: u32,
    /// Integral of concurrency since boot.
    pub area: RequestMillis,
    /// Requests that arrived since boot.
    pub requests: u64,
    /// Requests now running on a replica.
    pub in_flight: u32,
    /// Requests now waiting.
    pub queued: u32,
    /// The version of the endpoint list in use.
    pub endpoints_version: u64,
    /// Requests in flight per endpoint, if asked for by `load_of`.
    pub endpoints: Vec<(EndpointId, u32)>,
    /// Endpoints that were named by a drain directive and are no longer sent to.
    pub drained: Vec<EndpointId>,
    /// Endpoints that are not the reporter's to use any more and still carry requests of its.
    pub held: Vec<EndpointId>,
    /// Endpoints that the platform calls ready and that cannot be connected to, at most [`UNREACHABLE_MAX`].
    pub unreachable: Vec<EndpointId>,
}

impl Row {
    /// Requests the reporter has now, running and waiting.
    #[must_use]
    pub const fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.queued)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let head = (self.n, self.area, self.requests, self.in_flight, self.queued, self.endpoints_version);
        let (n, area, requests, in_flight, queued, version) = head;
        let Self { endpoints, drained, held, unreachable, .. } = self;
        if !unreachable.is_empty() {
            (n, area, requests, in_flight, queued, version, endpoints, drained, held, unreachable).serialize(serializer)
        } else if !held.is_empty() {
            (n, area, requests, in_flight, queued, version, endpoints, drained, held).serialize(serializer)
        } else if endpoints.is_empty() && drained.is_empty() {
            head.serialize(serializer)
        } else {
            (n, area, requests, in_flight, queued, version, endpoints, drained).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> serde::de::Visitor<'de> for RowVisitor {
            type Value = Row;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array [n, area, requests, in_flight, queued, endpoints_version, …]")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Row, A::Error> {
                let missing = |index| serde::de::Error::invalid_length(index, &"at least 6 numbers");
                let row = Row {
                    n: seq.next_element()?.ok_or_else(|| missing(0))?,
                    area: seq.next_element()?.ok_or_else(|| missing(1))?,
                    requests: seq.next_element()?.ok_or_else(|| missing(2))?,
                    in_flight: seq.next_element()?.ok_or_else(|| missing(3))?,
                    queued: seq.next_element()?.ok_or_else(|| missing(4))?,
                    endpoints_version: seq.next_element()?.ok_or_else(|| missing(5))?,
                    endpoints: seq.next_element()?.unwrap_or_default(),
                    drained: seq.next_element()?.unwrap_or_default(),
                    held: seq.next_element()?.unwrap_or_default(),
                    unreachable: seq.next_element()?.unwrap_or_default(),
                };
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(row)
            }
        }
        deserializer.deserialize_seq(RowVisitor)
    }
}

/// The answer to a frame, and how an autoscaler talks to activators. Complete each time: what is not named is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ack {
    /// The frame that is acknowledged.
    pub seq: u64,
    /// Send `names` and every row again: this autoscaler does not know them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resync: bool,
    /// Which autoscaler acts now, if this one knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<ReporterId>,
    /// Revisions whose load per endpoint is wanted in the next rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_of: Vec<RevisionId>,
    /// Endpoints to send nothing new to. One that is no longer named may be used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drain: Vec<(RevisionId, Vec<EndpointId>)>,
    /// Revisions whose start has failed, with when to try again: held requests are refused with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_failed: Vec<StartFailed>,
    /// How activators share replicas with a container-concurrency. Without it what was told last stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
}

/// How activators share the replicas whose concurrency is limited: each replica is one activator's alone, which rendezvous
/// hashing over `members` says (kpa-behaviour 4.10).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sharing {
    /// Those that share, in order of their names.
    pub members: Vec<ReporterId>,
    /// Everybody goes by `members`: what became theirs may be used. Until then each one only gives up what is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub settled: bool,
    /// Replicas that still carry requests of an activator that gave them up: nobody uses them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<(RevisionId, Vec<EndpointId>)>,
    /// Grows with every answer of this autoscaler's life: two that overtook each other are told apart by it.
    #[serde(default)]
    pub number: u64,
    /// By this word activators know each other; drawn at the autoscaler's start, so another one means another life.
    #[serde(default)]
    pub word: String,
}

impl Sharing {
    /// Tells one list of members from another: FNV-1a over their names, because both sides must compute the same in any
    /// version of ours.
    #[must_use]
    pub fn fingerprint(members: &[ReporterId]) -> u64 {
        members.iter().fold(hash::BASIS, |hash, member| fnv(fnv(hash, member.as_str().as_bytes()), &[0]))
    }

    /// Whose `endpoint` is: the member for which the hash of both names is greatest. A member that comes or goes moves
    /// only what becomes or was its own.
    #[must_use]
    pub fn owner<'a>(members: &'a [ReporterId], endpoint: &EndpointId) -> Option<&'a ReporterId> {
        let score = |member: &ReporterId| {
            hash::mix(fnv(fnv(fnv(hash::BASIS, member.as_str().as_bytes()), &[0]), endpoint.as_str().as_bytes()))
        };
        members.iter().max_by_key(|member| score(member))
    }
}

/// A start that failed (kpa-behaviour 5.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailed {
    /// Which revision.
    pub revision: RevisionId,
    /// Why, for the client.
    pub reason: String,
    /// When the next start may be asked for, in milliseconds from now.
    pub retry_after: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rows: Vec<Row>) -> Frame {
        Frame {
            v: FRAME_VERSION,
            reporter: ReporterId::new("a-1"),
            boot: 7,
            tick: 3,
            seq: 4,
            at: Millis(3001),
            leaving: false,
            draining: false,
            sharing: None,
            urgent: false,
            complete: false,
            names: vec![(0, RevisionId::new("default", "model"))],
            rows,
        }
    }

    #[test]
    fn rows_are_positional_and_round_trip() {
        let plain = || Row { n: 0, area: RequestMillis(1500), requests: 3, in_flight: 1, ..Row::default() };
        let cut_off = Row { unreachable: vec![EndpointId::new("r-3")], ..plain() };
        let full =
            Row { endpoints: vec![(EndpointId::new("r-1"), 2)], drained: vec![EndpointId::new("r-2")], ..plain() };
        let text = serde_json::to_string(&frame(vec![plain(), full, cut_off])).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"reporter":"a-1","boot":7,"tick":3,"seq":4,"at":3001,"names":[[0,"default/model"]],"rows":[[0,1500,3,1,0,0],[0,1500,3,1,0,0,[["r-1",2]],["r-2"]],[0,1500,3,1,0,0,[],[],[],["r-3"]]]}"#
        );
        let back: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn what_is_held_stands_after_what_may_be_left_out() {
        let row = Row { n: 1, held: vec![EndpointId::new("r-1")], ..Row::default() };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, r#"[1,0,0,0,0,0,[],[],["r-1"]]"#);
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }

    #[test]
    fn replicas_are_shared_evenly_and_move_only_to_and_from_who_comes_or_goes() {
        let member = |n: usize| ReporterId::new(&format!("kpa-activator-{n}"));
        let endpoints: Vec<_> = (0..1000).map(|n| EndpointId::new(&format!("pod-{n}"))).collect();
        let three: Vec<_> = (0..3).map(member).collect();
        let owners = |members: &[ReporterId]| -> Vec<ReporterId> {
            endpoints.iter().map(|endpoint| Sharing::owner(members, endpoint).unwrap().clone()).collect()
        };
        let before = owners(&three);
        for member in &three {
            let share = before.iter().filter(|owner| *owner == member).count();
            assert!((250..420).contains(&share), "{member}: {share}");
        }
        let after = owners(&[three.clone(), vec![member(3)]].concat());
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == member(3)));
        assert!((180..320).contains(&moved.count()));
        assert_eq!(Sharing::owner(&[], &endpoints[0]), None);
        assert_ne!(Sharing::fingerprint(&three), Sharing::fingerprint(&three[..2]));
    }

    #[test]
    fn later_minor_versions_are_understood() {
        let text = r#"{"v":1,"reporter":"a","boot":1,"tick":1,"seq":1,"at":1,"colour":"blue","rows":[[0,1,1,0,0,0,[],[],[],[],"new"]]}"#;
        let frame: Frame = serde_json::from_str(text).unwrap();
        assert_eq!(frame.rows.len(), 1);
        assert!(serde_json::from_str::<Row>("[1,2,3]").is_err());
    }
}
