use super::*;
use crate::limits::{LoadBalancing, OnDisconnect, Protocol};
use crate::origin::Origin;
use crate::revision::{RevisionId, ScaleTargetRef};
use crate::scaling::{Aggregation, Manual};
use crate::signal::Signal;
use crate::units::Replicas;
use proptest::prelude::*;

type Map = BTreeMap<String, String>;

/// `min-scale` and `kpa:mode` stand for the full keys.
fn map(pairs: &[(&str, &str)]) -> Map {
    let full = |key: &str| match key.strip_prefix("kpa:") {
        Some(name) => format!("kpa.dev/{name}"),
        None => format!("autoscaling.knative.dev/{key}"),
    };
    pairs.iter().map(|(key, value)| (full(key), (*value).to_owned())).collect()
}

fn config(pairs: &[(&str, &str)]) -> Defaults {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Defaults::from_map("config", &data).unwrap()
}

fn levels(metadata: &[(&str, &str)], template: &[(&str, &str)], defaults: &Defaults) -> Resolution {
    let (metadata, template) = (map(metadata), map(template));
    resolve(
        &Annotated { place: "app.yaml:1 Deployment default/app", metadata: &metadata, template: &template },
        defaults,
        None,
    )
}

fn read(pairs: &[(&str, &str)]) -> Resolution {
    levels(pairs, &[], &Defaults::default())
}

/// What `pairs` resolve to on an object whose state was `before`.
fn reread(before: &Resolution, pairs: &[(&str, &str)]) -> Resolution {
    let revision = Revision {
        id: RevisionId::new("default", "app"),
        target: ScaleTargetRef::deployment("default", "app"),
        mode: before.mode.clone(),
        route: before.route.clone(),
        limits: before.limits.clone(),
        scaling: before.scaling.clone(),
        problems: Vec::new(),
    };
    let last = LastGood::of(&revision, before.port.as_ref().map(|port| port.value));
    let metadata = map(pairs);
    let input = Annotated { place: "app.yaml:1", metadata: &metadata, template: &Map::new() };
    resolve(&input, &Defaults::default(), last.as_ref())
}

fn refused(resolution: &Resolution) -> Vec<&str> {
    resolution.problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.key.as_str()).collect()
}

/// Good and bad values of one key, on both levels and under every spelling.
#[track_caller]
fn accepts(key: &str, good: &[&str], bad: &[&str]) {
    let full = map(&[(key, "")]).into_keys().next().unwrap();
    let row = KEYS.iter().find(|row| row.key == full).expect("a row of the table");
    for name in row.names() {
        for template in [false, true] {
            let resolved = |value: &str| {
                let mut maps = [Map::new(), Map::new()];
                maps[usize::from(template)].insert(name.into(), value.into());
                let input = Annotated { place: "test", metadata: &maps[0], template: &maps[1] };
                resolve(&input, &Defaults::default(), None)
            };
            for value in good {
                let resolution = resolved(value);
                assert_eq!(refused(&resolution), [""; 0], "{name}: {value:?} should be accepted");
                assert!(resolution.annotated);
            }
            for value in bad {
                let resolution = resolved(value);
                assert_eq!(refused(&resolution).len(), 1, "{name}: {value:?} should be refused");
                assert!(refused(&resolution)[0].contains(name));
                assert!(matches!(resolution.mode, Mode::Invalid(ref why) if why.len() == 1), "{name}: {value:?}");
                assert_eq!(refused(&resolution)[0].starts_with("spec.template"), template);
            }
        }
    }
}

const NOT_FINITE: [&str; 6] = ["NaN", "nan", "inf", "+Inf", "-infinity", "1e400"];

