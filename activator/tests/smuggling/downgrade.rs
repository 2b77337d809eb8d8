//! HTTP/2 clients in front of HTTP/1.1 replicas: what the one cannot say must not become what the other can.
//!
//! Invariant: frames are written by hand (RFC 9113 section 4, RFC 7541 section 6.2.2 without Huffman), because no library
//! would write these.

use crate::requests::SMUGGLED;
use crate::world::{self, Reply, World};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Each field as a literal without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Lengths from 127 on continue in a second byte (RFC 7541 section 5.1).
            match u8::try_from(text.len()).expect("a short string") {
                short @ ..127 => block.push(short),
                long => block.extend_from_slice(&[127, long - 127]),
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// One stream: a head, and content in one frame each, the last of which ends it.
fn stream(id: u8, fields: &[(&str, &str)], content: &[&str], trailers: &[(&str, &str)]) -> Vec<u8> {
    let ends = |last: bool| if last { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | ends(content.is_empty() && trailers.is_empty()), id, &block(fields));
    for (index, part) in content.iter().enumerate() {
        let last = index + 1 == content.len() && trailers.is_empty();
        bytes.extend(frame(DATA, ends(last), id, part.as_bytes()));
    }
    if !trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &block(trailers)));
    }
    bytes
}

const USUAL: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "svc.default"), (":path", "/a")];

/// The usual head with some of its fields replaced, and others added.
fn head<'a>(changes: &[(&'a str, &'a str)], added: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = USUAL.to_vec();
    for (name, value) in changes {
        fields.iter_mut().filter(|(n, _)| n == name).for_each(|field| field.1 = value);
    }
    fields.extend_from_slice(added);
    fields
}

/// Connections for the fuzz targets to begin with.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let lies = [("content-length", "2"), ("te", "trailers"), ("transfer-encoding", "chunked"), ("host", "other")];
    let each = lies.map(|lie| [PREFACE, &stream(1, &head(&[], &[lie]), &["h", "i"], &[("x", "y")])].concat());
    let two = [PREFACE, &stream(1, &head(&[], &[]), &["hi"], &[]), &stream(3, &head(&[], &[]), &[], &[])].concat();
    each.into_iter().chain([two]).collect()
}

/// What an attack leaves at the replica: method, target and body of whole requests.
fn left_by(bytes: &[u8]) -> Vec<String> {
    world::within(
        |_| Reply::ok("own"),
        async |world: World| {
            world.attack([PREFACE, bytes]).await;
            let seen = world.seen();
            assert!(world.faults().is_empty(), "{:?}", world.faults());
            let others = world.get("/well-behaved").await;
            let own =
                matches!(&others.answers().unwrap()[..], [answer] if answer.status == 200 && answer.body == b"own");
            assert!(own, "somebody else was answered {others:?}");
            assert!(world.faults().is_empty(), "{:?}", world.faults());
            assert_eq!(world.seen().len(), seen.len() + 1, "{:?}", world.seen());
            seen.iter().map(|request| format!("{request:?}")).collect()
        },
    )
}

#[test]
fn fields_that_http1_would_read_as_framing_go_nowhere() {
    let long = "content-length: 0\r\n\r\nGET /smuggled";
    for fields in [
        head(&[], &[("transfer-encoding", "chunked")]),
        head(&[], &[("connection", "content-length")]),
        head(&[], &[("connection", "close")]),
        head(&[], &[("keep-alive", "timeout=5")]),
        head(&[], &[("proxy-connection", "keep-alive")]),
        head(&[], &[("upgrade", "websocket")]),
        head(&[], &[("te", "chunked")]),
        head(&[], &[("x", "y\r\ntransfer-encoding: chunked")]),
        head(&[], &[("x", "y\ntransfer-encoding: chunked")]),
        head(&[], &[("x", "y\rz")]),
        head(&[], &[("x", "y\0z")]),
        head(&[], &[("x\r\ntransfer-encoding", "chunked")]),
        head(&[], &[("x: y\r\ntransfer-encoding", "chunked")]),
        head(&[], &[("x\0", "y")]),
        head(&[], &[("x y", "z")]),
        head(&[], &[("x:", "z")]),
        head(&[], &[("", "z")]),
        head(&[], &[("X", "y")]),
        head(&[], &[("Transfer-Encoding", "chunked")]),
        head(&[], &[("x", "y"), (":path", "/smuggled")]),
        head(&[], &[(":path", "/smuggled")]),
        head(&[], &[(":authority", "other")]),
        head(&[], &[(":method", "GET")]),
        head(&[], &[(":unknown", "x")]),
        head(&[], &[(":status", "200")]),
        head(&[(":method", "GET /smuggled HTTP/1.1\r\nx: y")], &[]),
        head(&[(":method", "GE T")], &[]),
        head(&[(":method", "")], &[]),
        head(&[(":path", "/a HTTP/1.1\r\nhost: svc.default\r\n\r\nGET /smuggled")], &[]),
        head(&[(":path", "/a b")], &[]),
        head(&[(":path", "/a\tb")], &[]),
        head(&[(":path", "/a\0b")], &[]),
        head(&[(":path", "/a\nb")], &[]),
        head(&[(":path", "a")], &[]),
        head(&[(":path", "*")], &[]),
        head(&[(":path", "")], &[]),
        head(&[(":path", "http://other/")], &[]),
        head(&[(":authority", "svc.default\r\nx: y")], &[]),
        head(&[(":authority", "x@svc.default")], &[]),
        head(&[(":authority", "svc.default, other")], &[]),
        head(&[(":authority", "svc default")], &[]),
        head(&[(":authority", "svc.default/x")], &[]),
        head(&[(":scheme", "http\r\nx: y")], &[]),
        head(&[(":scheme", "http://other/smuggled?")], &[]),
        head(&[], &[("host", "other")]),
        head(&[], &[("host", "svc.default"), ("host", "other")]),
        head(&[], &[("host", "svc.default"), ("host", "svc.default")]),
        head(&[], &[("host", "svc.default\r\n")]),
        head(&[], &[("host", "")]),
        head(&[], &[("content-length", "2, 2")]),
        head(&[], &[("content-length", "+2")]),
        head(&[], &[("content-length", " 2")]),
        head(&[], &[("content-length", "0x2")]),
        head(&[], &[("content-length", "")]),
        head(&[], &[("content-length", "18446744073709551618")]),
        head(&[], &[("content-length", "2"), ("content-length", "2")]),
        head(&[], &[("content-length", "2"), ("content-length", "3")]),
        head(&[], &[("content-length", "3"), ("content-length", "2")]),
        head(&[], &[("content-length", "3")]),
        head(&[], &[("content-length", "1")]),
        head(&[], &[("content-length", "0")]),
        head(&[], &[("x", long)]),
    ] {
        assert_eq!(left_by(&stream(1, &fields, &["hi"], &[])), [""; 0], "{fields:?}");
        // A stream beside it is another matter, unless the connection is given up for it.
        let beside = [stream(1, &fields, &["hi"], &[]), stream(3, &head(&[(":path", "/b")], &[]), &[], &[])].concat();
        assert!(matches!(&left_by(&beside)[..], [] | [_]), "{fields:?}");
    }
}

