use super::*;
use crate::event::FrameHeader;
use crate::window::Sample;
use domain::report::FRAME_ROWS_MAX;
use domain::{Millis, RequestMillis, Row};
use proptest::prelude::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn model() -> RevisionId {
    RevisionId::new("default", "model")
}

/// A regular frame of `tick` with one row.
fn frame(tick: u64, area: u64, requests: u64, in_flight: u32) -> FrameChunk {
    FrameChunk {
        header: FrameHeader {
            reporter: ReporterId::new("a"),
            boot: 1,
            tick,
            seq: tick * 10,
            at: Millis(tick * 1000),
            leaving: false,
            draining: false,
            sharing: None,
            urgent: false,
            complete: false,
        },
        rows: vec![Row { n: 0, area: RequestMillis(area), requests, in_flight, ..Row::default() }],
        names: vec![(0, model())],
        last: true,
    }
}

fn empty(tick: u64) -> FrameChunk {
    FrameChunk { rows: Vec::new(), ..frame(tick, 0, 0, 0) }
}

fn of(reporter: &str, chunk: FrameChunk) -> FrameChunk {
    FrameChunk { header: FrameHeader { reporter: ReporterId::new(reporter), ..chunk.header }, ..chunk }
}

fn urgent(chunk: FrameChunk) -> FrameChunk {
    FrameChunk { header: FrameHeader { urgent: true, seq: chunk.header.seq + 1, ..chunk.header }, ..chunk }
}

fn complete(chunk: FrameChunk) -> FrameChunk {
    FrameChunk { header: FrameHeader { complete: true, ..chunk.header }, ..chunk }
}

fn boot(boot: u64, chunk: FrameChunk) -> FrameChunk {
    FrameChunk { header: FrameHeader { boot, ..chunk.header }, ..chunk }
}

fn take(reporters: &mut Reporters, millis: u64, chunk: FrameChunk) -> Vec<Sample> {
    let mut effects = Vec::new();
    reporters.accept(at(millis), chunk, &mut effects).unwrap();
    effects.into_iter().filter_map(|effect| effect.span).flat_map(Span::samples).collect()
}

fn sample(second: u64, concurrency: f64, requests: f64) -> Sample {
    Sample { second, concurrency, requests }
}

#[test]
fn a_new_life_counts_from_zero() {
    let mut reporters = Reporters::new(at(0));
    assert_eq!(take(&mut reporters, 5_200, frame(1, 500, 3, 1)), [sample(5, 0.5, 3.0)]);
    assert_eq!(take(&mut reporters, 6_900, frame(2, 1500, 3, 1)), [sample(6, 1.0, 0.0)], "by number, not by arrival");
    assert_eq!(reporters.close(at(6_900)), 6);
}

#[test]
fn a_gap_is_filled_evenly() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 5_200, frame(1, 0, 0, 0));
    let late = take(&mut reporters, 8_200, frame(4, 6000, 9, 2));
    assert_eq!(late, [sample(6, 2.0, 3.0), sample(7, 2.0, 3.0), sample(8, 2.0, 3.0)]);
}

#[test]
fn a_row_left_out_is_measured_from_the_frame_that_left_it_out() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1000, 1, 0));
    take(&mut reporters, 2_000, empty(2));
    take(&mut reporters, 3_000, empty(3));
    assert_eq!(take(&mut reporters, 4_000, frame(4, 2000, 2, 1)), [sample(4, 1.0, 1.0)]);
}

#[test]
fn a_row_left_out_is_idle_and_an_urgent_frame_makes_no_sample() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1000, 1, 3));
    assert_eq!(reporters.load(at(1_000), &model()).total(), 3);
    assert_eq!(take(&mut reporters, 1_500, urgent(frame(1, 3000, 9, 50))), []);
    assert_eq!(reporters.load(at(1_500), &model()).total(), 50);
    assert_eq!(take(&mut reporters, 2_000, frame(2, 4000, 9, 0)), [sample(2, 3.0, 8.0)]);
    take(&mut reporters, 2_100, urgent(frame(2, 4000, 9, 4)));
    take(&mut reporters, 3_000, empty(3));
    assert_eq!(reporters.load(at(3_000), &model()).total(), 0);
}

