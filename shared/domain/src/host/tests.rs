use super::*;
use crate::annotations::{Annotated, resolve};
use crate::defaults::Defaults;
use crate::problem::Problem;
use crate::revision::{Mode, Revision, ScaleTargetRef};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The revision `namespace/name` with `kpa.dev/*` annotations, of this age.
fn revision(id: &str, age_rank: u64, annotations: &[(&str, &str)]) -> Arc<Revision> {
    let id: RevisionId = id.parse().unwrap();
    let metadata = annotations.iter().map(|(key, value)| (format!("kpa.dev/{key}"), (*value).to_owned())).collect();
    let input = Annotated { place: "test", metadata: &metadata, template: &BTreeMap::new() };
    let resolution = resolve(&input, &Defaults::default(), None);
    let mut route = resolution.route;
    route.age_rank = age_rank;
    Arc::new(Revision {
        target: ScaleTargetRef::deployment(id.namespace(), id.name()),
        id,
        mode: Mode::Act,
        route,
        limits: resolution.limits,
        scaling: resolution.scaling,
        problems: resolution.problems,
    })
}

fn table(revisions: &[Arc<Revision>]) -> (RouteTable, Vec<Problem>) {
    RouteTable::build(revisions, &Domains::default(), &AllowedHosts::default())
}

#[track_caller]
fn check(table: &RouteTable, host: &str, expected: Option<&str>) {
    check_path(table, host, "/", expected);
}

#[track_caller]
fn check_path(table: &RouteTable, host: &str, path: &str, expected: Option<&str>) {
    let found = match table.lookup(host, path) {
        Match::Found(id) => Some(id.to_string()),
        Match::NotFound { .. } | Match::NoPath { .. } => None,
    };
    assert_eq!(found.as_deref(), expected, "{host:?} {path:?}");
}

#[test]
fn every_form_of_a_name_is_known() {
    let (table, problems) = table(&[
        revision("default/chat", 0, &[("hosts", "chat.acme.io, *.tenants.acme.io")]),
        revision("default/model", 1, &[]),
        revision("other/model", 2, &[]),
    ]);
    assert!(problems.is_empty());
    let chat = Some("default/chat");
    for host in [
        "chat.default.example.com",
        "CHAT.Default.Example.COM:8080",
        "chat.default.example.com.",
        "chat.default.svc.cluster.local",
        "chat.default.svc",
        "chat.default",
        "chat.default:80",
        "chat",
        "chat.acme.io",
        "a.tenants.acme.io",
    ] {
        check(&table, host, chat);
    }
    for host in
        ["", ".", "acme.io", "tenants.acme.io", "a.b.tenants.acme.io", ".tenants.acme.io", "model", "x.chat.default"]
    {
        check(&table, host, None);
    }
    check(&table, "model.other", Some("other/model"));
}

#[test]
fn a_service_that_was_taken_over_means_its_workload_by_every_name_of_its_own() {
    let taking = |id, service: &str| {
        let mut revision = Arc::unwrap_or_clone(revision(id, 0, &[]));
        revision.route.taken_over = Some(service.into());
        Arc::new(revision)
    };
    let (alone, problems) = table(&[taking("prod/model-v2", "model"), revision("prod/other", 1, &[])]);
    assert!(problems.is_empty(), "{problems:?}");
    for host in ["model", "Model.prod", "model.prod:80", "model.prod.svc", "model.prod.svc.cluster.local", "model-v2"] {
        check(&alone, host, Some("prod/model-v2"));
    }
    check(&alone, "model.prod.example.com", None);
    check(&alone, "model.other", None);

    // Its own name as a Service's changes nothing; two of one name are told apart by the namespace only.
    let (both, problems) = table(&[taking("prod/model", "model"), taking("test/model-v2", "model")]);
    assert!(problems.is_empty(), "{problems:?}");
    check(&both, "model.prod.svc", Some("prod/model"));
    check(&both, "model.test", Some("test/model-v2"));
    check(&both, "model", None);

    // Whoever is called so keeps the name.
    let (held, problems) = table(&[taking("prod/thief", "model"), revision("prod/model", 9, &[])]);
    check(&held, "model.prod", Some("prod/model"));
    assert_eq!(problems.len(), 3);
    assert!(problems.iter().all(|p| p.key == "kpa.dev/service" && p.what.contains("prod/model")), "{problems:?}");
}

