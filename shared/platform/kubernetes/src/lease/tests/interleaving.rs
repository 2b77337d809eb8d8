//! Candidates with clocks of their own over one record, with everything between them that can go wrong.

use super::super::*;
use platform::leadership::CALL_TIMEOUT;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Microseconds of the one true clock.
type True = u64;
const SECOND: True = 1_000_000;

/// What becomes of one message.
#[derive(Debug, Clone, Copy)]
enum Fate {
    After(u16),
    Twice(u16, u16),
    Lost,
}

/// Rate in parts per thousand of the true clock, and an offset.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rate: u64,
    offset_ms: u64,
}

impl Pace {
    fn local(self, now: True) -> Timestamp {
        Timestamp::new(Duration::from_micros(now * self.rate / 1000 + self.offset_ms * 1000))
    }

    /// When this clock shows `at`, or the next microsecond.
    fn reached(self, at: Timestamp) -> True {
        let micros = u64::try_from(at.since_start().as_micros()).unwrap() - self.offset_ms * 1000;
        (micros * 1000).div_ceil(self.rate) + 1
    }
}

#[derive(Debug, Clone, Copy)]
struct Span {
    from: True,
    to: True,
}

impl Span {
    fn holds(&self, now: True) -> bool {
        (self.from..self.to).contains(&now)
    }
}

#[derive(Debug, Clone)]
struct Plan {
    paces: Vec<Pace>,
    fates: Vec<Fate>,
    /// Who stands still, and when.
    pauses: Vec<(usize, Span)>,
    /// Whose messages are lost, and when.
    partitions: Vec<(usize, Span)>,
    resigns: Vec<(usize, True)>,
    ends: True,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Arrives(usize, u64),
    Answered(usize, u64, usize),
    TimedOut(usize, u64),
    Told(usize, usize),
    Resigns(usize),
}

struct World {
    plan: Plan,
    candidates: Vec<Candidate>,
    resigned: BTreeSet<usize>,
    stored: Option<(Version, Record)>,
    versions: u64,
    events: BTreeMap<(True, u64), Event>,
    order: u64,
    messages: usize,
    calls: BTreeMap<(usize, u64), Step>,
    answers: Vec<Answer>,
    /// Who has led, from when to when at the latest.
    reigns: Vec<(usize, True, True)>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let candidates =
            (0..plan.paces.len()).map(|n| Candidate::new(&format!("c_{n}"), Settings::default())).collect();
        let mut world = Self {
            candidates,
            resigned: BTreeSet::new(),
            stored: None,
            versions: 0,
            events: BTreeMap::new(),
            order: 0,
            messages: 0,
            calls: BTreeMap::new(),
            answers: Vec::new(),
            reigns: Vec::new(),
            plan,
        };
        for n in 0..world.candidates.len() {
            world.schedule(0, Event::Wake(n));
        }
        for (n, when) in world.plan.resigns.clone() {
            world.schedule(when, Event::Resigns(n));
        }
        world
    }

    fn schedule(&mut self, when: True, event: Event) {
        self.order += 1;
        self.events.insert((when, self.order), event);
    }

    /// Sends a message of candidate `n`, either way.
    fn send(&mut self, now: True, n: usize, event: &Event) {
        if self.plan.partitions.iter().any(|(who, span)| *who == n && span.holds(now)) {
            return;
        }
        let fate = self.plan.fates[self.messages % self.plan.fates.len()];
        self.messages += 1;
        let millis = |millis: u16| now + u64::from(millis) * 1000;
        match fate {
            Fate::Lost => {}
            Fate::After(delay) => self.schedule(millis(delay), event.clone()),
            Fate::Twice(first, second) => {
                self.schedule(millis(first), event.clone());
                self.schedule(millis(second), event.clone());
            }
        }
    }

    fn run(mut self) -> Vec<(usize, True, True)> {
        while let Some(((now, _), event)) = self.events.pop_first() {
            if now > self.plan.ends {
                break;
            }
            self.happens(now, event);
            self.check(now);
        }
        self.reigns
    }

    fn happens(&mut self, now: True, event: Event) {
        let (Event::Wake(n)
        | Event::Answered(n, ..)
        | Event::TimedOut(n, _)
        | Event::Told(n, _)
        | Event::Resigns(n)
        | Event::Arrives(n, _)) = event;
        if !matches!(event, Event::Arrives(..))
            && let Some((_, span)) = self.plan.pauses.iter().find(|(who, span)| *who == n && span.holds(now))
        {
            // All that happens meanwhile is found on waking, in order.
            return self.schedule(span.to, event);
        }
        let local = self.plan.paces[n].local(now);
        match event {
            Event::Arrives(n, call) => return self.arrives(now, n, call),
            Event::Wake(_) => {}
            Event::Answered(_, call, answer) => {
                let answer = self.answers[answer].clone();
                self.candidates[n].answered(local, Ticket(call), answer);
            }
            Event::TimedOut(_, call) => {
                self.candidates[n].answered(local, Ticket(call), Answer::Unknown);
            }
            Event::Told(_, answer) => {
                let Answer::Stored(version, record) = self.answers[answer].clone() else { unreachable!() };
                self.candidates[n].told(local, Some((version, record)));
            }
            Event::Resigns(_) => {
                self.candidates[n].resign(true);
                self.resigned.insert(n);
            }
        }
        self.drive(now, n);
    }

    /// What the runner does whenever something has happened.
    fn drive(&mut self, now: True, n: usize) {
        let pace = self.plan.paces[n];
        loop {
            let step = self.candidates[n].next(pace.local(now), i64::try_from(now).unwrap());
            match &step {
                Step::Read(ticket) | Step::Write { ticket, .. } => {
                    let call = ticket.0;
                    self.calls.insert((n, call), step.clone());
                    self.schedule(pace.reached(pace.local(now) + CALL_TIMEOUT), Event::TimedOut(n, call));
                    self.send(now, n, &Event::Arrives(n, call));
                }
                Step::Lost(_) => {}
                Step::Wait(Some(until)) => {
                    let when = pace.reached(*until).max(now + 1);
                    return self.schedule(when, Event::Wake(n));
                }
                Step::Wait(None) | Step::Done => return,
            }
        }
    }

    fn arrives(&mut self, now: True, n: usize, call: u64) {
        let answer = match self.calls[&(n, call)].clone() {
            Step::Read(_) => self.read(),
            Step::Write { over, record, .. } => {
                if over.as_ref() != self.stored.as_ref().map(|(version, _)| version) {
                    if over.is_some() && self.stored.is_none() { Answer::Absent } else { Answer::Conflict }
                } else {
                    self.versions += 1;
                    self.stored = Some((Version(self.versions.to_string()), record));
                    let told = self.keep(self.read());
                    for watcher in 0..self.candidates.len() {
                        self.send(now, watcher, &Event::Told(watcher, told));
                    }
                    self.read()
                }
            }
            step @ (Step::Lost(_) | Step::Wait(_) | Step::Done) => unreachable!("{step:?} is no call"),
        };
        let answer = self.keep(answer);
        self.send(now, n, &Event::Answered(n, call, answer));
    }

    fn read(&self) -> Answer {
        self.stored.clone().map_or(Answer::Absent, |(version, record)| Answer::Stored(version, record))
    }

    fn keep(&mut self, answer: Answer) -> usize {
        self.answers.push(answer);
        self.answers.len() - 1
    }

    /// Nobody has a right that reaches beyond now while another one has one too, asleep or awake.
    fn check(&mut self, now: True) {
        let mut leaders = Vec::new();
        for (n, candidate) in self.candidates.iter().enumerate() {
            let until = candidate.leads_until().map(|until| self.plan.paces[n].reached(until));
            if let Some(until) = until.filter(|until| *until > now) {
                leaders.push(n);
                match self.reigns.last_mut() {
                    Some((who, _, to)) if *who == n => *to = until,
                    Some(_) | None => self.reigns.push((n, now, until)),
                }
                assert!(!self.resigned.contains(&n), "{n} leads although it resigned");
            }
        }
        assert!(leaders.len() <= 1, "{leaders:?} lead at {now} µs");
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (0..300_u16).prop_map(Fate::After),
        2 => (0..20_000_u16).prop_map(Fate::After),
        1 => (0..3000_u16, 0..30_000_u16).prop_map(|(first, second)| Fate::Twice(first, second)),
        2 => Just(Fate::Lost),
    ]
}

