//! How long requests wait with us beside an ideal central queue, at 80 % load. The whole table:
//! `cargo run --release -p activator-core --example waiting`.

mod simulation;

use domain::LoadBalancing;
use simulation::{Compared, SERVICE, SLACK, Service, World, worlds};

/// Requests of one world.
const COUNT: usize = 20_000;
/// Our waiting times are at most so many times the ideal ones.
const RATIO_MAX: f64 = 1.10;

/// Both the p99 and the mean, in nanoseconds; `slack` more is no difference.
#[track_caller]
fn check(compared: &Compared, slack: u64) {
    let Compared { world, ideal, ours } = compared;
    for (what, ideal, ours) in [("p99", ideal.p99() as f64, ours.p99() as f64), ("mean", ideal.mean(), ours.mean())] {
        assert!(ours <= ideal * RATIO_MAX + slack as f64, "{world:?}: {what} {ours:.0}, ideally {ideal:.0}");
    }
}

#[test]
fn one_activator_is_a_central_queue() {
    for world in worlds(1, 1.0) {
        for seed in [1, 2] {
            check(&Compared::run(world, LoadBalancing::LeastOutstanding, COUNT, seed), 0);
        }
    }
}

/// Who goes where does not decide who waits.
#[test]
fn and_so_it_is_whoever_chooses_the_replica() {
    for policy in LoadBalancing::ALL {
        for sessions in [0, 100] {
            let world = World { sessions, ..World::new(1, 16, Service::HeavyTailed) };
            let compared = Compared::run(world, *policy, COUNT, 3);
            assert!(compared.ideal.p99() > SERVICE && compared.ratio().is_some(), "there is something to wait for");
            check(&compared, 0);
        }
    }
}

#[test]
fn two_activators_that_lend_each_other_slots_come_near_it() {
    for first in [0.5, 0.8] {
        for world in worlds(2, first) {
            check(&Compared::run(world, LoadBalancing::LeastOutstanding, COUNT, 1), SLACK);
        }
    }
}
