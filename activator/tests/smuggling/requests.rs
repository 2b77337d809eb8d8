//! The corpus of clients' requests: what each must become.
//!
//! Invariant: behind each one that is refused stands a request of its own that would be answered if anybody took it for
//! one: `/smuggled`.

/// One hostile beginning of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    pub(crate) bytes: Vec<u8>,
    pub(crate) becomes: Becomes,
}

/// What the activator must make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Becomes {
    /// Refused with 400 or a kin of it, nothing whole forwarded, the connection closed.
    Refused,
    /// Answered with this status by the activator itself, nothing forwarded, the connection kept.
    Answered(u16),
    /// Exactly one request with this method, target and body.
    One(&'static str, &'static str, String, Then),
    /// More is awaited; nothing whole is forwarded.
    Nothing,
}

/// And the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Takes another request.
    Open,
    /// Is closed behind the answer.
    Closed,
    /// What follows is refused, and it is closed.
    Refused,
}

use Becomes::{Answered, Nothing, One, Refused};
use Then::{Closed, Open};

/// What must never arrive as a request.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: svc.default\r\n\r\n";

/// Sent as it stands, a character a byte.
fn attack(text: &str, becomes: Becomes) -> Attack {
    let bytes = text.chars().map(|char| u8::try_from(u32::from(char)).expect("a character is a byte")).collect();
    Attack { bytes, becomes }
}

fn post(fields: &str, body: &str, becomes: Becomes) -> Attack {
    let behind = if becomes == Refused { SMUGGLED } else { "" };
    attack(&format!("POST /a HTTP/1.1\r\nhost: svc.default\r\n{fields}\r\n\r\n{body}{behind}"), becomes)
}

fn get(line: &str, fields: &str, becomes: Becomes) -> Attack {
    let behind = if becomes == Refused { SMUGGLED } else { "" };
    attack(&format!("{line}\r\n{fields}\r\n\r\n{behind}"), becomes)
}

fn one(body: &str, then: Then) -> Becomes {
    One("POST", "/a", body.to_owned(), then)
}

