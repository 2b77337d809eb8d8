//! Frames as no activator writes them: a small corpus, damaged in every way that is cheap, the same on every run.

use super::*;
use crate::testing::{get, model};

/// Every shape of frame that our own activators send.
fn corpus() -> Vec<Vec<u8>> {
    let full = Row {
        endpoints: vec![(domain::EndpointId::new("r-1"), 2)],
        drained: vec![domain::EndpointId::new("r-2")],
        ..row(3, 2, 1)
    };
    [
        frame("a-1", 3, vec![full]),
        frame("a-1", 4, vec![]),
        Frame { urgent: true, names: vec![], ..frame("a-1", 5, vec![row(5, 0, 900)]) },
        Frame { leaving: true, complete: false, ..frame("a-2", 6, vec![row(6, 1, 0)]) },
    ]
    .iter()
    .map(encoded)
    .collect()
}

/// A generator of its own, so that a failure is found again by its number (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// Things that break parsers.
const PIECES: &[&str] = &[
    "",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "\\",
    "-1",
    "1e999",
    "0.5",
    "18446744073709551616",
    "18446744073709551615",
    "4294967295",
    "null",
    "true",
    "NaN",
    "\u{0}",
    "\u{fffd}",
    "\"v\":2,",
    "\"v\":1,",
    "\"default/other\"",
    "\"/\"",
    "[[[[[[[[",
    "\\ud800",
    "\"rows\":[],",
    "\"leaving\":true,",
];

/// `seed`'s way of damaging a frame: one to three changes.
fn damaged(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut bytes = corpus[dice.roll(corpus.len())].clone();
    for _ in 0..=dice.roll(3) {
        let (at, to) = (dice.roll(bytes.len()), dice.roll(bytes.len()));
        let (from, until) = (at.min(to), at.max(to));
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(from..until.min(from + 8))),
            2 => {
                let piece = PIECES[dice.roll(PIECES.len())];
                drop(bytes.splice(at..at, piece.bytes()));
            }
            3 if !bytes.is_empty() => bytes[at] = dice.roll(256) as u8,
            4 => {
                let again = bytes[from..until].to_vec();
                drop(bytes.splice(from..from, again));
            }
            _ if !bytes.is_empty() => bytes.swap(at, to),
            _ => {}
        }
    }
    bytes
}

#[test]
fn no_bytes_can_make_the_parser_panic_or_leave_its_bounds() {
    let corpus = corpus();
    let mut taken = 0;
    for seed in 0..20_000 {
        let bytes = damaged(&corpus, seed);
        if let Ok(frame) = parse(&bytes) {
            taken += 1;
            assert_eq!(frame.v, FRAME_VERSION, "seed {seed}");
            assert!((1..=REPORTER_NAME_MAX).contains(&frame.reporter.as_str().len()), "seed {seed}");
            assert!(frame.rows.len() <= FRAME_ROWS_MAX, "seed {seed}");
        }
    }
    // Both ways are walked: a generator that only makes rubbish tests nothing.
    assert!((500..19_500).contains(&taken), "{taken} of 20000 were frames");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_changes_nothing() {
    let running = start(platform(), None).await;
    send(&running.router, &frame("a-1", 3, vec![row(3, 2, 1)])).await;
    let path = format!("/v1/revisions/{}", model());
    let seen = |status: &serde_json::Value| (status["inFlight"].clone(), status["queued"].clone());
    let before = seen(&get(&running.router, &path).await.1);
    assert_eq!(before, (2.into(), 1.into()), "the last good frame is in force");
    let corpus = corpus();
    let refused = (0..600).map(|seed| damaged(&corpus, seed)).filter(|bytes| parse(bytes).is_err());
    let mut count = 0;
    for bytes in refused {
        let (status, body) = call(&running.router, post(bytes)).await;
        assert!(status.is_client_error(), "{status} {}", String::from_utf8_lossy(&body));
        count += 1;
    }
    assert!(count > 100, "{count}");
    assert_eq!(seen(&get(&running.router, &path).await.1), before, "and stays in force");
}

#[tokio::test(start_paused = true)]
async fn no_frame_that_is_taken_can_stop_the_loop() {
    let running = start(platform(), None).await;
    let corpus = corpus();
    for bytes in (0..2000).map(|seed| damaged(&corpus, seed)).filter(|bytes| parse(bytes).is_ok()) {
        let (status, _) = call(&running.router, post(bytes)).await;
        assert!(matches!(status, StatusCode::OK | StatusCode::TOO_MANY_REQUESTS), "{status}");
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    let ack = send(&running.router, &frame("a-9", 9, vec![row(9, 1, 0)])).await;
    assert_eq!(ack.seq, 9);
    assert!(!running.tasks.failed().is_cancelled());
}
