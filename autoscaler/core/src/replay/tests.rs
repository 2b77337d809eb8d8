use super::*;
use crate::testing::spec;
use domain::Resolved;
use proptest::prelude::*;
use std::time::Duration;

fn steady(from: u64, to: u64, concurrency: f64, ready: u32) -> impl Iterator<Item = SampleLine> {
    (from..to).map(move |t| SampleLine { t, concurrency, requests: 0.0, ready: Replicas::new(ready) })
}

fn desired(spec: &ScalingSpec, lines: impl Iterator<Item = SampleLine>) -> Vec<(u64, u32, bool)> {
    let tick = |line: TickLine| (line.t, line.desired.map_or(u32::MAX, Replicas::get), line.mode == ReplayMode::Panic);
    replay(spec, lines).map(tick).collect()
}

#[test]
fn ticks_begin_two_seconds_after_the_first_line() {
    assert_eq!(desired(&spec(10.0), steady(100, 105, 10.0, 1)), [(102, 2, true), (104, 2, true)]);
    assert!(desired(&spec(10.0), steady(100, 102, 10.0, 1)).is_empty());
    assert!(desired(&spec(10.0), std::iter::empty()).is_empty());
}

/// Constant 1, then 50, target 10 x 0.7, 1 ready: by hand from knative-behaviour 5 and 6.
#[test]
fn a_step_by_hand() {
    let lines = steady(0, 61, 1.0, 1).chain(steady(61, 70, 50.0, 1));
    let ticks: Vec<_> = replay(&spec(10.0), lines).filter(|line| line.t >= 60).collect();
    let by_hand: Vec<_> = ticks.iter().map(|line| (line.t, line.stable.unwrap(), line.panic.unwrap())).collect();
    assert_eq!(
        by_hand,
        [
            (60, 1.0, 1.0),
            (62, 2.633_333, 17.333_333),
            (64, 4.266_667, 33.666_667),
            (66, 5.9, 50.0),
            (68, 7.533_333, 50.0),
        ]
    );
    let decided: Vec<_> = ticks.iter().map(|line| (line.desired.unwrap().get(), line.mode)).collect();
    assert_eq!(
        decided,
        [
            (1, ReplayMode::Stable),
            (3, ReplayMode::Panic),
            (5, ReplayMode::Panic),
            (8, ReplayMode::Panic),
            (8, ReplayMode::Panic),
        ]
    );
}

#[test]
fn a_missing_second_is_a_gap_and_silence_still_ticks() {
    let lines = steady(0, 3, 7.0, 1).chain(steady(20, 21, 7.0, 1));
    let ticks = desired(&spec(10.0), lines);
    assert_eq!(ticks.iter().map(|(t, ..)| *t).collect::<Vec<_>>(), (2..=20).step_by(2).collect::<Vec<_>>());
}

#[test]
fn the_delay_holds_the_largest_decision() {
    let spec = ScalingSpec {
        stable_window: Resolved::default_value(Duration::from_secs(6)),
        scale_down_delay: Resolved::default_value(Duration::from_secs(6)),
        ..spec(10.0)
    };
    let lines = steady(0, 21, 14.0, 2).chain(steady(21, 60, 0.0, 2));
    let ticks = desired(&spec, lines);
    let last_two = ticks.iter().rev().find(|(_, desired, _)| *desired == 2).unwrap().0;
    assert_eq!(last_two, 26, "two are wanted until 22 s, and held in the two slots after that");
}

#[test]
fn lines_are_json() {
    let line: SampleLine = serde_json::from_str(r#"{"t":3,"concurrency":1.5,"requests":2,"ready":1}"#).unwrap();
    assert_eq!(line, SampleLine { t: 3, concurrency: 1.5, requests: 2.0, ready: Replicas::ONE });
    let tick = replay(&spec(10.0), steady(0, 3, 10.0, 1)).next().unwrap();
    let json = serde_json::to_value(tick).unwrap();
    assert_eq!(
        (json["t"].clone(), json["desired"].clone(), json["mode"].clone()),
        (2.into(), 2.into(), "panic".into())
    );
    assert_eq!(json["why"]["demand"]["stable"]["reading"], 10.0);
}

proptest! {
    /// Window, delay and decision by description alone give the same counts, whole histories long.
    #[test]
    fn equals_knative_by_description(
        window in 6_u64..30,
        delay in 0_u64..10,
        total in 1.0_f64..20.0,
        steps in prop::collection::vec((0_u32..60, 0_u32..12, 0_u64..3), 4..120),
    ) {
        let spec = ScalingSpec {
            stable_window: Resolved::default_value(Duration::from_secs(window)),
            scale_down_delay: Resolved::default_value(Duration::from_secs(delay)),
            ..spec(total)
        };
        let mut t = 1000;
        let lines: Vec<_> = steps.into_iter().map(|(load, ready, gap)| {
            t += 1 + gap / 2;
            SampleLine { t, concurrency: f64::from(load), requests: 0.0, ready: Replicas::new(ready) }
        }).collect();
        let settings = crate::decide::naive::Settings {
            target: spec.signals[0].target(), up: 1000.0, down: 2.0, threshold: 2.0,
            window: window.cast_signed(), delay: delay.cast_signed(), activation: 0,
        };
        let first = lines[0];
        let mut reference = crate::decide::naive::Naive::new(settings, first.t.cast_signed(), first.ready.get().into());
        let mut stable = crate::window::naive::Naive::new(window.cast_signed());
        let mut panic = crate::window::naive::Naive::new(spec.panic_window().as_secs().cast_signed());
        let mut next = 0;
        for tick in replay(&spec, lines.iter().copied()) {
            while next < lines.len() && lines[next].t <= tick.t {
                stable.record(lines[next].t.cast_signed(), lines[next].concurrency);
                panic.record(lines[next].t.cast_signed(), lines[next].concurrency);
                next += 1;
            }
            let now = tick.t.cast_signed();
            prop_assert_eq!((tick.stable, tick.panic), (Some(stable.linear(now)), Some(panic.linear(now))));
            let ready = lines[next - 1].ready.get().into();
            let expected = reference.decide(now, stable.linear(now), panic.linear(now), ready);
            prop_assert_eq!(tick.desired.map(|desired| i64::from(desired.get())), Some(expected), "at {}", tick.t);
        }
    }
}
