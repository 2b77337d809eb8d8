//! Which replicas are trusted behind TLS, and what a change of that means.

use crate::backend_tls::h2_replica;
use crate::h2::{ask, client, full, request};
use crate::pki::{Authority, Pair};
use crate::rig::{Backend, Rig, limits, set, svc};
use crate::sharing::{Two, is_of};
use crate::tls_replica::{Replica, all_failed, failed, roots, secured};
use crate::wire::{GET, PATIENCE, eventually, ok};
use activator::Settings;
use activator::tls::fault::{Fault, Reload};
use activator::tls::files::{Followed, FollowedRoots};
use domain::{Change, Endpoint, EndpointId, EndpointState, Limits, Probe, ProbeCheck};
use http_body_util::BodyExt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A replica that shows the wrong certificate, or none, gets no request, and it is said why.
#[tokio::test]
async fn who_cannot_prove_itself_gets_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (pair, trusted, fault, said) in [
        (stranger.sign(&["svc.default"]), &authority, Fault::Untrusted, "kpa.dev/backend-ca"),
        (authority.sign(&["other.default"]), &authority, Fault::WrongName, "kpa.dev/backend-server-name"),
        (authority.until(&["svc.default"], 2001), &authority, Fault::Expired, "expired"),
    ] {
        let replica = Replica::new(&pair, |_| ok("secret")).await;
        let settings = secured(trusted, |l| l.start_deadline = set(Duration::from_millis(1)));
        let rig = Rig::new(settings, &[replica.address]).await;
        let answer = rig.client().await.ask(GET).await;
        assert_eq!((answer.status(), answer.field("x-kpa-reason")), (503, Some("start_failed")));
        assert!(answer.text().contains(said), "{}", answer.text());
        assert!(failed(&rig, fault) > 0);
        assert_eq!((failed(&rig, fault), replica.seen.lock().len()), (all_failed(&rig), 0));
    }
}

/// One that answers what is no TLS is known at once, one that waits for more after the connect timeout.
#[tokio::test]
async fn a_plain_replica_is_not_spoken_to_in_clear() {
    let authority = Authority::new();
    for (answers, fault) in [(true, Fault::NotTls), (false, Fault::Timeout)] {
        let backend = Backend::script(move |mut wire, _, backend| async move {
            wire.take(1).await;
            if answers {
                wire.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            }
            if let Some(request) = wire.request().await {
                backend.note(request);
            }
        })
        .await;
        let settings = secured(&authority, |l| {
            l.start_deadline = set(Duration::from_millis(1));
            l.connect_timeout = set(if answers { Duration::from_secs(20) } else { Duration::from_millis(50) });
        });
        let rig = Rig::new(settings, &[backend.address]).await;
        assert_eq!(rig.client().await.ask(GET).await.status(), 503);
        assert_eq!(backend.count(), 0);
        assert!(failed(&rig, fault) > 0);
    }
}

#[tokio::test]
async fn a_replica_that_answered_before_and_changed_its_certificate_is_502() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let impatient = |l: &mut Limits| {
        l.queue_timeout = set(Duration::from_millis(1));
        l.upstream_idle_timeout = set(Duration::ZERO);
    };
    let rig = Rig::new(secured(&authority, impatient), &[replica.address]).await;
    let mut client = rig.client().await;
    assert_eq!(client.ask(GET).await.status(), 200);
    // To the activator it is the same whether the certificate changes or what is trusted.
    rig.apply(&svc(), secured(&stranger, impatient)).await;
    eventually("it counts", || rig.handle().gate.limits().backend_ca.value == Some(roots(&stranger))).await;
    let answer = client.ask(GET).await;
    assert_eq!((answer.status(), answer.field("x-kpa-reason")), (502, Some("backend_tls")));
    assert!(answer.text().contains("kpa.dev/backend-ca"), "{}", answer.text());
}

#[tokio::test]
async fn one_replica_that_cannot_prove_itself_leaves_the_work_to_the_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let bad = Replica::new(&stranger.sign(&["svc.default"]), |_| ok("bad")).await;
    let good = Replica::new(&authority.sign(&["svc.default"]), |_| ok("good")).await;
    let rig = Rig::new(secured(&authority, |_| {}), &[bad.address, good.address]).await;
    for _ in 0..6 {
        assert_eq!(rig.client().await.ask(GET).await.text(), "good");
    }
    assert_eq!(bad.seen.lock().len(), 0);
    assert!(failed(&rig, Fault::Untrusted) > 0);
}