#[test]
fn an_urgent_frame_may_overtake_a_regular_one() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 0, 0, 0));
    let mut ahead = urgent(frame(2, 100, 8, 8));
    ahead.header.seq = 30;
    take(&mut reporters, 2_000, ahead);
    assert_eq!(take(&mut reporters, 2_010, frame(2, 0, 0, 0)), [sample(2, 0.0, 0.0)]);
    assert_eq!(reporters.load(at(2_010), &model()).total(), 8, "the newer word stands");
}

#[test]
fn a_life_that_was_running_begins_at_its_first_frame() {
    let mut reporters = Reporters::new(at(0));
    assert_eq!(take(&mut reporters, 9_000, frame(500, 1_000_000, 900, 4)), []);
    assert_eq!(reporters.load(at(9_000), &model()).total(), 4, "visible within one frame");
    assert!(reporters.wants_resync(&ReporterId::new("a")));
    assert_eq!(reporters.covered_from(at(9_000)), 9);
    assert_eq!(take(&mut reporters, 10_000, complete(frame(501, 1_004_000, 902, 4))), [sample(10, 4.0, 2.0)]);
    assert!(!reporters.wants_resync(&ReporterId::new("a")));
}

#[test]
fn another_boot_starts_anew_in_a_later_second() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1000, 1, 7));
    take(&mut reporters, 2_000, frame(2, 2000, 2, 7));
    assert_eq!(take(&mut reporters, 2_900, boot(2, frame(1, 300, 1, 1))), [sample(3, 0.3, 1.0)]);
    assert_eq!(reporters.load(at(2_900), &model()).total(), 1, "the old life counts as zero");
    let mut effects = Vec::new();
    let old = reporters.accept(at(2_950), frame(3, 3000, 3, 7), &mut effects);
    assert_eq!(old, Err(Refused::Late));
}

#[test]
fn readings_never_go_back_within_a_life() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1000, 5, 0));
    let mut effects = Vec::new();
    let mut back = frame(2, 900, 5, 0);
    assert_eq!(reporters.accept(at(2_000), back.clone(), &mut effects), Err(Refused::WentBack));
    back.header.tick = 1;
    back.header.seq = 99;
    assert_eq!(reporters.accept(at(3_000), back, &mut effects), Err(Refused::WentBack));
    let spans: Vec<_> = effects.iter().filter_map(|effect| effect.span).collect();
    assert_eq!(spans, [Span { first: 2, last: 2, concurrency: 1.0, requests: 5.0 }], "the last good value stands");
    assert_eq!(reporters.refused(), 2);
    assert_eq!(reporters.doubts().0, 0);
}

#[test]
fn a_wrong_reading_makes_no_sample_and_says_whose_it_is() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 2_000, 4, 2));
    let mut effects = Vec::new();
    let wrong = reporters.accept(at(2_000), frame(2, 4_000_000, 5, 3), &mut effects);
    assert_eq!(wrong, Err(Refused::TooMuch));
    let span = effects[0].span.unwrap();
    assert_eq!((span.concurrency, span.requests), (2.0, 4.0), "what was measured last");
    assert!(effects[0].active);
    assert_eq!(reporters.load(at(2_000), &model()).total(), 3, "what is there now is another matter");
    let (count, doubt) = reporters.doubts();
    let most = (2 + 1) * (1000 + SLACK_MS) + (3 + 1) * SLACK_MS;
    let expected = Doubt { reporter: ReporterId::new("a"), revision: model(), area: 3_998_000, most };
    assert_eq!((count, doubt), (1, Some(&expected)));
    assert_eq!(take(&mut reporters, 3_000, frame(3, 8_000, 6, 3)), [sample(3, 3.0, 1.0)], "nothing of it is left");
    assert_eq!((reporters.doubts().0, reporters.refused()), (1, 1));
}