#[test]
fn knatives_ranges() {
    accepts(
        "class",
        &["kpa.autoscaling.knative.dev", "mine.example.com"],
        &["kp.autoscaling.knative.dev", "x.knative.dev"],
    );
    accepts("metric", &["concurrency", "rps", "cpu"], &["", "Concurrency", "latency"]);
    accepts("target", &["0.01", "1", "1e3", "0x1p4"], &["0.009", "0", "-1", "", "ten", "10 "]);
    accepts("target", &[], &NOT_FINITE);
    accepts("target-utilization-percentage", &["1", "70.5", "100"], &["0.99", "100.01", "70%"]);
    accepts("target-utilization-percentage", &[], &NOT_FINITE);
    accepts("target-burst-capacity", &["-1", "0", "211.5"], &["-2", "-0.1", "x"]);
    accepts("target-burst-capacity", &[], &NOT_FINITE);
    accepts("min-scale", &["0", "3", "+3", "2147483647"], &["-1", "two", "1.0", "2147483648", "", " 1"]);
    accepts("max-scale", &["0", "3", "2147483647"], &["-1", "3000000000", "x"]);
    accepts("initial-scale", &["1", "9"], &["0", "-1", "3000000000", "one"]);
    accepts("activation-scale", &["2", "9"], &["1", "0", "-1", "x"]);
    accepts("window", &["6s", "1h", "60000ms", "1m"], &["5s", "5.9s", "61m", "10500ms", "60", "1d", "-60s", ""]);
    accepts("panic-window-percentage", &["1", "100"], &["0", "0.99", "101"]);
    accepts("panic-window-percentage", &[], &NOT_FINITE);
    accepts("panic-threshold-percentage", &["110", "1000"], &["109", "1001", "200%"]);
    accepts("panic-threshold-percentage", &[], &NOT_FINITE);
    accepts("scale-down-delay", &["0s", "0", "30s", "1h"], &["-1s", "1500ms", "61m", "30"]);
    accepts("scale-to-zero-pod-retention-period", &["0s", "1500ms", "1h"], &["-1s", "1h1ns", "x"]);
    accepts("metric-aggregation-algorithm", &["", "linear", "weighted-exponential", "weightedExponential"], &["mean"]);
}

#[test]
fn our_own_ranges() {
    accepts("kpa:container-concurrency", &["0", "1", "1000"], &["-1", "many", "4294967296"]);
    accepts("kpa:port", &["1", "65535"], &["0", "65536", "http"]);
    accepts("kpa:protocol", &["auto", "http1", "h2c"], &["http2", ""]);
    accepts("kpa:hosts", &["a.io", " A.io , *.b.io,"], &["", ",", "a.io:80", "*.*.io", "a b", "10.0.0.1"]);
    let long = format!("/{}", "a".repeat(1024));
    accepts(
        "kpa:path-prefix",
        &["/", "/v1", "/v1/", "/a%2Fb:c"],
        &["", "v1", "/a b", "/a?b", "/a#b", "/caf\u{e9}", &long],
    );
    accepts("kpa:exclusive-group", &["gpu", "gpu-0"], &["", "GPU", "a b", "-gpu", "a.b"]);
    accepts("kpa:exclusive-slots", &["1", "8"], &["0", "-1", "two"]);
    accepts("kpa:exclusive-residence", &["1s", "30s", "1h"], &["30", "0s", "999ms", "61m"]);
    accepts("kpa:default-route", &["true", "false", "1"], &["yes", ""]);
    accepts("kpa:queue-depth", &["0", "10000"], &["-1", "x"]);
    accepts("kpa:queue-timeout", &["0s", "1m"], &["60", "-1s", "25h"]);
    accepts("kpa:start-deadline", &["1s", "24h"], &["0s", "25h"]);
    accepts("kpa:connect-timeout", &["1ms", "1m"], &["0s", "61s"]);
    accepts("kpa:upstream-idle-timeout", &["0s", "1500ms"], &["2h"]);
    accepts("kpa:on-disconnect", &["finish", "cancel"], &["Finish"]);
    accepts("kpa:response-start-timeout", &["off", "0", "0s", "5s"], &["-5s", "", "none"]);
    accepts("kpa:idle-timeout", &["off", "5s"], &["48h"]);
    accepts("kpa:timeout", &["off", "300s", "168h"], &["169h", "5"]);
    accepts("kpa:drain-timeout", &["0s", "1h"], &["off"]);
    accepts("kpa:load-balancing", &["least-outstanding", "power-of-two"], &["random"]);
    accepts(
        "kpa:session-affinity",
        &["header=X-Session-Id", "cookie=SID"],
        &["", "X-Session-Id", "header=", "cookie=a b", "header=cookie", "off"],
    );
    accepts("kpa:max-scale-up-rate", &["1.01", "1000"], &["1", "0", "NaN", "inf"]);
    accepts("kpa:max-scale-down-rate", &["1.01"], &["1", "-inf"]);
    accepts("kpa:scale-to-zero-grace-period", &["1ns", "1h"], &["0s", "2h"]);
    accepts("kpa:mode", &[], &["", "off"]);
    accepts("kpa:manual", &["resume", "hold"], &["on"]);
    accepts("kpa:exact", &["true"], &["exactly"]);
    accepts("kpa:manage", &["true"], &["me"]);
    accepts("kpa:service", &["web"], &["", " "]);
    accepts("kpa:take-over", &["true", "false"], &["model"]);
    accepts("kpa:upstream", &["pods", "service"], &["ip"]);
    accepts("kpa:local-command", &["python x.py"], &["", "  "]);
    accepts("kpa:placeholder", &["off", "on"], &["maybe"]);
    accepts("kpa:heartbeat", &["off", "15s"], &["often"]);
}

