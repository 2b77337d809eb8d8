use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;

const CHUNKED: Decoder = Decoder::Chunked(Chunk::Size);

fn answer(text: &str, method: Method) -> Result<Option<Answer>, Unreadable> {
    read_answer(&mut BytesMut::from(text), &method, &mut 0)
}

#[test]
fn how_an_answer_is_framed() {
    for (method, head, body, keeps_alive) in [
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 5", Decoder::Length(5), true),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0", Decoder::Done, true),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5", Decoder::Length(5), true),
        (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", CHUNKED, true),
        (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding:  Chunked ", CHUNKED, true),
        (Method::GET, "HTTP/1.1 200 OK", Decoder::UntilClose, false),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5", Decoder::Done, true),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", Decoder::Done, true),
        (Method::GET, "HTTP/1.1 204 No Content", Decoder::Done, true),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5", Decoder::Done, true),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close", Decoder::Length(1), false),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: x, Close", Decoder::Length(1), false),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive", Decoder::Length(1), true),
        (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 1", Decoder::Length(1), false),
        (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: Keep-Alive", Decoder::Length(1), true),
    ] {
        let read = answer(&format!("{head}\r\n\r\n"), method).unwrap().unwrap();
        assert_eq!((read.body, read.keeps_alive), (body, keeps_alive), "{head}");
        let lengths = read.head.headers().get_all(CONTENT_LENGTH).iter().count();
        let chunked = read.head.headers().contains_key(TRANSFER_ENCODING);
        assert!(lengths <= usize::from(!chunked), "{head}: one framing goes on");
    }
}

#[test]
fn what_two_readers_could_take_differently_is_not_read() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 6",
        "HTTP/1.1 200 OK\r\ncontent-length: -5",
        "HTTP/1.1 200 OK\r\ncontent-length: +5",
        "HTTP/1.1 200 OK\r\ncontent-length: 5x",
        "HTTP/1.1 200 OK\r\ncontent-length:",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding:",
        "HTTP/1.1 200 OK\r\ncontent-length : 5",
        "HTTP/1.1 200 OK\r\na: b\r\n c",
        "HTTP/1.1 99 Low",
        "HTTP/2.0 200 OK",
        "200 OK",
    ] {
        assert!(answer(&format!("{head}\r\n\r\n"), Method::GET).is_err(), "{head:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    assert!(answer(&many, Method::GET).is_err(), "fields are bounded");
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    assert!(answer(&long, Method::GET).is_err(), "and so are bytes, before the end has come");
}

#[test]
fn a_head_is_read_when_all_of_it_is_there() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 Fine\r\nX-A: b\r\nx-a: c\r\n\r\nrest";
    let mut read = BytesMut::new();
    let mut found = None;
    for byte in text.bytes() {
        read.extend_from_slice(&[byte]);
        if found.is_none() {
            found = read_answer(&mut read, &Method::GET, &mut 0).unwrap();
        }
    }
    let found = found.unwrap();
    assert_eq!(found.head.status(), 200, "interim answers are passed over");
    assert_eq!(found.head.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(found.head.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes), Some(b"Fine".as_slice()));
    assert_eq!(&read[..], b"rest");
    let bare = answer("HTTP/1.1 200 OK\na: b\n\n", Method::GET).unwrap().unwrap();
    assert_eq!(bare.head.headers()["a"], "b", "a single line feed ends a line too (RFC 9112 section 2.2)");
}

fn written(request: http::request::Builder, body: RequestBody) -> (String, Encoder) {
    let mut out = Vec::new();
    let encoder = write_request(&mut out, &request.body(body).unwrap());
    (String::from_utf8(out).unwrap(), encoder)
}

fn again(text: &'static str) -> RequestBody {
    RequestBody::Again(VecDeque::from([Bytes::from_static(text.as_bytes())]))
}

#[test]
fn a_request_is_written_as_it_is_with_one_framing() {
    let (text, encoder) =
        written(Request::get("http://x/a%2F//b?c=;d").header("host", "x").header("X-A", "b"), RequestBody::None);
    assert_eq!((text.as_str(), encoder), ("GET /a%2F//b?c=;d HTTP/1.1\r\nhost: x\r\nx-a: b\r\n\r\n", Encoder::Done));
    let (text, _) = written(Request::options("*").header("host", "x"), RequestBody::None);
    assert!(text.starts_with("OPTIONS * HTTP/1.1\r\n"), "{text}");
    let post = || Request::post("/").header("host", "x");
    let (text, encoder) = written(post().header("content-length", "2"), again("hi"));
    assert_eq!(
        (text.as_str(), encoder),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n", Encoder::Length(2))
    );
    let (text, encoder) = written(post(), again("hi"));
    assert!(
        text.contains("\r\ncontent-length: 2\r\n") && encoder == Encoder::Length(2),
        "a known length is said: {text}"
    );
    let (text, encoder) =
        written(post().header("transfer-encoding", "chunked").header("content-length", "9"), again("hi"));
    assert!(text.contains("\r\ntransfer-encoding: chunked\r\n") && !text.contains("content-length"), "{text}");
    assert_eq!(encoder, Encoder::Chunked);
    let (text, encoder) = written(post().header("transfer-encoding", "chunked"), RequestBody::None);
    assert!(!text.contains("transfer-encoding") && encoder.is_done(), "no body, no framing: {text}");
    let (text, encoder) = written(post().header("content-length", "0"), RequestBody::None);
    assert!(text.contains("\r\ncontent-length: 0\r\n") && encoder.is_done(), "{text}");
}

proptest! {
    /// Arbitrary bytes are a head, an error or not enough; never a panic.
    #[test]
    fn anything_is_survived(
        tail in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..200),
        begun in any::<bool>(),
    ) {
        let mut read = BytesMut::from(if begun { "HTTP/1.1 200 OK\r\ncontent-length: " } else { "" });
        read.extend_from_slice(&tail);
        let before = read.len();
        if let Ok(Some(_)) = read_answer(&mut read, &Method::GET, &mut 0) {
            prop_assert!(read.len() < before);
        }
    }
}