#[test]
fn where_nothing_was_a_wrong_reading_wakes_nobody() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1_000, 1, 0));
    take(&mut reporters, 2_000, empty(2));
    let mut effects = Vec::new();
    assert!(reporters.accept(at(3_000), frame(3, 900_000, 1, 0), &mut effects).is_err());
    assert_eq!((effects[0].span.unwrap().concurrency, effects[0].active), (0.0, false));
}

#[test]
fn unknown_numbers_ask_for_everything_again() {
    let mut reporters = Reporters::new(at(0));
    let nameless = FrameChunk { names: Vec::new(), ..frame(1, 1000, 1, 1) };
    assert_eq!(take(&mut reporters, 1_000, nameless), []);
    assert!(reporters.wants_resync(&ReporterId::new("a")));
    assert_eq!(take(&mut reporters, 2_000, complete(frame(2, 9000, 1, 1))), [sample(2, 0.0, 0.0)], "no spike");
    assert!(!reporters.wants_resync(&ReporterId::new("a")));
}

#[test]
fn more_names_than_there_can_be_are_refused_and_counted() {
    let mut reporters = Reporters::new(at(0));
    let most = u32::try_from(2 * FRAME_ROWS_MAX).unwrap();
    let naming = |tick, numbers: std::ops::Range<u32>| {
        let names = numbers.map(|n| (n, model())).collect();
        FrameChunk { names, ..frame(tick, 0, 0, 0) }
    };
    take(&mut reporters, 1_000, naming(1, 0..most));
    let refused = reporters.accept(at(2_000), naming(2, most..most + 1), &mut Vec::new());
    assert_eq!((refused, reporters.refused()), (Err(Refused::TooManyNames), 1));
    take(&mut reporters, 3_000, naming(3, 0..0));
}

#[test]
fn seconds_close_when_all_have_delivered_or_after_two_and_a_half() {
    let mut reporters = Reporters::new(at(0));
    reporters.list(at(0), vec![ReporterId::new("a"), ReporterId::new("b")]);
    take(&mut reporters, 5_100, frame(1, 0, 0, 0));
    take(&mut reporters, 5_600, of("b", frame(1, 0, 0, 0)));
    take(&mut reporters, 6_100, frame(2, 0, 0, 0));
    assert_eq!(reporters.close(at(6_200)), 5, "b has not delivered second 6 yet");
    take(&mut reporters, 6_600, of("b", frame(2, 0, 0, 0)));
    assert_eq!(reporters.close(at(6_600)), 6);
    for tick in 3..7 {
        take(&mut reporters, 4_100 + tick * 1000, frame(tick, 0, 0, 0));
    }
    assert_eq!(reporters.close(at(9_000)), 6, "b is late");
    assert_eq!(reporters.close(at(10_200)), 10, "b is silent: the second closes without it");
}

#[test]
fn a_silent_reporter_matters_for_what_it_carried() {
    let mut reporters = Reporters::new(at(0));
    let window = Duration::from_secs(6);
    assert_eq!(reporters.coverage(at(0), &model(), window), Coverage::NoReporters);
    reporters.list(at(0), vec![ReporterId::new("a")]);
    let silent = |since| Coverage::Partial { reporter: ReporterId::new("a"), since };
    assert_eq!(reporters.coverage(at(0), &model(), window), silent(None), "listed and never heard");
    take(&mut reporters, 1_000, frame(1, 500, 1, 1));
    assert_eq!(reporters.coverage(at(1_000), &model(), window), Coverage::Full);
    assert_eq!(reporters.coverage(at(9_000), &model(), window), silent(Some(at(1_000))));
    let other = RevisionId::new("default", "other");
    assert_eq!(reporters.coverage(at(9_000), &other, window), Coverage::Full);
    assert_eq!(reporters.load(at(9_000), &model()).total(), 1, "its last word stands while it is listed");
    reporters.list(at(9_000), vec![ReporterId::new("b")]);
    assert_eq!(reporters.load(at(9_000), &model()).total(), 0, "no longer listed counts as zero");
}

