//! What changes on a message on its way, and what does not.

use crate::rig::{Backend, Rig};
use crate::wire::{GET, ok};
use activator::Settings;
use domain::{Forwarding, Limits, TrustedProxies};

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let backend = Backend::new(|_| {
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nx-end: 2\r\n\
          proxy-connection: keep-alive\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nhi"
            .to_vec()
    })
    .await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let answer = rig
        .client()
        .await
        .ask(
            "POST /a HTTP/1.1\r\nHost: svc.default\r\nConnection: keep-alive, X-Mine, TE\r\nKeep-Alive: 3\r\n\
             X-Mine: 1\r\nProxy-Connection: x\r\nTE: trailers\r\nExpect: 100-continue\r\nX-Stays: yes\r\n\
             Upgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
        )
        .await;
    let seen = backend.last();
    for gone in ["connection", "x-mine", "keep-alive", "proxy-connection", "expect", "upgrade"] {
        assert_eq!(seen.field(gone), None, "{gone} went on: {seen:?}");
    }
    assert_eq!((seen.field("te"), seen.field("x-stays")), (Some("trailers"), Some("yes")));
    assert_eq!((seen.text(), seen.field("content-length")), ("hi", Some("2")));
    for gone in ["keep-alive", "x-hop", "proxy-connection"] {
        assert_eq!(answer.field(gone), None, "{gone} came back: {answer:?}");
    }
    assert_eq!((answer.field("x-end"), answer.text()), (Some("2"), "hi"));
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn targets_arrive_byte_for_byte() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for target in [
        "/v1/models/m:predict",
        "/v1/models/m:predict?",
        "/a%2Fb%2fc",
        "//double//slash/",
        "//svc.default//",
        "/../up/./here",
        "/q?x=%20&y=a+b&&z=/?",
        "/?",
        "/??",
        "/%E4%BD%A0%zz%",
        "/semi;colon=1,2;",
        "/~user/!$&'()*+,=:@",
    ] {
        client.ask(format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n\r\n")).await;
        assert_eq!(backend.last().target(), target);
    }
    client.ask("OPTIONS * HTTP/1.1\r\nhost: svc.default\r\n\r\n").await;
    assert_eq!(backend.last().first, "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn values_arrive_byte_for_byte_both_ways() {
    const VALUES: [&[u8]; 6] = [
        b"plain",
        b"inner  two  spaces\tand a tab",
        b"\"quoted, \\\" string\"; a=b",
        b"caf\xc3\xa9 \xe9 \xff\x80",
        b"",
        b"==;,: =",
    ];
    let lines = |prefix: &str| {
        let mut lines = Vec::new();
        for (number, value) in VALUES.iter().enumerate() {
            lines.extend_from_slice(format!("{prefix}-{number}: ").as_bytes());
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        lines
    };
    let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".as_slice(), &lines("x-back"), b"\r\n"].concat();
    let backend = Backend::new(move |_| answer.clone()).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let head = b"GET / HTTP/1.1\r\nhost: svc.default\r\nUser-Agent: \xfc\r\n".as_slice();
    let answer = rig.client().await.ask([head, &lines("X-There"), b"\r\n"].concat()).await;
    let seen = backend.last();
    assert_eq!(seen.field("user-agent"), Some("\u{fc}"));
    for (number, value) in VALUES.iter().enumerate() {
        // The wire is read a character a byte.
        let text: String = value.iter().copied().map(char::from).collect();
        assert_eq!(seen.field(&format!("x-there-{number}")), Some(text.as_str()));
        assert_eq!(answer.field(&format!("x-back-{number}")), Some(text.as_str()));
    }
}

/// A Host goes on as it was written; only what is looked up is without case and port.
#[tokio::test]
async fn a_host_arrives_as_it_was_written() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for host in ["svc.default", "SVC.Default.Example.COM:8080", "svc.default.", "svc.default:", "localhost", "[::1]:80"]
    {
        client.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        let seen = backend.last();
        assert_eq!((seen.field("host"), seen.field("x-forwarded-host")), (Some(host), Some(host)));
    }
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    let mut client = rig.client().await;
    for (target, path) in [
        ("http://svc.default/a//b?c", "/a//b?c"),
        ("http://svc.default", "/"),
        ("http://svc.default?x=1", "/?x=1"),
        ("HTTP://SVC.default:80/m:predict", "/m:predict"),
    ] {
        client.ask(format!("GET {target} HTTP/1.1\r\nhost: svc.default\r\n\r\n")).await;
        let seen = backend.last();
        assert_eq!((seen.target(), seen.field("host")), (path, Some("svc.default")));
    }
}

#[tokio::test]
async fn each_forwarding_style_reaches_the_replica() {
    let backend = Backend::new(|_| ok("")).await;
    let request =
        "GET / HTTP/1.1\r\nhost: svc.default:80\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\r\n";
    let element = "for=127.0.0.1;host=\"svc.default:80\";proto=http";
    let added = format!("for=6.6.6.6, {element}");
    for (trusted, forwarded, chain, list) in [
        ("none", Forwarding::XForwarded, Some("127.0.0.1"), None),
        ("none", Forwarding::Rfc7239, None, Some(element)),
        ("none", Forwarding::Both, Some("127.0.0.1"), Some(element)),
        ("none", Forwarding::Off, None, None),
        ("127.0.0.0/8", Forwarding::XForwarded, Some("6.6.6.6, 127.0.0.1"), Some("for=6.6.6.6")),
        ("127.0.0.0/8", Forwarding::Rfc7239, Some("6.6.6.6"), Some(added.as_str())),
        ("127.0.0.0/8", Forwarding::Both, Some("6.6.6.6, 127.0.0.1"), Some(added.as_str())),
        ("127.0.0.0/8", Forwarding::Off, Some("6.6.6.6"), Some("for=6.6.6.6")),
    ] {
        let settings = Settings { trusted: trusted.parse().unwrap(), forwarded, ..Settings::default() };
        let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
        rig.client().await.ask(request).await;
        let seen = backend.last();
        assert_eq!((seen.field("x-forwarded-for"), seen.field("forwarded")), (chain, list), "{trusted} {forwarded}");
    }
}

#[tokio::test]
async fn contradictions_are_refused() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: svc.default\r\nhost: svc.default\r\n\r\n", 400),
        ("GET http://other.default/ HTTP/1.1\r\nhost: svc.default\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: caf\u{e9}.default\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: svc default\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nhost: svc.default\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nhost: svc.default\r\n\r\n", 405),
        ("CONNECT svc.default:80 HTTP/1.1\r\nhost: svc.default:80\r\n\r\n", 405),
    ] {
        let answer = rig.client().await.ask(request).await;
        assert_eq!(answer.status(), status, "{request:?}");
    }
    assert_eq!(backend.count(), 0);
}

