//! The pure parts of the chaos suite, tested by themselves: the plan from the seed, the ledger and the judge.

#![expect(dead_code, reason = "the suite uses the rest of them")]

mod content;
mod judge;
mod ledger;
mod plan;

use content::Ask;
use judge::{CONTENT, CUT, Excuse, Failed, Failure, History, NOT_CONNECTED, excuse, violations};
use ledger::Ledger;
use plan::{ALL, Edit, Fault, GUEST, Plan, SERVICES, is_active};
use std::collections::BTreeSet;
use std::time::Duration;

const LENGTH: Duration = Duration::from_secs(18);

#[test]
fn a_plan_follows_from_its_seed() {
    let plan = |seed| Plan::new(seed, LENGTH, 200);
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7).strokes, plan(8).strokes);
    assert_ne!(plan(7).edits, plan(8).edits);
}

#[test]
fn every_plan_has_every_fault_in_its_time() {
    for seed in 0..100 {
        for length in [LENGTH, Duration::from_secs(600)] {
            let plan = Plan::new(seed, length, 200);
            let kinds: BTreeSet<&str> = plan.strokes.iter().map(|stroke| stroke.fault.name()).collect();
            assert_eq!(kinds.len(), 8, "seed {seed}: {kinds:?}");
            assert!(plan.strokes.is_sorted_by_key(|stroke| stroke.at), "seed {seed}");
            assert!(plan.strokes.iter().all(|stroke| stroke.at < length && stroke.service < SERVICES));
            assert_eq!(plan.strokes.iter().filter(|stroke| stroke.fault == Fault::LoseState).count(), 1);
            let stops = plan
                .strokes
                .iter()
                .filter_map(|stroke| if let Fault::Stop { ms } = stroke.fault { Some(ms) } else { None });
            let moves = plan.strokes.iter().filter_map(|stroke| {
                if let Fault::MoveClock { seconds } = stroke.fault { Some(seconds) } else { None }
            });
            assert!(moves.clone().next().is_some_and(|first| first < 0), "seed {seed}: it goes back");
            assert!(moves.clone().zip(moves.skip(1)).all(|(one, next)| (one < 0) != (next < 0)), "seed {seed}");
            assert!(stops.clone().count() > 0 && stops.into_iter().all(|ms| (1_000..=3_000).contains(&ms)));
        }
    }
}

#[test]
fn what_an_edit_breaks_or_removes_comes_back() {
    let (mut breaks, mut removals) = (0, 0);
    for seed in 0..100 {
        let plan = Plan::new(seed, LENGTH, 200);
        assert_eq!(plan.edits.len(), 200);
        let (mut broken, mut away) = (None, false);
        for edit in plan.edits {
            match edit {
                Edit::Harmless(service) | Edit::Rollout(service) => {
                    assert!(service < SERVICES && broken != Some(service), "seed {seed}: {edit:?}");
                }
                Edit::Break(service) => {
                    assert_eq!(broken.replace(service), None, "seed {seed}");
                    breaks += 1;
                }
                Edit::Mend(service) => assert_eq!(broken.take(), Some(service), "seed {seed}"),
                Edit::Remove => {
                    assert!(!std::mem::replace(&mut away, true), "seed {seed}");
                    removals += 1;
                }
                Edit::Restore => assert!(std::mem::take(&mut away), "seed {seed}"),
            }
        }
        assert_eq!((broken, away), (None, false), "seed {seed}");
    }
    assert!(breaks > 100 && removals > 100, "{breaks} and {removals}");
}

#[test]
fn every_service_has_a_quiet_time_long_enough_to_fall_asleep() {
    for service in 0..ALL {
        let looks: Vec<bool> = (0..480).map(|tenth| is_active(service, Duration::from_millis(tenth * 100))).collect();
        let longest = looks.split(|active| *active).map(<[bool]>::len).max().unwrap();
        assert!((115..=125).contains(&longest), "{service}: {longest} tenths");
        assert!(looks.iter().filter(|active| **active).count() > 150, "{service}");
    }
    assert!((0..480).all(|tenth| (0..SERVICES).any(|service| is_active(service, Duration::from_millis(tenth * 100)))));
}