/// A row that nothing reads would pass any nonsense.
#[test]
fn every_row_is_read() {
    for row in KEYS {
        for name in row.names() {
            let nonsense = if row.key.ends_with("/class") { "x.knative.dev" } else { " \u{0}" };
            let metadata = Map::from([(name.to_owned(), nonsense.to_owned())]);
            let input = Annotated { place: "test", metadata: &metadata, template: &Map::new() };
            let resolution = resolve(&input, &Defaults::default(), None);
            let has_form = ["kpa.dev/path-prefix", "kpa.dev/session-affinity"].contains(&row.key);
            let free = matches!(row.kind, Kind::Text(_)) && !nonsense.trim().is_empty() && !has_form;
            assert!(free || refused(&resolution).len() == 1, "{name} is not read");
        }
    }
    let mut names: Vec<&str> = KEYS.iter().flat_map(KeyDoc::names).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two rows share a spelling");
}

#[test]
fn values_arrive_with_their_origin() {
    let all = levels(
        &[
            ("metric", "rps"),
            ("target", "50"),
            ("window", "30s"),
            ("maxScale", "20"),
            ("activation-scale", "3"),
            ("scale-down-delay", "30s"),
            ("metric-aggregation-algorithm", "weightedExponential"),
            ("kpa:container-concurrency", "2"),
            ("kpa:protocol", "h2c"),
            ("kpa:load-balancing", "round-robin"),
            ("kpa:session-affinity", "header=X-Session-Id"),
            ("kpa:timeout", "5m"),
            ("kpa:manual", "hold"),
            ("kpa:exact", "true"),
            ("kpa:start-deadline", "10m"),
            ("kpa:panic-threshold-percentage", "300"),
            ("kpa:port", "9000"),
            ("kpa:local-command", "run it"),
        ],
        &[("min-scale", "1")],
        &config(&[("max-scale-up-rate", "10"), ("scale-to-zero-grace-period", "10s")]),
    );
    assert!(all.problems.is_empty(), "{:#?}", all.problems);
    let scaling = &all.scaling;
    assert_eq!(scaling.min_scale, Resolved::new(Replicas::ONE, Origin::TemplateAnnotation));
    assert_eq!(scaling.max_scale, Resolved::new(Some(Replicas::new(20)), Origin::Annotation));
    assert_eq!(scaling.activation_scale.value, Some(Replicas::new(3)));
    assert_eq!(scaling.max_scale_up_rate, Resolved::new(10.0, Origin::ClusterConfig));
    assert_eq!(scaling.scale_to_zero_grace_period.value, Duration::from_secs(10));
    assert_eq!(scaling.max_scale_down_rate, Resolved::default_value(2.0));
    assert_eq!(scaling.aggregation.value, Aggregation::WeightedExponential);
    assert_eq!(scaling.manual.value, Manual::Hold);
    assert!(*scaling.exact);
    assert_eq!(scaling.start_deadline, all.limits.start_deadline);
    assert_eq!(*scaling.panic_threshold_percentage, 300.0);
    assert_eq!((scaling.signals[0].signal, *scaling.signals[0].total), (Signal::Rps, 50.0));
    assert_eq!(all.limits.protocol, Resolved::new(Protocol::H2c, Origin::Annotation));
    assert_eq!(all.limits.load_balancing.value, LoadBalancing::RoundRobin);
    let session = crate::SessionAffinity::Header("x-session-id".into());
    assert_eq!(all.limits.session_affinity, Resolved::new(Some(session), Origin::Annotation));
    assert_eq!(all.limits.on_disconnect, Resolved::default_value(OnDisconnect::Finish));
    assert_eq!(all.limits.timeout.value, Some(Duration::from_secs(300)));
    assert_eq!(all.port, Some(Resolved::new(9000, Origin::Annotation)));
    assert_eq!(all.local_command.unwrap().value, "run it");
    assert_eq!(all.mode, Mode::Act);
}

