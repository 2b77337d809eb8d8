use super::*;
use domain::Endpoint as Listed;
use domain::origin::Resolved;
use domain::{Probe, ProbeCheck};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// Counts how often somebody began to wait where nobody waited, and how often others might have room.
#[derive(Default)]
struct Edges(AtomicU32, AtomicU32);

impl Edge for Arc<Edges> {
    fn waits(&self, _: Timestamp, _: bool, first: bool) {
        self.0.fetch_add(u32::from(first), Ordering::Relaxed);
    }

    fn may_borrow(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

const NOW: Timestamp = Timestamp::ZERO;

fn limits(cc: u32, depth: u32) -> Arc<Limits> {
    Arc::new(Limits {
        container_concurrency: Resolved::default_value(NonZeroU32::new(cc)),
        queue_depth: Resolved::default_value(depth),
        ..Limits::default()
    })
}

fn gate(cc: u32, depth: u32) -> (Arc<Gate>, Arc<Edges>) {
    let edges = Arc::<Edges>::default();
    (Gate::new(limits(cc, depth), 1, Box::new(Arc::clone(&edges))), edges)
}

fn listed(names: &[&str]) -> Vec<Listed> {
    let endpoint = |name: &&str| Listed {
        id: EndpointId::new(name),
        address: "127.0.0.1:1".parse().unwrap(),
        state: EndpointState::Ready,
        early_probe: None,
    };
    names.iter().map(endpoint).collect()
}

fn waiting(entry: Entry) -> Waiting {
    match entry {
        Entry::Wait(waiting) => waiting,
        other @ (Entry::Go(_) | Entry::Full(_) | Entry::StartFailed(_)) => panic!("{other:?}"),
    }
}

fn going(entry: Entry) -> HeldSlot {
    match entry {
        Entry::Go(slot) => slot,
        other @ (Entry::Wait(_) | Entry::Full(_) | Entry::StartFailed(_)) => panic!("{other:?}"),
    }
}

fn granted(waiting: &mut Waiting) -> Option<Answer> {
    waiting.granted().now_or_never()
}

fn usable(gate: &Gate) -> Vec<String> {
    gate.endpoints().iter().filter(|(_, usable)| *usable).map(|(endpoint, _)| endpoint.id.to_string()).collect()
}

#[test]
fn the_door_is_open_only_for_unlimited_warm_traffic_with_nobody_waiting() {
    let (unlimited, _) = gate(0, 10);
    assert!(!unlimited.is_open());
    let first = waiting(unlimited.enter(NOW, Ask::default()));
    unlimited.set_endpoints(NOW, 1, &listed(&["a"]));
    assert!(unlimited.is_open(), "who waited has been granted");
    drop(first);
    unlimited.set_endpoints(NOW, 2, &[]);
    assert!(!unlimited.is_open());

    let (limited, _) = gate(5, 10);
    limited.set_endpoints(NOW, 1, &listed(&["a"]));
    assert!(!limited.is_open());
    limited.configure(limits(0, 10));
    assert!(limited.is_open(), "the limit was taken away");
}

#[test]
fn grants_go_in_order_and_what_nobody_takes_goes_to_the_next() {
    let (gate, edges) = gate(1, 10);
    let mut line: Vec<Waiting> = (0..4).map(|_| waiting(gate.enter(NOW, Ask::default()))).collect();
    assert_eq!((gate.waiting(), edges.0.load(Ordering::Relaxed)), (4, 1));
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    assert_eq!(gate.waiting(), 3);
    assert!(granted(&mut line[1]).is_none());
    // The first is granted and leaves without looking: its slot is the second's.
    drop(line.remove(0));
    let slot = granted(&mut line[0]).unwrap().unwrap();
    // The next leaves while it waits: it is nobody's turn but the last one's.
    drop(line.remove(1));
    assert_eq!(gate.waiting(), 1);
    drop(slot);
    let slot = granted(&mut line[1]).unwrap().unwrap();
    drop(slot);
    drop(line);
    assert_eq!(gate.waiting(), 0);
    drop(going(gate.enter(NOW, Ask::default())));
    drop(waiting({
        gate.set_endpoints(NOW, 2, &[]);
        gate.enter(NOW, Ask::default())
    }));
    assert_eq!(edges.0.load(Ordering::Relaxed), 2, "told once each time that a queue forms");
}

#[test]
fn who_comes_back_stands_at_the_head() {
    let (gate, _) = gate(1, 1);
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    let slot = going(gate.enter(NOW, Ask::default()));
    let mut newcomer = waiting(gate.enter(NOW, Ask::default()));
    assert!(matches!(gate.enter(NOW, Ask::default()), Entry::Full(1)));
    // However full the queue is: it had its turn already.
    let mut returning = waiting(gate.reenter(NOW, Ask::default()));
    assert!(returning.returns && !newcomer.returns);
    drop(slot);
    assert!(granted(&mut newcomer).is_none());
    let slot = granted(&mut returning).unwrap().unwrap();
    drop(slot);
    assert!(granted(&mut newcomer).unwrap().is_ok());
}

#[test]
fn suspects_get_nothing_while_others_can_be_asked() {
    let (gate, _) = gate(0, 10);
    gate.set_endpoints(NOW, 1, &listed(&["a", "b"]));
    let (a, b) = (EndpointId::new("a"), EndpointId::new("b"));
    let before = gate.version();
    gate.set_suspect(NOW, &a, true);
    assert!(gate.version() > before, "workers look again");
    assert_eq!(usable(&gate), ["b"]);
    gate.set_suspect(NOW, &b, true);
    assert_eq!(usable(&gate), ["a", "b"], "all suspect is none suspect");
    gate.set_suspect(NOW, &a, false);
    assert_eq!(usable(&gate), ["a"]);
    // The one that is trusted has to drain: the suspect is all that is left.
    gate.set_drain(NOW, BTreeSet::from([a.clone()]));
    assert_eq!((usable(&gate), gate.drained()), (vec!["b".to_owned()], vec![a]));
    gate.set_drain(NOW, BTreeSet::new());
    gate.set_endpoints(NOW, 2, &listed(&["b"]));
    assert_eq!(usable(&gate), ["b"]);
}

#[test]
fn lists_that_are_older_than_what_is_known_change_nothing() {
    let (gate, _) = gate(0, 10);
    gate.set_endpoints(NOW, 5, &listed(&["a"]));
    gate.set_endpoints(NOW, 4, &[]);
    assert_eq!((usable(&gate), gate.endpoints_version()), (vec!["a".to_owned()], 5));
}

#[test]
fn a_replica_that_left_takes_its_slots_with_it() {
    let (gate, _) = gate(1, 10);
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    let old = going(gate.enter(NOW, Ask::default()));
    let mut next = waiting(gate.enter(NOW, Ask::default()));
    let (_, _, before) = gate.snapshot();
    gate.set_endpoints(NOW, 2, &listed(&["b"]));
    let slot = granted(&mut next).unwrap().unwrap();
    assert!(before[0].as_ref().unwrap().leaving.load(Ordering::Relaxed));
    let (_, _, after) = gate.snapshot();
    assert_eq!(after[slot.seat_index() as usize].as_ref().unwrap().id, EndpointId::new("b"));
    // The old slot means nothing any more, although its seat is used again.
    drop(old);
    assert!(matches!(gate.enter(NOW, Ask::default()), Entry::Wait(_)));
}

#[test]
fn a_failed_start_refuses_until_the_next_may_be_asked_for() {
    let (gate, _) = gate(0, 10);
    let mut held = waiting(gate.enter(NOW, Ask::default()));
    let at = Timestamp::from_secs;
    let failure = StartFailure { reason: "no such file".into(), retry_at: at(20) };
    gate.fail_start(&failure);
    assert_eq!(granted(&mut held).unwrap().unwrap_err(), failure);
    assert!(matches!(gate.enter(at(19), Ask::default()), Entry::StartFailed(_)));
    assert_eq!(gate.warmth(), Warmth::Asleep);
    let again = gate.enter(at(20), Ask::default());
    assert!(matches!(again, Entry::Wait(_)), "the next request asks for the next start");
    assert_eq!(gate.warmth(), Warmth::Waking { since: at(20) });
    // A replica that became ready meanwhile is worth more than the news of a failure.
    gate.set_endpoints(at(21), 1, &listed(&["a"]));
    gate.fail_start(&failure);
    assert!(matches!(gate.enter(at(22), Ask::default()), Entry::Go(_)));
    assert_eq!(gate.warmth(), Warmth::Warm { since: at(21) });
}

#[test]
fn patience_follows_the_warmth() {
    let (gate, _) = gate(1, 10);
    let at = Timestamp::from_secs;
    let held = waiting(gate.enter(at(100), Ask::default()));
    assert_eq!(gate.patience(at(100)).0, at(100 + 1800));
    gate.set_endpoints(at(160), 1, &listed(&["a"]));
    assert_eq!(gate.patience(at(100)).0, at(160 + 60), "its full time from the first ready replica");
    let second = waiting(gate.enter(at(170), Ask::default()));
    gate.set_endpoints(at(180), 2, &[]);
    assert_eq!(gate.patience(at(170)).0, at(180 + 1800), "the last replica died while somebody waits");
    drop((held, second));
}

fn cold(id: &str, check: ProbeCheck) -> Listed {
    let second = Duration::from_secs(1);
    let probe = Probe { check, timeout: second, period: second, failure_threshold: 3, success_threshold: 1 };
    Listed { state: EndpointState::Starting, early_probe: Some(probe), ..listed(&[id]).remove(0) }
}

#[test]
fn a_cold_replica_is_opened_by_a_pass_and_closed_by_a_refusal() {
    let (gate, _) = gate(0, 10);
    let (a, at) = (EndpointId::new("a"), Timestamp::from_secs);
    let mut held = waiting(gate.enter(at(1), Ask::default()));
    gate.set_endpoints(at(2), 1, &[cold("a", ProbeCheck::Tcp { port: None })]);
    assert_eq!(gate.cold(), ColdCount { probed: 0, unprobed: 1 });
    let taken = gate.take_cold(9);
    assert_eq!((taken.len(), taken[0].since), (1, at(2)));
    assert!(gate.take_cold(9).is_empty() && gate.is_cold(&taken[0].endpoint), "one at a time");
    assert_eq!((gate.cold(), gate.waiting()), (ColdCount { probed: 1, unprobed: 0 }, 1));

    gate.passed(at(3), &taken[0].endpoint);
    assert!(granted(&mut held).unwrap().is_ok() && gate.is_open());
    assert_eq!((gate.warmth(), gate.cold()), (Warmth::Warm { since: at(3) }, ColdCount::default()));

    gate.set_suspect(at(4), &a, true);
    assert!(!gate.is_open() && gate.is_cold(&taken[0].endpoint));
    let again = waiting(gate.reenter(at(4), Ask::default()));
    assert_eq!(gate.take_cold(9)[0].since, at(2), "it is as old as it was");
    gate.set_suspect(at(4), &a, true);
    assert_eq!(gate.cold(), ColdCount { probed: 1, unprobed: 0 }, "a second refusal does not start a second probe");

    gate.set_endpoints(at(5), 2, &listed(&["a"]));
    assert_eq!((usable(&gate), gate.cold()), (vec!["a".to_owned()], ColdCount::default()));
    gate.passed(at(6), &taken[0].endpoint);
    gate.set_endpoints(at(7), 3, &[cold("a", ProbeCheck::Tcp { port: None })]);
    assert!(usable(&gate).is_empty(), "a pass from before is worth nothing");
    assert_eq!(gate.take_cold(9)[0].since, at(7));
    drop(again);
}

#[test]
fn a_pass_counts_only_while_the_platform_lets_it() {
    let (gate, _) = gate(0, 10);
    let tcp = || cold("a", ProbeCheck::Tcp { port: None });
    let exec = ProbeCheck::Exec { command: vec!["true".into()] };
    for (version, listed) in (1..).step_by(2).zip([
        Listed { early_probe: None, ..tcp() },
        Listed { state: EndpointState::Draining, ..tcp() },
        cold("a", exec),
    ]) {
        gate.set_endpoints(NOW, version, std::slice::from_ref(&listed));
        assert_eq!((gate.endpoints().len(), gate.cold()), (0, ColdCount::default()), "{listed:?}");
        gate.set_endpoints(NOW, version, &[tcp()]);
        let taken = gate.take_cold(9);
        gate.passed(NOW, &taken[0].endpoint);
        assert_eq!(usable(&gate), ["a"]);
        gate.set_endpoints(NOW, version, std::slice::from_ref(&listed));
        assert!(usable(&gate).is_empty() && !gate.is_cold(&taken[0].endpoint), "{listed:?}");
        // It leaves and comes back: another replica, as far as anybody can tell.
        gate.set_endpoints(NOW, version + 1, &[]);
        gate.set_endpoints(NOW, version + 1, &[tcp()]);
        gate.passed(NOW, &taken[0].endpoint);
        assert!(usable(&gate).is_empty(), "{listed:?}");
        gate.set_endpoints(NOW, version + 1, &[]);
    }
}

#[test]
fn a_pass_does_not_undo_a_drain() {
    let (gate, _) = gate(0, 10);
    gate.set_endpoints(NOW, 1, &[cold("a", ProbeCheck::Tcp { port: None })]);
    gate.set_drain(NOW, BTreeSet::from([EndpointId::new("a")]));
    gate.passed(NOW, &gate.take_cold(1)[0].endpoint);
    assert!(usable(&gate).is_empty());
    gate.set_drain(NOW, BTreeSet::new());
    assert_eq!(usable(&gate), ["a"]);
}

/// A request that panics gives its slot back while it unwinds; that is no defect of the gate's.
#[test]
fn unwinding_through_the_gate_ends_nothing() {
    let (gate, _) = gate(1, 10);
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    let slot = going(gate.enter(NOW, Ask::default()));
    let next = waiting(gate.enter(NOW, Ask::default()));
    let mut last = waiting(gate.enter(NOW, Ask::default()));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = (slot, next);
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    assert!(granted(&mut last).unwrap().is_ok());
}

/// Threads that come, wait, give up, run and come back: never more than the limit, and at the end nothing is lost.
#[test]
fn the_limit_holds_between_threads() {
    const LIMIT: u32 = 3;
    let (gate, _) = gate(LIMIT, 1000);
    gate.set_endpoints(NOW, 1, &listed(&["a", "b"]));
    let running = [AtomicU32::new(0), AtomicU32::new(0)];
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (gate, running) = (&gate, &running);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for round in 0..500 {
                    let slot = match gate.enter(NOW, Ask::default()) {
                        Entry::Go(slot) => slot,
                        Entry::Wait(mut waiting) if (thread + round) % 5 == 0 => {
                            // It gives up, perhaps in the moment in which it is granted.
                            drop(waiting.granted().now_or_never());
                            continue;
                        }
                        Entry::Wait(mut waiting) => {
                            let patience = Duration::from_secs(10);
                            let answer = async { tokio::time::timeout(patience, waiting.granted()).await };
                            runtime.block_on(answer).unwrap().unwrap()
                        }
                        other @ (Entry::Full(_) | Entry::StartFailed(_)) => panic!("{other:?}"),
                    };
                    let seat = &running[slot.seat_index() as usize];
                    assert!(seat.fetch_add(1, Ordering::SeqCst) < LIMIT);
                    std::thread::yield_now();
                    seat.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                }
            });
        }
    });
    assert_eq!(gate.waiting(), 0);
    let all: Vec<HeldSlot> = (0..2 * LIMIT).map(|_| going(gate.enter(NOW, Ask::default()))).collect();
    assert!(matches!(gate.enter(NOW, Ask::default()), Entry::Wait(_)));
    drop(all);
}

