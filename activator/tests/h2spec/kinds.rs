//! The beginning of a connection, and each kind of frame (RFC 9113 sections 3, 4 and 6).

use crate::case::Then::{Closed, Frame, GoAway, Ignored, Reset, Status};
use crate::case::{MORE_THAN_A_STREAM, ONE_CODE, Step, all, case, preface, rig, steps};
use crate::frames::*;

#[tokio::test]
async fn connections_begin_with_the_preface_and_settings() {
    let wrong = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec();
    all(vec![
        case("3.4", "a preface and settings", &[preface(), get(1, "/")], Status(200)),
        case("3.4", "a preface that is none", &[wrong, settings(&[])], Closed)
            .not(GoAway(PROTOCOL_ERROR), "it is HTTP/1.1 that cannot be read; a GOAWAY may be left out"),
        case("3.4", "a request before the settings", &[PREFACE.to_vec(), get(1, "/")], Status(200))
            .not(GoAway(PROTOCOL_ERROR), "the library does not ask for settings first; nothing depends on them"),
    ])
    .await;
}

#[tokio::test]
async fn frames_have_a_format_and_a_size() {
    const MAX: usize = 16_384;
    all(vec![
        case("4.1", "a kind that nobody knows", &[frame(0xee, 0xff, 0, &[0; 8])], Ignored),
        case("4.1", "a kind that nobody knows on a stream", &[post(1, "/held"), frame(0xee, 0, 1, b"x")], Ignored),
        case("4.1", "flags that nobody knows", &[frame(PING, 0x16, 0, &[7; 8])], Frame(PING, ACK, &[7; 8])),
        case("4.1", "the reserved bit", &[frame(PING, 0, 1 << 31, &[7; 8])], Frame(PING, ACK, &[7; 8])),
        case("4.2", "as large as may be", &[frame(0xee, 0, 0, &[0; MAX])], Ignored),
        case("4.2", "a byte more", &[frame(0xee, 0, 0, &[0; MAX + 1])], GoAway(FRAME_SIZE_ERROR)),
        case("4.2", "DATA, a byte more", &[post(1, "/"), data(0, 1, &[0; MAX + 1])], GoAway(FRAME_SIZE_ERROR)),
        case("4.2", "HEADERS, a byte more", &[frame(HEADERS, WHOLE, 1, &[0; MAX + 1])], GoAway(FRAME_SIZE_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn data_has_a_stream_and_padding_that_fits() {
    all(vec![
        case("6.1", "on stream 0", &[data(0, 0, b"x")], GoAway(PROTOCOL_ERROR)),
        case("6.1", "padded", &[post(1, "/"), data(END_STREAM | PADDED, 1, b"\x03abc\0\0\0")], Status(200)),
        case("6.1", "all padding", &[post(1, "/"), data(END_STREAM | PADDED, 1, b"\x03\0\0\0")], Status(200)),
        case(
            "6.1",
            "more padding than payload",
            &[post(1, "/"), data(PADDED, 1, b"\x05abc\0")],
            GoAway(PROTOCOL_ERROR),
        ),
        case("6.1", "padded without a length", &[post(1, "/"), data(PADDED, 1, b"")], GoAway(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn headers_have_a_stream_and_padding_that_fits() {
    let head = block(&head("GET", "/"));
    let padded = [&[4][..], &head, &[0; 4]].concat();
    let both = [&[4, 0, 0, 0, 0, 15][..], &head, &[0; 4]].concat();
    let too_padded = [&[u8::try_from(head.len() + 1).unwrap()][..], &head].concat();
    let own = [&1_u32.to_be_bytes()[..], &[15], &head].concat();
    all(vec![
        case("6.2", "on stream 0", &[frame(HEADERS, WHOLE, 0, &head)], GoAway(PROTOCOL_ERROR)),
        case("6.2", "padded", &[frame(HEADERS, WHOLE | PADDED, 1, &padded)], Status(200)),
        case("6.2", "padded, with a priority", &[frame(HEADERS, WHOLE | PADDED | PRIORITIZED, 1, &both)], Status(200)),
        case(
            "6.2",
            "more padding than payload",
            &[frame(HEADERS, WHOLE | PADDED, 1, &too_padded)],
            GoAway(PROTOCOL_ERROR),
        ),
        case(
            "6.2",
            "shorter than its priority",
            &[frame(HEADERS, WHOLE | PRIORITIZED, 1, &[0; 3])],
            GoAway(PROTOCOL_ERROR),
        ),
        case(
            "5.3.1 of RFC 7540",
            "depends on itself",
            &[frame(HEADERS, WHOLE | PRIORITIZED, 1, &own)],
            Reset(PROTOCOL_ERROR),
        )
        .not(Status(200), "RFC 9113 has no such rule; RFC 7540 had this one"),
    ])
    .await;
}

#[tokio::test]
async fn priorities_have_a_stream_and_a_length() {
    let own = [&1_u32.to_be_bytes()[..], &[15]].concat();
    all(vec![
        case("6.3", "of a stream to come", &[frame(PRIORITY, 0, 1, &[0; 5]), get(1, "/")], Status(200)),
        case("6.3", "of a stream that is over", &[get(1, "/"), frame(PRIORITY, 0, 1, &[0; 5])], Status(200)),
        case("6.3", "on stream 0", &[frame(PRIORITY, 0, 0, &[0; 5])], GoAway(PROTOCOL_ERROR)),
        case("6.3", "of four bytes", &[post(1, "/held"), frame(PRIORITY, 0, 1, &[0; 4])], GoAway(PROTOCOL_ERROR))
            .not(Reset(FRAME_SIZE_ERROR), ONE_CODE),
        case(
            "5.3.1 of RFC 7540",
            "depends on itself",
            &[post(1, "/held"), frame(PRIORITY, 0, 1, &own)],
            Reset(PROTOCOL_ERROR),
        )
        .not(Ignored, "RFC 9113 has no such rule; RFC 7540 had this one"),
    ])
    .await;
}

#[tokio::test]
async fn resets_have_a_stream_and_a_length() {
    all(vec![
        case("6.4", "on stream 0", &[reset(0)], GoAway(PROTOCOL_ERROR)),
        case("6.4", "of a stream that nobody opened", &[reset(1)], GoAway(PROTOCOL_ERROR)),
        case("6.4", "of three bytes", &[post(1, "/held"), frame(RST_STREAM, 0, 1, &[0; 3])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
        case("6.4", "with a code that nobody knows", &[post(1, "/held"), frame(RST_STREAM, 0, 1, &[0xee; 4])], Ignored),
    ])
    .await;
}

#[tokio::test]
async fn settings_have_ranges() {
    let above = 1 << 31;
    all(vec![
        case("6.5", "confirmed", &[settings(&[(3, 7)])], Frame(SETTINGS, ACK, b"")),
        case("6.5", "a confirmation with a payload", &[frame(SETTINGS, ACK, 0, &[0; 6])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
        case("6.5", "a confirmation of nothing", &[frame(SETTINGS, ACK, 0, &[])], GoAway(PROTOCOL_ERROR)),
        case("6.5", "on a stream", &[frame(SETTINGS, 0, 1, &[])], GoAway(PROTOCOL_ERROR)),
        case("6.5", "of five bytes", &[frame(SETTINGS, 0, 0, &[0; 5])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
        case("6.5.2", "push, neither on nor off", &[settings(&[(ENABLE_PUSH, 2)])], GoAway(PROTOCOL_ERROR)),
        case("6.5.2", "a window as large as may be", &[settings(&[(INITIAL_WINDOW_SIZE, above - 1)])], Ignored),
        case("6.5.2", "a window that is larger", &[settings(&[(INITIAL_WINDOW_SIZE, above)])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FLOW_CONTROL_ERROR), ONE_CODE),
        case("6.5.2", "frames that are too small", &[settings(&[(MAX_FRAME_SIZE, 16_383)])], GoAway(PROTOCOL_ERROR)),
        case("6.5.2", "frames that are too large", &[settings(&[(MAX_FRAME_SIZE, 1 << 24)])], GoAway(PROTOCOL_ERROR)),
        case("6.5.2", "what nobody knows", &[settings(&[(0xee, 1)])], Frame(SETTINGS, ACK, b"")),
        case(
            "6.5.3",
            "twice the same: the last counts",
            &[settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]), get(1, "/")],
            Status(200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_client_has_nothing_to_push() {
    let promise = [&2_u32.to_be_bytes()[..], &block(&head("GET", "/"))].concat();
    all(vec![
        case(
            "8.4",
            "a promise",
            &[post(1, "/held"), frame(PUSH_PROMISE, END_HEADERS, 1, &promise)],
            GoAway(PROTOCOL_ERROR),
        ),
        case("6.6", "a promise on stream 0", &[frame(PUSH_PROMISE, END_HEADERS, 0, &promise)], GoAway(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
async fn pings_are_answered() {
    all(vec![
        case("6.7", "a ping", &[frame(PING, 0, 0, b"12345678")], Frame(PING, ACK, b"12345678")),
        case("6.7", "an answer to none", &[frame(PING, ACK, 0, b"12345678")], Ignored),
        case("6.7", "on a stream", &[frame(PING, 0, 1, &[0; 8])], GoAway(PROTOCOL_ERROR)),
        case("6.7", "of six bytes", &[frame(PING, 0, 0, &[0; 6])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
    ])
    .await;
}

#[tokio::test]
async fn farewells_are_for_the_whole_connection() {
    all(vec![
        case("6.8", "on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], GoAway(PROTOCOL_ERROR)),
        case("6.8", "of seven bytes", &[frame(GOAWAY, 0, 0, &[0; 7])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
    ])
    .await;
    let (rig, _backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    client.send([get(1, "/"), frame(GOAWAY, 0, 0, &[0; 8])].concat()).await;
    assert_eq!(
        client.until(|frame| frame.kind == DATA).await.payload,
        b"hello",
        "what was asked for before is answered"
    );
    assert!(client.ends().await.is_none_or(|code| code == NO_ERROR), "and then it is over");
}

#[tokio::test]
async fn windows_grow_by_something_and_not_without_end() {
    let most = (1 << 31) - 1;
    all(vec![
        case("6.9", "by nothing", &[window_update(0, 0)], GoAway(PROTOCOL_ERROR)),
        case("6.9", "of a stream by nothing", &[post(1, "/held"), window_update(1, 0)], GoAway(PROTOCOL_ERROR))
            .not(Reset(PROTOCOL_ERROR), MORE_THAN_A_STREAM),
        case("6.9", "of three bytes", &[frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], GoAway(PROTOCOL_ERROR))
            .not(GoAway(FRAME_SIZE_ERROR), ONE_CODE),
        case("6.9.1", "beyond its range", &[window_update(0, most)], GoAway(FLOW_CONTROL_ERROR)),
        case(
            "6.9.1",
            "of a stream beyond its range",
            &[post(1, "/held"), window_update(1, most)],
            Reset(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.2",
            "by settings beyond its range",
            &[post(1, "/held"), window_update(1, most - 65_535), settings(&[(INITIAL_WINDOW_SIZE, 65_536)])],
            GoAway(FLOW_CONTROL_ERROR),
        ),
        steps(
            "6.9",
            "of a stream that was answered",
            vec![Step::Send(get(1, "/")), Step::Answered(1), Step::Send(window_update(1, 1))],
            Ignored,
        ),
    ])
    .await;
}
