use super::forwarded::{FORWARDED_FOR, FORWARDED_HOST};
use super::*;
use crate::Settings;
use crate::request::Door;
use domain::TrustedProxies;
use http::{Method, Request};
use proptest::prelude::*;
use std::sync::Arc;

fn peer(trusted: bool) -> Peer {
    let trusted = if trusted { "10.0.0.0/8".parse().unwrap() } else { TrustedProxies::none() };
    let settings = Settings { trusted, ..Settings::default() };
    Peer::new("10.0.0.9:4711".parse().unwrap(), Door::Public, Arc::new(settings), Arc::default())
}

fn head(version: Version, target: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn asked(head: &Parts) -> Asked {
    Asked::of(&head.headers, &["kube-probe/".to_owned()])
}

fn forwarded(mut head: Parts, next: Next) -> Parts {
    let asked = asked(&head);
    forward_request(&mut head, asked, &peer(false), next, Duration::ZERO);
    head
}

#[test]
fn the_host_comes_from_one_place() {
    let conflict = Err("the Host field and the target name different hosts");
    for (version, target, hosts, expected) in [
        (Version::HTTP_11, "/", &["a.b"][..], Ok("a.b")),
        (Version::HTTP_11, "/", &["A.b:80"], Ok("A.b:80")),
        (Version::HTTP_11, "/", &[""], Ok("")),
        (Version::HTTP_11, "/", &[], Err("no Host field")),
        (Version::HTTP_10, "/", &[], Ok("")),
        (Version::HTTP_11, "/", &["a.b", "a.b"], Err("more than one Host field")),
        (Version::HTTP_11, "http://a.b/", &["A.B"], Ok("a.b")),
        (Version::HTTP_11, "http://a.b/", &[], Err("no Host field")),
        (Version::HTTP_10, "http://a.b/", &[], Ok("a.b")),
        (Version::HTTP_11, "http://a.b/", &["c.d"], conflict),
        (Version::HTTP_11, "http://a.b:81/", &["a.b"], conflict),
        (Version::HTTP_11, "http://a.b:80/", &["A.b"], Ok("a.b:80")),
        (Version::HTTP_11, "http://a.b/", &["a.b:80"], Ok("a.b")),
        (Version::HTTP_11, "http://a.b:8080/", &["a.b:80"], conflict),
        (Version::HTTP_11, "http://a.b/", &[""], conflict),
        (Version::HTTP_2, "http://a.b/", &[], Ok("a.b")),
        (Version::HTTP_2, "http://a.b/", &["c.d"], conflict),
        (Version::HTTP_2, "/", &["a.b"], Ok("a.b")),
    ] {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let head = head(version, target, &fields);
        assert_eq!(asked(&head).host(&head.uri, version), expected.map(str::as_bytes), "{target} {hosts:?}");
    }
}

#[test]
fn one_pass_finds_what_the_steps_ask_for() {
    for (fields, tongue, exempt) in [
        (&[("accept", "*/*")][..], Tongue::Text, false),
        (&[("accept", "text/html"), ("accept", "text/plain, application/json;q=0.5")], Tongue::Json, false),
        (&[("accept", "application/jso")], Tongue::Text, false),
        (&[("accept", "application/json"), ("content-type", "application/grpc+proto")], Tongue::Grpc, false),
        (&[("content-type", "application/grpc"), ("accept", "application/json")], Tongue::Grpc, false),
        (&[("content-type", "application/json"), ("user-agent", "kube-probe/1.33")], Tongue::Text, true),
        (&[("user-agent", "curl/8 kube-probe/1.33")], Tongue::Text, false),
    ] {
        let asked = asked(&head(Version::HTTP_11, "/", fields));
        assert_eq!((asked.tongue, asked.exempt_agent), (tongue, exempt), "{fields:?}");
    }
}

#[test]
fn a_head_has_one_framing_and_a_target_of_its_form() {
    let coding = Err("a Transfer-Encoding other than `chunked`");
    let length = Err("not one Content-Length");
    for (fields, body_ends, expected) in [
        (&[][..], true, Ok(())),
        (&[("content-length", "5")], false, Ok(())),
        (&[("content-length", "000")], true, Ok(())),
        (&[("content-length", "5")], true, Err("the Content-Length announces a body, and there is none")),
        (&[("content-length", "5"), ("content-length", "5")], false, length),
        (&[("content-length", "5, 5")], false, length),
        (&[("content-length", "+5")], false, length),
        (&[("content-length", "")], true, length),
        (&[("transfer-encoding", "Chunked")], false, Ok(())),
        (&[("transfer-encoding", "gzip, chunked")], false, coding),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false, coding),
        (
            &[("transfer-encoding", "chunked"), ("x", "y"), ("content-length", "5")],
            false,
            Err("both Transfer-Encoding and Content-Length"),
        ),
    ] {
        let head = head(Version::HTTP_11, "/", fields);
        assert_eq!(asked(&head).check(&head, body_ends), expected, "{fields:?}");
    }
    for (method, target, expected) in [
        (Method::GET, "/", true),
        (Method::GET, "http://a.b?c", true),
        (Method::OPTIONS, "*", true),
        (Method::GET, "*", false),
        (Method::GET, "a.b", false),
        (Method::GET, "a.b:80", false),
    ] {
        let mut head = head(Version::HTTP_11, target, &[]);
        head.method = method;
        assert_eq!(asked(&head).check(&head, true).is_ok(), expected, "{target}");
    }
}

