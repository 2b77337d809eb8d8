#![expect(clippy::wildcard_enum_match_arm, reason = "a step without a subject does nothing")]

use super::*;
use crate::affinity::{SeatKey, Session};
use crate::pace::FIRST_WINDOW;
use proptest::prelude::*;

mod sessions;

fn limit(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

fn opened(admission: &mut Admission<u32>) -> SeatId {
    let seat = admission.add_seat(SeatKey::default());
    admission.set_open(seat, true);
    seat
}

fn key(number: usize) -> SeatKey {
    SeatKey::of(&domain::EndpointId::new(&format!("replica-{number}")))
}

fn granted(admission: &mut Admission<u32>) -> Vec<u32> {
    let mut grants = Vec::new();
    admission.grant(64, &mut grants);
    grants.into_iter().map(|(waiter, _)| waiter).collect()
}

#[test]
fn waits_at_zero_and_goes_when_a_replica_opens() {
    let mut admission = Admission::new(limit(1), 2, LoadBalancing::LeastOutstanding, 0);
    assert!(matches!(admission.admit(Ask::default(), || 1), Verdict::Wait(_)));
    assert!(matches!(admission.admit(Ask::default(), || 2), Verdict::Wait(_)));
    assert_eq!(admission.admit(Ask::default(), || unreachable!("no waiter is made for a refusal")), Verdict::Full);
    let _ = opened(&mut admission);
    assert_eq!(granted(&mut admission), [1], "the limit holds for those who waited, too");
}

#[test]
fn a_request_that_was_not_taken_is_next() {
    let mut admission = Admission::new(limit(1), 10, LoadBalancing::LeastOutstanding, 0);
    let seat = opened(&mut admission);
    let Verdict::Go(slot) = admission.admit(Ask::default(), || 0) else { panic!("there was room") };
    admission.admit(Ask::default(), || 1);
    admission.set_open(seat, false);
    assert!(matches!(admission.readmit(Ask::default(), || 7), Verdict::Wait(_)));
    admission.release(slot);
    assert_eq!(granted(&mut admission), [] as [u32; 0], "a closed replica gets nothing");
    let _ = opened(&mut admission);
    assert_eq!(granted(&mut admission), [7]);
}

#[test]
fn a_slot_of_a_replica_that_left_frees_nothing_of_its_successor() {
    let mut admission = Admission::new(limit(1), 10, LoadBalancing::LeastOutstanding, 0);
    let old = opened(&mut admission);
    let Verdict::Go(stale) = admission.admit(Ask::default(), || 0) else { panic!("there was room") };
    admission.remove_seat(old);
    let new = opened(&mut admission);
    assert_eq!(new.index, old.index, "the place is reused");
    let Verdict::Go(_held) = admission.admit(Ask::default(), || 0) else { panic!("there was room") };
    admission.release(stale);
    assert_eq!(admission.in_use(new), 1);
    assert!(matches!(admission.admit(Ask::default(), || 0), Verdict::Wait(_)));
}

#[test]
fn a_heavy_request_counts_as_the_limit() {
    let mut admission = Admission::new(limit(2), 10, LoadBalancing::LeastOutstanding, 0);
    let seat = opened(&mut admission);
    let heavy = Ask { weight: 9, ..Ask::default() };
    assert!(matches!(admission.admit(heavy, || 0), Verdict::Go(_)));
    assert_eq!(admission.in_use(seat), 2);
}

/// They paused between two tries, and nobody waits when they come.
#[test]
fn those_who_come_back_all_at_once_wait_beyond_what_may_be_unanswered() {
    let at = Timestamp::from_millis;
    let mut admission = Admission::new(None, 10, LoadBalancing::LeastOutstanding, 0);
    let _seat = opened(&mut admission);
    let back = |admission: &mut Admission<u32>| match admission.readmit(Ask::default(), || 0) {
        Verdict::Go(slot) => Some(slot),
        Verdict::Wait(_) | Verdict::Full => None,
    };
    let mut going: Vec<Slot> = std::iter::from_fn(|| back(&mut admission)).collect();
    assert_eq!((going.len(), admission.waiting()), (UNANSWERED_MAX as usize, 1));
    admission.answered(&mut going[0]);
    assert_eq!(granted(&mut admission), [0], "one that is being answered makes room for one");
    assert!(!admission.is_paced(), "nobody waits");
    assert!(back(&mut admission).is_none());
    admission.release(going.swap_remove(1));
    assert_eq!(granted(&mut admission), [0], "so does one that has ended");
    assert!(back(&mut admission).is_none());
    admission.look(at(0), Duration::from_secs(10));
    admission.look(at(1_000), Duration::from_secs(10));
    assert_eq!(granted(&mut admission), [0], "a second is silent");
    admission.configure(limit(1), 10, LoadBalancing::LeastOutstanding);
    assert!(back(&mut admission).is_none(), "a limit is exact");
}

#[derive(Debug, Clone)]
enum Move {
    Arrive,
    End(prop::sample::Index),
    Leave(prop::sample::Index),
    Comeback(prop::sample::Index),
    AddSeat,
    Toggle(prop::sample::Index),
    RemoveSeat(prop::sample::Index),
    Limit(u32),
    Answer(prop::sample::Index),
    Look,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let index = any::<prop::sample::Index>;
    prop::collection::vec(
        prop_oneof![
            6 => Just(Move::Arrive),
            4 => index().prop_map(Move::End),
            1 => index().prop_map(Move::Leave),
            1 => index().prop_map(Move::Comeback),
            2 => Just(Move::AddSeat),
            2 => index().prop_map(Move::Toggle),
            1 => index().prop_map(Move::RemoveSeat),
            1 => (0_u32..4).prop_map(Move::Limit),
            2 => index().prop_map(Move::Answer),
            1 => Just(Move::Look),
        ],
        1..120,
    )
}

proptest! {
    /// The invariants of the module, after every step of any story.
    #[test]
    fn fifo_exact_and_work_conserving(moves in moves(), policy in 0..4_usize, first_limit in 0_u32..4) {
        const DEPTH: usize = 12;
        const AT_MOST: Duration = Duration::from_secs(5);
        let policy = LoadBalancing::ALL[policy];
        let mut admission = Admission::new(limit(first_limit), 12, policy, 1);
        let mut limit_now = limit(first_limit);
        let mut next = 0_u32;
        let mut line: std::collections::VecDeque<(u32, TicketId)> = std::collections::VecDeque::new();
        let mut running: Vec<(u32, Slot)> = Vec::new();
        let mut seats: Vec<(SeatId, bool)> = Vec::new();
        let mut now = Timestamp::ZERO;
        for step in moves {
            match step {
                Move::Arrive => {
                    next += 1;
                    let waited_before = line.len();
                    // Some belong to sessions; nothing of what holds for all depends on that.
                    let session = (!next.is_multiple_of(3)).then(|| Session::of(&[(next % 7) as u8]));
                    match admission.admit(Ask { session, ..Ask::default() }, || next) {
                        Verdict::Go(slot) => {
                            prop_assert!(line.is_empty(), "nobody overtakes");
                            running.push((next, slot));
                        }
                        Verdict::Wait(ticket) => line.push_back((next, ticket)),
                        Verdict::Full => prop_assert!(waited_before >= DEPTH),
                    }
                }
                Move::End(which) if !running.is_empty() => {
                    let (_, slot) = running.swap_remove(which.index(running.len()));
                    admission.release(slot);
                }
                Move::Leave(which) if !line.is_empty() => {
                    let (waiter, ticket) = line.remove(which.index(line.len())).unwrap();
                    prop_assert_eq!(admission.cancel(ticket), Some(waiter));
                    prop_assert_eq!(admission.cancel(ticket), None);
                }
                Move::Comeback(which) if !running.is_empty() => {
                    let (waiter, slot) = running.swap_remove(which.index(running.len()));
                    match admission.readmit(Ask::default(), || waiter) {
                        Verdict::Go(slot) => running.push((waiter, slot)),
                        Verdict::Wait(ticket) => line.push_front((waiter, ticket)),
                        Verdict::Full => prop_assert!(false, "a place that is kept is never refused"),
                    }
                    admission.release(slot);
                }
                Move::AddSeat if seats.len() < 5 => {
                    let seat = admission.add_seat(key(seats.len()));
                    admission.set_open(seat, true);
                    seats.push((seat, true));
                }
                Move::Toggle(which) if !seats.is_empty() => {
                    let chosen = which.index(seats.len());
                    let seat = &mut seats[chosen];
                    seat.1 = !seat.1;
                    admission.set_open(seat.0, seat.1);
                }
                Move::RemoveSeat(which) if !seats.is_empty() => {
                    admission.remove_seat(seats.swap_remove(which.index(seats.len())).0);
                }
                Move::Limit(count) => {
                    limit_now = limit(count);
                    admission.configure(limit_now, 12, policy);
                }
                Move::Answer(which) if !running.is_empty() => {
                    let which = which.index(running.len());
                    admission.answered(&mut running[which].1);
                }
                Move::Look => {
                    now += Duration::from_millis(700);
                    admission.look(now, AT_MOST);
                }
                _ => {}
            }
            let mut grants = Vec::new();
            while admission.grant(2, &mut grants) == 2 {}
            for (waiter, slot) in grants {
                let (expected, _) = line.pop_front().unwrap();
                prop_assert_eq!(waiter, expected, "first in, first out");
                running.push((waiter, slot));
            }

            prop_assert_eq!(admission.waiting(), line.len());
            prop_assert_eq!(admission.open_seats(), seats.iter().filter(|(_, open)| *open).count());
            for (seat, open) in &seats {
                let held = running.iter().filter(|(_, slot)| slot.seat() == *seat).count();
                prop_assert_eq!(admission.in_use(*seat) as usize, held, "slots and counts agree");
                if let (true, Some(limit)) = (open, limit_now) {
                    prop_assert!(line.is_empty() || held >= limit.get() as usize, "no idle slot while somebody waits");
                }
                let free = *open && limit_now.is_none() && held < FIRST_WINDOW as usize;
                prop_assert!(!free || line.is_empty(), "the first window is never denied");
            }
            prop_assert!(!admission.is_paced() || !line.is_empty(), "only a queue has a pace");
            prop_assert!(limit_now.is_none() || !admission.is_paced(), "a limit is exact and needs none");
        }
    }

    /// Without a limit a queue goes to new replicas no faster than they answer, and it goes: whatever the order in which
    /// answers begin and end, and at the latest when its time is over.
    #[test]
    fn a_queue_goes_at_the_pace_of_its_replicas(
        count in 1_usize..300,
        replicas in 1_usize..4,
        moves in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400),
    ) {
        let mut admission = Admission::new(None, 1000, LoadBalancing::LeastOutstanding, 1);
        for n in 0..count {
            prop_assert!(matches!(admission.admit(Ask::default(), || n), Verdict::Wait(_)));
        }
        let mut begun = vec![0_u32; replicas];
        let seats: Vec<_> = (0..replicas).map(|_| { let s = admission.add_seat(SeatKey::default()); admission.set_open(s, true); s }).collect();
        let (mut asked, mut answering) = (Vec::new(), Vec::new());
        let mut sent = 0;
        for (begins, which) in moves {
            let mut grants = Vec::new();
            admission.grant(usize::MAX, &mut grants);
            for (n, slot) in grants {
                prop_assert_eq!(n, sent, "in order");
                sent += 1;
                asked.push(slot);
            }
            prop_assert_eq!(admission.waiting(), count - sent);
            for (seat, begun) in seats.iter().zip(&begun) {
                let unanswered = asked.iter().filter(|slot: &&Slot| slot.seat() == *seat).count();
                prop_assert!(unanswered <= (FIRST_WINDOW + begun) as usize);
                if sent < count {
                    prop_assert!(admission.in_use(*seat) == FIRST_WINDOW + begun, "all that the window allows");
                }
            }
            if begins && !asked.is_empty() {
                let mut slot: Slot = asked.swap_remove(which.index(asked.len()));
                admission.answered(&mut slot);
                if admission.is_paced() {
                    begun[slot.seat().index as usize] += 1;
                }
                answering.push(slot);
            } else if !answering.is_empty() {
                admission.release(answering.swap_remove(which.index(answering.len())));
            }
        }
        let at_most = Duration::from_secs(10);
        admission.look(Timestamp::ZERO, at_most);
        admission.look(Timestamp::ZERO + at_most, at_most);
        let mut grants = Vec::new();
        admission.grant(usize::MAX, &mut grants);
        prop_assert_eq!((admission.waiting(), admission.is_paced()), (0, false), "its time is over");
    }

    /// With a limit that never changes, no replica ever carries more.
    #[test]
    fn the_limit_is_exact(moves in moves(), count in 1_u32..4) {
        let mut admission = Admission::new(limit(count), 1000, LoadBalancing::RoundRobin, 1);
        let mut seats = Vec::new();
        let mut running = Vec::new();
        for step in moves {
            match step {
                Move::Arrive => if let Verdict::Go(slot) = admission.admit(Ask::default(), || 0) { running.push(slot) },
                Move::End(which) if !running.is_empty() => admission.release(running.swap_remove(which.index(running.len()))),
                Move::AddSeat => seats.push(opened(&mut admission)),
                _ => {}
            }
            let mut grants = Vec::new();
            admission.grant(usize::MAX, &mut grants);
            running.extend(grants.into_iter().map(|(_, slot)| slot));
            for seat in &seats {
                prop_assert!(admission.in_use(*seat) <= count);
            }
        }
    }
}