#[test]
fn a_length_is_what_comes() {
    for (length, content) in [("2", &["h"][..]), ("2", &[]), ("0", &["hi"]), ("40", &[SMUGGLED])] {
        let fields = head(&[], &[("content-length", length)]);
        assert_eq!(left_by(&stream(1, &fields, content, &[])), [""; 0], "{length} {content:?}");
        let get = head(&[(":method", "GET")], &[("content-length", length)]);
        assert_eq!(left_by(&stream(1, &get, content, &[])), [""; 0], "GET {length} {content:?}");
    }
    // All that was announced has gone on before the rest shows that it was a lie; the rest goes nowhere.
    let short = head(&[], &[("content-length", "1")]);
    assert_eq!(left_by(&stream(1, &short, &["h", SMUGGLED], &[])), ["POST /a \"h\""]);
    let whole = [format!("POST /a {SMUGGLED:?}")];
    let length = SMUGGLED.len().to_string();
    assert_eq!(left_by(&stream(1, &head(&[], &[("content-length", &length)]), &[SMUGGLED], &[])), whole);
    assert_eq!(left_by(&stream(1, &head(&[], &[]), &[SMUGGLED], &[])), whole, "none was said");
    let zero = head(&[], &[("content-length", "0")]);
    assert_eq!(left_by(&stream(1, &zero, &[], &[])), ["POST /a \"\""]);
}

#[test]
fn what_http1_can_say_too_arrives_once() {
    for (fields, expected) in [
        (head(&[], &[("host", "SVC.default:80")]), "POST /a \"hi\""),
        (head(&[], &[("te", "trailers"), ("x", "y: z; transfer-encoding: chunked")]), "POST /a \"hi\""),
        (head(&[(":method", "GET")], &[]), "GET /a \"hi\""),
        (head(&[(":path", "/a%0d%0ab")], &[]), "POST /a%0d%0ab \"hi\""),
    ] {
        assert_eq!(left_by(&stream(1, &fields, &["hi"], &[])), [expected], "{fields:?}");
    }
    assert_eq!(
        left_by(&stream(1, &head(&[(":method", "OPTIONS"), (":path", "*")], &[]), &[], &[])),
        ["OPTIONS * \"\""]
    );
}

#[test]
fn trailers_say_nothing_about_the_message() {
    let trailers = [("x-forwarded-for", "6.6.6.6"), ("host", "other"), ("content-length", "9"), ("ok", "1")];
    assert_eq!(left_by(&stream(1, &head(&[], &[]), &["hi"], &trailers)), ["POST /a \"hi\" +ok: \"1\""]);
    for evil in [("transfer-encoding", "chunked"), ("x", "y\r\n\r\nGET /smuggled HTTP/1.1"), ("x\r\n", "y")] {
        assert_eq!(left_by(&stream(1, &head(&[], &[]), &["hi"], &[evil])), [""; 0], "{evil:?}");
    }
    // h2 drops it where RFC 9113 section 8.1 would have the stream reset; either way it says nothing.
    assert_eq!(left_by(&stream(1, &head(&[], &[]), &["hi"], &[(":path", "/b")])), ["POST /a \"hi\""]);
}
