//! Activators that share replicas of limited concurrency, and the autoscaler that says how, with frames and answers that
//! are lost and overtake each other: no replica is ever used by two (kpa-behaviour 4.10).

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a helper of tests that fails is a test that fails, and a test looks for some steps among all"
)]

use activator::gate::{Entry, HeldSlot};
use activator::revisions::Revisions;
use autoscaler_core::event::{FrameChunk, FrameHeader};
use autoscaler_core::reporters::Reporters;
use domain::{Endpoint, EndpointId, EndpointState, Millis, ReporterId, Resolved, RevisionId, Row, Sharing, Timestamp};
use proptest::prelude::*;
use runtime::WakeLog;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

const REPLICAS: usize = 6;

fn model() -> RevisionId {
    RevisionId::new("default", "model")
}

fn endpoints(from: usize) -> Vec<Endpoint> {
    let endpoint = |n: usize| Endpoint {
        id: EndpointId::new(&format!("r-{n}")),
        address: "127.0.0.1:1".parse().unwrap(),
        state: EndpointState::Ready,
        early_probe: None,
    };
    (from..from + REPLICAS).map(endpoint).collect()
}

struct Activator {
    id: ReporterId,
    boot: u64,
    revisions: Arc<Revisions>,
    tick: u64,
    draining: bool,
    sharing: Option<u64>,
    slots: Vec<(EndpointId, HeldSlot)>,
    /// Answers on their way, with when they were asked for.
    answers: Vec<(Timestamp, Sharing)>,
}

impl Activator {
    fn new(number: usize, boot: u64, from: usize) -> Self {
        let revisions = Revisions::new(boot, Arc::new(WakeLog::new()));
        revisions.shares().begin(&revisions, Timestamp::ZERO);
        let mut revision = platform::fixed::default_revision(model());
        revision.limits.container_concurrency = Resolved::default_value(NonZeroU32::new(1));
        let handle = revisions.apply(Arc::new(revision));
        handle.gate.set_endpoints(Timestamp::ZERO, 1, &endpoints(from));
        let id = ReporterId::new(&format!("a-{number}"));
        let (tick, draining) = (0, false);
        Self { id, boot, revisions, tick, draining, sharing: None, slots: Vec::new(), answers: Vec::new() }
    }

    fn frame(&mut self, leaving: bool) -> FrameChunk {
        self.tick += 1;
        let gate = &self.revisions.get(&model()).unwrap().gate;
        let header = FrameHeader {
            reporter: self.id.clone(),
            boot: self.boot,
            tick: self.tick,
            seq: self.tick,
            at: Millis(self.tick * 1000),
            leaving,
            draining: self.draining,
            sharing: self.sharing,
            urgent: false,
            complete: true,
        };
        let row = Row { held: gate.held(), ..Row::default() };
        FrameChunk { header, rows: vec![row], names: vec![(0, model())], last: true }
    }

    fn obey(&mut self, now: Timestamp, (asked, sharing): (Timestamp, Sharing)) {
        self.revisions.shares().follow(&self.revisions, (asked, now), &self.id, sharing);
        self.sharing = self.revisions.shares().part().fingerprint();
    }

