//! What is counted: each operation is done any number of times, after the same preparation.
//!
//! Invariant: what is done before the first time does not depend on how often it is done, so the difference between two
//! runs is that of so many operations and nothing else. One thread, and no hash or order that is drawn at random.

use crate::proxy;
use crate::world::{World, told};
use activator_core::{Admission, Ask, Meter, SeatKey, Verdict};
use anyhow::anyhow;
use autoscaler_core::decide::{Memory, Observation, decide};
use autoscaler_core::window::Reading;
use domain::why::{Idleness, Trigger};
use domain::{Frame, LoadBalancing, Replicas, ReporterId, Timestamp};
use std::hint::black_box;
use std::num::NonZeroU32;

/// Something that is counted.
pub(crate) struct Operation {
    /// As the committed figures call it.
    pub(crate) name: &'static str,
    /// How often it is done for a count, and twice that for the other.
    pub(crate) times: u32,
    run: fn(u32),
}

/// All, in the order of the committed figures.
pub(crate) const ALL: &[Operation] = &[
    Operation { name: "get-warm", times: 2_000, run: |times| proxy::get(None, times) },
    Operation { name: "get-warm-limit-10", times: 2_000, run: |times| proxy::get(NonZeroU32::new(10), times) },
    Operation { name: "route-hit", times: 20_000, run: proxy::route_hit },
    Operation { name: "route-miss", times: 50, run: proxy::route_miss },
    Operation { name: "meter-enter-exit", times: 100_000, run: meter },
    Operation { name: "admission-enter-leave", times: 100_000, run: admission },
    Operation { name: "frame-encode-512", times: 100, run: encode },
    Operation { name: "frame-decode-512", times: 100, run: decode },
    Operation { name: "decide-one", times: 20_000, run: decide_one },
    Operation { name: "brain-second-1000", times: SECONDS / 2, run: brain },
];

/// Seconds that are made for the brain, however many of them pass.
const SECONDS: u32 = 20;

/// Does the operation `name` so many times.
pub(crate) fn run(name: &str, times: u32) -> anyhow::Result<()> {
    let operation = ALL.iter().find(|operation| operation.name == name);
    (operation.ok_or_else(|| anyhow!("there is no operation {name}; see list"))?.run)(times);
    Ok(())
}

const NOW: Timestamp = Timestamp::from_secs(100);

fn meter(times: u32) {
    let meter = Meter::default();
    for _ in 0..times {
        black_box(meter.enter(black_box(NOW)));
        meter.exit(black_box(NOW));
    }
}

/// Three replicas that take ten requests each.
fn admission(times: u32) {
    let mut admission = Admission::new(NonZeroU32::new(10), 20_000, LoadBalancing::LeastOutstanding, 1);
    for _ in 0..3 {
        let seat = admission.add_seat(SeatKey::default());
        admission.set_open(seat, true);
    }
    let mut granted = Vec::new();
    for _ in 0..times {
        if let Verdict::Go(slot) = black_box(admission.admit(black_box(Ask::default()), || ())) {
            admission.release(slot);
        }
        black_box(admission.grant(64, &mut granted));
    }
}

/// A regular frame of 512 rows.
fn frame() -> Frame {
    told::frame(&ReporterId::new("activator-a"), 3_600, 512)
}

fn encode(times: u32) {
    let frame = frame();
    for _ in 0..times {
        black_box(serde_json::to_vec(black_box(&frame)).is_ok());
    }
}

fn decode(times: u32) {
    let text = serde_json::to_vec(&frame()).unwrap_or_default();
    for _ in 0..times {
        let frame = serde_json::from_slice::<Frame>(black_box(&text));
        assert!(frame.is_ok_and(|frame| frame.rows.len() == 512), "a frame is read whole");
    }
}

/// A revision in its usual state: neither in panic nor idle.
fn decide_one(times: u32) {
    let spec = told::default_revision(told::id(0)).scaling;
    let seen = Observation {
        trigger: Trigger::Tick,
        ready: Replicas::new(3),
        requested: Replicas::new(3),
        concurrency: Some(Reading { stable: 190.0, panic: 210.0 }),
        rps: Some(Reading { stable: 40.0, panic: 40.0 }),
        delay: None,
        initialised: true,
        idleness: Idleness::Spent,
        backlog: None,
        hold: None,
        at_most: None,
    };
    let before = Memory::default();
    for _ in 0..times {
        black_box(decide(NOW, black_box(&spec), &before, black_box(&seen)));
    }
}

/// A second of 1 000 revisions with requests: two frames, ten slots.
fn brain(times: u32) {
    let mut world = World::new(1_000, 1_000);
    let seconds: Vec<_> = (0..SECONDS).map(|_| world.next_second()).collect();
    assert!(times <= SECONDS, "no more than {SECONDS} seconds are there");
    let mut seconds = seconds.into_iter();
    seconds.by_ref().take(times as usize).for_each(|second| world.pass(second));
    assert_eq!(world.scale_calls(), 0, "the load never changes");
    // What passed has freed its frames; what did not must not do so here.
    std::mem::forget((seconds, world));
}