#[test]
fn a_queue_goes_to_a_new_replica_at_the_pace_of_its_answers() {
    fn gone(line: &mut VecDeque<Waiting>) -> Vec<HeldSlot> {
        let next = || {
            let slot = granted(line.front_mut()?)?.unwrap();
            line.pop_front();
            Some(slot)
        };
        std::iter::from_fn(next).collect()
    }
    let at = Timestamp::from_millis;
    let (gate, _) = gate(0, 1000);
    let mut line: VecDeque<Waiting> = (0..200).map(|_| waiting(gate.enter(NOW, Ask::default()))).collect();
    gate.set_endpoints(NOW, 1, &listed(&["a"]));
    let mut first = gone(&mut line);
    assert_eq!((first.len(), gate.waiting(), gate.is_open(), gate.paced()), (8, 192, false, 1));
    first.iter_mut().for_each(HeldSlot::answered);
    let second = gone(&mut line);
    assert_eq!(second.len(), 8, "one more for each that is being answered");
    drop(first);
    let third = gone(&mut line);
    assert_eq!(third.len(), 8, "and one for each answer that has ended");
    for (when, more, why) in [
        (0, 0, "a first look"),
        (999, 0, "not yet"),
        (1000, 16, "silence for a second lets as many again through"),
        (30_000, 160, "half of the queue timeout is over"),
    ] {
        gate.look(at(when));
        let more_went = gone(&mut line);
        assert_eq!(more_went.len(), more, "{why}");
        more_went.into_iter().for_each(std::mem::forget);
    }
    assert_eq!((gate.is_open(), gate.paced()), (true, 0));
    drop((second, third));
}

mod out;
mod share;
