//! When the status of a ScaledWorkload is written, and what it says.
//!
//! Invariant: pure. What people must know at once is written at once, what merely moves at most every 15 s, and nothing
//! while nothing moves (kpa-behaviour 11.1).

use crate::objects::ScaledWorkloadStatus;
use domain::Replicas;
use domain::change::TRAFFIC_NOT_SEEN;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use platform::audience::{Shown, ShownCondition};
use std::time::Duration;

/// How often numbers that merely move are written.
pub const MOVES_EVERY: Duration = Duration::from_secs(15);
/// How often a status is written at most.
pub const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The status that says `shown`. What was said before keeps the times of its conditions, and the last count that was not
/// zero. `bypassing` are Services by which requests reach the pods without us.
#[must_use]
pub fn status(
    shown: &Shown,
    before: &ScaledWorkloadStatus,
    bypassing: &[String],
    now: Timestamp,
) -> ScaledWorkloadStatus {
    let count = |replicas: Replicas| i32::try_from(replicas.get()).unwrap_or(i32::MAX);
    let requested = count(shown.requested);
    ScaledWorkloadStatus {
        reference: shown.reference.clone(),
        targets: shown.targets.clone(),
        min_pods: count(shown.min),
        max_pods: shown.max.map_or_else(|| "unlimited".to_owned(), |max| max.to_string()),
        replicas: requested,
        ready_replicas: count(shown.ready),
        wanted_replicas: count(shown.wanted),
        last_replicas: (requested > 0).then_some(requested).or(before.last_replicas),
        restored: before.restored && matches!(shown.mode, "refused" | "released"),
        mode: shown.mode.to_owned(),
        in_flight: i32::try_from(shown.in_flight).unwrap_or(i32::MAX),
        queued: i32::try_from(shown.queued).unwrap_or(i32::MAX),
        reason: shown.reason.clone(),
        last_decision: shown.why.and_then(|why| serde_json::to_value(why).ok()),
        trouble: shown.trouble.clone(),
        problems: shown.problems.clone(),
        conditions: shown
            .conditions
            .iter()
            .map(|condition| self::condition(condition, before, bypassing, now))
            .collect(),
    }
}

fn condition(shown: &ShownCondition, before: &ScaledWorkloadStatus, bypassing: &[String], now: Timestamp) -> Condition {
    let status = if shown.status { "True" } else { "False" };
    let known = before.conditions.iter().find(|known| known.type_ == shown.kind && known.status == status);
    let mut message = shown.message.clone();
    if shown.kind == TRAFFIC_NOT_SEEN && shown.status && !bypassing.is_empty() {
        message.push_str(&format!("; Services that select its pods and bypass us: {}", bypassing.join(", ")));
    }
    Condition {
        type_: shown.kind.to_owned(),
        status: status.to_owned(),
        reason: shown.reason.clone(),
        message,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation: None,
    }
}

/// How soon `wanted` is to be written over `written`, which was written `ago`; `None`: it says the same.
#[must_use]
pub fn due_in(
    wanted: &ScaledWorkloadStatus,
    written: &ScaledWorkloadStatus,
    ago: Option<Duration>,
) -> Option<Duration> {
    let pause = if essence(wanted) != essence(written) {
        AT_MOST_EVERY
    } else if movement(wanted) != movement(written) {
        MOVES_EVERY
    } else {
        return None;
    };
    Some(ago.map_or(Duration::ZERO, |ago| pause.saturating_sub(ago)))
}

/// What people must know at once. The reason of a decision is none of it: its numbers move with every request.
fn essence(status: &ScaledWorkloadStatus) -> impl PartialEq + '_ {
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()))
        .collect();
    (
        (&status.reference, status.min_pods, &status.max_pods),
        (status.replicas, status.ready_replicas, status.last_replicas, status.restored),
        (&status.mode, &status.trouble, &status.problems),
        conditions,
    )
}

fn movement(status: &ScaledWorkloadStatus) -> impl PartialEq + '_ {
    (&status.targets, status.wanted_replicas, status.in_flight, status.queued, &status.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::RevisionId;

    fn shown() -> Shown {
        Shown {
            revision: RevisionId::new("prod", "a"),
            reference: "Deployment/a".into(),
            targets: "5/7".into(),
            min: Replicas::ZERO,
            max: None,
            requested: Replicas::new(3),
            ready: Replicas::new(3),
            wanted: Replicas::new(3),
            mode: "stable",
            in_flight: 15,
            queued: 0,
            reason: "concurrency 15 asks for 3".into(),
            why: None,
            trouble: None,
            problems: Vec::new(),
            conditions: vec![ShownCondition {
                kind: "TrafficNotSeen",
                status: true,
                reason: "NoRequest".into(),
                message: "no request".into(),
            }],
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_people_must_know_is_written_at_once_and_what_moves_every_15_s() {
        let first = status(&shown(), &ScaledWorkloadStatus::default(), &[], at(10));
        let in_seconds = |shown: &Shown, ago: Option<u64>| {
            due_in(&status(shown, &first, &[], at(20)), &first, ago.map(Duration::from_secs)).map(|due| due.as_secs())
        };
        assert_eq!(in_seconds(&shown(), Some(100)), None, "idle: never");
        let busier = Shown { in_flight: 16, reason: "concurrency 16 asks for 3".into(), ..shown() };
        assert_eq!([in_seconds(&busier, Some(4)), in_seconds(&busier, Some(40))], [Some(11), Some(0)]);
        let larger = Shown { requested: Replicas::new(4), ..shown() };
        assert_eq!([in_seconds(&larger, Some(4)), in_seconds(&larger, Some(0))], [Some(0), Some(1)]);
        assert_eq!(in_seconds(&larger, None), Some(0), "nothing was written by this process");
    }

    #[test]
    fn the_last_count_that_was_not_zero_and_the_time_of_a_condition_stay() {
        let first = status(&shown(), &ScaledWorkloadStatus::default(), &["model-lb".into()], at(10));
        assert!(first.conditions[0].message.ends_with("bypass us: model-lb"));
        let asleep = Shown { requested: Replicas::ZERO, mode: "asleep", ..shown() };
        let second = status(&asleep, &first, &[], at(20));
        assert_eq!((second.replicas, second.last_replicas), (0, Some(3)));
        assert_eq!(second.conditions[0].last_transition_time, Time(at(10)));
        let mut seen = shown();
        seen.conditions[0].status = false;
        assert_eq!(status(&seen, &first, &[], at(20)).conditions[0].last_transition_time, Time(at(20)));
    }

    #[test]
    fn having_been_restored_is_forgotten_once_it_is_ours_again() {
        let before = ScaledWorkloadStatus { restored: true, ..ScaledWorkloadStatus::default() };
        assert!(status(&Shown { mode: "refused", ..shown() }, &before, &[], at(1)).restored);
        assert!(!status(&shown(), &before, &[], at(1)).restored);
    }
}