/// knative-behaviour 4.
#[test]
fn targets_are_knatives() {
    #[track_caller]
    fn check(pairs: &[(&str, &str)], total: f64, target: f64) {
        let spec = read(pairs).scaling.signals[0];
        assert_eq!(*spec.total, total, "{pairs:?}");
        assert!((spec.target() - target).abs() < 1e-9, "{pairs:?}: {}", spec.target());
    }
    check(&[("min-scale", "0")], 100.0, 70.0);
    check(&[("target", "10")], 10.0, 7.0);
    check(&[("target", "1")], 1.0, 0.7);
    check(&[("target", "0.01"), ("target-utilization-percentage", "1")], 0.01, 0.01);
    check(&[("kpa:container-concurrency", "10")], 10.0, 7.0);
    check(&[("kpa:container-concurrency", "10"), ("target", "20")], 10.0, 7.0);
    check(&[("kpa:container-concurrency", "10"), ("target", "5")], 5.0, 3.5);
    check(&[("kpa:container-concurrency", "0"), ("target", "5")], 5.0, 3.5);
    check(&[("target-utilization-percentage", "100")], 100.0, 100.0);
    check(&[("metric", "rps")], 200.0, 140.0);
    check(&[("metric", "rps"), ("target", "20"), ("kpa:container-concurrency", "1")], 20.0, 14.0);
    check(&[("metric", "rps"), ("target-utilization-percentage", "50")], 200.0, 100.0);
    let cluster =
        config(&[("container-concurrency-target-percentage", "50"), ("requests-per-second-target-default", "40")]);
    let rps = levels(&[("metric", "rps")], &[], &cluster).scaling.signals[0];
    assert_eq!((*rps.total, *rps.utilization), (40.0, 0.7), "no config key changes the rps utilisation");
    let concurrency = levels(&[("target", "10")], &[], &cluster).scaling.signals[0];
    assert_eq!(concurrency.utilization, Resolved::new(0.5, Origin::ClusterConfig));
}