    /// Takes every slot that it can get.
    fn fill(&mut self, now: Timestamp) {
        let gate = &self.revisions.get(&model()).unwrap().gate;
        while let Entry::Go(slot) = gate.enter(now, Default::default()) {
            let endpoint = gate.snapshot().2[slot.seat_index() as usize].as_ref().unwrap().id.clone();
            self.slots.push((endpoint, slot));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A frame of one of them arrives, and its answer is on its way; either may be lost.
    Frame {
        who: usize,
        lost: bool,
        unanswered: bool,
    },
    /// A frame arrives, and so does its answer.
    Exchange(usize),
    /// An answer arrives, the newest or an older one.
    Answer {
        who: usize,
        older: bool,
    },
    Fill(usize),
    /// The oldest or the newest of its slots falls.
    Release {
        who: usize,
        newest: bool,
    },
    Drain(usize),
    Leave(usize),
    Join,
    /// Other replicas; some of them stay.
    Replicas(usize),
    /// Another autoscaler acts, which has heard every frame.
    Leader,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..4_usize;
    prop_oneof![
        8 => (who.clone(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(who, lost, unanswered)| Step::Frame { who, lost, unanswered }),
        16 => who.clone().prop_map(Step::Exchange),
        8 => (who.clone(), prop::bool::weighted(0.3)).prop_map(|(who, older)| Step::Answer { who, older }),
        8 => who.clone().prop_map(Step::Fill),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, newest)| Step::Release { who, newest }),
        1 => who.clone().prop_map(Step::Drain),
        1 => who.prop_map(Step::Leave),
        1 => Just(Step::Join),
        1 => (0..9_usize).prop_map(Step::Replicas),
        1 => Just(Step::Leader),
    ]
}

struct World {
    now: u64,
    life: usize,
    replicas: (u64, usize),
    reporters: Reporters,
    activators: Vec<Activator>,
    joined: usize,
}

impl World {
    fn new() -> Self {
        let reporters = Reporters::new(Timestamp::ZERO);
        let mut world = Self { now: 0, life: 1, replicas: (1, 0), reporters, activators: Vec::new(), joined: 0 };
        world.join();
        world.join();
        world
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn join(&mut self) {
        self.joined += 1;
        self.activators.push(Activator::new(self.joined, 1_000 + self.joined as u64, self.replicas.1));
        self.list();
    }

    fn list(&mut self) {
        let listed = self.activators.iter().map(|activator| activator.id.clone()).collect();
        self.reporters.list(Timestamp::from_millis(self.now), listed);
    }

    fn frame(&mut self, who: usize, lost: bool, unanswered: bool, leaving: bool) {
        let now = self.at();
        let activator = &mut self.activators[who];
        let frame = activator.frame(leaving);
        if lost {
            return;
        }
        self.reporters.accept(now, frame, &mut Vec::new()).unwrap();
        if let Some(sharing) = self.reporters.sharing(now).filter(|_| !unanswered) {
            let word = self.life.to_string();
            activator.answers.push((now, Sharing { word, ..sharing }));
        }
    }

    fn answer(&mut self, who: usize, older: bool) {
        let (now, activator) = (self.at(), &mut self.activators[who]);
        let last = activator.answers.len().saturating_sub(1);
        let index = if older { last / 2 } else { last };
        if index < activator.answers.len() {
            let answer = activator.answers.remove(index);
            activator.obey(now, answer);
        }
    }

    fn step(&mut self, step: Step) {
        // Slowly, so that nobody is taken for gone.
        self.now += 1;
        let (now, count) = (self.at(), self.activators.len());
        match step {
            Step::Frame { who, lost, unanswered } if who < count => self.frame(who, lost, unanswered, false),
            Step::Exchange(who) if who < count => {
                self.frame(who, false, false, false);
                self.answer(who, false);
            }
            Step::Answer { who, older } if who < count => self.answer(who, older),
            Step::Fill(who) if who < count => self.activators[who].fill(now),
            Step::Release { who, newest } if who < count => {
                let slots = &mut self.activators[who].slots;
                if !slots.is_empty() {
                    let index = if newest { slots.len() - 1 } else { 0 };
                    drop(slots.remove(index));
                }
            }
            Step::Drain(who) if who < count => self.activators[who].draining = true,
            Step::Leave(who) if who < count && count > 1 => {
                self.activators[who].slots.clear();
                self.frame(who, false, true, true);
                drop(self.activators.remove(who));
                self.list();
            }
            Step::Join if count < 4 => self.join(),
            Step::Replicas(from) => {
                self.replicas = (self.replicas.0 + 1, from);
                for activator in &self.activators {
                    let gate = &activator.revisions.get(&model()).unwrap().gate;
                    gate.set_endpoints(now, self.replicas.0, &endpoints(from));
                }
                let stays: BTreeSet<EndpointId> = endpoints(from).into_iter().map(|endpoint| endpoint.id).collect();
                for activator in &mut self.activators {
                    activator.slots.retain(|(endpoint, _)| stays.contains(endpoint));
                }
            }
            Step::Leader => {
                self.life += 1;
                for activator in &mut self.activators {
                    // What the one before has said and is still on its way may be heard, before the new one is.
                    activator.answers.truncate(4);
                }
            }
            _ => {}
        }
    }

    /// Who uses each replica.
    fn used(&self) -> BTreeMap<&EndpointId, Vec<&ReporterId>> {
        let mut used: BTreeMap<&EndpointId, Vec<&ReporterId>> = BTreeMap::new();
        for activator in &self.activators {
            for (endpoint, _) in &activator.slots {
                used.entry(endpoint).or_default().push(&activator.id);
            }
        }
        used
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_replica_is_used_by_two_and_in_the_end_each_is_used_by_one(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            world.step(step.clone());
            for (endpoint, users) in world.used() {
                prop_assert!(users.len() < 2, "{}: {:?} after {:?}", endpoint, users, step);
            }
        }
        for activator in &mut world.activators {
            activator.slots.clear();
            activator.answers.clear();
        }
        // Frames arrive and are answered: after who is there is known, each gives up, says so, and takes.
        for _ in 0..4 {
            for who in 0..world.activators.len() {
                world.now += 1;
                world.frame(who, false, false, false);
                world.answer(who, false);
            }
        }
        let now = world.at();
        world.activators.iter_mut().for_each(|activator| activator.fill(now));
        let used = world.used();
        prop_assert_eq!(used.len(), REPLICAS);
        prop_assert!(used.values().all(|users| users.len() == 1));
    }
}
