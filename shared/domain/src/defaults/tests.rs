use super::*;
use crate::problem::Severity;

fn read(pairs: &[(&str, &str)]) -> Result<Defaults, Vec<Problem>> {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Defaults::from_map("config.yaml:1", &data)
}

/// Whether a single key with this value is accepted.
#[track_caller]
fn accepts(key: &str, good: &[&str], bad: &[&str]) {
    for value in good {
        assert!(read(&[(key, value)]).is_ok(), "{key}: {value:?} should be accepted");
    }
    for value in bad {
        let problems = read(&[(key, value)]).expect_err(&format!("{key}: {value:?} should be refused"));
        assert!(problems.iter().any(|problem| problem.key.contains(key)), "{key}: {value:?}: {problems:?}");
    }
}

#[test]
fn ranges_are_knatives() {
    accepts("enable-scale-to-zero", &["true", "T", "0", "False"], &["yes", "", " true", "tRUE"]);
    accepts("initial-scale", &["1", "7"], &["0", "-1", "1.5", "2147483648", ""]);
    accepts("min-scale", &["0", "1000"], &["-1", "two", "99999999999"]);
    accepts("max-scale", &["0", "5"], &["-1", "inf"]);
    accepts(
        "container-concurrency-target-percentage",
        &["70", "1", "0.5", "1.5", "100"],
        &["0", "-1", "101", "NaN", "70%"],
    );
    accepts("container-concurrency-target-default", &["100", "0.02"], &["0.01", "0", "-5", "+Inf", "nan"]);
    accepts("requests-per-second-target-default", &["0.01", "200"], &["0.009", "NaN", "1e999"]);
    accepts("target-burst-capacity", &["-1", "0", "211", "-1.0"], &["-2", "-0.5", "NaN", "inf"]);
    accepts("stable-window", &["6s", "1h", "60000ms"], &["5s", "1h1s", "6500ms", "60", "1d", "-60s"]);
    accepts("panic-window-percentage", &["1", "100"], &["0.9", "100.1", "NaN"]);
    accepts("panic-threshold-percentage", &["110", "1000"], &["0", "109.9", "1001", "NaN"]);
    accepts("max-scale-up-rate", &["1.1", "1000"], &["1", "0", "inf", "NaN"]);
    accepts("max-scale-down-rate", &["1.1", "2"], &["1", "-2", "NaN"]);
    accepts("scale-down-delay", &["0s", "0", "24h"], &["-1s", "1500ms", "24h1s"]);
    accepts("scale-to-zero-grace-period", &["1ns", "30s"], &["0s", "-1s"]);
    accepts("scale-to-zero-pod-retention-period", &["0s", "1500ms", "100h"], &["-1ms", "x"]);
    accepts("activator-capacity", &["1", "100.5"], &["0.99", "NaN"]);
    accepts("pod-autoscaler-class", &["anything"], &[""]);
    accepts("allow-zero-initial-scale", &["true"], &["2"]);
}

#[test]
fn every_key_is_read() {
    let defaults = Defaults::default();
    for ((key, value), row) in defaults.to_map().into_iter().zip(CONFIG_KEYS) {
        assert_eq!(key, row.key);
        assert_eq!(value, row.default, "{key}: the table says another default than the code");
        if key != CLASS.key {
            assert!(read(&[(key, "nonsense")]).is_err(), "{key} is not read");
        }
    }
}

#[test]
fn what_is_written_out_reads_back_the_same() {
    let written = Defaults::default().to_map();
    let pairs: Vec<(&str, &str)> = written.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let read = read(&pairs).unwrap();
    assert_eq!(read.to_map(), written);
    assert_eq!(read.stable_window, Resolved::new(Duration::from_secs(60), Origin::ClusterConfig));
    assert!(read.with_origins().iter().all(|(_, _, origin)| *origin == Origin::ClusterConfig));
    assert!(Defaults::default().with_origins().iter().all(|(_, _, origin)| *origin == Origin::Default));
}

#[test]
fn a_percentage_up_to_one_is_a_fraction() {
    for (text, fraction) in [("1", 1.0), ("1.5", 0.015), ("0.7", 0.7), ("70", 0.7), ("100", 1.0)] {
        let defaults = read(&[("container-concurrency-target-percentage", text)]).unwrap();
        assert!((*defaults.target_fraction - fraction).abs() < 1e-12, "{text}");
        let again = percent(*defaults.target_fraction);
        let back = read(&[("container-concurrency-target-percentage", &again)]).unwrap();
        assert!((*back.target_fraction - fraction).abs() < 1e-12, "{text} -> {again}");
    }
}

#[test]
fn keys_are_checked_against_each_other() {
    assert!(read(&[("initial-scale", "0"), ("allow-zero-initial-scale", "true")]).is_ok());
    assert!(read(&[("min-scale", "5"), ("max-scale", "4")]).is_err());
    assert!(read(&[("min-scale", "5"), ("max-scale", "5")]).is_ok());
    assert!(read(&[("min-scale", "5"), ("max-scale", "0")]).is_ok());
    assert!(read(&[("max-scale-limit", "10")]).is_err(), "a limit needs an explicit maximum");
    assert!(read(&[("max-scale-limit", "10"), ("max-scale", "11")]).is_err());
    assert!(read(&[("max-scale-limit", "10"), ("max-scale", "10")]).is_ok());
    assert!(
        read(&[("container-concurrency-target-default", "0.5"), ("container-concurrency-target-percentage", "0.01")])
            .is_err()
    );
}

#[test]
fn all_problems_come_together_and_nothing_is_half_applied() {
    let problems = read(&[("stable-window", "1s"), ("max-scale", "x"), ("stabel-window", "60s")]).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().any(|p| p.expected.contains("stable-window") && p.severity == Severity::Warning));
}

#[test]
fn unknown_keys_warn_and_knatives_example_does_not() {
    let defaults = read(&[("_example", "a: b"), ("min-scal", "1")]).unwrap();
    assert_eq!(defaults.warnings.len(), 1);
    assert!(defaults.warnings[0].expected.contains("min-scale"));
}
