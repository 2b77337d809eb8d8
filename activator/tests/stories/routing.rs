//! Whose a request is, and what nobody may have.

use crate::rig::{Backend, Rig};
use crate::wire::{GET, Message, Wire, eventually, ok};
use activator::Settings;
use activator::error::Outcome;
use domain::host::AllowedHosts;
use domain::{ActivatorConfig, Change, Endpoint, EndpointId, EndpointState, Forwarding, Limits, Mode, Resolved};
use domain::{Revision, RevisionId};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A service that claims hosts, for a prefix of their paths or for all, and its replica, which says its name.
async fn claimant(rig: &Rig, name: &str, hosts: &[&str], prefix: Option<&str>) -> Backend {
    let word = name.to_owned();
    let backend = Backend::new(move |_| ok(&word)).await;
    let id = RevisionId::new("default", name);
    let mut revision = platform::fixed::default_revision(id.clone());
    revision.route.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    revision.route.path_prefix = prefix.map(str::to_owned);
    revision.route.age_rank = 1 + rig.activator.revisions().all().len() as u64;
    rig.tell(Change::Applied(Arc::new(revision))).await;
    let endpoint = Endpoint {
        id: EndpointId::new(name),
        address: backend.address,
        state: EndpointState::Ready,
        early_probe: None,
    };
    rig.tell(Change::Endpoints { revision: id.clone(), version: 1, endpoints: [endpoint].into() }).await;
    eventually("the claimant is there", || {
        rig.activator.revisions().get(&id).is_some_and(|handle| handle.gate.endpoints_version() == 1)
    })
    .await;
    backend
}

async fn get(client: &mut Wire, host: &str, target: &str) -> Message {
    client.ask(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await
}

/// Tells a configuration and waits until it is in force.
async fn configure(rig: &Rig, change: impl FnOnce(&mut ActivatorConfig)) {
    let mut config = ActivatorConfig::default();
    change(&mut config);
    let epoch = rig.activator.revisions().epoch();
    rig.tell(Change::ActivatorConfig(Arc::new(config))).await;
    eventually("the configuration is in force", || rig.activator.revisions().epoch() > epoch).await;
}

#[tokio::test]
async fn services_share_a_host_by_path() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let chat = claimant(&rig, "chat", &["ai.io", "*.ai.io"], Some("/v1")).await;
    claimant(&rig, "embed", &["ai.io"], Some("/v1/embeddings")).await;
    let site = claimant(&rig, "site", &["*.ai.io"], None).await;
    let mut client = rig.client().await;
    for (host, target, expected) in [
        ("ai.io", "/v1", "chat"),
        ("ai.io", "/v1?x=/v1/embeddings", "chat"),
        ("AI.io:8080", "/v1/chat/completions", "chat"),
        ("ai.io", "/v1/embeddings", "embed"),
        ("ai.io", "/v1/embeddings/", "embed"),
        ("ai.io", "/v1/embeddingsx", "chat"),
        ("ai.io", "/v1//embeddings", "chat"),
        ("www.ai.io", "/v1/x", "chat"),
        ("www.ai.io", "/v1x", "site"),
        ("www.ai.io", "/", "site"),
        ("chat.default", "/anywhere", "chat"),
        // Asked for again: from the worker's cache.
        ("ai.io", "/v1/embeddings", "embed"),
        ("ai.io", "/v1", "chat"),
    ] {
        assert_eq!(get(&mut client, host, target).await.text(), expected, "{host} {target}");
    }
    for target in ["/", "/v1x", "/V1", "/%761", "/./v1", "//v1", "/v1;x", "/v2"] {
        let answer = get(&mut client, "ai.io", target).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (404, Some("unknown_path")), "{target}");
        assert!(answer.text().contains("/v1/embeddings, /v1"), "{}", answer.text());
    }
    get(&mut client, "ai.io", "/v1/a%2Fb//c;d:predict?").await;
    assert_eq!(chat.last().target(), "/v1/a%2Fb//c;d:predict?", "a prefix is looked at, not taken off");
    get(&mut client, "www.ai.io", "/").await;
    assert_eq!(site.last().target(), "/");
    // In absolute form the path is the target's, the host too.
    assert_eq!(get(&mut client, "ai.io", "http://ai.io/v1/embeddings/x").await.text(), "embed");
    let none = client.ask("OPTIONS * HTTP/1.1\r\nhost: ai.io\r\n\r\n").await;
    assert_eq!(none.field("x-kpa-reason"), Some("unknown_path"), "* is below no prefix");

    // The one in between leaves; what it had falls to whoever has the next shorter prefix.
    let gone = RevisionId::new("default", "embed");
    rig.tell(Change::Deleted(gone.clone())).await;
    eventually("gone", || rig.activator.revisions().get(&gone).is_none()).await;
    assert_eq!(get(&mut client, "ai.io", "/v1/embeddings").await.text(), "chat");
}