/// kpa-behaviour 2: a replica that runs one to three requests is busy with the abandoned one.
#[test]
fn what_follows_a_disconnect_depends_on_the_concurrency() {
    for (concurrency, expected) in [
        ("0", OnDisconnect::Cancel),
        ("1", OnDisconnect::Finish),
        ("3", OnDisconnect::Finish),
        ("4", OnDisconnect::Cancel),
    ] {
        let limits = read(&[("kpa:container-concurrency", concurrency)]).limits;
        assert_eq!(limits.on_disconnect, Resolved::default_value(expected), "{concurrency}");
    }
    let written = read(&[("kpa:container-concurrency", "1"), ("kpa:on-disconnect", "cancel")]).limits;
    assert_eq!(written.on_disconnect, Resolved::new(OnDisconnect::Cancel, Origin::Annotation));
}

#[test]
fn the_metadata_is_read_before_the_template_and_a_conflict_is_reported() {
    let both = levels(&[("minScale", "3")], &[("min-scale", "5")], &Defaults::default());
    assert_eq!(both.scaling.min_scale, Resolved::new(Replicas::new(3), Origin::Annotation));
    assert_eq!(both.problems.len(), 1);
    assert_eq!(both.problems[0].severity, Severity::Warning);
    assert!(both.problems[0].what.contains("\"5\" disagrees") && both.problems[0].key.starts_with("spec.template"));
    let same = levels(&[("minScale", "3")], &[("min-scale", "3")], &Defaults::default());
    assert!(same.problems.is_empty());
    // The first existing key decides, even when it is wrong.
    let wrong_first = read(&[("min-scale", "x"), ("minScale", "3")]);
    assert_eq!(refused(&wrong_first).len(), 1);
    assert!(matches!(wrong_first.mode, Mode::Invalid(_)));
}

#[test]
fn bounds_are_checked_together_and_against_the_cluster() {
    #[track_caller]
    fn check(pairs: &[(&str, &str)], cluster: &[(&str, &str)], wrong: &[&str]) {
        let resolution = levels(pairs, &[], &config(cluster));
        let keys = refused(&resolution);
        assert_eq!(keys.len(), wrong.len(), "{pairs:?} {:#?}", resolution.problems);
        assert!(wrong.iter().all(|key| keys.iter().any(|found| found.contains(key))), "{keys:?}");
    }
    check(&[("min-scale", "5"), ("max-scale", "5")], &[], &[]);
    check(&[("min-scale", "5"), ("max-scale", "0")], &[], &[]);
    check(&[("min-scale", "5"), ("max-scale", "4")], &[], &["/min-scale", "/max-scale"]);
    check(&[("min-scale", "5")], &[("max-scale", "4")], &["/min-scale"]);
    check(&[("max-scale", "1")], &[("min-scale", "2")], &["/max-scale"]);
    check(&[("max-scale", "11")], &[("max-scale", "5"), ("max-scale-limit", "10")], &["/max-scale"]);
    check(&[("max-scale", "0")], &[("max-scale", "5"), ("max-scale-limit", "10")], &["/max-scale"]);
    check(&[("max-scale", "10")], &[("max-scale", "5"), ("max-scale-limit", "10")], &[]);
    check(&[("activation-scale", "2"), ("min-scale", "3")], &[], &["/activation-scale"]);
    check(&[("activation-scale", "4"), ("max-scale", "3")], &[], &["/activation-scale"]);
    check(&[("activation-scale", "4")], &[("max-scale", "3")], &["/activation-scale"]);
    check(&[("activation-scale", "3"), ("min-scale", "3"), ("max-scale", "3")], &[], &[]);
    check(&[("initial-scale", "0")], &[("allow-zero-initial-scale", "true")], &[]);
}

