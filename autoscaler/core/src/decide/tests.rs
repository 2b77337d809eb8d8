use super::*;
use crate::delay::DelayWindow;
use crate::recompute::recompute;
use crate::testing::{seen, spec};
use domain::why::{PanicStep, Step};
use domain::{Resolved, SignalSpec};
use proptest::prelude::*;
use std::time::Duration;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn set<T>(value: T) -> Resolved<T> {
    Resolved::default_value(value)
}

/// One row of the table: settings, ready, stable and panic reading, and what must come out.
#[track_caller]
fn check(spec: &ScalingSpec, ready: u32, stable: f64, panic: f64, expected: u32) {
    let decision = decide(at(100), spec, &Memory::default(), &seen(ready, stable, panic));
    assert_eq!(decision.replicas.get(), expected, "{:#?}", decision.why);
}

#[test]
fn worked_examples_of_the_issue() {
    check(&spec(10.0), 1, 10.0, 10.0, 2);
    check(&ScalingSpec { max_scale: set(Some(Replicas::new(20))), ..spec(1.0) }, 1, 10.0, 10.0, 15);
    check(&spec(10.0), 1, 0.0, 0.0, 0);
}

#[test]
fn rates_allow_at_least_one_step_either_way() {
    let whole = |up, down| {
        let mut spec = spec(1.0);
        spec.signals[0].utilization = set(1.0);
        ScalingSpec { max_scale_up_rate: set(up), max_scale_down_rate: set(down), ..spec }
    };
    check(&whole(1.1, 2.0), 2, 3.0, 3.0, 3);
    check(&whole(1000.0, 1.1), 100, 1.0, 1.0, 90);
    check(&whole(1000.0, 2.0), 1, 0.0, 0.0, 0);
    check(&whole(1000.0, 2.0), 2, 0.0, 0.0, 1);
    check(&whole(1000.0, 2.0), 0, 7.0, 1.0, 7);
}

#[test]
fn in_panic_the_larger_window_wins() {
    let mut spec = spec(1.0);
    spec.signals[0].utilization = set(1.0);
    check(&spec, 10, 50.0, 30.0, 50);
    check(&spec, 10, 30.0, 50.0, 50);
}

#[test]
fn the_activation_scale_comes_after_the_rate_limit() {
    let spec = ScalingSpec { activation_scale: set(Some(Replicas::new(5))), max_scale_up_rate: set(2.0), ..spec(10.0) };
    check(&spec, 1, 1.0, 1.0, 5);
    check(&spec, 1, 0.0, 0.0, 0);
}

#[test]
fn panic_ends_strictly_after_the_window_and_may_shrink_at_once() {
    let spec = spec(10.0);
    let mut memory = Memory::default();
    let mut step = |secs, ready, stable, panic| {
        let decision = decide(at(secs), &spec, &memory, &seen(ready, stable, panic));
        memory = decision.after;
        (decision.replicas.get(), decision.why.panic, decision.after.panic_max.get())
    };
    assert_eq!(step(0, 1, 7.0, 50.0), (8, PanicStep::Entered, 8));
    assert_eq!(step(2, 1, 7.0, 20.0), (8, PanicStep::Extended, 8), "no decrease in panic");
    assert_eq!(step(62, 8, 7.0, 7.0), (8, PanicStep::Continued, 8), "exactly one window later it still panics");
    assert_eq!(step(64, 8, 7.0, 7.0), (4, PanicStep::Left, 0), "and may shrink in the evaluation that leaves");
}

#[test]
fn more_than_one_ready_replica_at_creation_starts_in_panic() {
    let holds = Memory::at_creation(at(10), Replicas::new(3));
    let decision = decide(at(12), &spec(10.0), &holds, &seen(3, 0.0, 0.0));
    assert_eq!((decision.replicas.get(), decision.why.panic), (3, PanicStep::Continued));
    for ready in [0, 1] {
        let calm = Memory::at_creation(at(10), Replicas::new(ready));
        assert_eq!(calm.panic_since, None, "{ready}");
    }
}