#[test]
fn an_ask_survives_its_path_and_its_answer_is_its_own() {
    for ask in [Ask::Unary { bytes: 100, ms: 7 }, Ask::Stream { events: 3, ms: 0 }] {
        assert_eq!(ask.to_string().parse(), Ok(ask));
        let (one, other) = (ask.answer("a", 5).concat(), ask.answer("b", 5).concat());
        assert_ne!(one, other);
        assert_ne!(one, ask.answer("a", 6).concat(), "the length of the request is answered too");
        assert!(ask.answer("a", 5).len() > 1, "it has a middle");
    }
    assert_eq!("/healthz".parse::<Ask>(), Err(()));
    assert_eq!((content::filler("abc", 9).as_slice(), content::filler("abc", 0).len()), (&b"abc|abc|a"[..], 0));
}

/// A request to the service `one` between 10 000 and 11 000 that failed so.
fn failed(status: Option<u16>, code: &str) -> Failed {
    let failure = Failure { status, code: code.into(), what: String::new() };
    Failed { id: "p1".into(), service: "one", began: 10_000, ended: 11_000, failure }
}

fn ledger(lines: &str) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.add("one.7", lines);
    ledger
}

#[test]
fn a_failure_on_a_replica_that_lives_is_not_excused() {
    let ledger = ledger("9000 up\n10100 start p1 POST\n10200 left p1\n");
    let mut history = History::default();
    history.killed.insert("one.8".into(), 10_500);
    for (status, code) in [(Some(502), "broken"), (Some(200), CUT), (Some(503), "queue_full")] {
        assert_eq!(excuse(&failed(status, code), &ledger, &history), None, "{code}");
    }
}

#[test]
fn a_killed_replica_excuses_what_it_had_not_ended() {
    let mut history = History::default();
    history.killed.insert("one.7".into(), 10_500);
    let begun = "10100 start p1 POST\n";
    for (lines, expected) in [
        (begun.to_owned(), Some(Excuse::Killed)),
        (format!("{begun}10450 end p1\n"), Some(Excuse::Killed)),
        (format!("{begun}9000 end p1\n"), None),
    ] {
        assert_eq!(excuse(&failed(Some(502), "broken"), &ledger(&lines), &history), expected, "{lines}");
    }
    assert_eq!(excuse(&failed(Some(200), CONTENT), &ledger(begun), &history), None, "never for wrong content");
    // The last beginning counts: it was begun again on a replica that lived.
    let mut again = ledger(begun);
    again.add("one.9", "10600 start p1 GET\n");
    assert_eq!(excuse(&failed(Some(502), "broken"), &again, &history), None);
}

#[test]
fn a_reset_excuses_exactly_what_it_hit() {
    let hit = ledger("10100 start p1 GET\n10200 broke p1\n10200 left p1\n");
    assert_eq!(excuse(&failed(Some(200), CUT), &hit, &History::default()), Some(Excuse::Reset));
    let other = ledger("10100 start p1 GET\n10100 start p2 GET\n10200 broke p2\n");
    assert_eq!(excuse(&failed(Some(200), CUT), &other, &History::default()), None);
}

#[test]
fn what_was_never_begun_is_excused_near_a_replica_that_could_not_read_it() {
    let told = |replica: &str, at: u64, code| {
        let history = History { killed: [(replica.to_owned(), at)].into(), ..History::default() };
        let mut refused = Ledger::default();
        refused.add(replica, &format!("{at} refuse\n"));
        let by_a_kill = excuse(&failed(Some(502), code), &Ledger::default(), &history);
        if code == "broken" {
            assert_eq!(by_a_kill, excuse(&failed(Some(502), code), &refused, &History::default()));
        }
        let overslept = History { overslept: vec![(replica.to_owned(), at)], ..History::default() };
        assert_eq!(by_a_kill, excuse(&failed(Some(502), code), &Ledger::default(), &overslept));
        by_a_kill
    };
    assert_eq!(told("one.7", 10_500, "broken"), Some(Excuse::Unread));
    assert_eq!(told("one.7", 9_500, "broken"), Some(Excuse::Unread), "a moment before it was sent");
    assert_eq!(told("one.7", 8_000, "broken"), None, "that was long ago");
    assert_eq!(told("one.7", 11_500, "broken"), None, "that came later");
    assert_eq!(told("two.7", 10_500, "broken"), None, "another service");
    assert_eq!(told("one.7", 10_500, "unreachable"), None, "not sent: another replica could have had it");
}