#[test]
fn the_last_word_is_taken_between_two_ticks() {
    let mut reporters = Reporters::new(at(0));
    take(&mut reporters, 1_000, frame(1, 1000, 1, 1));
    let mut last = frame(1, 1200, 4, 0);
    (last.header.leaving, last.header.seq, last.header.at) = (true, 11, Millis(1_400));
    assert_eq!(take(&mut reporters, 1_400, last), [sample(2, 0.5, 3.0)], "every request is in a sample");
    reporters.list(at(1_400), vec![ReporterId::new("a")]);
    assert_eq!(reporters.coverage(at(60_000), &model(), Duration::from_secs(60)), Coverage::Full);
    assert_eq!(reporters.load(at(1_400), &model()).total(), 0);
}

#[test]
fn one_that_said_leaving_counts_as_zero() {
    let mut reporters = Reporters::new(at(0));
    reporters.list(at(0), vec![ReporterId::new("a")]);
    let mut last = frame(1, 500, 1, 3);
    last.header.leaving = true;
    take(&mut reporters, 1_000, last);
    assert_eq!(reporters.load(at(1_000), &model()).total(), 0);
    assert_eq!(reporters.coverage(at(60_000), &model(), Duration::from_secs(6)), Coverage::Full);
}

#[test]
fn draining_needs_the_word_of_every_live_reporter() {
    let mut reporters = Reporters::new(at(0));
    let replica = EndpointId::new("r-1");
    let with = |tick, drained: &[&EndpointId], load: &[(&EndpointId, u32)]| {
        let mut frame = frame(tick, tick * 1000, 1, 1);
        frame.rows[0].drained = drained.iter().map(|id| (*id).clone()).collect();
        frame.rows[0].endpoints = load.iter().map(|(id, load)| ((*id).clone(), *load)).collect();
        frame
    };
    take(&mut reporters, 1_000, with(1, &[&replica], &[(&replica, 2)]));
    take(&mut reporters, 1_000, of("b", with(1, &[], &[])));
    assert!(!reporters.drained(at(1_000), &model(), &replica));
    assert_eq!(reporters.load_on(at(1_000), &model(), &replica), None, "b has not said where its requests are");
    take(&mut reporters, 2_000, with(2, &[&replica], &[(&replica, 2)]));
    take(&mut reporters, 2_000, of("b", with(2, &[&replica], &[(&EndpointId::new("r-2"), 1)])));
    assert!(reporters.drained(at(2_000), &model(), &replica));
    assert_eq!(reporters.load_on(at(2_000), &model(), &replica), Some(2));
}

#[test]
fn clocks_that_drift_apart_are_followed_without_a_double_second() {
    let mut reporters = Reporters::new(at(0));
    let mut seconds = Vec::new();
    let mut requests = 0.0;
    // The reporter's clock is 10 % slow, then 10 % fast.
    let mut now = 1_000;
    for tick in 1..=300 {
        now += if tick < 150 { 1_100 } else { 900 };
        for sample in take(&mut reporters, now, frame(tick, 0, tick * 2, 0)) {
            seconds.push(sample.second);
            requests += sample.requests;
        }
    }
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "each second once: {seconds:?}");
    let off = (now / 1000).abs_diff(*seconds.last().unwrap());
    assert!(off <= 16, "{off}");
    assert!((requests - 600.0).abs() < 3.0, "{requests}");
}

