use super::*;
use http::Response;
use proptest::prelude::*;

const CHUNKED: Decoder = Decoder::Chunked(Chunk::Size);

fn read(text: &str) -> Result<Option<(Parts, Follows)>, RequestError> {
    read_request(&mut BytesMut::from(text), &mut Progress::default())
}

fn whole(text: &str) -> (Parts, Follows) {
    read(text).unwrap().unwrap()
}

#[test]
fn what_a_head_says_of_what_follows() {
    for (head, body, keeps_alive, expects) in [
        ("GET / HTTP/1.1", Decoder::Done, true, false),
        ("GET / HTTP/1.1\r\nConnection: x, Close", Decoder::Done, false, false),
        ("GET / HTTP/1.1\r\nconnection: close\r\nconnection: keep-alive", Decoder::Done, false, false),
        ("GET / HTTP/1.0", Decoder::Done, false, false),
        ("GET / HTTP/1.0\r\nconnection: Keep-Alive", Decoder::Done, true, false),
        ("POST / HTTP/1.1\r\ncontent-length: 5", Decoder::Length(5), true, false),
        ("POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 05", Decoder::Length(5), true, false),
        ("POST / HTTP/1.1\r\ncontent-length: 0", Decoder::Done, true, false),
        ("POST / HTTP/1.1\r\ntransfer-encoding: CHUNKED", CHUNKED, true, false),
        ("POST / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 5", Decoder::Length(5), true, true),
        ("POST / HTTP/1.1\r\nexpect: 100-continue", Decoder::Done, true, false),
        ("POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 5", Decoder::Length(5), false, false),
        ("POST / HTTP/1.1\r\nexpect: more\r\ncontent-length: 5", Decoder::Length(5), true, false),
    ] {
        let (_, follows) = whole(&format!("{head}\r\n\r\n"));
        assert_eq!((follows.body, follows.keeps_alive, follows.expects), (body, keeps_alive, expects), "{head}");
    }
    assert!(whole("GET / HTTP/1.1\nupgrade: x\n\n").1.upgrades, "a lone LF ends a line");
    assert!(!whole("GET / HTTP/1.0\r\nupgrade: x\r\n\r\n").1.upgrades);
}

#[test]
fn what_is_refused_is_refused_for_its_reason() {
    let fields = "a: b\r\n".repeat(HEADERS_MAX + 1);
    let target = "x".repeat(URI_BYTES_MAX);
    for (head, why) in [
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "both Transfer-Encoding and"),
        ("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", "both Transfer-Encoding and"),
        ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "a Transfer-Encoding in HTTP/1.0"),
        ("GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "a Transfer-Encoding other than"),
        ("GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "not one Content-Length"),
        ("GET / HTTP/1.1\r\ncontent-length: 9223372036854775808\r\n\r\n", "not one Content-Length"),
        ("GET / HTTP/1.1\r\ncontent-length:\r\n\r\n", "not one Content-Length"),
        ("GET / HTTP/3.0\r\n\r\n", "no HTTP version"),
        ("GET /\r\n\r\n", "no method and target"),
        ("GET http://[/ HTTP/1.1\r\n\r\n", "no URI"),
        ("\0GET / HTTP/1.1\r\n\r\n", "no method"),
        // Nobody waits for the end of what cannot begin a head.
        ("\x16\x03\x01", "no method"),
        ("SSH-2.0-x\r\n", "no method and target"),
        (&format!("GET / HTTP/1.1\r\n{fields}\r\n"), "101 fields"),
        (&format!("GET /{target} HTTP/1.1\r\n\r\n"), "16385 bytes"),
        (&format!("GET / HTTP/1.1\r\na: {}", "x".repeat(HEAD_BYTES_MAX)), "longer than 65536 bytes"),
        (&format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)), "longer than 65536 bytes"),
    ] {
        let told = read(head).map(|_| ()).expect_err(&format!("{head:.80}")).to_string();
        assert!(told.contains(why), "{head:.80}: {told}");
    }
}