#[test]
fn bounds_in_knatives_order() {
    let bounds = |min, max, initial| ScalingSpec {
        min_scale: set(Replicas::new(min)),
        max_scale: set(Some(Replicas::new(max))),
        initial_scale: set(Replicas::new(initial)),
        ..spec(10.0)
    };
    check(&bounds(2, 8, 1), 1, 0.0, 0.0, 2);
    check(&bounds(0, 3, 1), 1, 100.0, 100.0, 3);
    let fresh = |spec: &ScalingSpec, stable| {
        let seen = Observation { initialised: false, ..seen(1, stable, stable) };
        decide(at(100), spec, &Memory::default(), &seen).replicas.get()
    };
    assert_eq!(fresh(&bounds(0, 8, 9), 1.0), 9, "until it is reached once, the initial scale beats the maximum");
    assert_eq!(fresh(&bounds(3, 8, 2), 0.0), 3);
    assert_eq!(fresh(&bounds(0, 8, 1), 0.0), 0, "an initial scale of one is no floor");
}

#[test]
fn zero_depends_on_what_the_last_replica_is_doing() {
    let zero = |idleness, spec: &ScalingSpec| {
        let seen = Observation { idleness, requested: Replicas::new(3), ..seen(1, 0.0, 0.0) };
        decide(at(100), spec, &Memory::default(), &seen).replicas.get()
    };
    let until = at(200);
    for (idleness, expected) in [
        (Idleness::Asleep, 0),
        (Idleness::Starting, 3),
        (Idleness::Young { until }, 1),
        (Idleness::Retained { until }, 3),
        (Idleness::Spent, 0),
        (Idleness::Failed { until }, 0),
    ] {
        assert_eq!(zero(idleness, &spec(10.0)), expected, "{idleness:?}");
    }
    assert_eq!(zero(Idleness::Spent, &ScalingSpec { enable_scale_to_zero: set(false), ..spec(10.0) }), 1);
}

#[test]
fn what_activators_cannot_measure_blocks_shrinking_only() {
    let mut spec = spec(10.0);
    spec.signals.push(SignalSpec { signal: Signal::Cpu, total: set(80.0), utilization: set(1.0) });
    let shrink = decide(at(100), &spec, &Memory::default(), &seen(4, 7.0, 7.0));
    assert_eq!((shrink.replicas.get(), shrink.why.hold), (4, Some(Hold::SignalUnavailable)));
    let grow = decide(at(100), &spec, &Memory::default(), &seen(4, 70.0, 70.0));
    assert_eq!(grow.replicas.get(), 10);
    spec.signals.remove(0);
    let before = Memory { panic_since: Some(at(1)), panic_max: Replicas::new(9) };
    let blind = decide(at(100), &spec, &before, &seen(4, 0.0, 0.0));
    assert_eq!((blind.replicas.get(), blind.after, blind.undelayed), (4, before, None), "state untouched");
}

#[test]
fn the_signal_that_asks_for_most_counts() {
    let mut spec = spec(10.0);
    spec.signals.push(SignalSpec { signal: Signal::Rps, total: set(100.0), utilization: set(0.7) });
    let seen = Observation { rps: Some(Reading { stable: 300.0, panic: 10.0 }), ..seen(4, 7.0, 20.0) };
    let demand = decide(at(100), &spec, &Memory::default(), &seen).why.demand.unwrap();
    assert_eq!((demand.stable.signal, demand.stable.wanted.get()), (Signal::Rps, 5));
    assert_eq!((demand.panic.signal, demand.panic.wanted.get()), (Signal::Concurrency, 3));
}

#[test]
fn numbers_that_are_none_are_no_readings() {
    for bad in [f64::NAN, f64::INFINITY] {
        let decision = decide(at(100), &spec(10.0), &Memory::default(), &seen(4, bad, 1.0));
        assert_eq!((decision.replicas.get(), decision.why.demand), (4, None));
    }
}

