use super::*;
use platform::leadership::CALL_TIMEOUT;

mod interleaving;

const LEASE: u64 = 15_000;
const WALL: WallMicros = 1_700_000_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A candidate, and a record that answers at once unless it is told not to.
struct Bench {
    candidate: Candidate,
    now: u64,
    version: u64,
    stored: Option<Record>,
}

fn bench() -> Bench {
    Bench { candidate: Candidate::new("a_1", Settings::default()), now: 0, version: 0, stored: None }
}

fn held(holder: &str, renewed: WallMicros) -> Record {
    let held_for = Duration::from_secs(15);
    Record { holder: holder.into(), held_for, acquired: 0, renewed, transitions: 4 }
}

impl Bench {
    fn step(&mut self) -> Step {
        self.candidate.next(at(self.now), WALL)
    }

    fn store(&mut self, record: Option<Record>) {
        self.version += 1;
        self.stored = record;
    }

    fn stored(&self) -> Option<(Version, Record)> {
        self.stored.clone().map(|record| (Version(self.version.to_string()), record))
    }

    fn read(&self) -> Answer {
        self.stored().map_or(Answer::Absent, |(version, record)| Answer::Stored(version, record))
    }

    /// What the record answers to a step that is a call.
    fn carry_out(&mut self, step: &Step) -> Option<(Ticket, Answer)> {
        match step {
            Step::Read(ticket) => Some((*ticket, self.read())),
            Step::Write { ticket, over, record, .. } => {
                let current = self.stored().map(|(version, _)| version);
                let answer = match (over, &current) {
                    (Some(_), None) => Answer::Absent,
                    (over, current) if over == current => {
                        self.store(Some(record.clone()));
                        self.read()
                    }
                    (_, _) => Answer::Conflict,
                };
                Some((*ticket, answer))
            }
            Step::Lost(_) | Step::Wait(_) | Step::Done => None,
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) -> Option<News> {
        self.candidate.answered(at(self.now), ticket, answer)
    }

    /// Runs until `millis`, every call answered at once: what happened, and when.
    fn until(&mut self, millis: u64) -> Vec<(u64, News)> {
        let mut news = Vec::new();
        loop {
            let step = self.step();
            if let Some((ticket, answer)) = self.carry_out(&step) {
                let now = self.now;
                news.extend(self.answer(ticket, answer).map(|what| (now, what)));
                continue;
            }
            match step {
                Step::Lost(loss) => news.push((self.now, News::Lost(loss))),
                Step::Wait(Some(until)) if until.as_millis() < millis => self.now = until.as_millis().max(self.now + 1),
                Step::Wait(_) | Step::Done => {
                    self.now = millis;
                    return news;
                }
                Step::Read(_) | Step::Write { .. } => unreachable!("answered above"),
            }
        }
    }

    /// Runs until `millis` without any answer: each call ends unknown after its timeout.
    fn until_unanswered(&mut self, millis: u64) -> Vec<(u64, News)> {
        let (mut news, mut calls) = (Vec::new(), Vec::new());
        while self.now < millis {
            if let Some((ticket, _)) = calls.pop_if(|(_, sent)| self.now >= *sent + CALL_TIMEOUT.as_millis() as u64) {
                assert_eq!(self.answer(ticket, Answer::Unknown), None);
            }
            match self.step() {
                Step::Read(ticket) | Step::Write { ticket, .. } => calls.push((ticket, self.now)),
                Step::Lost(loss) => news.push((self.now, News::Lost(loss))),
                Step::Wait(_) | Step::Done => self.now += 10,
            }
        }
        news
    }

    /// Leads since 0, with a renewal every 2 s.
    fn leading() -> Self {
        let mut bench = bench();
        assert_eq!(bench.until(1), [(0, News::Leads(Gain::First))]);
        bench
    }
}

#[test]
fn where_there_is_no_record_the_first_one_leads_at_once() {
    let bench = Bench::leading();
    let record = bench.stored.clone().unwrap();
    assert_eq!((record.holder.as_str(), record.transitions), ("a_1", 0));
    assert_eq!((record.acquired, record.renewed), (WALL, WALL));
    assert_eq!(bench.candidate.leads_until(), Some(at(LEASE - 1000)));
}

#[test]
fn a_leader_renews_every_retry_period_and_no_two_renewals_look_alike() {
    let mut bench = Bench::leading();
    assert_eq!(bench.until(9000), []);
    assert_eq!(bench.version, 5, "stored at 0, 2, 4, 6 and 8 s");
    assert_eq!(bench.candidate.leads_until(), Some(at(8000 + LEASE - 1000)));
    let record = bench.stored.clone().unwrap();
    assert_eq!(
        (record.acquired, record.renewed, record.transitions),
        (WALL, WALL + 4, 0),
        "the wall clock stood still"
    );
}

#[test]
fn a_follower_takes_over_one_lease_after_the_last_change_that_it_saw() {
    let mut bench = bench();
    bench.store(Some(held("b_1", 1)));
    assert_eq!(bench.until(3000), [(0, News::Follows("b_1".into()))]);
    bench.store(Some(held("b_1", 2)));
    let told = bench.stored();
    assert_eq!(bench.candidate.told(at(3000), told), None);
    let gained = 3000 + LEASE;
    assert_eq!(bench.until(30_000), [(gained, News::Leads(Gain::Expired("b_1".into())))]);
    assert_eq!(bench.stored.clone().unwrap().transitions, 5);
}

/// The holder's clock may be wrong by hours: only what changes counts, and only by our own clock.
#[test]
fn the_times_in_the_record_are_not_compared_with_ours() {
    for renewed in [0, WALL - 1_000_000_000_000, WALL + 1_000_000_000_000, WallMicros::MAX, WallMicros::MIN] {
        let mut bench = bench();
        bench.store(Some(held("b_1", renewed)));
        let news = bench.until(30_000);
        assert_eq!(news.last(), Some(&(LEASE, News::Leads(Gain::Expired("b_1".into())))), "{renewed}");
    }
}

#[test]
fn a_record_that_claims_too_little_or_too_much_is_bounded() {
    for (claimed, takes) in [(0, LEASE), (1, LEASE), (60, 60_000), (1_000_000_000, 600_000)] {
        let mut bench = bench();
        bench.store(Some(Record { held_for: Duration::from_secs(claimed), ..held("b_1", 1) }));
        assert_eq!(bench.until(700_000).last().map(|news| news.0), Some(takes), "{claimed}");
    }
}

#[test]
fn labels_and_annotations_are_no_sign_of_life() {
    let mut bench = bench();
    bench.store(Some(held("b_1", 1)));
    for now in (1000..15_000).step_by(1000) {
        bench.until(now);
        let same = bench.stored.clone();
        bench.store(same);
        let told = bench.stored();
        assert_eq!(bench.candidate.told(at(now), told), None);
    }
    assert_eq!(bench.until(20_000), [(LEASE, News::Leads(Gain::Expired("b_1".into())))]);
}

#[test]
fn a_released_record_is_claimed_as_soon_as_it_is_seen() {
    let mut bench = bench();
    bench.store(Some(held("b_1", 1)));
    bench.until(5100);
    bench.store(Some(held("", 2)));
    let told = bench.stored();
    assert_eq!(bench.candidate.told(at(5100), told), None);
    assert_eq!(bench.until(5200), [(5100, News::Leads(Gain::Free))]);
}

#[test]
fn without_any_answer_leadership_ends_at_the_deadline_and_before_the_lease_does() {
    let mut bench = Bench::leading();
    bench.until(3000);
    let lost = News::Lost(Loss::NotRenewed { since: at(2000) });
    assert_eq!(bench.until_unanswered(40_000), [(12_000, lost)]);
    assert_eq!(bench.candidate.leads_until(), None);
}

/// The first thing after a long sleep is noticing; the answer that lay there all the time gives nothing back.
#[test]
fn after_a_pause_nobody_leads_without_a_renewal() {
    let mut bench = Bench::leading();
    bench.until(1999);
    bench.now = 2000;
    let step = bench.step();
    let (ticket, answer) = bench.carry_out(&step).unwrap();
    bench.now = 62_000;
    assert_eq!(bench.step(), Step::Lost(Loss::NotRenewed { since: at(0) }));
    assert_eq!(bench.answer(ticket, answer), None);
    assert_eq!(bench.candidate.leads_until(), None);
    // A new renewal, sent after waking, does.
    assert_eq!(bench.until(62_100), [(62_000, News::Leads(Gain::Free))]);
    assert_eq!(bench.candidate.leads_until(), Some(at(62_000 + LEASE - 1000)));
}

#[test]
fn a_late_success_counts_from_when_it_was_sent() {
    let mut bench = Bench::leading();
    bench.until(1999);
    bench.now = 2000;
    let step = bench.step();
    let (ticket, answer) = bench.carry_out(&step).unwrap();
    bench.now = 3900;
    assert_eq!(bench.answer(ticket, answer), None);
    assert_eq!(bench.candidate.leads_until(), Some(at(2000 + LEASE - 1000)));
}

#[test]
fn a_write_without_an_answer_extends_nothing_and_is_looked_at_first() {
    let mut bench = Bench::leading();
    bench.until(1999);
    bench.now = 2000;
    let step = bench.step();
    let (ticket, _) = bench.carry_out(&step).unwrap();
    bench.now = 4000;
    assert_eq!(bench.answer(ticket, Answer::Unknown), None);
    assert_eq!(bench.candidate.leads_until(), Some(at(LEASE - 1000)));
    let step = bench.step();
    assert!(matches!(step, Step::Read(_)), "{step:?}");
    let (ticket, answer) = bench.carry_out(&step).unwrap();
    assert_eq!(bench.answer(ticket, answer), None);
    assert_eq!(bench.candidate.leads_until(), Some(at(LEASE - 1000)), "that it was stored proves nothing about now");
    assert!(matches!(bench.step(), Step::Write { purpose: Purpose::Renew, .. }), "and then renewed at once");
}

#[test]
fn another_writer_ends_leadership_at_once() {
    let mut conflict = Bench::leading();
    conflict.store(Some(held("b_1", 1)));
    assert_eq!(conflict.until(3000), [(2000, News::Lost(Loss::Conflict)), (3000, News::Follows("b_1".into()))][..1]);

    let mut told = Bench::leading();
    told.store(Some(held("b_1", 1)));
    let stored = told.stored();
    assert_eq!(told.candidate.told(at(1), stored), Some(News::Lost(Loss::Taken("b_1".into()))));
    assert_eq!(told.candidate.leads_until(), None);
}

/// Somebody who labels the object makes a renewal fail. That is a short gap, not a lost election.
#[test]
fn a_conflict_over_our_own_record_is_mended_within_one_retry() {
    let mut bench = Bench::leading();
    let same = bench.stored.clone();
    bench.store(same);
    let news = bench.until(10_000);
    let [(lost, News::Lost(Loss::Conflict)), (gained, News::Leads(Gain::Free))] = news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(lost, 2000);
    assert!(gained - lost <= 2000, "{gained}");
}

#[test]
fn a_deleted_record_ends_leadership_and_a_follower_leaves_its_time_to_the_holder() {
    let mut leader = Bench::leading();
    leader.store(None);
    assert_eq!(leader.candidate.told(at(1), None), None, "only a hint");
    assert_eq!(leader.until(100), [(1, News::Lost(Loss::Deleted)), (1, News::Leads(Gain::First))]);

    let mut follower = bench();
    follower.store(Some(held("b_1", 1)));
    follower.until(1000);
    follower.store(None);
    assert_eq!(follower.until(40_000), [(LEASE, News::Leads(Gain::First))]);
}

#[test]
fn old_news_changes_nothing() {
    let mut bench = Bench::leading();
    bench.store(Some(held("a_1", WALL)));
    bench.until(1000);
    let old = Some((Version("0".into()), held("b_1", 1)));
    assert_eq!(bench.candidate.told(at(1000), old), None);
    assert!(bench.candidate.leads_until().is_some());
    assert_eq!(bench.candidate.holder(), Some("a_1"));
}

/// A write that succeeded is no longer worth anything when a later one of somebody else is known.
#[test]
fn an_answer_that_was_overtaken_does_not_count() {
    let mut bench = Bench::leading();
    bench.until(1999);
    bench.now = 2000;
    let step = bench.step();
    let (ticket, answer) = bench.carry_out(&step).unwrap();
    bench.store(Some(held("b_1", 1)));
    let told = bench.stored();
    assert_eq!(bench.candidate.told(at(2001), told), Some(News::Lost(Loss::Taken("b_1".into()))));
    bench.now = 2002;
    assert_eq!(bench.answer(ticket, answer), None);
    assert_eq!((bench.candidate.leads_until(), bench.candidate.holder()), (None, Some("b_1")));
}

/// A read that was on its way while the release was told must not hide it until the next one.
#[test]
fn what_a_read_found_is_not_newer_than_what_was_told_meanwhile() {
    for found_nothing in [false, true] {
        let mut bench = bench();
        bench.store(Some(held("b_1", 1)));
        bench.until(5000);
        let step = loop {
            let step = bench.step();
            if !matches!(step, Step::Wait(_)) {
                break step;
            }
            bench.now += 1;
        };
        let Step::Read(ticket) = step else { panic!("{step:?}") };
        let before = if found_nothing { Answer::Absent } else { bench.read() };
        bench.store(Some(held("", 2)));
        let told = bench.stored();
        assert_eq!(bench.candidate.told(at(bench.now), told), None);
        assert_eq!(bench.answer(ticket, before), None);
        let now = bench.now;
        assert_eq!(bench.until(now + 1), [(now, News::Leads(Gain::Free))]);
    }
}

/// After a restore of the store versions begin again with smaller numbers.
#[test]
fn a_store_that_was_put_back_is_believed_when_it_is_read() {
    let mut bench = bench();
    bench.version = 100;
    bench.store(Some(held("b_1", 5)));
    bench.until(5000);
    bench.version = 10;
    bench.store(Some(held("b_1", 3)));
    let taken = bench.until(40_000);
    let [(taken, News::Leads(Gain::Expired(_)))] = taken[..] else { panic!("{taken:?}") };
    assert!((20_000..=22_000).contains(&taken), "a lease after it was seen: {taken}");
}

#[test]
fn resigning_ends_leadership_first_and_releases_then() {
    let mut bench = Bench::leading();
    assert_eq!(bench.candidate.resign(true), Some(News::Lost(Loss::Resigned)));
    assert_eq!(bench.candidate.leads_until(), None);
    assert_eq!(bench.until(100), []);
    let record = bench.stored.clone().unwrap();
    assert_eq!((record.holder.as_str(), record.held_for), ("", Duration::from_secs(1)));
    assert_eq!(record.transitions, 0, "counted when somebody takes it");
    assert_eq!(bench.until(60_000), [], "and it is never claimed again");
    assert_eq!(bench.step(), Step::Done);
}

#[test]
fn a_renewal_under_way_while_resigning_gives_nothing_back_and_is_released_too() {
    let mut bench = Bench::leading();
    bench.until(1999);
    bench.now = 2000;
    let step = bench.step();
    bench.candidate.resign(true);
    assert_eq!(bench.step(), Step::Wait(None));
    let (ticket, answer) = bench.carry_out(&step).unwrap();
    assert_eq!(bench.answer(ticket, answer), None);
    assert_eq!(bench.candidate.leads_until(), None);
    bench.until(2100);
    assert_eq!(bench.stored.clone().unwrap().holder, "");
}

#[test]
fn a_release_is_tried_a_bounded_number_of_times() {
    let mut silent = Bench::leading();
    silent.candidate.resign(true);
    assert_eq!(silent.until_unanswered(10_000), []);
    assert_eq!(silent.step(), Step::Done, "nobody answers");

    let mut busy = Bench::leading();
    busy.candidate.resign(true);
    let mut calls = 0;
    loop {
        let same = busy.stored.clone();
        let step = busy.step();
        if step == Step::Done {
            break;
        }
        calls += 1;
        busy.store(same);
        let (ticket, answer) = busy.carry_out(&step).unwrap();
        busy.answer(ticket, answer);
    }
    assert_eq!(calls, usize::from(RELEASE_CALLS_MAX));
}

#[test]
fn a_follower_that_resigns_has_nothing_to_release() {
    let mut bench = bench();
    bench.store(Some(held("b_1", 1)));
    bench.until(100);
    assert_eq!(bench.candidate.resign(true), None);
    assert_eq!(bench.step(), Step::Done);
    assert_eq!(bench.stored, Some(held("b_1", 1)));
}

#[test]
fn looks_of_followers_are_spread_and_never_further_apart_than_the_retry_period() {
    let mut spans = Vec::new();
    for identity in ["a_1", "b_2", "c_3"] {
        let mut bench = Bench { candidate: Candidate::new(identity, Settings::default()), ..bench() };
        bench.store(Some(held("x_9", 1)));
        let mut reads = Vec::new();
        while bench.now < 14_000 {
            let step = bench.step();
            match bench.carry_out(&step) {
                Some((ticket, answer)) => {
                    reads.push(bench.now);
                    bench.answer(ticket, answer);
                }
                None => bench.now += 1,
            }
        }
        assert!(reads.windows(2).all(|pair| (1000..=2001).contains(&(pair[1] - pair[0]))), "{reads:?}");
        spans.push(reads);
    }
    assert!(spans[0] != spans[1] && spans[1] != spans[2]);
}
