use super::*;
use crate::problem::Severity;
use proptest::prelude::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<ActivatorConfig, Box<Wrong>> {
    ActivatorConfig::from_map("config.yaml:1", &data(pairs))
}

#[track_caller]
fn accepts(key: &str, good: &[&str], bad: &[&str]) {
    for value in good {
        assert!(read(&[(key, value)]).is_ok(), "{key}: {value:?} should be accepted");
    }
    for value in bad {
        let problems = read(&[(key, value)]).expect_err(&format!("{key}: {value:?} should be refused")).problems;
        let [problem] = problems.as_slice() else { panic!("{key}: {problems:?}") };
        assert!(problem.key.contains(key) && !problem.expected.is_empty(), "{key}: {problem}");
        assert!(problem.to_string().len() < 2_000, "{problem}");
    }
}

#[test]
fn ranges() {
    accepts("domain", &["example.com", "Models.Internal.", "lan"], &["", ".", "a b", "*.a.io", "a.io:80", "1,2"]);
    accepts("cluster-domain", &["cluster.local"], &["cluster..local", "-"]);
    accepts("allowed-hosts", &["any", "none", "a=x.io", "a=x.io,y.io; *=z.io"], &["", "a", "a=x_y"]);
    accepts("trusted-proxies", &["none", "loopback", "10.0.0.0/8, loopback,fd00::/8"], &["", "all", "10.0.0.1/8"]);
    accepts("forwarded", &["x-forwarded", "rfc7239", "both", "off"], &["", "on", "Both", "none"]);
    accepts("exempt-user-agents", &["none", "curl/", "A b/1, kube-probe/"], &["", ",", "caf\u{e9}"]);
    accepts("exempt-paths", &["none", "/metrics,/health"], &["", "metrics", "/a?b", "/a b"]);
    accepts("head-timeout", &["100ms", "30s", "1h"], &["0s", "99ms", "30", "2h"]);
    accepts("keep-alive-timeout", &["100ms", "24h"], &["0s", "off", "25h"]);
    accepts("max-connections", &["1", "1000000"], &["0", "-1", "1e3", "1000001"]);
    accepts("max-held-requests", &["2", "20000"], &["1", "off"]);
    accepts("max-held-bytes", &["65536", "4294967295"], &["65535", "256Mi", "4294967296"]);
    accepts("drain-delay", &["0s", "10s"], &["-1s", "2h"]);
    accepts("drain-grace", &["0s", "168h"], &["169h", "1d"]);
    let many = vec!["/a"; EXEMPT_MAX + 1].join(",");
    accepts("exempt-paths", &[&vec!["/a"; EXEMPT_MAX].join(",")], &[&many]);
}

#[test]
fn every_key_is_read_and_the_table_says_the_defaults_of_the_code() {
    let built_in = ActivatorConfig::default().with_origins();
    assert_eq!(built_in.len(), ACTIVATOR_KEYS.len());
    for ((key, value, origin), row) in built_in.iter().zip(ACTIVATOR_KEYS) {
        assert_eq!((*key, value.as_str(), *origin), (row.key, row.default, Origin::Default));
        assert!(read(&[(key, " \u{0}")]).is_err(), "{key} is not read");
    }
    let written: Vec<(&str, &str)> = built_in.iter().map(|(key, value, _)| (*key, value.as_str())).collect();
    let again = read(&written).unwrap().with_origins();
    for ((key, value, _), (_, before, _)) in again.iter().zip(&built_in) {
        assert_eq!(value, before, "{key} reads back the same");
    }
    assert!(again.iter().all(|(_, _, origin)| *origin == Origin::ClusterConfig));
}

#[test]
fn all_problems_come_together_with_what_would_be_right() {
    let wrong = read(&[("trusted-proxy", "none"), ("head-timeout", "30"), ("forwarded", "yes")]).unwrap_err();
    assert_eq!(wrong.problems.len(), 3, "{:?}", wrong.problems);
    let warning = wrong.problems.iter().find(|problem| problem.severity == Severity::Warning).unwrap();
    assert!(warning.expected.starts_with("trusted-proxies") && warning.what.contains("config-activator"));
    let warnings = read(&[("domian", "a.io"), ("_example", "x")]).unwrap().warnings;
    assert!(matches!(&warnings[..], [one] if one.expected.starts_with("domain")), "{warnings:?}");
}

#[test]
fn a_wrong_map_opens_nothing() {
    let meanwhile = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().meanwhile;
    let bad_domain = meanwhile(&[("domain", "."), ("trusted-proxies", "10.0.0.0/8"), ("allowed-hosts", "a=x.io")]);
    assert_eq!(bad_domain.domain, ActivatorConfig::default().domain);
    assert_eq!(bad_domain.trusted_proxies.to_string(), "10.0.0.0/8", "the keys that are right count");
    assert_eq!(bad_domain.allowed_hosts.to_string(), "a=x.io");
    let bad_trust = meanwhile(&[("domain", "a.io"), ("trusted-proxies", "10.0.0.0/99"), ("allowed-hosts", "a")]);
    assert_eq!(*bad_trust.domain, "a.io");
    assert_eq!(
        (bad_trust.trusted_proxies.value, bad_trust.allowed_hosts.value),
        (TrustedProxies::none(), AllowedHosts::none())
    );
    let unsaid = meanwhile(&[("head-timeout", "x")]);
    assert_eq!(unsaid, ActivatorConfig::default(), "nobody asked for anything narrower");
}

proptest! {
    /// Arbitrary maps never panic, and whoever is refused is told briefly.
    #[test]
    fn reading_is_total(
        pairs in prop::collection::vec(
            (prop::sample::select(ACTIVATOR_KEYS.iter().map(|row| row.key).collect::<Vec<_>>()), "\\PC{0,30}|[a-z0-9.,;=*/: ]{0,30}"), 0..12)
    ) {
        let data: BTreeMap<String, String> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        match ActivatorConfig::from_map("x", &data) {
            Ok(config) => {
                let written = config.with_origins().into_iter().map(|(key, value, _)| (key.to_owned(), value)).collect();
                let again = ActivatorConfig::from_map("x", &written).unwrap();
                prop_assert_eq!(again.allowed_hosts.value, config.allowed_hosts.value);
                prop_assert_eq!(again.trusted_proxies.value, config.trusted_proxies.value);
                prop_assert_eq!(again.exempt_paths.value, config.exempt_paths.value);
            }
            Err(wrong) => prop_assert!(wrong.problems.iter().all(|problem| problem.to_string().len() < 3_000)),
        }
    }
}
