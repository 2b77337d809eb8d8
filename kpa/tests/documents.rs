//! The examples in the documents mean what the text around them says.
//!
//! Invariant: an example is read by the code that reads the real thing.

use domain::report::{Ack, FRAME_MEDIA_TYPE, FRAME_VERSION, Frame};
use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The contents of the fenced blocks of a document that are JSON.
fn json_blocks(text: &str) -> Vec<&str> {
    text.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn the_frame_and_the_answer_of_the_wire_format_are_read_and_written_as_shown() {
    let text = document("frames.md");
    assert!(text.contains(FRAME_MEDIA_TYPE), "the media type is {FRAME_MEDIA_TYPE}");
    let blocks = json_blocks(&text);
    let [frame, ack] = blocks.as_slice() else { panic!("expected a frame and an answer, found {}", blocks.len()) };

    let read: Frame = serde_json::from_str(frame).unwrap();
    assert_eq!(read.v, FRAME_VERSION);
    assert_eq!(serde_json::to_string(&read).unwrap(), *frame);
    let read: Ack = serde_json::from_str(ack).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), *ack);
}

#[test]
fn the_limits_of_the_wire_format_are_those_of_the_code() {
    use domain::report::{FRAME_BYTES_MAX, FRAME_ROWS_MAX, REPORTERS_MAX};
    let text = document("frames.md");
    let row = |what: &str| text.lines().find(|line| line.starts_with(&format!("| {what} |"))).unwrap_or_default();
    assert!(row("frame").contains(&format!("{} MiB", FRAME_BYTES_MAX >> 20)), "{}", row("frame"));
    assert!(row("rows in a frame").replace(' ', "").contains(&FRAME_ROWS_MAX.to_string()));
    assert!(row("reporters").contains(&REPORTERS_MAX.to_string()));
    assert!(row("one exchange").contains(&format!("{} ms", activator::reporter::post::POST_LIMIT.as_millis())));
}

#[test]
fn every_refusal_of_a_frame_is_documented() {
    let text = document("metrics.md");
    let row = text.lines().find(|line| line.contains("`autoscaler_frames_refused_total`")).unwrap();
    for code in autoscaler::ingest::IngestError::CODES {
        assert!(row.contains(&format!("`{code}`")), "{code} is missing in: {row}");
    }
}

#[test]
fn every_way_a_request_can_end_is_documented() {
    let text = document("metrics.md");
    for outcome in activator::error::Outcome::ALL {
        assert!(text.contains(&format!("`{}`", outcome.label())), "{}", outcome.label());
    }
}