#[test]
fn a_wrong_value_keeps_the_last_good_one() {
    let good = read(&[
        ("min-scale", "3"),
        ("target", "10"),
        ("kpa:queue-timeout", "5s"),
        ("kpa:hosts", "a.io"),
        ("kpa:port", "80"),
    ]);
    assert_eq!(good.mode, Mode::Act);
    let bad = reread(
        &good,
        &[
            ("min-scale", "two"),
            ("target", "NaN"),
            ("kpa:queue-timeout", "5"),
            ("kpa:hosts", "a b"),
            ("kpa:port", "x"),
            ("window", "30s"),
        ],
    );
    assert_eq!(bad.mode, Mode::Act);
    assert_eq!(refused(&bad).len(), 5);
    assert_eq!(bad.scaling.min_scale, Resolved::new(Replicas::new(3), Origin::LastGood));
    assert_eq!(bad.scaling.signals[0].total, Resolved::new(10.0, Origin::LastGood));
    assert_eq!(bad.limits.queue_timeout, Resolved::new(Duration::from_secs(5), Origin::LastGood));
    assert_eq!(bad.route.hosts, ["a.io"]);
    assert_eq!(bad.port, Some(Resolved::new(80, Origin::LastGood)));
    assert_eq!(bad.scaling.stable_window.value, Duration::from_secs(30), "what is right is taken");
    assert!(bad.problems[0].to_string().contains("last good value"));
    // Twice wrong is still the last good one.
    assert_eq!(reread(&bad, &[("min-scale", "")]).scaling.min_scale.value, Replicas::new(3));
    // Bounds that disagree go back together.
    let crossed = reread(&good, &[("min-scale", "9"), ("max-scale", "8")]);
    assert_eq!((crossed.scaling.min_scale.value, crossed.scaling.max_scale.value), (Replicas::new(3), None));
    assert_eq!(crossed.mode, Mode::Act);
}

#[test]
fn never_good_is_invalid_until_corrected() {
    let bad = read(&[("min-scale", "two"), ("window", "1s"), ("max-scale", "3")]);
    let Mode::Invalid(problems) = &bad.mode else { panic!("{:?}", bad.mode) };
    assert_eq!(problems.len(), 2, "all together");
    assert!(problems.iter().all(|problem| problem.consequence.contains("never removed")));
    let still = reread(&bad, &[("min-scale", "two")]);
    assert!(matches!(still.mode, Mode::Invalid(_)), "an invalid state is no good one");
    assert_eq!(reread(&bad, &[("min-scale", "2")]).mode, Mode::Act);
    let adopted = reread(&read(&[]), &[("min-scale", "two")]);
    assert!(matches!(adopted.mode, Mode::Invalid(_)), "an object without annotations had no good settings");
}

#[test]
fn modes() {
    assert_eq!(read(&[]).mode, Mode::Refused(Refusal::NotAnnotated));
    assert!(!read(&[]).annotated);
    assert_eq!(read(&[]).problems[0].severity, Severity::Notice);
    assert_eq!(read(&[("kpa:mode", "shadow")]).mode, Mode::Shadow);
    assert_eq!(read(&[("kpa:mode", "paused"), ("min-scale", "x")]).mode, Mode::Paused, "paused writes nothing anyway");
    for class in ["hpa.autoscaling.knative.dev", "mine.io"] {
        let foreign = read(&[("class", class)]);
        assert_eq!(foreign.mode, Mode::Refused(Refusal::ForeignClass(class.into())));
        assert_eq!(foreign.problems[0].severity, Severity::Notice);
    }
    let cluster = config(&[("pod-autoscaler-class", "mine.io")]);
    assert_eq!(levels(&[("target", "1")], &[], &cluster).mode, Mode::Refused(Refusal::ForeignClass("mine.io".into())));
    assert_eq!(levels(&[("class", KPA_CLASS)], &[], &cluster).mode, Mode::Act);
}