/// Kept connections are not used under settings that they were not checked against.
#[tokio::test]
async fn a_change_counts_for_the_next_request() {
    let authority = Authority::new();
    let replica = Replica::new(&authority.sign(&["svc.default", "other.name"]), |_| ok("secure")).await;
    let patient = |l: &mut Limits| l.upstream_idle_timeout = set(Duration::from_secs(60));
    let rig = Rig::new(limits(patient), &[replica.address]).await;
    let mut client = rig.client().await;
    let mut check = async |settings: Limits, text: &str, secured: u32, plain: u32| {
        rig.apply(&svc(), settings.clone()).await;
        eventually("it counts", || *rig.handle().gate.limits() == settings).await;
        for _ in 0..2 {
            assert_eq!(client.ask(GET).await.text(), text);
            rig.at_rest().await;
        }
        assert_eq!((replica.secured(), replica.plain.load(Relaxed)), (secured, plain));
    };
    check(limits(patient), "plain", 0, 1).await;
    check(secured(&authority, patient), "secure", 1, 1).await;
    let other = |l: &mut Limits| {
        patient(l);
        l.backend_server_name = set(Some("other.name".to_owned()));
    };
    check(secured(&authority, other), "secure", 2, 1).await;
    check(limits(patient), "plain", 2, 2).await;
    assert_eq!(*replica.names.lock(), [Some("svc.default".to_owned()), Some("other.name".to_owned())]);
}

#[tokio::test]
async fn the_activators_own_roots_count_where_a_service_names_none() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let rootless = |deadline| {
        secured(&authority, |l| {
            l.backend_ca = set(None);
            l.start_deadline = set(deadline);
            l.upstream_idle_timeout = set(Duration::ZERO);
        })
    };
    let rig = Rig::new(rootless(Duration::from_millis(1)), &[replica.address]).await;
    let answer = rig.client().await.ask(GET).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("no roots are given"), "{}", answer.text());
    assert!(failed(&rig, Fault::NoRoots) > 0);
    let given = rig.activator.revisions().backend_roots();
    given.set(stranger.pem.as_bytes()).unwrap();
    let refused = failed(&rig, Fault::Untrusted);
    assert_eq!(rig.client().await.ask(GET).await.status(), 503);
    assert!(failed(&rig, Fault::Untrusted) > refused);
    given.set(b"nothing").unwrap_err();
    given.set(authority.pem.as_bytes()).unwrap();
    let rest = rootless(Duration::from_secs(600));
    rig.apply(&svc(), rest.clone()).await;
    eventually("it counts", || *rig.handle().gate.limits() == rest).await;
    assert_eq!(rig.client().await.ask(GET).await.text(), "hello");
}

/// A start is over when the replica proves itself: our own checks take the way of a request.
#[tokio::test]
async fn a_cold_start_comes_through_tls() {
    let authority = Authority::new();
    let pair = authority.sign(&["svc.default"]);
    for check in [
        ProbeCheck::Tcp { port: None },
        ProbeCheck::Http { port: None, path: "/ready".to_owned(), headers: Vec::new() },
    ] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let rig = Rig::new(secured(&authority, |_| {}), &[]).await;
        let mut client = rig.client().await;
        client.send(GET).await;
        eventually("it waits", || rig.waiting() == 1).await;
        let probe = Probe {
            check,
            timeout: Duration::from_secs(20),
            period: Duration::from_secs(1),
            failure_threshold: 3,
            success_threshold: 1,
        };
        let starting =
            Endpoint { id: EndpointId::new("cold"), address, state: EndpointState::Starting, early_probe: Some(probe) };
        rig.tell(Change::Endpoints { revision: svc(), version: 1_000, endpoints: Arc::new([starting]) }).await;
        eventually("it is asked", || rig.handle().gate.cold().probed == 1).await;
        let replica = Replica::script_on(socket.listen(64).unwrap(), &pair, |mut wire, replica| async move {
            while let Some(request) = wire.request().await {
                replica.seen.lock().push(request);
                wire.stream.write_all(&ok("warm")).await.unwrap();
                wire.stream.flush().await.unwrap();
            }
        });
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text(), answer.field("x-kpa-cold")), (200, "warm", Some("true")));
        assert_eq!((replica.plain.load(Relaxed), all_failed(&rig)), (0, 0));
    }
}