/// hyper takes the Content-Length away before anybody else can see it (RFC 9112 section 6.3 allows that); what matters
/// is that no second framing goes on.
#[tokio::test]
async fn a_length_beside_chunked_never_goes_on() {
    let backend = Backend::new(|_| ok("")).await;
    let rig = Rig::new(Limits::default(), &[backend.address]).await;
    for framing in
        ["transfer-encoding: chunked\r\ncontent-length: 3", "content-length: 3\r\ntransfer-encoding: chunked"]
    {
        let request = format!("POST / HTTP/1.1\r\nhost: svc.default\r\n{framing}\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        let answer = rig.client().await.ask(request).await;
        if answer.status() != 400 {
            assert_eq!((backend.last().field("content-length"), backend.last().text()), (None, "x"));
        }
    }
}

#[tokio::test]
async fn a_trusted_peer_is_appended_to_and_others_are_replaced() {
    let backend = Backend::new(|_| ok("")).await;
    let request = "GET / HTTP/1.1\r\nhost: svc.default\r\nx-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\
                   x-forwarded-proto: https\r\nx-forwarded-host: front\r\nforwarded: for=1.1.1.1\r\n\
                   knative-serving-revision: evil\r\nknative-serving-namespace: evil\r\n\r\n";
    for (trusted, chain, proto, host, forwarded) in [
        (TrustedProxies::default(), "1.1.1.1, 2.2.2.2, 127.0.0.1", "https", "front", Some("for=1.1.1.1")),
        (TrustedProxies::none(), "127.0.0.1", "http", "svc.default", None),
    ] {
        let settings = Settings { trusted, ..Settings::default() };
        let rig = Rig::with(settings, Limits::default(), &[backend.address]).await;
        let mut client = rig.client().await;
        client.ask(request).await;
        let seen = backend.last();
        assert_eq!(seen.field("x-forwarded-for"), Some(chain));
        assert_eq!((seen.field("x-forwarded-proto"), seen.field("x-forwarded-host")), (Some(proto), Some(host)));
        assert_eq!(seen.field("forwarded"), forwarded);
        assert_eq!((seen.field("knative-serving-revision"), seen.field("knative-serving-namespace")), (None, None));
        client.ask(GET).await;
        let seen = backend.last();
        assert_eq!(
            (seen.field("x-forwarded-for"), seen.field("x-forwarded-host")),
            (Some("127.0.0.1"), Some("svc.default"))
        );
    }
}
