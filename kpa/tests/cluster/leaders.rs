//! Who acts: one of two autoscalers, and soon the other one.

use crate::service::requests;
use crate::support::{http_get, wait_for};
use crate::world::{Program, World, count, seconds};
use apiserver::{Asked, Matching, Server, Verb};
use nix::sys::signal::Signal;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

impl World {
    /// The pod that holds the lease.
    fn holder(&self) -> Option<String> {
        let lease = self.get("/apis/coordination.k8s.io/v1/namespaces/kpa-system/leases/kpa-autoscaler");
        let identity = lease["spec"]["holderIdentity"].as_str()?;
        Some(identity.split_once('_')?.0.to_owned())
    }

    fn leader<'a>(&self, programs: &'a [Program]) -> &'a Program {
        let holder = wait_for("a leader", || {
            self.holder().filter(|holder| programs.iter().any(|program| program.name == *holder))
        });
        programs.iter().find(|program| program.name == holder).unwrap()
    }
}

/// Both hear everything, so whoever comes next decides at once. Two services, so that a wake is a decision.
#[test]
fn a_leader_that_leaves_or_dies_is_followed_in_time() {
    let world = World::new();
    for name in ["model", "other"] {
        world.deploy(name, 0, &json!({"autoscaling.knative.dev/target": "2"}), &json!({}));
    }
    let programs = [world.autoscaler(0).ready(), world.autoscaler(1).ready()];
    let activator = world.activator(0).ready();
    for name in ["model", "other"] {
        activator.has_route(name);
    }

    let first = world.leader(&programs);
    first.signal(Signal::SIGTERM);
    let told = Instant::now();
    let decided = decision(&world, &activator, "model", told);
    let next = world.leader(&programs);
    assert_ne!(next.name, first.name);
    // Far from what is promised (1 s and 18 s): a loaded machine is given time, the figure is printed.
    assert!(decided < Duration::from_secs(5), "{decided:?} from SIGTERM to the next decision");

    world.unlist(&first.name);
    let again = world.autoscaler(2).ready();
    next.signal(Signal::SIGKILL);
    let killed = Instant::now();
    world.unlist(&next.name);
    let recovered = decision(&world, &activator, "other", killed);
    assert!(recovered < Duration::from_secs(25), "{recovered:?} from SIGKILL to the next decision");
    assert_eq!(world.holder().as_deref(), Some(again.name.as_str()));
    println!("from SIGTERM to the next decision {decided:?}, from SIGKILL {recovered:?}");
}

/// A request for a sleeping service, and when its count was written, since `from`.
fn decision(world: &World, activator: &Program, service: &str, from: Instant) -> Duration {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| requests(activator, service, 1, 1));
        wait_for("a decision", || (world.replicas(service) > 0).then_some(()));
        let decided = from.elapsed();
        assert_eq!(asked.join().unwrap(), 0, "{}", activator.log());
        decided
    })
}

#[test]
fn a_leader_that_was_stopped_writes_nothing_when_it_goes_on() {
    let world = World::new();
    world.deploy("model", 0, &json!({"autoscaling.knative.dev/target": "2"}), &json!({}));
    let first = world.autoscaler_as(0, "kpa-autoscaler-too").ready();
    wait_for("its lease", || world.holder().filter(|holder| *holder == first.name));
    let second = world.autoscaler(1).ready();
    let activator = world.activator(0).ready();
    activator.has_route("model");
    first.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    wait_for("another leader", || world.holder().filter(|holder| *holder == second.name));
    // It has every reason to write: what it last knew is long gone.
    assert_eq!(requests(&activator, "model", 20, 4), 0, "{}", activator.log());
    // In the short form no longer than it takes the other one to lead.
    std::thread::sleep(seconds(60, 0).saturating_sub(stopped.elapsed()));
    println!("stopped for {:?}", stopped.elapsed());
    let faults = world.records().map(Server::faults);
    if let Some(faults) = &faults {
        faults.clear_log();
    }
    first.signal(Signal::SIGCONT);
    wait_for("that it knows", || first.log().contains("leads no more").then_some(()));
    assert_eq!(world.holder().as_deref(), Some(second.name.as_str()));
    let Some(faults) = faults else {
        return println!("left out: this API server does not say who asked it");
    };
    let calls = || faults.logged(&Matching::any().user("system:serviceaccount:kpa-system:kpa-autoscaler-too"));
    wait_for("that it looks at the lease", || {
        calls().iter().any(|call| call.asked.resource == "leases" && call.asked.verb == Some(Verb::Get)).then_some(())
    });
    let read = [Verb::Get, Verb::List, Verb::Watch].map(Some);
    // To ask whose a token is takes a create, and writes nothing.
    let writes = |asked: &Asked| !read.contains(&asked.verb) && asked.resource != "tokenreviews";
    let written: Vec<_> = calls().into_iter().filter(|call| writes(&call.asked)).collect();
    assert!(written.is_empty(), "{written:?}\n{}", first.log());
}

/// Asks slowly, one after the other, until told to stop; how many failed.
fn visitor(activator: &Program, over: &AtomicBool) -> usize {
    let (host, mut failed) = ("model.default.example.com", 0);
    while !over.load(Ordering::Relaxed) {
        let answer = http_get(activator.address, host, "/?ms=100");
        if !answer.as_ref().is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200")) {
            eprintln!("{answer:?}");
            failed += 1;
        }
    }
    failed
}

/// Most visitors at once, and from one to the next.
const VISITORS_MAX: usize = 48;
const NEXT_VISITOR: Duration = Duration::from_millis(500);

#[test]
fn a_leader_killed_in_mid_burst_takes_no_replica_with_it() {
    let world = World::new();
    let short = ["--lease-duration=6s", "--renew-deadline=3s", "--retry-period=500ms"];
    let flags = &short[count(short.len(), 0)..];
    let annotations = json!({"autoscaling.knative.dev/target": "4", "autoscaling.knative.dev/window": "6s"});
    world.deploy("model", 0, &annotations, &json!({}));
    let counts = world.counts("model");
    let programs = [0, 1].map(|number| world.autoscaler_with(number, flags).ready());
    let activator = world.activator(0).ready();
    activator.has_route("model");
    let over = AtomicBool::new(false);
    let (failed, killed_at, taken_over) = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            std::thread::scope(|scope| {
                let mut visitors = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    if visitors.len() < VISITORS_MAX {
                        visitors.push(scope.spawn(|| visitor(&activator, &over)));
                    }
                    std::thread::sleep(NEXT_VISITOR);
                }
                visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum::<usize>()
            })
        });
        wait_for("a burst", || (world.replicas("model") >= 3).then_some(()));
        let first = world.leader(&programs);
        first.signal(Signal::SIGKILL);
        let (killed, killed_at) = (Instant::now(), world.replicas("model"));
        world.unlist(&first.name);
        wait_for("another leader", || world.holder().filter(|holder| *holder != first.name));
        wait_for("a count of the other leader", || (world.replicas("model") > killed_at).then_some(()));
        let taken_over = killed.elapsed();
        // What the other one decides by itself: several ticks of two seconds.
        std::thread::sleep(Duration::from_secs(5));
        let during = counts.so_far();
        over.store(true, Ordering::Relaxed);
        assert!(during.is_sorted(), "{during:?}");
        (crowd.join().unwrap(), killed_at, taken_over)
    });
    println!("killed at {killed_at} replicas, more after {taken_over:?}; all counts: {:?}", counts.so_far());
    assert_eq!(failed, 0, "{}", activator.log());
}
