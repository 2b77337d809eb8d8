//! Requests that are malformed (RFC 9113 sections 8.1 to 8.3).

use crate::case::Then::{GoAway, Ignored, Reset, Status};
use crate::case::{Case, MORE_THAN_A_STREAM, Then, all, case, rig};
use crate::frames::*;
use crate::wire::eventually;

const MALFORMED: Then = Reset(PROTOCOL_ERROR);
/// The same for all of the connection.
const ALL_OF_IT: Then = GoAway(PROTOCOL_ERROR);

/// A request without a body whose head has these fields.
fn asked(section: &'static str, what: &'static str, fields: &[(&str, &str)], then: Then) -> Case {
    case(section, what, &[frame(HEADERS, WHOLE, 1, &block(fields))], then)
}

/// The usual head and these fields.
fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&head("GET", "/")[..], more].concat()
}

/// The usual head with another value of a field.
fn but<'a>(name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    head("GET", "/").into_iter().map(|(known, usual)| (known, if known == name { value } else { usual })).collect()
}

/// The usual head without a field.
fn less(name: &str) -> Vec<(&'static str, &'static str)> {
    head("GET", "/").into_iter().filter(|(known, _)| *known != name).collect()
}

#[tokio::test]
async fn names_and_values_are_clean() {
    all(vec![
        asked("8.2.1", "a field in lower case", &with(&[("x-lower", "v")]), Status(200)),
        asked("8.2.1", "a field in upper case", &with(&[("X-Upper", "v")]), ALL_OF_IT)
            .not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.2.1", "a space in a name", &with(&[("x y", "v")]), ALL_OF_IT).not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.2.1", "a colon in a name", &with(&[("x:y", "v")]), ALL_OF_IT).not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.2.1", "a name of no bytes", &with(&[("", "v")]), ALL_OF_IT).not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.2.1", "a line's end in a value", &with(&[("x", "a\r\nb: c")]), ALL_OF_IT)
            .not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.2.1", "a zero in a value", &with(&[("x", "a\0b")]), ALL_OF_IT).not(MALFORMED, MORE_THAN_A_STREAM),
    ])
    .await;
}

