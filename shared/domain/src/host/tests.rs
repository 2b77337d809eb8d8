use super::*;
use crate::annotations::{Annotated, resolve};
use crate::defaults::Defaults;
use crate::revision::{Mode, ScaleTargetRef};
use proptest::prelude::*;

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
    RouteTable::build(revisions, &Domains::default())
}

#[track_caller]
fn check(table: &RouteTable, host: &str, expected: Option<&str>) {
    let found = match table.lookup(host) {
        Match::Found(id) => Some(id.to_string()),
        Match::NotFound { .. } => None,
    };
    assert_eq!(found.as_deref(), expected, "{host:?}");
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
        let Match::NotFound { similar } = table.lookup(host) else { panic!("{host} was found") };
        assert_eq!(similar[0], "custom-model.default.example.com", "{host}");
    }
    assert_eq!(table.lookup(&"x".repeat(5_000)), Match::NotFound { similar: Vec::new() });
}

#[test]
fn the_exact_names_are_what_lookup_finds() {
    let (table, _) = table(&[revision("a/x", 0, &[("hosts", "h.io")]), revision("b/y", 1, &[])]);
    let exact: Vec<(&str, &RevisionId)> = table.exact().collect();
    assert_eq!(exact.len(), 4 + 4 + 1 + 2, "own names, claims, bare names");
    for (host, id) in exact {
        assert_eq!(table.lookup(host), Match::Found(id.clone()));
        assert_eq!(normalise(host), host, "stored as it is looked up");
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
        let _ = table.lookup(&host);
        let _ = table.lookup(&odd);
    }
}