#[test]
fn an_address_means_the_default_route_or_the_only_revision() {
    let local =
        ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "::1", "LOCALHOST"];
    let (only, _) = table(&[revision("default/a", 0, &[])]);
    let (two, _) = table(&[revision("default/a", 0, &[]), revision("default/b", 1, &[])]);
    let (chosen, _) = table(&[revision("default/a", 0, &[]), revision("default/b", 1, &[("default-route", "true")])]);
    for host in local {
        check(&only, host, Some("default/a"));
        check(&two, host, None);
        check(&chosen, host, Some("default/b"));
    }
    check(&only, "somewhere.else", None);
}

#[test]
fn a_host_belongs_to_the_older_and_own_names_to_nobody_else() {
    let (table, problems) = table(&[
        revision("default/after", 5, &[("hosts", "shared.io,*.w.io"), ("default-route", "true")]),
        revision("default/prior", 1, &[("hosts", "shared.io,*.w.io"), ("default-route", "true")]),
        revision("default/thief", 0, &[("hosts", "prior.default.example.com,after.default.svc")]),
    ]);
    check(&table, "shared.io", Some("default/prior"));
    check(&table, "x.w.io", Some("default/prior"));
    check(&table, "localhost", Some("default/prior"));
    check(&table, "prior.default.example.com", Some("default/prior"));
    check(&table, "after.default.svc", Some("default/after"));
    assert_eq!(problems.len(), 5, "{problems:#?}");
    let loser = problems.iter().filter(|problem| problem.place.contains("default/after"));
    assert!(loser.clone().all(|problem| problem.what.contains("default/prior")), "the loser is told who holds it");
    assert_eq!(loser.count(), 3);
}

#[test]
fn not_found_says_what_could_have_been_meant() {
    let (table, _) = table(&[
        revision("default/custom-model", 0, &[]),
        revision("default/chat", 1, &[]),
        revision("team/search", 2, &[]),
        revision("team/ranking", 3, &[]),
    ]);
    for host in ["custom-modell.default.example.com", "custommodel", "custom-model.defualt.example.com"] {
        let Match::NotFound { similar } = table.lookup(host, "/") else { panic!("{host} was found") };
        assert_eq!(similar[0], "custom-model.default.example.com", "{host}");
    }
    assert_eq!(table.lookup(&"x".repeat(5_000), "/"), Match::NotFound { similar: Vec::new() });
}

#[test]
fn the_exact_names_are_what_lookup_finds() {
    let (table, _) = table(&[revision("a/x", 0, &[("hosts", "h.io")]), revision("b/y", 1, &[])]);
    let exact: Vec<&str> = table.exact().collect();
    assert_eq!(exact.len(), 4 + 4 + 1 + 2, "own names, claims, bare names");
    for host in exact {
        assert!(matches!(table.lookup(host, "/"), Match::Found(_)), "{host}");
        assert_eq!(normalise(host), host, "stored as it is looked up");
    }
}