#[test]
fn a_client_cannot_have_host_or_the_forwarding_fields_taken_away() {
    let fields =
        [("host", "a"), ("connection", "host, x-forwarded-for, x-forwarded-host"), ("x-forwarded-for", "1.1.1.1")];
    let mut head = head(Version::HTTP_11, "/", &fields);
    let asked = asked(&head);
    forward_request(&mut head, asked, &peer(true), Next::Http1, Duration::ZERO);
    let value = |name| head.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap());
    assert_eq!((value(HOST), value(FORWARDED_HOST), value(FORWARDED_FOR)), (Some("a"), Some("a"), Some("10.0.0.9")));
}

#[test]
fn programs_of_ours_name_one_revision_whole() {
    let (namespace, name) = ("knative-serving-namespace", "knative-serving-revision");
    for (fields, expected) in [
        (&[][..], Ok(None)),
        (&[(namespace, "ns"), (name, "svc")], Ok(Some("ns/svc"))),
        (&[(namespace, "ns")], Err(())),
        (&[(name, "svc")], Err(())),
        (&[(namespace, "ns"), (name, "")], Err(())),
        (&[(namespace, "a/b"), (name, "svc")], Err(())),
        (&[(namespace, "ns"), (name, "b/c")], Err(())),
        (&[(namespace, "ns"), (name, "a"), (name, "b")], Err(())),
    ] {
        let head = head(Version::HTTP_11, "/", fields);
        let named = asked(&head).named_revision(&head.headers).map_err(|_| ());
        assert_eq!(named.map(|id| id.map(|id| id.to_string())), expected.map(|id| id.map(str::to_owned)), "{fields:?}");
    }
}

#[test]
fn grpc_timeouts_are_read_as_their_grammar_says() {
    for (text, expected) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("3S", Some(Duration::from_secs(3))),
        ("4m", Some(Duration::from_millis(4))),
        ("5u", Some(Duration::from_micros(5))),
        ("6n", Some(Duration::from_nanos(6))),
        ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
        ("100000000m", None),
        ("", None),
        ("S", None),
        ("5", None),
        ("5s", None),
        ("-5S", None),
        ("1.5S", None),
    ] {
        assert_eq!(parse_grpc_timeout(&HeaderValue::from_static(text)), expected, "{text:?}");
    }
    assert_eq!(parse_grpc_timeout(&HeaderValue::from_bytes(b"5\xc3\xa9").unwrap()), None);
}

#[test]
fn a_grpc_deadline_shrinks_by_the_wait() {
    for (before, waited, after) in [
        ("5S", 2_000, "3000m"),
        ("5S", 0, "5S"),
        ("100m", 99, "1m"),
        ("100m", 500, "1m"),
        ("99999999H", 1_000, "99999999S"),
        ("nonsense", 1_000, "nonsense"),
    ] {
        let mut head = head(Version::HTTP_11, "/", &[("host", "a"), ("grpc-timeout", before)]);
        let asked = asked(&head);
        forward_request(&mut head, asked, &peer(false), Next::Http1, Duration::from_millis(waited));
        assert_eq!(head.headers["grpc-timeout"], after, "{before} after {waited} ms");
    }
}

proptest! {
    /// Whatever the deadline and the wait, what goes on is in the grammar, not longer than before, and not zero.
    #[test]
    fn a_shrunk_deadline_is_a_deadline(count in 0_u32..100_000_000, unit in "[HMSmun]", waited in 1_u64..10_000_000) {
        let text = format!("{count}{unit}");
        let before = parse_grpc_timeout(&HeaderValue::from_str(&text).unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_str(&text).unwrap());
        reduce_grpc_timeout(&mut headers, Duration::from_millis(waited));
        let after = parse_grpc_timeout(&headers[GRPC_TIMEOUT]).unwrap();
        prop_assert!(after >= Duration::from_millis(1));
        prop_assert!(after <= before.max(Duration::from_millis(1)));
    }
}

