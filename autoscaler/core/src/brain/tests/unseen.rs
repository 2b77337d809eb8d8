//! Workloads of which no request ever came through an activator (kpa-behaviour 1.7).

use super::manual::idle;
use super::*;
use domain::change::TRAFFIC_NOT_SEEN;

/// Three replicas without a request for two minutes: what is wanted of them then, and what the condition says.
fn after_two_idle_minutes(told: Option<Change>, requests: u64) -> (u32, Option<bool>) {
    let settings = BrainSettings { unseen_traffic_holds: true, ..BrainSettings::default() };
    let (mut brain, mut commands) = (Brain::new(at(0), settings), Vec::new());
    let mut step = |millis, event| brain.handle(at(millis), event, &mut commands);
    step(0, Event::Leadership(true));
    step(0, Event::Change(applied(revision("model", six_and_five()))));
    if let Some(change) = told {
        step(0, Event::Change(change));
    }
    step(0, Event::Change(Change::Activators(vec![ReporterId::new("a")])));
    step(
        0,
        Event::Change(Change::Replicas {
            revision: RevisionId::new("default", "model"),
            requested: Replicas::new(3),
            ready: Replicas::new(3),
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: None,
        }),
    );
    step(0, Event::Change(Change::Synced));
    for millis in (10..120_000).step_by(10) {
        if millis % 1000 == 130 {
            let mut frame = idle("a", millis / 1000 + 1);
            frame.rows[0].requests = requests;
            step(millis, Event::Frame(frame));
        }
        if millis % 100 == 50 {
            step(millis, Event::Tick);
        }
    }
    let status = brain.statuses(at(120_000)).remove(0);
    let condition = status.conditions.iter().find(|condition| condition.kind == TRAFFIC_NOT_SEEN);
    (status.wanted.get(), condition.map(|condition| condition.status))
}

#[test]
fn what_was_never_asked_for_is_not_taken_away() {
    assert_eq!(after_two_idle_minutes(None, 0), (3, Some(true)));
    assert_eq!(after_two_idle_minutes(None, 1).1, Some(false), "a request, however long ago");
    assert!(after_two_idle_minutes(None, 1).0 < 3);
}

/// Everything was restarted, and activators count from zero.
#[test]
fn what_an_earlier_autoscaler_has_seen_counts() {
    let seen = Change::TrafficSeen(RevisionId::new("default", "model"));
    let (wanted, condition) = after_two_idle_minutes(Some(seen), 0);
    assert!(wanted < 3, "{wanted}");
    assert_eq!(condition, Some(false), "and is handed on");
    let other = Change::TrafficSeen(RevisionId::new("default", "other"));
    assert_eq!(after_two_idle_minutes(Some(other), 0), (3, Some(true)));
}