/// A check that anybody could pass would open a replica that no request can go to.
#[tokio::test]
async fn a_cold_replica_that_cannot_prove_itself_is_not_opened() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&stranger.sign(&["svc.default"]), |_| ok("secret")).await;
    let rig = Rig::new(secured(&authority, |_| {}), &[]).await;
    let mut client = rig.client().await;
    client.send(GET).await;
    eventually("it waits", || rig.waiting() == 1).await;
    let probe = Probe {
        check: ProbeCheck::Tcp { port: None },
        timeout: Duration::from_secs(20),
        period: Duration::from_secs(1),
        failure_threshold: 3,
        success_threshold: 1,
    };
    let starting = Endpoint {
        id: EndpointId::new("cold"),
        address: replica.address,
        state: EndpointState::Starting,
        early_probe: Some(probe),
    };
    rig.tell(Change::Endpoints { revision: svc(), version: 1_000, endpoints: Arc::new([starting]) }).await;
    eventually("it was asked more than once", || failed(&rig, Fault::Untrusted) >= 3).await;
    assert_eq!((rig.waiting(), rig.handle().gate.cold().probed, rig.permits()), (1, 1, 0));
    drop(client);
    rig.at_rest().await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_root() {
    let signed = rcgen::generate_simple_self_signed(vec!["svc.default".to_owned()]).unwrap();
    let pair = Pair { certificate: signed.cert.pem(), key: signed.signing_key.serialize_pem(), serial: 0.into() };
    let replica = Replica::new(&pair, |_| ok("hello")).await;
    let own = secured(&Authority::new(), |l| l.backend_ca = set(Some(pair.certificate.parse().unwrap())));
    let rig = Rig::new(own, &[replica.address]).await;
    assert_eq!(rig.client().await.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn the_file_of_roots_is_followed() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &stranger.pem).unwrap();
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let settings = secured(&authority, |l| {
        l.backend_ca = set(None);
        l.start_deadline = set(Duration::from_millis(1));
        l.upstream_idle_timeout = set(Duration::ZERO);
    });
    let rig = Rig::new(settings, &[replica.address]).await;
    let loaded = FollowedRoots::load(path.clone()).await.unwrap();
    let roots = Arc::clone(rig.activator.revisions().backend_roots());
    let mut followed = FollowedRoots::new(loaded, roots, Arc::clone(rig.bounds()));
    assert_eq!(rig.client().await.ask(GET).await.status(), 503);
    assert!(failed(&rig, Fault::Untrusted) > 0);
    let reloads = || Reload::ALL.map(|reload| rig.bounds().tls.reloads(reload));
    for (content, expected) in [("nothing", [0, 1]), (authority.pem.as_str(), [1, 1]), ("", [1, 2])] {
        std::fs::write(&path, content).unwrap();
        followed.look().await;
        followed.look().await;
        assert_eq!(reloads(), expected);
    }
    let client = async || rig.client().await.ask(GET).await.status();
    let end = tokio::time::Instant::now() + PATIENCE;
    // The prober lets the replica go on when it has seen it prove itself.
    while client().await != 200 {
        assert!(tokio::time::Instant::now() < end);
    }
    std::fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
    let error = FollowedRoots::load(path).await.unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

/// Operators hear of it as of any replica that cannot be connected to (`EndpointsUnreachable`).
#[tokio::test]
async fn who_cannot_prove_itself_is_named_unreachable_until_it_does() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let replica = Replica::new(&authority.sign(&["svc.default"]), |_| ok("hello")).await;
    let rig = Rig::new(secured(&authority, |l| l.backend_ca = set(None)), &[replica.address]).await;
    let roots = rig.activator.revisions().backend_roots();
    roots.set(stranger.pem.as_bytes()).unwrap();
    let mut client = rig.client().await;
    client.send(GET).await;
    let named = || rig.handle().gate.unreachable();
    eventually("it is named", || named() == [EndpointId::new(&replica.address.to_string())]).await;
    assert!(failed(&rig, Fault::Untrusted) >= 3);
    roots.set(authority.pem.as_bytes()).unwrap();
    assert_eq!(client.answer().await.status(), 200, "who has waited is answered");
    assert!(named().is_empty());
}

/// Between activators nothing changes: TLS begins at the one that sends to the replica.
#[tokio::test]
async fn a_request_that_another_activator_sends_on_goes_over_tls_from_there() {
    let authority = Authority::new();
    let pair = authority.sign(&["svc.default"]);
    let limited = secured(&authority, |l| l.container_concurrency = set(NonZeroU32::new(1)));
    // Nobody's word for https is believed.
    let settings = Settings { trusted: "none".parse().unwrap(), ..Settings::default() };
    let two = Two::with(settings, limited).await;
    let replica = loop {
        let replica = Replica::new(&pair, |_| ok("hello")).await;
        if is_of("b", replica.address) {
            break replica;
        }
    };
    two.replicas(&[replica.address]).await;
    assert_eq!(two.a.client().await.ask(GET).await.text(), "hello");
    assert_eq!((replica.secured(), replica.plain.load(Relaxed)), (1, 0));
    two.at_rest().await;

    let (address, seen) = loop {
        let replica = h2_replica(&pair, &["h2"]).await;
        if is_of("b", replica.0) {
            break replica;
        }
    };
    two.replicas(&[address]).await;
    let (mut client, _tasks) = client(two.a.addresses[0]).await;
    let answer = ask(&mut client, request("POST", "/a", full("x"))).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("x-from")), (200, true));
    drop(answer.into_body().collect().await.unwrap());
    assert_eq!(seen.lock()[0].uri, "https://svc.default/a");
    two.at_rest().await;
    assert_eq!(all_failed(&two.a) + all_failed(&two.b), 0);
}