#[test]
fn unknown_keys_get_a_suggestion() {
    for (written, meant) in [
        ("min-scal", "autoscaling.knative.dev/min-scale"),
        ("maxscale", "autoscaling.knative.dev/maxScale"),
        ("kpa:min-scale", "autoscaling.knative.dev/min-scale"),
        ("kpa:que-depth", "kpa.dev/queue-depth"),
        ("containerconcurrency", "kpa.dev/container-concurrency"),
    ] {
        let resolution = read(&[(written, "1")]);
        assert_eq!(resolution.problems.len(), 1, "{written}");
        assert!(resolution.problems[0].expected.starts_with(meant), "{written}: {}", resolution.problems[0]);
        assert_eq!(resolution.mode, Mode::Act);
    }
    assert_eq!(read(&[("kpa:qwertyuiop", "1")]).problems[0].expected, "");
}

#[test]
fn what_is_not_served_says_what_happens_instead() {
    for (key, value) in [("metric", "cpu"), ("kpa:placeholder", "on"), ("kpa:heartbeat", "15s")] {
        let resolution = read(&[(key, value)]);
        assert_eq!(resolution.problems.len(), 1, "{key}: {:?}", resolution.problems);
        assert!(resolution.problems[0].what.contains("in this release"), "{key}");
        assert!(!resolution.problems[0].consequence.is_empty());
        assert_eq!(resolution.mode, Mode::Act);
    }
    for (key, value) in [("kpa:upstream", "service"), ("kpa:placeholder", "off"), ("kpa:heartbeat", "off")] {
        assert!(read(&[(key, value)]).problems.is_empty(), "{key}");
    }
    let cpu = read(&[("metric", "cpu")]).scaling.signals[0];
    assert_eq!((cpu.signal, *cpu.total, *cpu.utilization), (Signal::Cpu, 80.0, 1.0));
    assert!(matches!(read(&[("metric", "memory")]).mode, Mode::Invalid(_)), "memory has no default target");
    assert_eq!(read(&[("metric", "memory"), ("target", "512")]).scaling.signals[0].target(), 512.0);
}

#[test]
fn a_path_prefix_needs_a_host_and_loses_its_last_slash() {
    let route = |prefix| read(&[("kpa:hosts", "a.io"), ("kpa:path-prefix", prefix)]).route.path_prefix;
    for (written, compared) in [("/", None), ("/v1", Some("/v1")), ("/v1/", Some("/v1")), ("/v1//", Some("/v1/"))] {
        assert_eq!(route(written).as_deref(), compared, "{written}");
    }
    assert!(read(&[("kpa:hosts", "a.io"), ("kpa:path-prefix", "/v1")]).problems.is_empty());
    let alone = read(&[("kpa:path-prefix", "/v1")]);
    assert!(
        matches!(&alone.problems[..], [one] if one.severity == Severity::Warning && one.what.contains("kpa.dev/hosts"))
    );
    assert_eq!(alone.mode, Mode::Act);
}

/// SEQUENCE { INTEGER 1 }: whole, as far as anybody here can see.
const ROOT: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";

#[test]
fn tls_to_replicas_is_off_until_it_is_asked_for() {
    let none = read(&[("min-scale", "0")]).limits;
    assert!(!*none.backend_tls && none.backend_ca.is_none() && none.backend_server_name.is_none());
    let all =
        read(&[("kpa:backend-tls", "true"), ("kpa:backend-ca", ROOT), ("kpa:backend-server-name", "model-1.prod")]);
    assert!(all.problems.is_empty(), "{:?}", all.problems);
    assert!(*all.limits.backend_tls);
    assert_eq!(all.limits.backend_ca.value, Some(ROOT.parse().unwrap()));
    assert_eq!(all.limits.backend_server_name.value.as_deref(), Some("model-1.prod"));
    let alone = read(&[("kpa:backend-ca", ROOT), ("kpa:backend-server-name", "a.b")]);
    let warned = alone.problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    assert_eq!((warned, *alone.limits.backend_tls), (2, false));
    let open = read(&[("kpa:backend-tls", "true")]);
    assert_eq!(open.problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Notice]);
}