#[test]
fn a_replica_that_refuses_for_a_moment_excuses_nothing_that_was_not_sent() {
    let mut ledger = Ledger::default();
    ledger.add("one.7", "10500 refuse\n");
    for code in ["unreachable", "queue_full", "start_failed"] {
        assert_eq!(excuse(&failed(Some(502), code), &ledger, &History::default()), None, "{code}");
    }
}

#[test]
fn a_service_that_is_away_is_unknown_and_nothing_else() {
    let history = History { away: vec![("one", 10_900, 12_000)], ..History::default() };
    let told = |status, code| excuse(&failed(status, code), &Ledger::default(), &history);
    assert_eq!(told(Some(404), "unknown_host"), Some(Excuse::Away));
    assert_eq!(told(None, CUT), Some(Excuse::Away), "refused while its body was on its way");
    assert_eq!(told(Some(200), CUT), None);
    assert_eq!(told(Some(502), "broken"), None);
    let held = |what: &str| {
        let mut failed = failed(Some(503), "start_failed");
        failed.failure.what = what.to_owned();
        excuse(&failed, &Ledger::default(), &history)
    };
    assert_eq!(held("the service was removed"), Some(Excuse::Away));
    assert_eq!(held("ended with status 1"), None);
    let earlier = History { away: vec![("one", 9_000, 9_999)], ..History::default() };
    assert_eq!(excuse(&failed(Some(404), "unknown_host"), &Ledger::default(), &earlier), None);
}

#[test]
fn the_end_of_kpa_excuses_what_was_in_flight_and_what_could_not_connect() {
    let history = History { kpa_killed: Some((10_500, 10_600, 12_000)), ..History::default() };
    let told = |failed: Failed| excuse(&failed, &Ledger::default(), &history);
    assert_eq!(told(failed(None, CUT)), Some(Excuse::KpaKilled));
    let from = |began, code| Failed { began, ended: began + 50, ..failed(None, code) };
    assert_eq!(told(from(10_700, NOT_CONNECTED)), Some(Excuse::KpaDown));
    assert_eq!(told(from(12_100, NOT_CONNECTED)), None, "the next life listens");
    assert_eq!(told(from(10_700, CUT)), Some(Excuse::KpaKilled), "sent on a connection of the killed one");
    assert_eq!(told(from(11_700, CUT)), None, "the next life keeps what it takes");
    assert_eq!(excuse(&from(10_700, CUT), &ledger("10710 start p1 POST\n"), &history), None, "it took this one");
}

#[test]
fn limits_repeats_and_nonsense_are_violations() {
    let fine = ledger("1 up\n2 start p1 POST\n3 end p1\n2 start g1 GET\n2 start g1 GET\n4 refuse\n");
    assert_eq!(violations(&fine), Vec::<String>::new());
    for lines in [
        "1 start p1 POST\n2 start p1 POST\n",
        "1 start g1 GET\n2 start g1 GET\n3 start g1 GET\n",
        "1 start p1 POST\n1 over p1\n",
        "1 end p1\n",
        "1 dance\n",
        "x up\n",
        "1 start p1\n",
    ] {
        assert_eq!(violations(&ledger(lines)).len(), 1, "{lines}");
    }
}

#[test]
fn the_guest_is_not_one_of_those_that_are_judged_in_full() {
    assert_eq!((GUEST, ALL), (SERVICES, SERVICES + 1));
}
