use super::*;

fn why() -> Why {
    let demand =
        Demand { signal: Signal::Concurrency, reading: 10.0, total: 10.0, utilization: 0.7, wanted: Replicas::new(2) };
    Why {
        at: Timestamp::from_secs(60),
        trigger: Trigger::Tick,
        demand: Some(Demands { stable: demand, panic: demand }),
        unavailable: SignalSet::default(),
        ready: Replicas::ONE,
        requested: Replicas::ONE,
        up: Replicas::new(1000),
        down: Replicas::ZERO,
        activation: None,
        stable_want: Replicas::new(2),
        panic_want: Replicas::new(2),
        panic_threshold: 2.0,
        window_seconds: 60,
        panic: PanicStep::Calm,
        panic_max: Replicas::ZERO,
        delay: None,
        desired: Some(Replicas::new(2)),
        min: Replicas::ZERO,
        max: None,
        zero_allowed: true,
        idleness: Idleness::Spent,
        backlog: None,
        hold: None,
        exclusive: None,
        replicas: Replicas::new(2),
    }
}

#[test]
fn it_reads_as_arithmetic() {
    assert_eq!(why().to_string(), "stable 10.0 / (10 x 0.70) -> 2");
    let residue = Demand { reading: -0.004, wanted: Replicas::ZERO, ..why().demand.unwrap().stable };
    assert_eq!(residue.to_string(), "0.0 / (10 x 0.70) -> 0", "no minus in front of nothing");
    let floor = Backlog { load: 50, target: 7.0, replicas: Replicas::new(8) };
    let surge = Why { backlog: Some(floor), replicas: Replicas::new(8), ..why() };
    assert_eq!(surge.to_string(), "50 in flight / 7.0 -> 8, without waiting for the average");
    let bounded = Why { max: Some(Replicas::ONE), replicas: Replicas::ONE, ..why() };
    assert_eq!(bounded.to_string(), "stable 10.0 / (10 x 0.70) -> 2, at most 1");
    let held = Why { hold: Some(Hold::PartialCoverage), replicas: Replicas::new(5), ..why() };
    assert_eq!(held.to_string(), "kept at 5: an activator is silent");
    let share = |at_most, requested| {
        let (wanted, at_most) = (Replicas::new(2), Replicas::new(at_most));
        let exclusive = Some(Exclusive { wanted, at_most });
        Why { exclusive, requested: Replicas::new(requested), replicas: wanted.min(at_most), ..why() }.to_string()
    };
    assert_eq!(share(0, 0), "waits for a slot of its exclusive group");
    assert_eq!(share(0, 1), "makes room in its exclusive group");
    assert_eq!(share(1, 1), "at most 1: its exclusive group has no free slot");
    assert_eq!(share(2, 1), why().to_string(), "what limits nothing is not mentioned");
}

#[test]
fn newer_numbers_make_no_new_decision() {
    let later = Why { at: Timestamp::from_secs(62), ..why() };
    assert!(why().same_decision(&later));
    assert!(!why().same_decision(&Why { replicas: Replicas::new(3), ..why() }));
    assert!(!why().same_decision(&Why { idleness: Idleness::Starting, ..why() }));
}

#[test]
fn signals_are_listed_by_name() {
    let mut set = SignalSet::default();
    set.insert(Signal::Memory);
    set.insert(Signal::Cpu);
    assert_eq!(serde_json::to_string(&set).unwrap(), r#"["cpu","memory"]"#);
    assert!(!set.contains(Signal::Rps));
}
