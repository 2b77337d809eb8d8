use super::naive::Naive;
use super::*;
use proptest::prelude::*;

fn linear(seconds: u64) -> Window {
    Window::new(Duration::from_secs(seconds), Aggregation::Linear)
}

fn weighted(seconds: u64) -> Window {
    Window::new(Duration::from_secs(seconds), Aggregation::WeightedExponential)
}

#[test]
fn several_stats_of_a_second_add_up() {
    let mut window = linear(60);
    for _ in 0..3 {
        window.record(100, 10.0);
    }
    for _ in 0..4 {
        window.record(101, 10.0);
    }
    assert!((window.average(101) - 35.0).abs() < f64::EPSILON);
}

/// Constant load 10 for 60 s, then a single zero, then silence: the worked example of knative-behaviour 5.1.
#[test]
fn silence_stays_flat_and_then_falls() {
    let mut window = linear(60);
    for second in 1000..1060 {
        window.record(second, 10.0);
    }
    window.record(1060, 0.0);
    for (later, average) in [(0, 9.833_333), (10, 9.8), (30, 9.666_667), (50, 9.0), (58, 5.0), (59, 0.0), (60, 0.0)] {
        assert_eq!(window.average(1060 + later), average, "{later} s later");
    }
    assert!(!window.is_empty(1060 + 60), "empty begins after the window, strictly");
    assert!(window.is_empty(1060 + 61));
}

/// What happens while frames arrive without requests: a listed difference (kpa-behaviour 5.6).
#[test]
fn recorded_zeros_decay_linearly() {
    let mut window = linear(6);
    for second in 100..106 {
        window.record(second, 6.0);
    }
    for (second, average) in [(106, 5.0), (108, 3.0), (110, 1.0), (111, 0.0)] {
        window.advance(second);
        assert_eq!(window.average(second), average, "at {second}");
    }
}

#[test]
fn leading_partial_windows_divide_by_the_seconds_seen() {
    let mut window = linear(60);
    window.record(5, 4.0);
    assert_eq!(window.average(5), 4.0);
    window.record(7, 2.0);
    assert_eq!(window.average(7), 2.0, "the gap counts as zero");
    window.record(3, 4.0);
    assert_eq!(window.average(7), 2.0, "a late value moves the beginning back: 10 over 5 s");
}

#[test]
fn late_values_count_inside_the_window_only() {
    let mut window = linear(6);
    window.record(20, 6.0);
    window.record(15, 6.0);
    assert_eq!(window.average(20), 2.0);
    window.record(14, 600.0);
    assert_eq!(window.average(20), 2.0, "14 + 6 is not after 20");
}

#[test]
fn a_gap_of_a_window_starts_anew() {
    let mut window = linear(6);
    window.record(10, 5.0);
    window.record(16, 3.0);
    assert_eq!(window.average(16), 3.0);
}

#[test]
fn tiny_remainders_read_as_zero() {
    let mut window = linear(6);
    window.record(10, 3.6e-17);
    assert_eq!(window.average(10), 0.0);
}

#[test]
fn weighted_averages_follow_the_formula() {
    let check = |seconds: u64, expected: f64| {
        let mut window = weighted(seconds);
        window.record(10, 100.0);
        assert!((window.average(10) - expected).abs() < 0.001, "{seconds}: {}", window.average(10));
    };
    check(60, 20.0);
    check(6, 78.456);
    check(5, 84.151);
    let mut window = weighted(6);
    window.record(10, 100.0);
    let late = window.average(11) / window.average(10);
    assert!((late - 0.215_44).abs() < 0.0001, "just before the report arrives: {late}");
}

#[test]
fn resizing_keeps_the_newest_and_takes_the_old_window_as_full() {
    let mut window = linear(6);
    window.record(10, 6.0);
    window.record(11, 6.0);
    assert_eq!(window.average(11), 6.0);
    window.resize(Duration::from_secs(10), 11);
    assert_eq!(window.average(11), 2.0, "12 over the 6 s of the old window");
    window.resize(Duration::from_secs(1), 11);
    assert_eq!(window.average(11), 6.0);
    let mut stale = linear(6);
    stale.record(10, 6.0);
    stale.resize(Duration::from_secs(10), 17);
    assert_eq!(stale.average(17), 0.0);
    stale.record(17, 4.0);
    assert_eq!(stale.average(17), 4.0, "the beginning was forgotten");
}

proptest! {
    /// The fast ring equals the plain list, whatever the order and gaps of the samples.
    #[test]
    fn the_ring_equals_the_plain_list(
        length in 1_i64..12,
        steps in prop::collection::vec((-14_i64..14, 0_u32..50, 0_i64..14), 1..80),
    ) {
        let seconds = length.unsigned_abs();
        let mut rings = [linear(seconds), weighted(seconds)];
        let mut naive = Naive::new(length);
        let mut newest = 1000_i64;
        for (step, value, ahead) in steps {
            let second = newest + step;
            for ring in &mut rings {
                ring.record(second.unsigned_abs(), f64::from(value));
            }
            naive.record(second, f64::from(value));
            newest = newest.max(second);
            let now = newest + ahead;
            let [a, b] = [rings[0].average(now.unsigned_abs()), rings[1].average(now.unsigned_abs())];
            prop_assert_eq!(a, naive.linear(now));
            prop_assert_eq!(rings[0].most(now.unsigned_abs()), naive.most(now));
            prop_assert!((b - naive.weighted(now)).abs() < 1e-9, "{} {}", b, naive.weighted(now));
        }
    }

    /// The running total never drifts from its buckets.
    #[test]
    fn the_total_is_the_sum_of_the_buckets(values in prop::collection::vec((0_u64..4, 0_u32..1000), 1..200)) {
        let mut window = linear(6);
        let mut second = 50;
        for (step, value) in values {
            second += step;
            window.record(second, f64::from(value));
            prop_assert_eq!(window.total, window.buckets.iter().sum::<f64>());
        }
    }
}