proptest! {
    /// In however many pieces a head comes, it is read once, when it is whole, and what follows is left.
    #[test]
    fn pieces_make_no_difference(step in 1_usize..40, lines in 0_usize..30, before in 0_usize..3) {
        let head = format!("{}POST /a HTTP/1.1\r\n{}content-length: 3\r\n\r\n", "\r\n".repeat(before), "x: y\r\n".repeat(lines));
        let (mut buffer, mut progress, mut found) = (BytesMut::new(), Progress::default(), None);
        for piece in head.as_bytes().chunks(step) {
            prop_assert!(found.is_none(), "before its end");
            buffer.extend_from_slice(piece);
            found = read_request(&mut buffer, &mut progress).unwrap();
        }
        let (parts, follows) = found.expect("it is whole");
        prop_assert_eq!((parts.headers.len(), follows.body, buffer.len()), (lines + 1, Decoder::Length(3), 0));
    }

    #[test]
    fn anything_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(read_request(&mut BytesMut::from(&bytes[..]), &mut Progress::default()));
    }
}

/// The head of an answer with these fields to `request`, without its date; how it is framed, and whether the connection
/// stays open.
fn write(request: &str, status: u16, fields: &[(&'static str, &str)], length: Option<u64>) -> (String, Encoder, bool) {
    let (_, mut follows) = whole(&format!("{request}\r\n\r\n"));
    let mut answer = Response::builder().status(status);
    for (name, value) in fields {
        answer = answer.header(*name, *value);
    }
    let (head, ()) = answer.body(()).unwrap().into_parts();
    let mut out = Vec::new();
    let encoder = follows.write_answer(&mut out, &head, length);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
    assert_eq!(text.matches("date: ").count(), 1);
    (lines.join("|"), encoder, follows.keeps_alive)
}

#[test]
fn how_an_answer_is_framed() {
    const GET: &str = "GET / HTTP/1.1";
    const HEAD: &str = "HEAD / HTTP/1.1";
    const OLD: &str = "GET / HTTP/1.0";
    const OLD_OPEN: &str = "GET / HTTP/1.0\r\nconnection: keep-alive";
    let five = [("content-length", "5")];
    for (request, status, fields, length, text, encoder, keeps_alive) in [
        (GET, 200, &five[..], Some(5), "HTTP/1.1 200 OK|content-length: 5||", Encoder::Length(5), true),
        (GET, 200, &five, None, "HTTP/1.1 200 OK|content-length: 5||", Encoder::Length(5), true),
        (GET, 404, &[], Some(5), "HTTP/1.1 404 Not Found|content-length: 5||", Encoder::Length(5), true),
        (GET, 200, &[], Some(0), "HTTP/1.1 200 OK|content-length: 0||", Encoder::Done, true),
        (GET, 200, &[], None, "HTTP/1.1 200 OK|transfer-encoding: chunked||", Encoder::Chunked, true),
        (
            GET,
            200,
            &[("transfer-encoding", "gzip")],
            None,
            "HTTP/1.1 200 OK|transfer-encoding: chunked||",
            Encoder::Chunked,
            true,
        ),
        (GET, 204, &five, Some(0), "HTTP/1.1 204 No Content||", Encoder::Done, true),
        (GET, 304, &five, Some(0), "HTTP/1.1 304 Not Modified|content-length: 5||", Encoder::Done, true),
        (GET, 799, &[], Some(0), "HTTP/1.1 799 |content-length: 0||", Encoder::Done, true),
        (HEAD, 200, &five, Some(0), "HTTP/1.1 200 OK|content-length: 5||", Encoder::Done, true),
        (HEAD, 200, &[], None, "HTTP/1.1 200 OK||", Encoder::Done, true),
        (OLD, 200, &five, Some(5), "HTTP/1.0 200 OK|content-length: 5||", Encoder::Length(5), false),
        (
            OLD_OPEN,
            200,
            &five,
            Some(5),
            "HTTP/1.0 200 OK|content-length: 5|connection: keep-alive||",
            Encoder::Length(5),
            true,
        ),
        (OLD_OPEN, 200, &[], None, "HTTP/1.0 200 OK||", Encoder::UntilClose, false),
        (
            GET,
            200,
            &[("connection", "close")],
            Some(0),
            "HTTP/1.1 200 OK|content-length: 0|connection: close||",
            Encoder::Done,
            false,
        ),
    ] {
        assert_eq!(
            write(request, status, fields, length),
            (text.to_owned(), encoder, keeps_alive),
            "{request} {status}"
        );
    }
    let switch = [("connection", "upgrade"), ("upgrade", "x")];
    let (text, encoder, _) = write("GET / HTTP/1.1\r\nupgrade: x", 101, &switch, Some(0));
    assert_eq!(
        (text.as_str(), encoder),
        ("HTTP/1.1 101 Switching Protocols|connection: upgrade|upgrade: x||", Encoder::Done)
    );
}
