//! How long requests wait with us beside an ideal central queue, at 80 % load. The whole table:
//! `cargo run --release -p activator-core --example waiting`.

mod simulation;

use domain::LoadBalancing;
use simulation::{Compared, SERVICE, Service, World, worlds};

/// Requests of one world.
const COUNT: usize = 20_000;
/// Our p99 is at most so many times the ideal one.
const RATIO_MAX: f64 = 1.10;
/// The same where two activators divide the replicas: each serves its own clients first, so that some of the other's wait for
/// longer and some of its own less long. The mean stays within [`RATIO_MAX`].
const RATIO_MAX_OF_TWO: f64 = 1.25;

#[track_caller]
fn check(compared: &Compared, max: f64) {
    let ratio = compared.ratio();
    let [ideal, ours] = [&compared.ideal, &compared.ours].map(|waits| waits.p99() as f64 / 1e6);
    assert!(ratio <= max, "{:?}: p99 {ours:.1} ms, ideally {ideal:.1}: {ratio:.3} times", compared.world);
}

#[test]
fn one_activator_is_a_central_queue() {
    for world in worlds(1, 1.0) {
        for seed in [1, 2] {
            check(&Compared::run(world, LoadBalancing::LeastOutstanding, COUNT, seed), RATIO_MAX);
        }
    }
}

/// Who goes where does not decide who waits.
#[test]
fn and_so_it_is_whoever_chooses_the_replica() {
    for policy in LoadBalancing::ALL.iter().copied() {
        for sessions in [0, 100] {
            let world = World { sessions, ..World::new(1, 16, Service::HeavyTailed) };
            let compared = Compared::run(world, policy, COUNT, 3);
            assert!(compared.ideal.p99() > SERVICE, "there is something to wait for");
            check(&compared, RATIO_MAX);
        }
    }
}

#[test]
fn two_activators_come_near_it() {
    for first in [0.5, 0.8] {
        for world in worlds(2, first) {
            let compared = Compared::run(world, LoadBalancing::LeastOutstanding, COUNT, 1);
            check(&compared, RATIO_MAX_OF_TWO);
            let (ideal, ours) = (compared.ideal.mean(), compared.ours.mean());
            let floor = SERVICE as f64 / 100.0;
            assert!(ours <= (ideal * RATIO_MAX).max(ideal + floor), "{world:?}: {ours} on average, ideally {ideal}");
        }
    }
}