#[tokio::test]
async fn a_claim_that_is_taken_goes_to_the_older_and_comes_back() {
    let rig = Rig::new(Limits::default(), &[]).await;
    claimant(&rig, "prior", &["a.io"], Some("/v1")).await;
    claimant(&rig, "after", &["a.io", "prior.default.svc"], Some("/v1")).await;
    let mut client = rig.client().await;
    assert_eq!(get(&mut client, "a.io", "/v1/x").await.text(), "prior");
    assert_eq!(get(&mut client, "prior.default.svc", "/v1").await.text(), "prior", "own names are nobody else's");
    rig.tell(Change::Deleted(RevisionId::new("default", "prior"))).await;
    eventually("the heir has it", || rig.activator.revisions().all().len() == 2).await;
    assert_eq!(get(&mut client, "a.io", "/v1/x").await.text(), "after");
}

#[tokio::test]
async fn names_and_claims_follow_the_configuration_at_once() {
    let rig = Rig::new(Limits::default(), &[]).await;
    claimant(&rig, "chat", &["chat.acme.io", "other.io"], None).await;
    let mut client = rig.client().await;
    for host in ["chat.default.example.com", "chat.default.svc.cluster.local", "chat.acme.io", "other.io"] {
        assert_eq!(get(&mut client, host, "/").await.text(), "chat", "{host}");
    }
    configure(&rig, |config| {
        config.domain = Resolved::default_value("models.lan".into());
        config.cluster_domain = Resolved::default_value("corp".into());
        config.allowed_hosts = Resolved::default_value("default=acme.io".parse::<AllowedHosts>().unwrap());
    })
    .await;
    for (host, found) in [
        ("chat.default.models.lan", true),
        ("chat.default.svc.corp", true),
        ("chat.default.svc", true),
        ("chat.acme.io", true),
        ("other.io", false),
        ("chat.default.example.com", false),
        ("chat.default.svc.cluster.local", false),
    ] {
        assert_eq!(get(&mut client, host, "/").await.status(), if found { 200 } else { 404 }, "{host}");
    }
}

/// What depends on the connection is made with it, so it stays while the connection does.
#[tokio::test]
async fn a_connection_keeps_what_it_began_with() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut before = rig.client().await;
    before.ask(GET).await;
    configure(&rig, |config| {
        config.forwarded = Resolved::default_value(Forwarding::Rfc7239);
        config.exempt_paths.value.0.push("/exempt".into());
    })
    .await;
    let exempt = "GET /exempt HTTP/1.1\r\nhost: svc.default\r\n\r\n";
    for (client, forwarded, counted) in
        [(&mut before, None, 1), (&mut rig.client().await, Some("for=127.0.0.1;host=svc.default;proto=http"), 0)]
    {
        let requests = rig.requests();
        client.ask(exempt).await;
        let seen = backend.last();
        assert_eq!(seen.field("forwarded"), forwarded);
        assert_eq!(seen.field("x-forwarded-for").is_some(), forwarded.is_none());
        assert_eq!(rig.requests() - requests, counted);
    }
}

#[tokio::test]
async fn exempt_requests_neither_count_nor_wake() {
    let settings =
        Settings { exempt_agents: vec!["probe/".into()], exempt_paths: vec!["/metrics".into()], ..Settings::default() };
    let backend = Backend::new(|_| ok("alive")).await;
    let rig = Rig::with(settings, Limits::default(), &[]).await;
    let requests = [
        "GET /metrics HTTP/1.1\r\nhost: svc.default\r\n\r\n",
        "GET /metrics?all=1 HTTP/1.1\r\nhost: svc.default\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: svc.default\r\nuser-agent: probe/1.0\r\n\r\n",
    ];
    for request in requests {
        let answer = rig.client().await.ask(request).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("no_capacity")), "{request}");
        assert_eq!(answer.field("retry-after"), Some("1"));
    }
    assert!(rig.activator.revisions().urgent().take().is_empty(), "nobody is told to wake anything");
    rig.replicas(&[backend.address]).await;
    for request in requests {
        assert_eq!(rig.client().await.ask(request).await.text(), "alive");
    }
    assert_eq!((rig.requests(), rig.in_flight(), backend.count()), (0, 0, requests.len()));
    assert_eq!(rig.ended(Outcome::Success) + rig.ended(Outcome::NoCapacity), 0);
    // The built-in list is replaced, not added to, and a path is compared whole.
    for (target, agent) in [("/", "kube-probe/1.33"), ("/metrics/x", "curl/8"), ("/Metrics", "x probe/1.0")] {
        let before = rig.requests();
        let request = format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\nuser-agent: {agent}\r\n\r\n");
        rig.client().await.ask(request).await;
        assert_eq!(rig.requests(), before + 1, "{target} {agent}");
    }
}