fn any_idleness() -> impl Strategy<Value = Idleness> {
    let until = at(1000);
    prop_oneof![
        Just(Idleness::Asleep),
        Just(Idleness::Starting),
        Just(Idleness::Young { until }),
        Just(Idleness::Retained { until }),
        Just(Idleness::Spent),
        Just(Idleness::Failed { until }),
    ]
}

prop_compose! {
    fn any_spec()(
        total in 0.01_f64..50.0,
        utilization in 0.01_f64..=1.0,
        (up, down) in (1.01_f64..20.0, 1.01_f64..5.0),
        threshold in 110.0_f64..400.0,
        (min, max, initial) in (0_u32..4, prop::option::of(1_u32..30), 0_u32..5),
        activation in prop::option::of(2_u32..6),
        (zero, cpu) in (any::<bool>(), prop::bool::weighted(0.2)),
    ) -> ScalingSpec {
        let mut spec = spec(total);
        spec.signals[0].utilization = set(utilization);
        if cpu {
            spec.signals.push(SignalSpec { signal: Signal::Cpu, total: set(80.0), utilization: set(1.0) });
        }
        ScalingSpec {
            max_scale_up_rate: set(up),
            max_scale_down_rate: set(down),
            panic_threshold_percentage: set(threshold),
            min_scale: set(Replicas::new(min)),
            max_scale: set(max.map(|max| Replicas::new(max.max(min)))),
            initial_scale: set(Replicas::new(initial)),
            activation_scale: set(activation.map(Replicas::new)),
            enable_scale_to_zero: set(zero),
            ..spec
        }
    }
}

prop_compose! {
    fn any_seen()(
        (ready, requested) in (0_u32..20, 0_u32..20),
        (stable, panic) in (0.0_f64..300.0, 0.0_f64..300.0),
        delay in prop::option::of(0_u32..20),
        initialised in any::<bool>(),
        idleness in any_idleness(),
        load in prop::option::of(1_u32..300),
        hold in prop::option::of(prop_oneof![Just(Hold::PartialCoverage), Just(Hold::WarmingUp), Just(Hold::Invalid)]),
    ) -> Observation {
        Observation {
            trigger: Trigger::Tick,
            ready: Replicas::new(ready),
            requested: Replicas::new(requested),
            concurrency: Some(Reading { stable, panic }),
            rps: None,
            delay: delay.map(|replicas| DelayFloor { replicas: Replicas::new(replicas), until: at(1000) }),
            initialised,
            idleness,
            backlog: load.map(|load| Backlog { load, target: 1.0, replicas: Replicas::new(load) }),
            hold,
            at_most: None,
        }
    }
}

