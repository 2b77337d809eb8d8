//! Sessions and their replicas, through the queue and past it.

use super::*;

fn of(session: u8) -> Ask {
    Ask { session: Some(Session::of(&[session])), ..Ask::default() }
}

/// `count` open replicas.
fn world(cc: u32, count: usize) -> (Admission<u32>, Vec<SeatId>) {
    let mut admission = Admission::new(limit(cc), 1000, LoadBalancing::LeastOutstanding, 3);
    let seats = (0..count).map(|number| admission.add_seat(key(number))).collect::<Vec<_>>();
    seats.iter().for_each(|seat| admission.set_open(*seat, true));
    (admission, seats)
}

fn go(admission: &mut Admission<u32>, ask: Ask) -> Slot {
    match admission.admit(ask, || 0) {
        Verdict::Go(slot) => slot,
        other @ (Verdict::Wait(_) | Verdict::Full) => panic!("{other:?}"),
    }
}

/// Where a session is when nothing else is.
fn home(admission: &mut Admission<u32>, ask: Ask) -> SeatId {
    let slot = go(admission, ask);
    admission.release(slot);
    slot.seat()
}

#[test]
fn a_session_keeps_its_replica_until_it_is_full_and_comes_back() {
    let (mut admission, _) = world(2, 4);
    let own = home(&mut admission, of(1));
    let held = [go(&mut admission, of(1)), go(&mut admission, of(1))];
    assert_eq!(held.map(|slot| slot.seat()), [own; 2]);
    let elsewhere = go(&mut admission, of(1));
    assert_ne!(elsewhere.seat(), own, "nobody waits for it while another has room");
    assert_eq!(admission.strayed(), 1);
    held.into_iter().for_each(|slot| admission.release(slot));
    assert_eq!(home(&mut admission, of(1)), own);
    assert_eq!(admission.strayed(), 1);
}

#[test]
fn who_waited_goes_to_its_own_replica_if_that_has_room_and_in_its_turn_in_any_case() {
    let (mut admission, seats) = world(1, 4);
    let session = (0..).find(|n| home(&mut admission, of(*n)) == seats[2]).unwrap();
    let running: Vec<Slot> = (0..4).map(|_| go(&mut admission, Ask::default())).collect();
    // The first has no session; the two behind it have one and the same.
    for (waiter, ask) in [(1, Ask::default()), (2, of(session)), (3, of(session))] {
        assert!(matches!(admission.admit(ask, || waiter), Verdict::Wait(_)));
    }
    let release = |admission: &mut Admission<u32>, seat: SeatId| {
        admission.release(*running.iter().find(|slot| slot.seat() == seat).unwrap());
    };
    let grant = |admission: &mut Admission<u32>| {
        let mut grants = Vec::new();
        admission.grant(64, &mut grants);
        grants.into_iter().map(|(waiter, slot)| (waiter, slot.seat())).collect::<Vec<_>>()
    };
    // Its replica comes free first, and it is not its turn.
    release(&mut admission, seats[2]);
    assert_eq!(grant(&mut admission), [(1, seats[2])]);
    // Another comes free: it does not wait for its own.
    release(&mut admission, seats[0]);
    assert_eq!(grant(&mut admission), [(2, seats[0])]);
    assert_eq!(admission.strayed(), 1);
    // Two come free, its own among them.
    admission.configure(limit(2), 1000, LoadBalancing::LeastOutstanding);
    assert_eq!(grant(&mut admission), [(3, seats[2])]);
}

#[test]
fn without_a_limit_a_crowd_goes_elsewhere() {
    let (mut admission, seats) = world(0, 4);
    let own = home(&mut admission, of(1));
    let mut slots = Vec::new();
    // A mean of 4 in flight: twice that is full, and few are no crowd.
    for expected in [own; 8] {
        let slot = go(&mut admission, of(1));
        assert_eq!(slot.seat(), expected, "after {}", slots.len());
        slots.push(slot);
    }
    let stray = go(&mut admission, of(1));
    assert_ne!(stray.seat(), own, "8 on one of 4, and nobody has anything else");
    assert_eq!(admission.strayed(), 1);
    admission.release(stray);
    // The others carry as much: what is the same for all is no crowd.
    while seats.iter().any(|seat| admission.in_use(*seat) < 8) {
        slots.push(go(&mut admission, Ask::default()));
    }
    assert_eq!(home(&mut admission, of(1)), own);
}

#[test]
fn a_closed_replica_lends_its_sessions_to_one_other_and_has_them_back() {
    let (mut admission, seats) = world(5, 5);
    let homes: Vec<SeatId> = (0..50).map(|n| home(&mut admission, of(n))).collect();
    admission.set_open(seats[1], false);
    for (n, before) in (0..50).zip(&homes) {
        let now = home(&mut admission, of(n));
        assert_eq!(now, home(&mut admission, of(n)), "the same one each time");
        assert!(now != seats[1] && (*before == seats[1] || now == *before));
    }
    assert_eq!(admission.strayed(), 0, "it is their replica meanwhile");
    admission.set_open(seats[1], true);
    assert_eq!((0..50).map(|n| home(&mut admission, of(n))).collect::<Vec<_>>(), homes);
}

/// While it is let through a queue at its own pace it takes no more of its sessions than that either.
#[test]
fn a_paced_replica_gets_no_more_than_its_window() {
    let mut admission = Admission::new(None, 1000, LoadBalancing::LeastOutstanding, 1);
    for n in 0..40 {
        assert!(matches!(admission.admit(of(1), || n), Verdict::Wait(_)));
    }
    let seats = [0, 1].map(|number| admission.add_seat(key(number)));
    seats.iter().for_each(|seat| admission.set_open(*seat, true));
    assert_eq!(granted(&mut admission), (0..2 * FIRST_WINDOW).collect::<Vec<_>>(), "in order");
    assert_eq!(seats.map(|seat| admission.in_use(seat)), [FIRST_WINDOW; 2]);
}