/// Content-Length against Transfer-Encoding, and codings that are not quite `chunked` (RFC 9112 section 6).
fn codings() -> Vec<Attack> {
    let mut all = Vec::new();
    let hidden = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    // Which of the two counts is a matter of opinion (section 6.3).
    for (fields, body) in [
        ("content-length: 6\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 6", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 4", &hidden),
        ("content-length: 4\r\nTransfer-Encoding: CHUNKED", &hidden),
        ("content-length: 0\r\ntransfer-encoding:chunked", &hidden),
        ("transfer-encoding: chunked\r\ncontent-length: nonsense", "0\r\n\r\n"),
        ("content-length: 4\r\ncontent-length: 4\r\ntransfer-encoding: chunked", &hidden),
    ] {
        all.push(post(fields, body, Refused));
    }
    for coding in [
        "Transfer-Encoding: chunked",
        "TRANSFER-ENCODING: ChUnKeD",
        "transfer-encoding:\tchunked\t ",
        "x: y\ntransfer-encoding: chunked",
    ] {
        all.push(post(coding, "2\r\nhi\r\n0\r\n\r\n", one("hi", Open)));
    }
    for coding in [
        "transfer-encoding:\u{b}chunked",
        "transfer-encoding: chunked\u{b}",
        "transfer-encoding:\u{c}chunked",
        "transfer-encoding: \u{a0}chunked",
        "transfer-encoding: chunked\u{85}",
        "transfer-encoding: chun\0ked",
        "transfer-encoding: chunked,",
        "transfer-encoding: ,chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: identity",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: x;y=\"z, chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunkedx",
        "transfer-encoding: chunked;",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked chunked",
        "transfer-encoding:",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding:",
        "transfer-encoding:\r\ntransfer-encoding: chunked",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        "transfer-encoding\0: chunked",
        "transfer-encoding\n: chunked",
        "transfer\n-encoding: chunked",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\r\n\ttransfer-encoding: chunked",
        "transfer-encoding:\r\n chunked",
        "transfer-encoding: chunked\r\n , identity",
        "transfer-encoding: chunked\r",
        "transfer-encoding:\nchunked",
        "x: y\rtransfer-encoding: chunked",
        "x: y\0\r\ntransfer-encoding: chunked",
    ] {
        all.push(post(coding, "0\r\n\r\n", Refused));
        all.push(post(&format!("content-length: 5\r\n{coding}"), "0\r\n\r\n", Refused));
    }
    // A field that only looks like it is none, so there is no body; what follows is no request.
    all.push(post("transfer_encoding: chunked", "0\r\n\r\n", one("", Then::Refused)));
    all
}

/// Lengths (RFC 9110 section 8.6, RFC 9112 section 6.3).
fn lengths() -> Vec<Attack> {
    let mut all = Vec::new();
    for length in
        ["2\r\ncontent-length: 2", "002", "\t2 ", "2\r\nConnection: content-length", "0000000000000000000000002"]
    {
        all.push(post(&format!("content-length: {length}"), "hi", one("hi", Open)));
    }
    for length in [
        "2\r\ncontent-length: 3",
        "3\r\ncontent-length: 2",
        "2\r\nCONTENT-LENGTH: 0",
        "2, 2",
        "2,3",
        "2,",
        ",2",
        "+2",
        "-2",
        "-0",
        "0x2",
        "2h",
        "2;x",
        "2 2",
        "2.0",
        "2e0",
        "",
        "\"2\"",
        "18446744073709551616",
        "99999999999999999999999999",
        "18446744073709551615",
        "2\u{b}",
        "2\0",
        "2\u{b2}",
        "\u{b2}",
        "2\r\n 3",
        "2\r",
        "2\rx: y",
        "2\n3",
    ] {
        all.push(post(&format!("content-length: {length}"), "hi", Refused));
    }
    all.push(post("content-length : 2", "hi", Refused));
    all.push(post("content-length: 9223372036854775807", SMUGGLED, Nothing));
    all.push(post("content-length: 2", "h", Nothing));
    all
}

/// Chunked framing (RFC 9112 section 7.1).
fn chunks() -> Vec<Attack> {
    let chunked = |body: &str, becomes| post("transfer-encoding: chunked", body, becomes);
    let mut all = Vec::new();
    for body in [
        "2;a=b\r\nhi\r\n0;c\r\n\r\n",
        "2 ;a=\"b\"\r\nhi\r\n0\r\n\r\n",
        "2 \r\nhi\r\n0\t\r\n\r\n",
        "0002\r\nhi\r\n00000\r\n\r\n",
        "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
    ] {
        all.push(chunked(body, one("hi", Open)));
    }
    for body in [
        "-2\r\nhi\r\n0\r\n\r\n",
        "+2\r\nhi\r\n0\r\n\r\n",
        "0x2\r\nhi\r\n0\r\n\r\n",
        " 2\r\nhi\r\n0\r\n\r\n",
        "\t2\r\nhi\r\n0\r\n\r\n",
        "2 2\r\nhi\r\n0\r\n\r\n",
        "2_\r\nhi\r\n0\r\n\r\n",
        "2,\r\nhi\r\n0\r\n\r\n",
        "2\0\r\nhi\r\n0\r\n\r\n",
        "g\r\nhi\r\n0\r\n\r\n",
        "\r\nhi\r\n0\r\n\r\n",
        ";a\r\nhi\r\n0\r\n\r\n",
        "2\nhi\r\n0\r\n\r\n",
        "2\rhi\r\n0\r\n\r\n",
        "2\r\r\nhi\r\n0\r\n\r\n",
        "2\n\r\nhi\r\n0\r\n\r\n",
        "2\r\nhi0\r\n\r\n",
        "2\r\nhi\n0\r\n\r\n",
        "2\r\nhi\r0\r\n\r\n",
        "2\r\nhix\r\n0\r\n\r\n",
        "2\r\nhi\r\n\r\n0\r\n\r\n",
        "2;a\nb\r\nhi\r\n0\r\n\r\n",
        "2;a=\"\n\"\r\nhi\r\n0\r\n\r\n",
        "2;a=\"\r\"\r\nhi\r\n0\r\n\r\n",
        "2;\n0\r\n\r\n",
        "10000000000000000\r\nhi\r\n0\r\n\r\n",
        "10000000000000002\r\nhi\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhi\r\n0\r\n\r\n",
        "0\r\nx: y\r\n z\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nx: y\rz: w\r\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\n\rx",
    ] {
        all.push(chunked(body, Refused));
    }
    let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(17 * 1024));
    all.push(chunked(&long, Refused));
    all.push(chunked(&format!("7fffffffffffffff\r\n{SMUGGLED}"), Nothing));
    // Trailers change nothing about the message, and where a line of theirs ends is no matter of opinion.
    let evil = "content-length: 9\r\nTransfer-Encoding: x\r\nhost: other\r\nx-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
                connection: keep-alive\r\nexpect: 100-continue\r\nx-kpa-claim: 1\r\nok: 1";
    all.push(chunked(&format!("2\r\nhi\r\n0\r\n{evil}\r\n\r\n"), one("hi", Open)));
    for lone in
        ["x: y\n\r\n", "\n", "x: y\n\n", "x: y\r\nz\n: 1\r\n\r\n", "x: y\r\r\n\r\n", "x y\r\n\r\n", " x: y\r\n\r\n"]
    {
        all.push(chunked(&format!("2\r\nhi\r\n0\r\n{lone}{SMUGGLED}"), Refused));
    }
    // The same where nobody wants the body, because the request is answered without it.
    for (trailer, becomes) in [("x: y\r\n", Answered(404)), ("", Answered(404)), ("x: y\n", Refused)] {
        let behind = if becomes == Refused { SMUGGLED } else { "" };
        let body = format!("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailer}\r\n{behind}");
        all.push(attack(&format!("POST /a HTTP/1.1\r\nhost: nobody.default\r\n{body}"), becomes));
    }
    all
}