prop_compose! {
    fn any_memory()(since in prop::option::of(0_u64..100), highest in 0_u32..20) -> Memory {
        Memory { panic_since: since.map(at), panic_max: Replicas::new(highest) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn never_outside_the_bounds(spec in any_spec(), seen in any_seen(), before in any_memory()) {
        let why = decide(at(100), &spec, &before, &seen).why;
        let held = if why.hold.is_some() { seen.requested } else { Replicas::ZERO };
        let one = if *spec.enable_scale_to_zero { Replicas::ZERO } else { Replicas::ONE };
        prop_assert!(why.replicas >= *spec.min_scale);
        let least = why.min.max(held).max(one);
        let keeps = matches!(why.idleness, Idleness::Starting | Idleness::Retained { .. });
        let kept = if keeps { seen.requested } else { Replicas::ZERO };
        prop_assert!(why.max.is_none_or(|max| why.replicas <= max.max(least).max(kept).max(Replicas::ONE)), "{why:#?}");
    }

    #[test]
    fn the_record_explains_the_count(
        spec in any_spec(),
        seen in any_seen(),
        at_most in prop::option::of(0_u32..20),
        before in any_memory(),
    ) {
        let seen = Observation { at_most: at_most.map(Replicas::new), ..seen };
        let decision = decide(at(100), &spec, &before, &seen);
        let again = recompute(&decision.why, &before);
        prop_assert_eq!(again.replicas, decision.replicas);
        prop_assert_eq!(again.after, decision.after);
        let urgent = Observation { trigger: Trigger::Urgent, requested: Replicas::new(7), ..seen };
        let later = conclude(at(101), &spec, &decision.why, &urgent);
        prop_assert_eq!(recompute(&later, &decision.after).replicas, later.replicas);
        prop_assert!(!decision.why.to_string().is_empty());
    }

    #[test]
    fn nothing_shrinks_while_something_is_not_known(spec in any_spec(), seen in any_seen(), before in any_memory()) {
        let why = decide(at(100), &spec, &before, &seen).why;
        prop_assert!(why.hold.is_none() || why.replicas >= seen.requested);
        prop_assert!(why.unavailable.is_empty() || why.replicas >= seen.requested);
    }

    /// What the windows remember does not depend on the group.
    #[test]
    fn an_exclusive_group_has_the_last_word(
        spec in any_spec(),
        seen in any_seen(),
        at_most in 0_u32..20,
        before in any_memory(),
    ) {
        let at_most = Replicas::new(at_most);
        let alone = decide(at(100), &spec, &before, &seen);
        let shared = decide(at(100), &spec, &before, &Observation { at_most: Some(at_most), ..seen });
        prop_assert_eq!(shared.replicas, alone.replicas.min(at_most));
        prop_assert_eq!((shared.after, shared.undelayed), (alone.after, alone.undelayed));
        prop_assert_eq!(shared.why.exclusive.map(|step| step.wanted), Some(alone.replicas));
        prop_assert_eq!(shared.why.step() == Step::Exclusive, alone.replicas > at_most);
    }

    #[test]
    fn the_floor_only_raises(spec in any_spec(), seen in any_seen(), before in any_memory()) {
        let with = decide(at(100), &spec, &before, &seen);
        let without = decide(at(100), &spec, &before, &Observation { backlog: None, ..seen });
        prop_assert!(with.replicas >= without.replicas);
        prop_assert_eq!(with.after, without.after);
        prop_assert_eq!(with.why.desired, without.why.desired);
    }

    /// Knative by description and the code agree over whole histories, delay and panic included.
    #[test]
    fn equals_the_description_over_a_history(
        mut spec in any_spec(),
        window in 6_u64..20,
        delay in 0_u64..12,
        ready in 0_u32..6,
        steps in prop::collection::vec((0.0_f64..80.0, 0.0_f64..80.0, 0_u32..20), 1..60),
    ) {
        spec.signals.truncate(1);
        spec.stable_window = set(Duration::from_secs(window));
        spec.scale_down_delay = set(Duration::from_secs(delay));
        let settings = naive::Settings {
            target: spec.signals[0].target(),
            up: *spec.max_scale_up_rate,
            down: *spec.max_scale_down_rate,
            threshold: spec.panic_threshold(),
            window: window.cast_signed(),
            delay: delay.cast_signed(),
            activation: spec.activation_scale.map_or(0, |scale| scale.get().into()),
        };
        let mut reference = naive::Naive::new(settings, 1000, ready.into());
        let mut memory = Memory::at_creation(at(1000), Replicas::new(ready));
        let mut delays = DelayWindow::new(*spec.scale_down_delay);
        for (number, (stable, panic, ready)) in (1_u64..).zip(steps) {
            let now = at(1000 + 2 * number);
            let seen = Observation { delay: delays.as_ref().and_then(|delays| delays.floor(now)), ..seen(ready, stable, panic) };
            let decision = decide(now, &spec, &memory, &seen);
            memory = decision.after;
            if let (Some(delays), Some(undelayed)) = (&mut delays, decision.undelayed) {
                delays.record(now, undelayed);
            }
            let expected = reference.decide(now.whole_seconds().cast_signed(), stable, panic, ready.into());
            prop_assert_eq!(decision.why.desired.map(|desired| i64::from(desired.get())), Some(expected));
        }
    }
}
