//! The life of a stream, and heads in several frames (RFC 9113 sections 5, 6.9 and 6.10).

use crate::case::Then::{GoAway, Ignored, Reset, Status};
use crate::case::{Case, MORE_THAN_A_STREAM, ONE_CODE, Step, all, case, rig, steps};
use crate::frames::*;
use activator::connection::{H2_FIRST_WINDOW, H2_STREAMS_MAX};

/// What is sent on stream 1 once its answer has ended.
fn after_the_answer(what: &'static str, sent: Vec<u8>, then: crate::case::Then) -> Case {
    steps("5.1", what, vec![Step::Send(get(1, "/")), Step::Answered(1), Step::Send(sent)], then)
}

#[tokio::test]
async fn a_stream_that_nobody_opened_takes_heads_and_priorities_only() {
    all(vec![
        case("5.1", "DATA", &[data(END_STREAM, 1, b"x")], GoAway(PROTOCOL_ERROR)),
        case("5.1", "RST_STREAM", &[reset(1)], GoAway(PROTOCOL_ERROR)),
        case("5.1", "WINDOW_UPDATE", &[window_update(1, 1)], GoAway(PROTOCOL_ERROR)),
        case(
            "5.1",
            "CONTINUATION",
            &[frame(CONTINUATION, END_HEADERS, 1, &block(&head("GET", "/")))],
            GoAway(PROTOCOL_ERROR),
        ),
        case("5.1", "PRIORITY", &[frame(PRIORITY, 0, 1, &[0; 5])], Ignored),
    ])
    .await;
}

#[tokio::test]
async fn a_stream_whose_client_is_done_takes_no_more_of_it() {
    let rest = frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]));
    all(vec![
        case("5.1", "DATA", &[get(1, "/held"), data(END_STREAM, 1, b"x")], GoAway(PROTOCOL_ERROR))
            .not(Reset(STREAM_CLOSED), MORE_THAN_A_STREAM),
        case("5.1", "HEADERS", &[get(1, "/held"), get(1, "/")], GoAway(PROTOCOL_ERROR))
            .not(Reset(STREAM_CLOSED), MORE_THAN_A_STREAM),
        case("5.1", "CONTINUATION", &[get(1, "/held"), rest], GoAway(PROTOCOL_ERROR)),
        case("5.1", "WINDOW_UPDATE", &[get(1, "/held"), window_update(1, 1)], Ignored),
        case("5.1", "PRIORITY", &[get(1, "/held"), frame(PRIORITY, 0, 1, &[0; 5])], Ignored),
    ])
    .await;
}