fn spans(candidates: usize) -> impl Strategy<Value = Vec<(usize, Span)>> {
    let span = (0..candidates, 0..100_u64, 1..40_u64);
    let span = span.prop_map(|(who, from, long)| (who, Span { from: from * SECOND, to: (from + long) * SECOND }));
    prop::collection::vec(span, 0..4)
}

fn plan() -> impl Strategy<Value = Plan> {
    (2..=3_usize)
        .prop_flat_map(|candidates| {
            let pace = (970..=1030_u64, 0..100_000_u64).prop_map(|(rate, offset_ms)| Pace { rate, offset_ms });
            (
                prop::collection::vec(pace, candidates),
                prop::collection::vec(fate(), 1..40),
                spans(candidates),
                spans(candidates),
                prop::collection::vec((0..candidates, 0..100 * SECOND), 0..2),
            )
        })
        .prop_map(|(paces, fates, pauses, partitions, resigns)| Plan {
            paces,
            fates,
            pauses,
            partitions,
            resigns,
            ends: 120 * SECOND,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_do_two_candidates_have_the_right_to_act(plan in plan()) {
        World::new(plan).run();
    }

    /// With a server that answers, somebody leads within a lease and two retries of the moment when a leader stood still,
    /// was cut off or resigned, and after one that resigned within a second.
    #[test]
    fn somebody_leads_soon_after_a_leader_is_gone(
        delays in prop::collection::vec(0..100_u16, 1..20),
        candidates in 2..=3_usize,
        when in 5 * SECOND..40 * SECOND,
        how in 0..3_u8,
    ) {
        let paces: Vec<Pace> = (0..candidates as u64).map(|n| Pace { rate: 1000, offset_ms: 777 * n }).collect();
        let plan = Plan {
            paces,
            fates: delays.into_iter().map(Fate::After).collect(),
            pauses: Vec::new(),
            partitions: Vec::new(),
            resigns: Vec::new(),
            ends: 90 * SECOND,
        };
        let first = World::new(plan.clone()).run();
        prop_assert_eq!(first.len(), 1, "without trouble nobody else ever leads: {:?}", first);
        let leader = first[0].0;
        let for_ever = vec![(leader, Span { from: when, to: u64::MAX })];
        let (plan, within) = match how {
            0 => (Plan { pauses: for_ever, ..plan }, 19 * SECOND),
            1 => (Plan { partitions: for_ever, ..plan }, 19 * SECOND),
            _ => (Plan { resigns: vec![(leader, when)], ..plan }, SECOND),
        };
        let reigns = World::new(plan).run();
        prop_assert_eq!(reigns.len(), 2, "{:?}", reigns);
        let (successor, from, _) = reigns[1];
        prop_assert!(successor != leader && from >= when && from - when <= within, "{:?} after {}", reigns, when);
    }
}