/// One that waits would be a request that wakes.
#[tokio::test]
async fn only_a_counted_request_wakes() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let mut waiting = rig.client().await;
    waiting.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    let probe = "GET / HTTP/1.1\r\nhost: svc.default\r\nuser-agent: kube-probe/1.33\r\n\r\n";
    assert_eq!(rig.client().await.ask(probe).await.status(), 503, "it does not wait beside one that does");
    assert_eq!((rig.waiting(), rig.requests()), (1, 1));
}

#[tokio::test]
async fn our_own_programs_name_a_revision_behind_their_own_door() {
    let rig = Rig::new(Limits::default(), &[]).await;
    let one = claimant(&rig, "one", &[], None).await;
    let two = claimant(&rig, "two", &[], None).await;
    let request = |host: &str, fields: &str| format!("GET /p HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
    let named = "knative-serving-namespace: default\r\nknative-serving-revision: two\r\n";
    let mut public = rig.client().await;
    let mut internal = Wire::connect(rig.internal[0]).await;
    assert_eq!(public.ask(request("one.default", named)).await.text(), "one", "anybody could write that");
    assert_eq!(internal.ask(request("one.default", named)).await.text(), "two");
    assert_eq!(internal.ask(request("unheard.of", named)).await.text(), "two");
    assert_eq!(internal.ask(request("one.default", "")).await.text(), "one", "else the Host counts");
    for seen in [one.last(), two.last()] {
        assert_eq!((seen.field("knative-serving-namespace"), seen.field("knative-serving-revision")), (None, None));
    }
    assert_eq!(two.last().field("host"), Some("unheard.of"));
    for (fields, status, reason) in [
        ("knative-serving-namespace: default\r\n", 400, "bad_request"),
        ("knative-serving-revision: two\r\n", 400, "bad_request"),
        ("knative-serving-namespace: default\r\nknative-serving-revision: three\r\n", 404, "unknown_revision"),
    ] {
        let mut internal = Wire::connect(rig.internal[0]).await;
        let answer = internal.ask(request("one.default", fields)).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (status, Some(reason)), "{fields}");
    }
    // A revision that is going keeps its handle for what runs; nothing new is sent there.
    let id = RevisionId::new("default", "two");
    let removed = Revision { mode: Mode::Removed, ..platform::fixed::default_revision(id) };
    rig.tell(Change::Applied(Arc::new(removed))).await;
    let known = || rig.activator.revisions().get(&RevisionId::new("default", "two")).unwrap();
    eventually("removed", || known().revision().mode == Mode::Removed).await;
    assert_eq!(internal.ask(request("one.default", named)).await.status(), 404);
}

#[tokio::test]
async fn what_contradicts_itself_or_came_to_the_wrong_place_is_refused() {
    let backend = Backend::new(|_| ok("")).await;
    for (trusted, request, status, reason) in [
        (false, "GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: svc.default\r\nhost: svc.default\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: svc.default\r\nHost: other.default\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: user@svc.default\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: svc.default/x\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: svc.default:http\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: svc.default, other\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n", 400, "bad_request"),
        (false, "GET / HTTP/1.1\r\nhost:\r\n\r\n", 404, "unknown_host"),
        (false, "GET / HTTP/1.0\r\n\r\n", 404, "unknown_host"),
        (false, "GET http://svc.default/ HTTP/1.1\r\nhost: other.default\r\n\r\n", 400, "bad_request"),
        (false, "GET http://svc.default/ HTTP/1.1\r\nhost:\r\n\r\n", 400, "bad_request"),
        (false, "GET http://me@svc.default/ HTTP/1.1\r\nhost: me@svc.default\r\n\r\n", 400, "bad_request"),
        (false, "GET http://SVC.default:80/ HTTP/1.1\r\nhost: svc.default\r\n\r\n", 200, ""),
        (false, "GET https://svc.default/ HTTP/1.1\r\nhost: svc.default\r\n\r\n", 421, "misdirected"),
        (true, "GET https://svc.default/ HTTP/1.1\r\nhost: svc.default\r\n\r\n", 200, ""),
        (true, "GET ftp://svc.default/ HTTP/1.1\r\nhost: svc.default\r\n\r\n", 421, "misdirected"),
    ] {
        let trusted = if trusted { "loopback" } else { "none" }.parse().unwrap();
        let settings = Settings { trusted, ..Settings::default() };
        let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
        let before = backend.count();
        let answer = rig.client().await.ask(request).await;
        assert_eq!(
            (answer.status(), answer.field("x-kpa-reason").unwrap_or_default()),
            (status, reason),
            "{request:?}"
        );
        assert_eq!(backend.count() - before, usize::from(status == 200), "{request:?}");
        let unrouted = rig.activator.workers()[0].unrouted.load(Relaxed);
        assert_eq!(unrouted, u64::from(status != 200), "{request:?}: counted as nobody's");
    }
    assert_eq!(backend.last().field("x-forwarded-proto"), Some("https"), "a trusted proxy says how it was asked");
}