#[test]
fn services_share_a_host_by_prefix() {
    let (table, problems) = table(&[
        revision("default/chat", 0, &[("hosts", "ai.io"), ("path-prefix", "/v1")]),
        revision("default/embed", 1, &[("hosts", "ai.io"), ("path-prefix", "/v1/embeddings/")]),
        revision("default/odd", 3, &[("hosts", "odd.io"), ("path-prefix", "/a%2Fb:c")]),
        revision("default/beside", 4, &[("hosts", "chat"), ("path-prefix", "/docs")]),
    ]);
    assert!(problems.is_empty(), "{problems:#?}");
    for (host, path, expected) in [
        ("ai.io", "/v1", Some("chat")),
        ("AI.io:80", "/v1/", Some("chat")),
        ("ai.io", "/v1//x", Some("chat")),
        ("ai.io", "/v1/models", Some("chat")),
        ("ai.io", "/v1/embeddings", Some("embed")),
        ("ai.io", "/v1/embeddings/x/y", Some("embed")),
        ("ai.io", "/v1/embeddingsx", Some("chat")),
        ("ai.io", "/v1x", None),
        ("ai.io", "/V1", None),
        ("ai.io", "/", None),
        ("ai.io", "", None),
        ("ai.io", "*", None),
        ("ai.io", "//v1", None),
        ("ai.io", "/./v1", None),
        ("ai.io", "/v%31", None),
        ("ai.io", "/v1;a", None),
        ("odd.io", "/a%2Fb:c/d", Some("odd")),
        ("odd.io", "/a%2fb:c", None),
        ("odd.io", "/a/b:c", None),
        ("chat.default", "/anything", Some("chat")),
        ("chat", "/docs/x", Some("beside")),
        ("chat", "/else", Some("chat")),
    ] {
        check_path(&table, host, path, expected.map(|name| format!("default/{name}")).as_deref());
    }
    let Match::NoPath { prefixes } = table.lookup("ai.io", "/") else { panic!("the host is known") };
    assert_eq!(prefixes, ["/v1/embeddings", "/v1"]);
}

/// What an exact name leaves of its paths falls to the wildcard that covers it.
#[test]
fn an_exact_name_goes_before_a_wildcard_path_by_path() {
    let (table, _) = table(&[
        revision("default/all", 0, &[("hosts", "*.t.io")]),
        revision("default/api", 1, &[("hosts", "a.t.io"), ("path-prefix", "/api")]),
        revision("default/deep", 2, &[("hosts", "*.t.io"), ("path-prefix", "/api/deep")]),
    ]);
    check_path(&table, "a.t.io", "/api/deep/x", Some("default/api"));
    check_path(&table, "a.t.io", "/", Some("default/all"));
    check_path(&table, "b.t.io", "/api/deep/x", Some("default/deep"));
    check_path(&table, "b.t.io", "/api", Some("default/all"));
}

#[test]
fn a_prefix_claimed_twice_belongs_to_the_older_and_own_names_cannot_be_divided() {
    let (table, problems) = table(&[
        revision("default/prior", 0, &[("hosts", "a.io"), ("path-prefix", "/v1")]),
        revision("default/after", 1, &[("hosts", "a.io"), ("path-prefix", "/v1/")]),
        revision("default/thief", 2, &[("hosts", "prior.default.svc"), ("path-prefix", "/admin")]),
        revision("default/self", 3, &[("hosts", "self.default"), ("path-prefix", "/x")]),
    ]);
    check_path(&table, "a.io", "/v1/x", Some("default/prior"));
    check_path(&table, "prior.default.svc", "/admin", Some("default/prior"));
    check_path(&table, "self.default", "/y", Some("default/self"));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("default/after") && told[0].contains("a.io below /v1 belongs to default/prior"));
    assert!(told[1].contains("default/thief") && told[1].contains("belongs to default/prior"));
}

#[test]
fn a_host_is_divided_only_so_far() {
    let revisions: Vec<_> = (0..=PREFIXES_MAX as u64)
        .map(|n| revision(&format!("ns/s{n}"), n, &[("hosts", "h.io"), ("path-prefix", &format!("/p{n}"))]))
        .collect();
    let (table, problems) = table(&revisions);
    assert_eq!((table.ways("h.io").len(), problems.len()), (PREFIXES_MAX, 1));
    assert!(problems[0].place.contains(&format!("s{PREFIXES_MAX}")), "the youngest goes without");
}