/// Request lines (RFC 9112 section 3).
fn lines() -> Vec<Attack> {
    const HOST: &str = "host: svc.default";
    let mut all = Vec::new();
    for line in [
        "GET\t/a HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        "GET /a\tHTTP/1.1",
        " GET /a HTTP/1.1",
        "\tGET /a HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a HTTP/1.1\t",
        "GET /a HTTP/1.1\r",
        "GET /a HTTP/1.1\0",
        "GET /a",
        "GET",
        "GET /a ",
        "GET /a HTTP/1.9",
        "GET /a HTTP/2.0",
        "GET /a HTTP/1.10",
        "GET /a HTTP/1.",
        "GET /a HTTP/01.1",
        "GET /a http/1.1",
        "GET /a HTTP/0.9",
        "GET /a HTTP/3",
        "GET /a XTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a HTTP/1.1 x HTTP/1.1",
        "GET /a\0b HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /a\u{7f} HTTP/1.1",
        "GET /a\u{b}HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        "GET /a\nb HTTP/1.1",
        "GET /\u{ff} HTTP/1.1",
        "G\0T /a HTTP/1.1",
        "GE(T /a HTTP/1.1",
        "GET: /a HTTP/1.1",
        "G\u{e9}T /a HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET svc.default HTTP/1.1",
        "GET svc.default:80 HTTP/1.1",
        "GET @svc.default HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http:/a HTTP/1.1",
        "GET http://other.default/a HTTP/1.1",
        "GET http://svc.default:81/a HTTP/1.1",
        "GET http://svc.default@other/a HTTP/1.1",
        "GET http://x@svc.default/a HTTP/1.1",
        "GET http://svc.default\\@other/a HTTP/1.1",
        "CONNECT svc.default:80 HTTP/1.1",
        "GET /a HTTP/1.1\r\n x: y",
        "GET /a HTTP/1.1\r\nx",
        "GET /a HTTP/1.1\r\n: y",
        "GET /a HTTP/1.1\r\nx y: z",
        "GET /a HTTP/1.1\r\nx: \u{1}",
        "GET /a HTTP/1.1\r\nx\u{e9}: y",
        "GET /a HTTP/1.1\r\n\0: y",
        "\0GET /a HTTP/1.1",
        "\rGET /a HTTP/1.1",
    ] {
        all.push(get(line, HOST, Refused));
    }
    let taken = |target: &'static str| One("GET", target, String::new(), Open);
    for (line, target) in [
        ("\r\n\n\r\nGET /a HTTP/1.1", "/a"),
        ("GET http://svc.default/a HTTP/1.1", "/a"),
        ("GET http://svc.default?a HTTP/1.1", "/?a"),
        ("GET HTTP://SVC.default:80/a HTTP/1.1", "/a"),
        ("GET //svc.default/a HTTP/1.1", "//svc.default/a"),
        ("GET /http://other/a HTTP/1.1", "/http://other/a"),
        ("GET /a%0d%0a%20HTTP/1.1 HTTP/1.1", "/a%0d%0a%20HTTP/1.1"),
        ("GET /a%00?b=%23 HTTP/1.1", "/a%00?b=%23"),
        // Cut off before the activator sees it.
        ("GET /a#/../b HTTP/1.1", "/a"),
        ("GET /a HTTP/1.1\r\nconnection: host, close-not", "/a"),
        ("GET /a HTTP/1.1\nx: y", "/a"),
    ] {
        all.push(get(line, HOST, taken(target)));
    }
    all.push(get("OPTIONS * HTTP/1.1", HOST, One("OPTIONS", "*", String::new(), Open)));
    all.push(get("GET /a HTTP/1.1\r\nconnection: keep-alive, close", HOST, One("GET", "/a", String::new(), Closed)));
    all.push(get("GET /a HTTP/1.0", HOST, One("GET", "/a", String::new(), Closed)));
    all.push(get("POST /a HTTP/1.0\r\ntransfer-encoding: chunked", HOST, Refused));
    all.push(get("POST /a HTTP/1.0\r\ncontent-length: 2\r\ntransfer-encoding: chunked", HOST, Refused));
    for hosts in [
        "x: y",
        "host: svc.default\r\nhost: svc.default",
        "host: svc.default\r\nHost: other",
        "host:\r\nhost: svc.default",
        "host: svc.default, other",
        "host: svc.default other",
        "host: x@svc.default",
        "host: svc.default/",
        "host: svc.default?",
        "host: svc.default#",
        "host: http://svc.default",
        "host: svc.default:80:80",
        "host: svc.default:x",
        "host: [::1",
        "host: svc\0.default",
        "host: svc\u{e9}.default",
        "host : svc.default",
        " host: svc.default",
        "host: svc.default\r\n .evil",
        "host: svc.default\\x",
        "host: svc.default:80@evil",
    ] {
        all.push(get("GET /a HTTP/1.1", hosts, Refused));
    }
    all.push(get("GET http://svc.default/a HTTP/1.1", "x: y", Refused));
    all.push(get("GET http://svc.default/a HTTP/1.1", "host: other", Refused));
    all.push(get("GET http://svc.default/a HTTP/1.1", "host:", Refused));
    all.push(get("GET /a HTTP/1.1", "host:", Answered(404)));
    all.push(get("GET https://svc.default/a HTTP/1.1", HOST, Answered(421)));
    all
}