#[test]
fn only_another_protocol_is_an_upgrade() {
    for (version, fields, expected) in [
        (Version::HTTP_11, &[("connection", "keep-alive, UPGRADE"), ("upgrade", "websocket")][..], true),
        (Version::HTTP_11, &[("connection", "keep-alive"), ("connection", "upgrade"), ("upgrade", "x/1")], true),
        (Version::HTTP_11, &[("upgrade", "websocket")], false),
        (Version::HTTP_11, &[("connection", "upgrade")], false),
        (Version::HTTP_11, &[("connection", "upgraded"), ("upgrade", "websocket")], false),
        (Version::HTTP_11, &[("connection", "upgrade, http2-settings"), ("upgrade", "H2C")], false),
        (Version::HTTP_10, &[("connection", "upgrade"), ("upgrade", "websocket")], false),
    ] {
        let head = head(version, "/", fields);
        assert_eq!(asked(&head).wants_upgrade(&head), expected, "{fields:?}");
    }
}

#[test]
fn servers_say_how_long_they_keep_a_connection() {
    for (text, expected) in [
        ("timeout=5", Some(Duration::from_secs(4))),
        ("max=100, timeout=10", Some(Duration::from_secs(8))),
        ("timeout=0", Some(Duration::ZERO)),
        ("timeout=soon", None),
        ("max=100", None),
        ("timeout=99999999999", None),
    ] {
        assert_eq!(keep_alive_timeout(&HeaderValue::from_static(text)), expected, "{text}");
    }
}

#[test]
fn targets_become_what_the_next_hop_reads() {
    for (target, path) in [
        ("http://a.b/x?y", "/x?y"),
        ("http://a.b", "/"),
        ("http://a.b?y", "/?y"),
        ("/v1/m:predict", "/v1/m:predict"),
        ("//x//%2F", "//x//%2F"),
    ] {
        let fields = [("host", "a.b")];
        let one = forwarded(head(Version::HTTP_11, target, &fields), Next::Http1);
        assert_eq!((one.uri.to_string().as_str(), &one.headers[HOST]), (path, &HeaderValue::from_static("a.b")));
        let two = forwarded(head(Version::HTTP_11, target, &fields), Next::Http2);
        assert_eq!(two.uri.to_string(), format!("http://a.b{path}"));
        assert_eq!((two.version, two.headers.get(HOST)), (Version::HTTP_2, None));
    }
}

#[test]
fn crumbs_become_one_cookie_only_where_they_must() {
    let crumbs = [("host", "a"), ("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
    let one = forwarded(head(Version::HTTP_2, "http://a/", &crumbs), Next::Http1);
    let cookies: Vec<_> = one.headers.get_all(COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    let two = forwarded(head(Version::HTTP_2, "http://a/", &crumbs), Next::Http2);
    assert_eq!(two.headers.get_all(COOKIE).iter().count(), 3);
}

#[test]
fn of_te_only_trailers_go_on() {
    for (before, after) in [
        (&["trailers"][..], Some("trailers")),
        (&["gzip, Trailers;q=1"], None),
        (&["gzip, trailers"], Some("trailers")),
        (&["deflate", "trailers"], Some("trailers")),
        (&["gzip"], None),
    ] {
        let fields: Vec<_> = before.iter().map(|te| ("te", *te)).chain([("connection", "te"), ("host", "a")]).collect();
        for next in [Next::Http1, Next::Http2] {
            let head = forwarded(head(Version::HTTP_11, "/", &fields), next);
            assert_eq!(head.headers.get(TE).map(|te| te.to_str().unwrap()), after, "{before:?}");
            assert_eq!(head.headers.get_all(TE).iter().count(), usize::from(after.is_some()));
        }
    }
}

#[test]
fn a_chain_over_several_fields_is_kept_whole_for_trusted_peers() {
    let fields = [("host", "a"), ("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3")];
    for (trusted, expected) in [(true, "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9"), (false, "10.0.0.9")] {
        let mut head = head(Version::HTTP_11, "/", &fields);
        let asked = asked(&head);
        forward_request(&mut head, asked, &peer(trusted), Next::Http1, Duration::ZERO);
        let chain: Vec<_> = head.headers.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(chain, [expected]);
    }
}

proptest! {
    /// What the hop is for goes, everything else stays with its values in order, whatever Connection names.
    #[test]
    fn hop_by_hop_fields_go_and_nothing_else(
        fields in prop::collection::vec(("(x-[a-d]|keep-alive|upgrade|proxy-connection|expect|accept)", "[a-z]{0,5}"), 0..20),
        named in prop::collection::vec("(x-[a-d]|close|keep-alive|,|[^a-z]{1,3})", 0..5),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        if let Ok(value) = HeaderValue::from_str(&named.join(", ")) {
            headers.insert(CONNECTION, value);
        }
        let connection = headers.get(CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let mut stripped = headers.clone();
        strip_hop_by_hop(&mut stripped, Fields::of(&headers), false);
        for name in headers.keys() {
            let hop = ["connection", "keep-alive", "upgrade", "proxy-connection", "expect"].contains(&name.as_str())
                || connection.split(',').any(|word| word.trim() == name.as_str());
            let left: Vec<_> = stripped.get_all(name).iter().collect();
            let before: Vec<_> = headers.get_all(name).iter().collect();
            prop_assert_eq!(left, if hop { Vec::new() } else { before }, "{}", name);
        }
    }
}