#[tokio::test]
async fn a_stream_that_was_reset_is_over() {
    let over = |what, sent: Vec<u8>, then| case("5.1", what, &[post(1, "/held"), reset(1), sent], then);
    all(vec![
        over("DATA", data(END_STREAM, 1, b"x"), Reset(STREAM_CLOSED)),
        over("HEADERS", get(1, "/"), GoAway(PROTOCOL_ERROR)).not(GoAway(STREAM_CLOSED), ONE_CODE),
        over("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, &[]), GoAway(PROTOCOL_ERROR)),
        over("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), Ignored),
        over("RST_STREAM", reset(1), Ignored),
        over("WINDOW_UPDATE", window_update(1, 1), Ignored),
    ])
    .await;
}

#[tokio::test]
async fn a_stream_that_was_answered_is_over() {
    all(vec![
        after_the_answer("DATA", data(END_STREAM, 1, b"x"), Reset(STREAM_CLOSED))
            .not(GoAway(STREAM_CLOSED), "the library has forgotten how it ended, and takes the milder way"),
        after_the_answer("HEADERS", get(1, "/"), GoAway(PROTOCOL_ERROR)).not(GoAway(STREAM_CLOSED), ONE_CODE),
        after_the_answer("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, &[]), GoAway(PROTOCOL_ERROR)),
        after_the_answer("RST_STREAM", reset(1), Ignored),
        after_the_answer("WINDOW_UPDATE", window_update(1, 1), Ignored),
        after_the_answer("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]), Ignored),
    ])
    .await;
}

/// The client may not have read yet that we reset it.
#[tokio::test]
async fn what_follows_our_own_reset_is_ignored() {
    let first = || vec![Step::Send([post(1, "/held"), window_update(1, (1 << 31) - 1)].concat()), Step::WasReset(1)];
    let then = |sent| [first(), vec![Step::Send(sent)]].concat();
    all(vec![
        steps("5.1", "DATA", then(data(END_STREAM, 1, b"x")), Ignored),
        steps("5.1", "HEADERS", then(frame(HEADERS, WHOLE, 1, &block(&[("x", "y")]))), Ignored),
        steps("5.1", "RST_STREAM", then(reset(1)), Ignored),
        steps("5.1", "WINDOW_UPDATE", then(window_update(1, 1)), Ignored),
    ])
    .await;
}

#[tokio::test]
async fn numbers_of_streams_are_odd_and_rise() {
    all(vec![
        case("5.1.1", "an even one", &[get(2, "/")], GoAway(PROTOCOL_ERROR)),
        case("5.1.1", "a smaller one", &[get(5, "/"), get(3, "/")], GoAway(PROTOCOL_ERROR)),
        case("5.1.1", "one that was skipped", &[get(3, "/"), data(END_STREAM, 1, b"x")], Reset(STREAM_CLOSED))
            .not(GoAway(STREAM_CLOSED), "the library cannot tell it from one that it has forgotten"),
    ])
    .await;
}

/// One stream too many is refused, in such a way that its client may ask again; those it has go on.
#[tokio::test]
async fn one_stream_too_many_is_refused() {
    let (rig, backend) = rig().await;
    let mut client = Client::new(rig.addresses[0]).await;
    let many: Vec<u8> = (0..=H2_STREAMS_MAX).flat_map(|n| get(2 * n + 1, "/held")).collect();
    client.send(many).await;
    let refused = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (2 * H2_STREAMS_MAX + 1, REFUSED_STREAM));
    crate::case::others_are_served(&rig).await;
    crate::wire::eventually("the others run", || rig.in_flight() == H2_STREAMS_MAX).await;
    client.send(reset(1)).await;
    assert!(client.is_served(2 * H2_STREAMS_MAX + 3).await, "there is room again");
    drop(client);
    rig.at_rest().await;
    assert_eq!(
        backend.seen.lock().iter().filter(|request| request.target() == "/held").count(),
        H2_STREAMS_MAX as usize
    );
}

#[tokio::test]
async fn heads_in_several_frames_have_nothing_in_between() {
    let all_of_it = block(&head("GET", "/"));
    let (one, two) = all_of_it.split_at(5);
    let (two, three) = two.split_at(5);
    let begin = |flags| frame(HEADERS, flags, 1, one);
    let on = |flags, stream, part: &[u8]| frame(CONTINUATION, flags, stream, part);
    all(vec![
        case("6.10", "two more", &[begin(END_STREAM), on(0, 1, two), on(END_HEADERS, 1, three)], Status(200)),
        case(
            "6.10",
            "an empty one",
            &[begin(END_STREAM), on(0, 1, &[]), on(0, 1, two), on(END_HEADERS, 1, three)],
            Status(200),
        ),
        case("6.10", "DATA in between", &[begin(0), data(END_STREAM, 1, b"x")], GoAway(PROTOCOL_ERROR)),
        case("6.10", "PRIORITY in between", &[begin(0), frame(PRIORITY, 0, 1, &[0; 5])], GoAway(PROTOCOL_ERROR)),
        case("6.10", "PING in between", &[begin(0), frame(PING, 0, 0, &[0; 8])], GoAway(PROTOCOL_ERROR)),
        case("6.10", "SETTINGS in between", &[begin(0), settings(&[])], GoAway(PROTOCOL_ERROR)),
        case("6.10", "HEADERS in between", &[begin(0), get(3, "/")], GoAway(PROTOCOL_ERROR)),
        case("6.10", "of another stream", &[begin(0), on(END_HEADERS, 3, two)], GoAway(PROTOCOL_ERROR)),
        case("6.10", "on stream 0", &[begin(0), on(END_HEADERS, 0, two)], GoAway(PROTOCOL_ERROR)),
        case("6.10", "of nothing", &[on(END_HEADERS, 1, two)], GoAway(PROTOCOL_ERROR)),
        case("6.10", "of a head that is whole", &[post(1, "/held"), on(END_HEADERS, 1, two)], GoAway(PROTOCOL_ERROR)),
        case("6.10", "of DATA", &[post(1, "/held"), data(0, 1, b"x"), on(END_HEADERS, 1, two)], GoAway(PROTOCOL_ERROR)),
        case("5.5", "what nobody knows in between", &[begin(0), frame(0xee, 0, 1, b"x")], GoAway(PROTOCOL_ERROR)),
    ])
    .await;
}

/// What a client may send before it is told otherwise, and not a byte more.
#[tokio::test]
async fn our_windows_bind_the_client() {
    const PART: usize = 12 * 1024;
    assert_eq!(H2_FIRST_WINDOW as usize, PART);
    let (rig, _backend) = rig().await;
    rig.replicas(&[]).await;
    let mut client = Client::new(rig.addresses[0]).await;
    client.send([post(1, "/"), data(0, 1, &[0; PART]), frame(PING, 0, 0, &[0; 8])].concat()).await;
    let first = client.until(|frame| frame.kind == RST_STREAM || frame.kind == PING).await;
    assert_eq!(first.kind, PING, "as much as it may");
    client.send(data(0, 1, b"x")).await;
    let reset = client.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, FLOW_CONTROL_ERROR));
    rig.at_rest().await;
}

/// A client's window holds an answer up, and each change of it counts at once, below zero too.
#[tokio::test]
async fn the_clients_windows_bind_us() {
    let (rig, _backend) = rig().await;
    let mut client = Client::with(rig.addresses[0], &[(INITIAL_WINDOW_SIZE, 2)]).await;
    let is_data = |frame: &Frame| frame.kind == DATA;
    client.send(get(1, "/")).await;
    assert_eq!(client.until(is_data).await.payload, b"he");
    // Two were used: now the window is at -2, then at 0, then at 1.
    client
        .send([settings(&[(INITIAL_WINDOW_SIZE, 0)]), window_update(1, 2), frame(PING, 0, 0, &[1; 8])].concat())
        .await;
    let next = client.until(|frame| frame.kind == DATA || frame.kind == PING).await;
    assert_eq!(next.kind, PING, "no room, no data");
    client.send(settings(&[(INITIAL_WINDOW_SIZE, 1)])).await;
    assert_eq!(client.until(is_data).await.payload, b"l");
    client.send(window_update(1, 9)).await;
    let last = client.until(is_data).await;
    assert_eq!((&*last.payload, last.flags & END_STREAM), (&b"lo"[..], END_STREAM));
    rig.at_rest().await;
}