/// Bodies where one might not look for them, and fields that take framing away.
fn bodies() -> Vec<Attack> {
    let mut all = Vec::new();
    let line = |text: &str| format!("{text} HTTP/1.1\r\nhost: svc.default\r\n");
    let bodied = |method: &'static str| One(method, "/a", SMUGGLED.to_owned(), Open);
    let (length, size) = (SMUGGLED.len(), format!("{:x}", SMUGGLED.len()));
    for method in ["GET", "DELETE", "OPTIONS", "PURGE"] {
        let head = line(&format!("{method} /a"));
        all.push(attack(&format!("{head}content-length: {length}\r\n\r\n{SMUGGLED}"), bodied(method)));
        all.push(attack(
            &format!("{head}transfer-encoding: chunked\r\n\r\n{size}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            bodied(method),
        ));
    }
    for fields in [
        "connection: content-length",
        "connection: Content-Length, host, transfer-encoding",
        "connection: x\r\nconnection: content-length",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "expect: 100-continue",
        "expect: 200-ok",
        "te: chunked, trailers",
        "trailer: content-length",
        "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings",
        "upgrade: x",
        "content-encoding: chunked",
    ] {
        let head = line("POST /a");
        all.push(attack(&format!("{head}{fields}\r\ncontent-length: {length}\r\n\r\n{SMUGGLED}"), one(SMUGGLED, Open)));
        let codings = fields.replace("content-length", "transfer-encoding");
        all.push(attack(
            &format!("{head}{codings}\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            one(SMUGGLED, Open),
        ));
    }
    all
}

/// All of it.
pub(crate) fn corpus() -> Vec<Attack> {
    [codings(), lengths(), chunks(), lines(), bodies()].concat()
}