#[test]
fn a_namespace_claims_only_what_it_is_allowed() {
    let revisions = [
        revision("team-a/x", 0, &[("hosts", "x.a.io, x.b.io, *.a.io")]),
        revision("team-b/y", 1, &[("hosts", "x.b.io, elsewhere.io")]),
    ];
    let allowed: AllowedHosts = "team-a=a.io".parse().unwrap();
    let (table, problems) = RouteTable::build(&revisions, &Domains::default(), &allowed);
    check(&table, "x.a.io", Some("team-a/x"));
    check(&table, "q.a.io", Some("team-a/x"));
    check(&table, "x.b.io", None);
    check(&table, "elsewhere.io", None);
    check(&table, "y.team-b.example.com", Some("team-b/y"));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("team-a") && told[0].contains("x.b.io") && told[0].contains("below a.io"), "{}", told[0]);
    assert!(told[1].contains("may claim none"), "{}", told[1]);
}

#[test]
fn a_host_field_has_a_grammar() {
    for good in
        ["", "a", "a.b.", "A_b.c", "a:80", "a:", "1.2.3.4:80", "[::1]", "[::1]:80", "::1", "a%20b", "(x)!$&'*+,;=~"]
    {
        assert!(is_well_formed(good), "{good:?}");
    }
    for bad in [
        "a b", "user@a", "a/b", "a?", "a#", "a:b", "a:80:90", "[::1", "[a]", "[::1]x", "[::1]:x", "a\\b", "\"a\"",
        "<a>", "\u{e9}",
    ] {
        assert!(!is_well_formed(bad), "{bad:?}");
    }
}

#[test]
fn only_host_names_can_be_claimed() {
    for good in ["a", "a.io", "*.a.io", "x-1.a.io"] {
        assert_eq!(check_claim(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        ".",
        "a..b",
        "a.io:80",
        "*.*.io",
        "a.*.io",
        "*",
        "*.io",
        "-a.io",
        "a_b.io",
        "1.2.3.4",
        "::1",
        "localhost",
        "[::1]",
    ] {
        assert!(check_claim(bad).is_err(), "{bad}");
    }
    assert!(check_claim(&format!("{}.io", "a".repeat(64))).is_err());
    assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)) && !is_label("A") && !is_label("a-"));
}

proptest! {
    #[test]
    fn lookup_never_panics(host in "\\PC{0,60}", odd in "[\\[\\]:.a0*]{0,12}") {
        let (table, _) = table(&[revision("a/x", 0, &[("hosts", "*.h.io")])]);
        let _ = table.lookup(&host, &odd);
        let _ = table.lookup(&odd, &host);
        let _ = (is_well_formed(&host), is_well_formed(&odd), check_prefix(&host), check_claim(&odd));
    }

    /// Against the rule in one sentence: of the prefixes that are the path or end before a slash of it, the longest.
    #[test]
    fn the_longest_prefix_wins(
        prefixes in prop::collection::btree_set("(/[ab]{1,2}){1,3}", 1..6),
        path in "(/[ab]{0,2}){1,4}",
    ) {
        let revisions: Vec<_> = prefixes.iter().enumerate().map(|(n, prefix)| {
            revision(&format!("ns/s{n}"), n as u64, &[("hosts", "h.io"), ("path-prefix", prefix)])
        }).collect();
        let expected = prefixes.iter().enumerate()
            .filter(|(_, prefix)| path == **prefix || path.starts_with(&format!("{prefix}/")))
            .max_by_key(|(_, prefix)| prefix.len())
            .map(|(n, _)| format!("ns/s{n}"));
        let (table, problems) = table(&revisions);
        prop_assert!(problems.is_empty());
        match table.lookup("h.io", &path) {
            Match::Found(id) => prop_assert_eq!(Some(id.to_string()), expected),
            Match::NoPath { .. } => prop_assert_eq!(None, expected),
            Match::NotFound { .. } => prop_assert!(false, "the host is known"),
        }
    }
}
