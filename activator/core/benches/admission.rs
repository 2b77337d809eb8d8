//! What a request costs the core: `cargo bench -p activator-core`.

use activator_core::{Admission, Ask, Chooser, Meter, SeatKey, Session, Verdict};
use divan::{Bencher, black_box};
use domain::{LoadBalancing, Timestamp};
use std::num::NonZeroU32;

fn main() {
    divan::main();
}

const NOW: Timestamp = Timestamp::from_secs(100);

/// An admission with open seats, of which each takes `limit`.
fn admission(seats: usize, limit: u32) -> Admission<u32> {
    let mut admission = Admission::new(NonZeroU32::new(limit), 20_000, LoadBalancing::LeastOutstanding, 1);
    for _ in 0..seats {
        let seat = admission.add_seat(SeatKey::default());
        admission.set_open(seat, true);
    }
    admission
}

/// A request is counted on its way in and out.
#[divan::bench]
fn meter_enter_and_exit(bencher: Bencher<'_, '_>) {
    let meter = Meter::default();
    bencher.bench_local(|| {
        let in_flight = meter.enter(black_box(NOW));
        meter.exit(black_box(NOW));
        in_flight
    });
}

/// What the reporter does with each meter once a second.
#[divan::bench]
fn meter_read(bencher: Bencher<'_, '_>) {
    let meter = Meter::default();
    meter.enter(NOW);
    bencher.bench_local(|| meter.read(black_box(NOW)));
}

/// A slot is taken and given back; nobody waits.
#[divan::bench(args = [1, 10, 256, 1_000])]
fn admission_enter_and_leave(bencher: Bencher<'_, '_>, seats: usize) {
    let mut admission = admission(seats, 10);
    let mut granted = Vec::new();
    bencher.bench_local(|| {
        if let Verdict::Go(slot) = admission.admit(black_box(Ask::default()), || 0) {
            admission.release(slot);
        }
        admission.grant(64, &mut granted)
    });
}

/// One joins the queue behind so many, a slot comes free, and who has waited longest gets it.
#[divan::bench(args = [1, 1_000, 10_000])]
fn queue_join_and_grant(bencher: Bencher<'_, '_>, waiting: usize) {
    let mut admission = admission(1, 1);
    let Verdict::Go(mut held) = admission.admit(Ask::default(), || 0) else { unreachable!("the replica is free") };
    for _ in 0..waiting {
        admission.admit(Ask::default(), || 0);
    }
    let mut granted = Vec::new();
    bencher.bench_local(|| {
        admission.admit(black_box(Ask::default()), || 0);
        admission.release(held);
        admission.grant(64, &mut granted);
        if let Some((_, slot)) = granted.pop() {
            held = slot;
        }
    });
    assert_eq!(admission.waiting(), waiting, "one came, one went");
}

/// One joins the queue behind so many and leaves it.
#[divan::bench(args = [1, 1_000, 10_000])]
fn queue_join_and_cancel(bencher: Bencher<'_, '_>, waiting: usize) {
    let mut admission = admission(0, 1);
    for _ in 0..waiting {
        admission.admit(Ask::default(), || 0);
    }
    bencher.bench_local(|| match admission.admit(black_box(Ask::default()), || 0) {
        Verdict::Wait(ticket) => admission.cancel(ticket),
        Verdict::Go(_) | Verdict::Full => None,
    });
}

/// The least loaded of so many replicas that all carry something: up to 256 all are looked at, beyond two.
#[divan::bench(args = [1, 10, 256, 1_000])]
fn balance(bencher: Bencher<'_, '_>, endpoints: usize) {
    let mut chooser = Chooser::new(LoadBalancing::LeastOutstanding, 1);
    let loads: Vec<u32> = (1..=10).cycle().take(endpoints).collect();
    bencher.bench_local(|| chooser.choose(black_box(loads.len()), |index| Some(loads[index])));
}

/// The replica of a session among so many, with room.
#[divan::bench(args = [1, 10, 256, 1_000])]
fn session_enter_and_leave(bencher: Bencher<'_, '_>, seats: usize) {
    let mut admission = Admission::new(NonZeroU32::new(10), 20_000, LoadBalancing::LeastOutstanding, 1);
    for number in 0..seats {
        let seat = admission.add_seat(SeatKey::of(&domain::EndpointId::new(&number.to_string())));
        admission.set_open(seat, true);
    }
    let ask = Ask { session: Some(Session::of(b"user-1")), ..Ask::default() };
    let mut granted: Vec<(u32, _)> = Vec::new();
    bencher.bench_local(|| {
        if let Verdict::Go(slot) = admission.admit(black_box(ask), || 0) {
            admission.release(slot);
        }
        admission.grant(64, &mut granted)
    });
}
