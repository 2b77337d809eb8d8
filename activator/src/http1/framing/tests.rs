use super::*;
use http::header::HOST;
use proptest::prelude::*;

const LENGTH: Decoder = Decoder::Length(5);
const CHUNKED: Decoder = Decoder::Chunked(Chunk::Size);

/// Feeds `wire` in parts of `step` bytes: content, trailers, whether it is over, and what is left unread.
fn read(
    mut decoder: Decoder,
    wire: &[u8],
    step: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>, bool, usize), Unreadable> {
    let (mut content, mut trailers, mut buffer) = (Vec::new(), None, BytesMut::new());
    for part in wire.chunks(step) {
        buffer.extend_from_slice(part);
        while let Some(frame) = decoder.next(&mut buffer)? {
            match frame.into_data() {
                Ok(data) => content.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    Ok((content, trailers, decoder.is_done(), buffer.len()))
}

#[test]
fn bodies_end_where_their_framing_says() {
    for (decoder, wire, content, done, left) in [
        (LENGTH, "hello", "hello", true, 0),
        (LENGTH, "hello, more", "hello", true, 6),
        (LENGTH, "hel", "hel", false, 0),
        (Decoder::of_length(0), "x", "", true, 1),
        (Decoder::UntilClose, "all of it", "all of it", false, 0),
        (CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello", true, 0),
        (CHUNKED, "5\r\nhello\r\n0\r\n\r\nHTTP", "hello", true, 4),
        (CHUNKED, "5;a=b\r\nhello\r\n1 \r\n!\r\n000\r\n\r\n", "hello!", true, 0),
        (CHUNKED, "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", true, 0),
        (CHUNKED, "5\r\nhello\r\n0\r\n", "hello", false, 0),
        (CHUNKED, "5\r\nhello", "hello", false, 0),
    ] {
        for step in [1, 2, 3, 7, 100] {
            let (got, trailers, over, unread) = read(decoder, wire.as_bytes(), step).unwrap();
            assert_eq!((got.as_slice(), trailers), (content.as_bytes(), None), "{wire:?} by {step}");
            assert_eq!(over, done, "{wire:?} by {step}");
            // The line of the last chunk may be looked at before it is taken.
            assert!(unread == left || !done, "{wire:?} by {step}: {unread}");
        }
    }
}

#[test]
fn trailers_come_last_and_may_not_change_the_message() {
    let wire = "1\r\nx\r\n0\r\ngrpc-status: 0\r\ncontent-length: 7\r\nX-A: b\r\n\r\n";
    for step in [1, 5, 100] {
        let (content, trailers, over, left) = read(CHUNKED, wire.as_bytes(), step).unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((content.as_slice(), over, left), (b"x".as_slice(), true, 0));
        assert_eq!(
            (trailers.len(), &trailers["grpc-status"], &trailers["x-a"]),
            (2, &"0".parse().unwrap(), &"b".parse().unwrap())
        );
    }
    let mut decoder = CHUNKED;
    let mut buffer = BytesMut::from("0\r\nhost: a\r\n\r\n");
    assert!(decoder.next(&mut buffer).unwrap().is_none() && decoder.is_done(), "none that may be told");
}

#[test]
fn what_is_not_framed_as_the_rfc_says_is_refused() {
    for wire in [
        "\r\nhello",
        "x\r\nhello",
        "-1\r\nh",
        "+5\r\nhello",
        "0x5\r\nhello",
        "5\nhello\n",
        "5\r\nhello!\r\n",
        "5\r\nhelloX",
        "fffffffffffffffff\r\nx",
        "\n",
        " 5\r\nhello",
        "0\r\nno field\r\n\r\n",
        "5;\u{e9}\nhello",
    ] {
        assert!(read(CHUNKED, wire.as_bytes(), 100).is_err(), "{wire:?}");
        // It stays so, whatever stands behind it: a body that is not understood has no end.
        let (mut decoder, mut buffer) = (CHUNKED, BytesMut::from(wire));
        let error = std::iter::repeat_with(|| decoder.next(&mut buffer)).find_map(Result::err);
        buffer.extend_from_slice(b"\r\n0\r\n\r\n");
        assert_eq!(decoder.next(&mut buffer).err(), error, "{wire:?}");
        assert!(!decoder.is_done() && decoder.size_hint().exact().is_none(), "{wire:?}");
    }
    let endless = vec![b'1'; SIZE_LINE_BYTES_MAX + 2];
    assert!(read(CHUNKED, &endless, 100).is_err(), "a size has a bound");
    let endless = [b"5;".as_slice(), &[b'a'; SIZE_LINE_BYTES_MAX], b"\r\nhello"].concat();
    assert!(read(CHUNKED, &endless, 5000).is_err(), "and so has its extension");
}

#[test]
fn a_close_ends_only_what_nothing_else_ends() {
    for (mut decoder, whole) in [(Decoder::UntilClose, true), (Decoder::Done, true), (LENGTH, false), (CHUNKED, false)]
    {
        assert_eq!(decoder.close(), whole);
        assert!(decoder.is_done());
    }
}

#[test]
fn a_body_is_neither_longer_nor_shorter_than_announced() {
    let (five, six) = (Bytes::from_static(b"hello"), Bytes::from_static(b"hello!"));
    let mut out = Vec::new();
    assert!(Encoder::Length(5).content(&six, &mut out).is_err());
    assert!(Encoder::Length(6).end(None, &mut out).is_err());
    let mut exact = Encoder::Length(5);
    assert_eq!(exact.content(&five, &mut out), Ok(b"".as_slice()));
    assert!(exact.is_done() && exact.content(&five, &mut out).is_err());
    assert!(out.is_empty());
}

proptest! {
    /// Whatever is sent in chunks is read as it was, however it is cut.
    #[test]
    fn chunks_come_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8), step in 1_usize..400) {
        let (mut encoder, mut wire) = (Encoder::Chunked, Vec::new());
        for part in &parts {
            let part = Bytes::copy_from_slice(part);
            let behind = encoder.content(&part, &mut wire).unwrap();
            wire.extend_from_slice(&part);
            wire.extend_from_slice(behind);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert(HOST, "evil".parse().unwrap());
        encoder.end(Some(&trailers), &mut wire).unwrap();
        let (content, told, over, left) = read(CHUNKED, &wire, step).unwrap();
        prop_assert_eq!(content, parts.concat());
        prop_assert_eq!(told.map(|told| told.len()), Some(1));
        prop_assert!(over && left == 0);
    }

    /// Arbitrary bytes are content or an error, never a panic, and never more content than came.
    #[test]
    fn anything_is_survived(wire in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), any::<u8>()], 0..200), step in 1_usize..50) {
        if let Ok((content, ..)) = read(CHUNKED, &wire, step) {
            prop_assert!(content.len() <= wire.len());
        }
    }
}