#[tokio::test]
async fn pseudo_fields_are_known_first_and_once() {
    let late = [("x", "y")].iter().chain(&head("GET", "/")).copied().collect::<Vec<_>>();
    all(vec![
        asked("8.3", "one that nobody knows", &with(&[(":x", "y")]), ALL_OF_IT).not(MALFORMED, MORE_THAN_A_STREAM),
        asked("8.3", "one of an answer", &with(&[(":status", "200")]), MALFORMED),
        asked("8.3", "after a field", &late, MALFORMED),
        asked("8.3.1", "no method", &less(":method"), MALFORMED),
        asked("8.3.1", "no scheme", &less(":scheme"), MALFORMED),
        asked("8.3.1", "no path", &less(":path"), MALFORMED),
        asked("8.3.1", "an empty path", &but(":path", ""), MALFORMED),
        asked("8.3.1", "a path that begins with no slash", &but(":path", "x"), MALFORMED),
        asked("8.3.1", "two methods", &with(&[(":method", "GET")]), MALFORMED),
        asked("8.3.1", "two schemes", &with(&[(":scheme", "http")]), MALFORMED),
        asked("8.3.1", "two paths", &with(&[(":path", "/")]), MALFORMED),
        asked("8.3.1", "two authorities", &with(&[(":authority", "svc.default")]), MALFORMED),
        asked("8.3.1", "a user in the authority", &but(":authority", "me@svc.default"), Status(400)),
        asked("8.3.1", "another host", &with(&[("host", "other.default")]), Status(400)),
        asked("8.3.1", "no authority and no host", &less(":authority"), Status(400)),
        asked(
            "8.3.1",
            "a host in its place",
            &[&less(":authority")[..], &[("host", "svc.default")]].concat(),
            Status(200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn fields_of_one_hop_have_no_place() {
    all(vec![
        asked("8.2.2", "connection", &with(&[("connection", "keep-alive")]), MALFORMED),
        asked("8.2.2", "keep-alive", &with(&[("keep-alive", "1")]), MALFORMED),
        asked("8.2.2", "proxy-connection", &with(&[("proxy-connection", "close")]), MALFORMED),
        asked("8.2.2", "transfer-encoding", &with(&[("transfer-encoding", "chunked")]), MALFORMED),
        asked("8.2.2", "upgrade", &with(&[("upgrade", "h2c")]), MALFORMED),
        asked("8.2.2", "te: trailers", &with(&[("te", "trailers")]), Status(200)),
        asked("8.2.2", "te with more", &with(&[("te", "trailers, deflate")]), MALFORMED),
    ])
    .await;
}

#[tokio::test]
async fn lengths_are_what_comes() {
    let sized = |length| {
        frame(HEADERS, END_HEADERS, 1, &block(&[&head("POST", "/")[..], &[("content-length", length)]].concat()))
    };
    let two = block(&[&head("POST", "/")[..], &[("content-length", "3"), ("content-length", "4")]].concat());
    let whole =
        |length| frame(HEADERS, WHOLE, 1, &block(&[&head("POST", "/")[..], &[("content-length", length)]].concat()));
    all(vec![
        case("8.1.1", "as it says", &[sized("3"), data(END_STREAM, 1, b"abc")], Status(200)),
        case("8.1.1", "in two frames", &[sized("3"), data(0, 1, b"ab"), data(END_STREAM, 1, b"c")], Status(200)),
        case("8.1.1", "less than comes", &[sized("1"), data(END_STREAM, 1, b"abc")], MALFORMED),
        case(
            "8.1.1",
            "less than comes in two",
            &[sized("3"), data(0, 1, b"ab"), data(END_STREAM, 1, b"cd")],
            MALFORMED,
        ),
        case("8.1.1", "more than comes", &[sized("9"), data(END_STREAM, 1, b"abc")], MALFORMED),
        case("8.1.1", "something, and nothing comes", &[whole("1")], MALFORMED),
        case("8.1.1", "nothing, and nothing comes", &[whole("0")], Status(200)),
        case("8.1.1", "no number", &[sized("x"), data(END_STREAM, 1, b"abc")], MALFORMED),
        case("8.1.1", "a number with a sign", &[sized("+3"), data(END_STREAM, 1, b"abc")], MALFORMED),
        case(
            "8.1.1",
            "two that differ",
            &[frame(HEADERS, END_HEADERS, 1, &two), data(END_STREAM, 1, b"abc")],
            MALFORMED,
        ),
    ])
    .await;
}

#[tokio::test]
async fn trailers_are_fields_and_the_end() {
    let body = || [post(1, "/"), data(0, 1, b"abc")].concat();
    let held = || [post(1, "/held"), data(0, 1, b"abc")].concat();
    let trailers = |flags, fields: &[(&str, &str)]| frame(HEADERS, flags, 1, &block(fields));
    all(vec![
        case("8.1", "fields", &[body(), trailers(WHOLE, &[("x-sum", "3")])], Status(200)),
        case("8.1", "that do not end the stream", &[held(), trailers(END_HEADERS, &[("x-sum", "3")])], MALFORMED),
        case("8.1", "with a pseudo-field", &[held(), trailers(WHOLE, &[(":method", "GET")])], Ignored)
            .not(MALFORMED, "the library drops it, so that no replica sees it"),
        case("8.1", "with upper case", &[held(), trailers(WHOLE, &[("X-Sum", "3")])], ALL_OF_IT)
            .not(MALFORMED, MORE_THAN_A_STREAM),
        case("8.2.2", "with a field of one hop", &[held(), trailers(WHOLE, &[("connection", "close")])], MALFORMED),
    ])
    .await;
    let (rig, backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    client.send([body(), trailers(WHOLE, &[(":method", "GET"), ("x-sum", "3")])].concat()).await;
    eventually("it arrives", || backend.count() == 1).await;
    assert_eq!(backend.last().trailers, [("x-sum".to_owned(), "3".to_owned())], "a pseudo-field goes no further");
}