proptest! {
    /// Whatever is lost and however late the rest, the samples hold the requests and the area that were counted, and
    /// each second once.
    #[test]
    fn the_sum_over_the_seconds_equals_what_was_counted(
        steps in prop::collection::vec((0_u64..4000, 0_u64..50, prop::bool::weighted(0.7), 0_u64..900), 1..60),
    ) {
        let mut reporters = Reporters::new(at(0));
        let (mut area, mut requests) = (0, 4);
        let (mut sampled_area, mut sampled_requests) = (0.0, 0.0);
        let mut seconds = Vec::new();
        let count = steps.len() as u64;
        for (tick, (more, arrivals, arrives, jitter)) in (1_u64..).zip(steps) {
            area += more;
            requests += arrivals;
            if !(arrives || tick == 1 || tick == count) {
                continue;
            }
            // Four are always there, or there would be more area than they can have made.
            for sample in take(&mut reporters, 10_000 + tick * 1000 + jitter, frame(tick, area, requests, 4)) {
                sampled_area += sample.concurrency * 1000.0;
                sampled_requests += sample.requests;
                seconds.push(sample.second);
            }
        }
        prop_assert!((sampled_requests - requests as f64).abs() < 1e-6, "{} {}", sampled_requests, requests);
        prop_assert!((sampled_area - area as f64).abs() < 1e-3, "{} {}", sampled_area, area);
        prop_assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
}

fn going_by(members: &[&str], chunk: FrameChunk) -> FrameChunk {
    let members: Vec<_> = members.iter().map(|member| ReporterId::new(member)).collect();
    let sharing = Some(domain::Sharing::fingerprint(&members));
    FrameChunk { header: FrameHeader { sharing, ..chunk.header }, ..chunk }
}

#[test]
fn what_is_shared_is_settled_when_everybody_goes_by_it() {
    fn shown(reporters: &mut Reporters, millis: u64) -> Option<(String, bool, usize)> {
        let sharing = reporters.sharing(at(millis))?;
        let members: Vec<_> = sharing.members.iter().map(ReporterId::as_str).collect();
        Some((members.join(" "), sharing.settled, sharing.held.len()))
    }
    let told = |members: &str, settled, held| Some((members.to_owned(), settled, held));
    let mut reporters = Reporters::new(at(0));
    let name = ReporterId::new;
    reporters.list(at(0), vec![name("a"), name("b")]);
    take(&mut reporters, 1_000, frame(1, 0, 0, 0));
    assert_eq!(shown(&mut reporters, 1_000), None, "b was never heard, and may have requests");
    take(&mut reporters, 1_000, of("b", frame(1, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 1_000), told("a b", false, 0));
    take(&mut reporters, 2_000, going_by(&["a", "b"], frame(2, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 2_000), told("a b", false, 0));
    take(&mut reporters, 2_000, going_by(&["a", "b"], of("b", frame(2, 0, 0, 0))));
    assert_eq!(shown(&mut reporters, 2_000), told("a b", true, 0));

    let mut leaves = going_by(&["a", "b"], of("b", frame(3, 0, 0, 0)));
    leaves.header.draining = true;
    leaves.rows[0].held = vec![EndpointId::new("r-1")];
    take(&mut reporters, 3_000, leaves);
    take(&mut reporters, 3_000, going_by(&["a", "b"], frame(3, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 3_000), told("a", false, 1), "what it still uses is nobody else's");
    // The row is left out while nothing changes, and still stands.
    let mut without = going_by(&["a"], of("b", empty(4)));
    without.header.draining = true;
    take(&mut reporters, 4_000, without);
    take(&mut reporters, 4_000, going_by(&["a"], frame(4, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 4_000), told("a", true, 1));
    // Listed and silent: it may only be cut off from us.
    take(&mut reporters, 13_000, going_by(&["a"], frame(13, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 14_000), told("a", true, 1));
    assert_eq!(shown(&mut reporters, 14_001), told("a", true, 0));

    let mut last = going_by(&["a"], frame(14, 0, 0, 0));
    last.header.draining = true;
    take(&mut reporters, 14_000, last);
    assert_eq!(shown(&mut reporters, 14_001), told("a", true, 0), "where everybody leaves, the last one serves");
    // One that is listed and never speaks is waited for in vain only for a while.
    reporters.list(at(15_000), vec![name("a"), name("c")]);
    assert_eq!(shown(&mut reporters, 16_000), None);
    assert_eq!(shown(&mut reporters, 16_000), None);
    take(&mut reporters, 25_000, going_by(&["a"], frame(25, 0, 0, 0)));
    assert_eq!(shown(&mut reporters, 25_001), told("a", true, 0));
}