/// A wrong word is no leave to send in clear, and a damaged certificate none to trust others.
#[test]
fn wrong_settings_of_tls_open_nothing() {
    let bad = [("kpa:backend-tls", "yes"), ("kpa:backend-ca", "MAMCAQE="), ("kpa:backend-server-name", "a_b")];
    let never = read(&bad);
    assert_eq!(refused(&never).len(), 3);
    assert!(*never.limits.backend_tls);
    assert_eq!(never.limits.backend_ca.value, Some(crate::Certificates::none()));
    for tls in ["true", "false"] {
        let good = [("kpa:backend-tls", tls), ("kpa:backend-ca", ROOT), ("kpa:backend-server-name", "a.b")];
        let before = read(&good);
        let after = reread(&before, &bad);
        assert_eq!(refused(&after).len(), 3);
        assert_eq!(*after.limits.backend_tls, tls == "true");
        assert_eq!(after.limits.backend_ca.value, before.limits.backend_ca.value);
        assert_eq!(after.limits.backend_server_name.value, before.limits.backend_server_name.value);
        assert_eq!(after.limits.backend_ca.origin, Origin::LastGood);
    }
}

#[test]
fn a_private_key_in_the_wrong_place_is_not_repeated() {
    let key = format!("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n{ROOT}");
    let problems = read(&[("kpa:backend-tls", "true"), ("kpa:backend-ca", &key)]).problems;
    let said: String = problems.iter().map(ToString::to_string).collect();
    assert!(said.contains("private key") && !said.contains("c2Vj"), "{said}");
}

fn any_annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    let names: Vec<&str> = KEYS.iter().flat_map(KeyDoc::names).collect();
    let name = prop_oneof![
        8 => prop::sample::select(names).prop_map(str::to_owned),
        1 => "(kpa|autoscaling\\.knative)\\.dev/\\PC{0,20}",
        1 => "\\PC{0,20}",
    ];
    let value = prop_oneof![
        "-?[0-9]{1,12}(\\.[0-9]{0,3})?(s|ms|m|h|d|%)?",
        "\\PC{0,12}",
        prop::sample::select(vec![
            "true", "off", "cpu", "rps", "NaN", "inf", "0", "2", "3", "5s", "1h", "shadow", "h2c"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((name, value), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Arbitrary strings never panic; whatever is in force is in range; an error never leaves an object free to shrink
    /// unless every value in force was good before.
    #[test]
    fn resolve_is_total(metadata in any_annotations(), template in any_annotations(), before in any_annotations()) {
        let (metadata, template, before) = (Map::from_iter(metadata), Map::from_iter(template), Map::from_iter(before));
        let defaults = Defaults::default();
        let first = resolve(&Annotated { place: "x", metadata: &before, template: &Map::new() }, &defaults, None);
        prop_assert!(refused(&first).is_empty() || !first.mode.may_shrink());
        let last = LastGood {
            limits: first.limits.clone(),
            scaling: first.scaling.clone(),
            route: first.route.clone(),
            mode: first.mode.clone(),
            port: None,
        };
        let known = refused(&first).is_empty();
        let resolution =
            resolve(&Annotated { place: "x", metadata: &metadata, template: &template }, &defaults, known.then_some(&last));
        prop_assert!(known || refused(&resolution).is_empty() || !resolution.mode.may_shrink());
        let scaling = &resolution.scaling;
        prop_assert!(scaling.signals.iter().all(|signal| signal.target().is_finite() && signal.target() >= 0.01));
        prop_assert!(scaling.panic_window() >= Duration::from_secs(1) && scaling.panic_threshold() >= 1.1);
        prop_assert!(*scaling.max_scale_up_rate > 1.0 && *scaling.max_scale_down_rate > 1.0);
        if resolution.mode == Mode::Act {
            prop_assert!(scaling.max_scale.value.is_none_or(|max| *scaling.min_scale <= max));
        }
        prop_assert!(resolution.problems.iter().all(|problem| problem.to_string().len() < 2_000));
    }
}
