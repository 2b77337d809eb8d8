//! What a second costs the brain, and one decision: `cargo bench -p autoscaler-core`.

mod world;

use autoscaler_core::decide::{Memory, Observation, decide};
use autoscaler_core::window::Reading;
use divan::{Bencher, black_box};
use domain::why::{Idleness, Trigger};
use domain::{Replicas, Timestamp};
use std::cell::RefCell;
use world::{World, told};

fn main() {
    divan::main();
}

/// Two frames with a row for every revision, and ten slots.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 20, sample_size = 1)]
fn second_all_active(bencher: Bencher<'_, '_>, revisions: u32) {
    second(bencher, revisions, revisions);
}

/// The same where one revision in a hundred has requests.
#[divan::bench(args = [10_000, 100_000], sample_count = 20, sample_size = 1)]
fn second_one_percent_active(bencher: Bencher<'_, '_>, revisions: u32) {
    second(bencher, revisions, revisions / 100);
}

/// The same where none has.
#[divan::bench(args = [10_000, 100_000], sample_count = 100, sample_size = 1)]
fn second_all_idle(bencher: Bencher<'_, '_>, revisions: u32) {
    second(bencher, revisions, 0);
}

fn second(bencher: Bencher<'_, '_>, revisions: u32, active: u32) {
    let world = RefCell::new(World::new(revisions, active));
    bencher
        .with_inputs(|| world.borrow_mut().next_second())
        .bench_local_values(|second| world.borrow_mut().pass(second));
    assert_eq!(world.borrow().scale_calls(), 0, "the load never changes");
}

/// One evaluation of one revision.
#[divan::bench]
fn one_decision(bencher: Bencher<'_, '_>) {
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
    bencher.bench_local(|| decide(Timestamp::from_secs(100), black_box(&spec), &before, black_box(&seen)));
}
