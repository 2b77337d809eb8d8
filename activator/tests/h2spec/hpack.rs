//! Compressed heads that a decoder must refuse (RFC 7541, RFC 9113 section 4.3).

use crate::case::Then::{GoAway, Status};
use crate::case::{Case, ONE_CODE, Then, all, case};
use crate::frames::*;

/// A head, with these bytes after its fields.
fn with(section: &'static str, what: &'static str, bytes: &[u8], then: Then) -> Case {
    let block = [&block(&head("GET", "/"))[..], bytes].concat();
    case(section, what, &[frame(HEADERS, WHOLE, 1, &block)], then)
}

/// The same before them.
fn before(section: &'static str, what: &'static str, bytes: &[u8], then: Then) -> Case {
    let block = [bytes, &block(&head("GET", "/"))[..]].concat();
    case(section, what, &[frame(HEADERS, WHOLE, 1, &block)], then)
}

#[tokio::test]
async fn what_no_decoder_can_read_ends_the_connection() {
    const USUAL: Then = GoAway(COMPRESSION_ERROR);
    const WRONG: Then = GoAway(PROTOCOL_ERROR);
    all(vec![
        with("2.3.3 of RFC 7541", "an index beyond both tables", &[0xc6], WRONG).not(USUAL, ONE_CODE),
        with("2.3.3 of RFC 7541", "the name of such an index", &[0x7f, 0x20, 1, b'x'], WRONG).not(USUAL, ONE_CODE),
        with("6.1 of RFC 7541", "index 0", &[0x80], WRONG).not(USUAL, ONE_CODE),
        with("5.1 of RFC 7541", "a number without an end", &[0xff; 12], WRONG).not(USUAL, ONE_CODE),
        with("5.2 of RFC 7541", "a string longer than the head", &[0, 1, b'x', 0x20, b'y'], WRONG).not(USUAL, ONE_CODE),
        with("5.2 of RFC 7541", "Huffman, padded with more than seven bits", &[0, 1, b'x', 0x82, 0x1f, 0xff], WRONG)
            .not(USUAL, ONE_CODE),
        with("5.2 of RFC 7541", "Huffman, padded with zeros", &[0, 1, b'x', 0x81, 0x18], WRONG).not(USUAL, ONE_CODE),
        with("5.2 of RFC 7541", "Huffman, with the end of strings", &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff], WRONG)
            .not(USUAL, ONE_CODE),
        with("4.2 of RFC 7541", "a size of the table at the end", &[0x20], WRONG).not(USUAL, ONE_CODE),
        before("4.2 of RFC 7541", "a size of the table at the beginning", &[0x20], Status(200)),
        before("4.2 of RFC 7541", "two of them", &[0x20, 0x3f, 0x01], Status(200)),
        before("6.3 of RFC 7541", "a size beyond ours", &[0x3f, 0xe2, 0x1f], WRONG).not(USUAL, ONE_CODE),
        before("4.3", "an index in several bytes that ends with the head", &[0xff], WRONG).not(USUAL, ONE_CODE),
    ])
    .await;
}
