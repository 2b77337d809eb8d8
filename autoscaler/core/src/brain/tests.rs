mod exclusive;
mod floor;
mod leaving;
mod manual;
mod ordered;
mod reach;
mod unseen;

use super::*;
use crate::decide::Memory;
use crate::event::FrameHeader;
use crate::recompute::recompute;
use crate::status::Activity;
use crate::testing::{applied, revision, spec};
use domain::{
    Endpoint, EndpointId, EndpointState, Foreign, Mode, Problem, Refusal, Replicas, RequestMillis, Resolved, Row,
    ScalingSpec, Severity, Why, why::Trigger,
};

/// A brain with one platform, one revision and one activator, in virtual time.
struct World {
    brain: Brain,
    now: u64,
    id: RevisionId,
    requested: u32,
    /// Milliseconds that a replica needs until it is ready.
    start: u64,
    /// When each replica was started.
    replicas: Vec<(String, u64)>,
    /// Those of them that the platform itself takes away.
    draining: Vec<String>,
    ready: u32,
    /// Requests in flight.
    load: u32,
    /// Of these, those that were counted as arrived.
    arrived: u32,
    area: u64,
    requests: u64,
    tick: u64,
    seq: u64,
    names: bool,
    drained: Vec<EndpointId>,
    /// Replicas that the activator cannot connect to.
    unreachable: Vec<EndpointId>,
    /// Milliseconds that the platform needs to lower a count.
    writes_in: u64,
    /// A lowering that is being written, and when it is done.
    writing: Option<(u64, u32, Vec<EndpointId>)>,
    /// Replicas that leave in one call, at most.
    lowers_by: u32,
    /// Every call fails.
    refuses: bool,
    scales: Vec<(u64, u32, u32)>,
    stories: Vec<String>,
    phase: u64,
    reporting: bool,
    /// Who wrote the count; `None`: we did.
    writer: Option<Foreign>,
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn seconds(secs: u64) -> Resolved<Duration> {
    Resolved::default_value(Duration::from_secs(secs))
}

fn six_and_five() -> ScalingSpec {
    ScalingSpec { stable_window: seconds(6), scale_to_zero_pod_retention_period: seconds(5), ..spec(10.0) }
}

impl World {
    fn new(scaling: ScalingSpec, requested: u32) -> Self {
        Self::of(revision("model", scaling), requested)
    }

    fn of(revision: Revision, requested: u32) -> Self {
        let mut world = Self {
            brain: Brain::new(at(0), BrainSettings::default()),
            now: 0,
            id: revision.id.clone(),
            requested,
            start: 1000,
            replicas: (0..requested).map(|n| (format!("old-{n}"), 0)).collect(),
            draining: Vec::new(),
            ready: requested,
            load: 0,
            arrived: 0,
            area: 0,
            requests: 0,
            tick: 0,
            seq: 0,
            names: false,
            drained: Vec::new(),
            unreachable: Vec::new(),
            writes_in: 0,
            writing: None,
            lowers_by: u32::MAX,
            refuses: false,
            scales: Vec::new(),
            stories: Vec::new(),
            phase: 37,
            reporting: true,
            writer: None,
        };
        world.event(Event::Leadership(true));
        world.event(Event::Change(applied(revision)));
        world.show();
        world.event(Event::Change(Change::Activators(vec![ReporterId::new("a")])));
        world.event(Event::Change(Change::Synced));
        world
    }

    fn event(&mut self, event: Event) {
        let mut commands = Vec::new();
        self.brain.handle(at(self.now), event, &mut commands);
        for command in commands {
            match command {
                Command::Tell(story) => self.stories.push(story.to_string()),
                Command::Scale { from, to, remove_first, .. } => {
                    self.scales.push((self.now, from.get(), to.get()));
                    self.scale(to.get(), &remove_first);
                }
            }
        }
    }

    /// The platform carries it out; what raises, at once.
    fn scale(&mut self, to: u32, remove_first: &[EndpointId]) {
        let revision = self.id.clone();
        if self.refuses {
            let result = ScaleOutcome::Failed { message: "refused".into() };
            return self.event(Event::ScaleDone { revision, to: Replicas::new(to), result });
        }
        if to < self.requested && self.writes_in > 0 {
            let due = self.now + self.writes_in;
            self.writing.get_or_insert_with(|| (due, to, remove_first.to_vec()));
            return;
        }
        self.writer = None;
        if self.requested.saturating_sub(to) <= self.lowers_by {
            return self.carry_out(to, remove_first);
        }
        let leave = remove_first.len().min(self.lowers_by as usize);
        self.carry_out(self.requested - self.lowers_by, &remove_first[..leave]);
    }

    /// Somebody else writes a count.
    fn written_by(&mut self, by: &str, to: u32) {
        self.writer = Some(Foreign { by: by.into(), stands: false });
        self.carry_out(to, &[]);
    }

    fn carry_out(&mut self, to: u32, remove_first: &[EndpointId]) {
        self.requested = to;
        let now = self.now;
        let mut number = self.scales.len() * 1000;
        self.replicas.retain(|(name, _)| !remove_first.contains(&EndpointId::new(name)));
        let draining = self.replicas.iter().filter(|(name, _)| self.draining.contains(name)).count();
        self.replicas.truncate(to as usize + draining);
        while self.replicas.len() < to as usize + draining {
            number += 1;
            self.replicas.push((format!("r-{number}"), now + self.start));
        }
        self.show();
    }

    fn show(&mut self) {
        let now = self.now;
        let endpoints: Vec<_> = self
            .replicas
            .iter()
            .map(|(name, ready)| Endpoint {
                id: EndpointId::new(name),
                address: ([127, 0, 0, 1], 80).into(),
                state: match *ready <= now {
                    _ if self.draining.contains(name) => EndpointState::Draining,
                    true => EndpointState::Ready,
                    false => EndpointState::Starting,
                },
                early_probe: None,
            })
            .collect();
        let is_ready = |(name, ready): &&(String, u64)| *ready <= now && !self.draining.contains(name);
        self.ready = u32::try_from(self.replicas.iter().filter(is_ready).count()).unwrap();
        let revision = self.id.clone();
        self.event(Event::Change(Change::Endpoints { revision, version: now, endpoints: endpoints.into() }));
        self.event(Event::Change(Change::Replicas {
            revision: self.id.clone(),
            requested: Replicas::new(self.requested),
            ready: Replicas::new(self.ready),
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: self.writer.clone(),
        }));
    }

    fn frame(&mut self, urgent: bool) {
        self.seq += 1;
        let header = FrameHeader {
            reporter: ReporterId::new("a"),
            boot: 1,
            tick: self.tick,
            seq: self.seq,
            at: Millis(self.now),
            leaving: false,
            draining: false,
            sharing: None,
            urgent,
            complete: false,
        };
        let waiting = self.ready == 0 && self.draining.is_empty();
        let loads = [self.load].into_iter().chain(std::iter::repeat(0));
        let row = Row {
            n: 0,
            area: RequestMillis(self.area),
            requests: self.requests,
            in_flight: if waiting { 0 } else { self.load },
            queued: if waiting { self.load } else { 0 },
            endpoints_version: 0,
            endpoints: if waiting {
                Vec::new()
            } else {
                self.replicas.iter().map(|(name, _)| EndpointId::new(name)).zip(loads).collect()
            },
            drained: self.drained.clone(),
            held: Vec::new(),
            unreachable: self.unreachable.clone(),
        };
        let names = if self.names { Vec::new() } else { vec![(0, self.id.clone())] };
        self.names = true;
        self.event(Event::Frame(FrameChunk { header, rows: vec![row], names, last: true }));
        let ack = self.brain.ack(at(self.now), &ReporterId::new("a"));
        self.drained = ack.drain.into_iter().flat_map(|(_, endpoints)| endpoints).collect();
    }

    /// Time passes in steps of 10 ms: ready replicas, regular frames, brain ticks.
    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += 10;
            self.arrive();
            self.area += u64::from(self.load) * 10;
            if let Some((_, to, victims)) = self.writing.take_if(|(due, ..)| *due <= self.now) {
                self.carry_out(to, &victims);
                let (revision, to) = (self.id.clone(), Replicas::new(to));
                self.event(Event::ScaleDone { revision, to, result: ScaleOutcome::Accepted });
            }
            if self.replicas.iter().any(|(_, ready)| *ready == self.now) {
                self.show();
            }
            if self.now % 1000 == self.phase / 10 * 10 {
                self.tick += 1;
                if self.reporting {
                    self.frame(false);
                }
            }
            if self.now.is_multiple_of(100) {
                self.event(Event::Tick);
            }
        }
    }

    fn arrive(&mut self) {
        self.requests += u64::from(self.load.saturating_sub(self.arrived));
        self.arrived = self.load;
    }

    /// So many requests are in flight from now on; a change from zero is urgent.
    fn load(&mut self, load: u32) {
        let urgent = load > 2 * self.load || load > 0 && self.ready == 0;
        self.load = load;
        self.arrive();
        if urgent {
            self.frame(true);
        }
    }

    fn status(&self) -> RevisionStatus {
        self.brain.statuses(at(self.now)).remove(0)
    }

    /// The last decision, and what is remembered of it.
    fn decided(&self) -> (Option<Why>, Memory) {
        (self.status().last_decision, self.brain.revisions[&self.id].memory())
    }

    /// Time passes while the load stays: the count never falls.
    fn pass_without_a_fall(&mut self, millis: u64) {
        let mut most = self.requested;
        for _ in 0..millis / 100 {
            self.pass(100);
            let wanted = self.status().wanted.get();
            assert!(wanted >= most, "{most} -> {wanted} at {} ms: {}", self.now, self.status().reason);
            most = most.max(wanted);
        }
    }

    fn counts(&self) -> Vec<(u32, u32)> {
        self.scales.iter().map(|(_, from, to)| (*from, *to)).collect()
    }
}

#[test]
fn the_first_request_asks_for_a_replica_in_the_same_call() {
    for exact in [false, true] {
        let mut world = World::new(ScalingSpec { exact: Resolved::default_value(exact), ..spec(10.0) }, 0);
        world.pass(3_050);
        assert!(world.scales.is_empty());
        world.load(1);
        assert_eq!(world.scales, [(3_050, 0, 1)], "exact: {exact}");
        assert!(world.stories.iter().any(|story| story.ends_with("woken by a request")), "{:?}", world.stories);
        world.pass(5_000);
        assert_eq!(world.counts(), [(0, 1)], "once");
        assert!(world.stories.iter().any(|story| story.ends_with("ready in 1.0 s")), "{:?}", world.stories);
    }
}

#[test]
fn a_burst_at_zero_is_one_transition() {
    let mut world =
        World::new(ScalingSpec { max_scale: Resolved::default_value(Some(Replicas::new(20))), ..spec(10.0) }, 0);
    world.start = 5_000;
    world.pass(3_000);
    world.load(1000);
    assert_eq!(world.counts(), [(0, 20)]);
    world.pass(15_000);
    assert_eq!(world.counts(), [(0, 20)]);
}

#[test]
fn ten_in_flight_for_seventy_seconds() {
    for (target, max, expected) in [(10.0, None, 2), (1.0, Some(20), 15)] {
        let max = Resolved::default_value(max.map(Replicas::new));
        let mut world = World::new(ScalingSpec { max_scale: max, ..spec(target) }, 1);
        world.pass(2_000);
        world.load(10);
        world.pass(70_000);
        assert_eq!(world.requested, expected, "{:?}", world.scales);
        let status = world.status();
        assert_eq!(status.wanted.get(), expected);
        assert!(status.reason.contains("-> "), "{}", status.reason);
    }
}

#[test]
fn a_step_is_seen_within_a_hundred_milliseconds() {
    let mut world = World::new(spec(10.0), 1);
    world.pass(2_000);
    world.load(1);
    world.pass(69_950);
    let before = world.now;
    world.load(50);
    world.pass(100);
    assert_eq!(world.scales, [(before, 1, 8)]);
    assert_eq!(world.status().reason, "50 in flight / 7.0 -> 8, without waiting for the average");
}

/// knative-behaviour 6 by hand: 1 until the tick after the panic window is full enough, nothing before.
#[test]
fn with_exact_a_step_waits_for_the_average() {
    let mut world = World::new(ScalingSpec { exact: Resolved::default_value(true), ..spec(10.0) }, 1);
    world.pass(2_000);
    world.load(1);
    world.pass(130_000);
    assert_eq!((world.requested, world.scales.len()), (1, 0));
    let before = world.now;
    world.load(50);
    world.pass(100);
    assert!(world.scales.is_empty());
    world.pass(9_900);
    // After s whole seconds of 50 the panic window reads (50 s + (6 - s)) / 6; it panics from 2 x 7 = 14 on.
    let (when, from, to) = world.scales[0];
    assert_eq!(from, 1);
    let reading = |whole: f64| (50.0 * whole + (6.0 - whole)) / 6.0;
    let possible: Vec<_> = (1..=6).map(|whole| (reading(f64::from(whole)) / 7.0).ceil() as u32).collect();
    assert!(possible.contains(&to) && to >= 2, "{to} of {possible:?}");
    assert!(when > before + 500);
    assert_eq!(world.requested, 8, "{:?}", world.scales);
}

/// The last replica leaves 11 to 14 s after the last answer, whatever the phases of clients, frames and ticks.
#[test]
fn the_last_replica_leaves_after_window_and_retention() {
    for offset in (0..2_000).step_by(130) {
        for phase in [10, 410, 930] {
            let mut world = World::new(six_and_five(), 0);
            world.phase = phase;
            world.pass(3_000 + offset);
            world.load(1);
            world.pass(20_000 - offset / 3 * 10 % 1000);
            world.load(0);
            let answered = world.now;
            assert_eq!(world.requested, 1);
            world.pass(15_000);
            let (when, from, to) = *world.scales.last().unwrap();
            assert_eq!((from, to), (1, 0), "{offset} {phase}");
            let took = when - answered;
            // 14 s is the promise; announced in time, the drain adds at most half a second to the last frame's.
            assert!((11_000..=12_700).contains(&took), "{took} ms at {offset} {phase}");
            assert_eq!(world.scales.len(), 2, "{:?}", world.scales);
            assert_eq!(world.status().mode, Activity::Asleep);
        }
    }
}

#[test]
fn a_request_during_the_retention_period_is_a_new_beginning() {
    for wait in [5_000, 9_000, 10_500, 10_900] {
        let mut world = World::new(six_and_five(), 0);
        world.pass(3_000);
        world.load(1);
        world.pass(20_000);
        world.load(0);
        world.pass(wait);
        assert_eq!(world.requested, 1, "{wait}");
        world.load(1);
        assert!(world.drained.is_empty(), "the replica is used again at once");
        world.pass(500);
        world.load(0);
        world.pass(10_900);
        assert_eq!(world.counts(), [(0, 1)], "{wait}");
        world.pass(3_200);
        assert_eq!(world.counts(), [(0, 1), (1, 0)], "{wait}");
    }
}

#[test]
fn a_client_that_gives_up_undoes_no_start() {
    let mut world = World::new(six_and_five(), 0);
    world.start = 90_000;
    world.pass(3_000);
    world.load(1);
    world.pass(10_000);
    world.load(0);
    world.pass(81_000);
    assert_eq!((world.requested, world.ready), (1, 1));
    assert!(world.stories.iter().any(|story| story.contains("ready in 90.0 s")));
    world.pass(9_900);
    assert_eq!(world.requested, 1, "idle for window + retention counts from ready");
    world.pass(4_000);
    assert_eq!(world.counts(), [(0, 1), (1, 0)]);
}

#[test]
fn a_start_that_fails_is_taken_back_and_tried_again_later() {
    let mut world = World::new(ScalingSpec { start_deadline: seconds(20), ..six_and_five() }, 0);
    world.start = 1_000_000;
    world.pass(3_000);
    world.load(1);
    world.pass(28_000);
    assert_eq!(world.counts(), [(0, 1), (1, 0)]);
    let ack = world.brain.ack(at(world.now), &ReporterId::new("a"));
    assert_eq!(ack.start_failed.len(), 1);
    assert_eq!(world.status().mode, Activity::StartFailed);
    world.pass(8_000);
    assert_eq!(world.counts(), [(0, 1), (1, 0), (0, 1)], "somebody still waits");
}

#[test]
fn invalid_settings_and_a_restart_leave_the_replicas() {
    let problem = Problem {
        severity: Severity::Error,
        place: "app.yaml:3".into(),
        key: "min-scale".into(),
        what: "\"two\" is not a whole number".into(),
        expected: "2".into(),
        consequence: "nothing shrinks".into(),
    };
    let mut revision = revision("model", six_and_five());
    revision.mode = Mode::Invalid(vec![problem.clone()]);
    revision.problems = vec![problem];
    let mut world = World::of(revision, 3);
    world.pass(120_000);
    assert!(world.scales.is_empty());
    assert_eq!((world.status().mode, world.status().problems.len()), (Activity::Invalid, 1));
    world.load(100);
    assert_eq!(world.requested, 15, "it may grow");
}

#[test]
fn paused_and_refused_at_zero_are_woken_to_one() {
    for mode in [Mode::Paused, Mode::Refused(Refusal::NotAnnotated)] {
        let mut revision = revision("model", spec(10.0));
        revision.mode = mode;
        let mut world = World::of(revision, 0);
        world.pass(3_000);
        world.load(100);
        world.pass(20_000);
        world.load(0);
        world.pass(200_000);
        assert_eq!(world.counts(), [(0, 1)]);
    }
    let mut revision = revision("model", spec(10.0));
    revision.mode = Mode::Shadow;
    let mut world = World::of(revision, 0);
    world.pass(3_000);
    world.load(100);
    world.pass(2_000);
    assert!(world.scales.is_empty() && world.status().wanted.get() > 1, "a shadow decides and never writes");
}

#[test]
fn nothing_shrinks_while_an_activator_is_silent() {
    let mut world = World::new(six_and_five(), 0);
    world.pass(3_000);
    world.load(1);
    world.pass(20_000);
    world.reporting = false;
    world.load = 0;
    world.pass(60_000);
    assert_eq!(world.counts(), [(0, 1)]);
    let status = world.status();
    assert_eq!((status.mode, coverage(&status)), (Activity::Holding, "Partial"));
    assert!(world.stories.iter().any(|story| story.contains("activator a is silent")), "{:?}", world.stories);
    world.event(Event::Change(Change::Activators(vec![ReporterId::new("b")])));
    world.pass(20_000);
    assert_eq!(world.counts(), [(0, 1)], "b was never heard");
    world.event(Event::Change(Change::Activators(Vec::new())));
    world.pass(20_000);
    assert_eq!(world.counts(), [(0, 1)], "none listed at all");
    assert_eq!(coverage(&world.status()), "NoReporters");
}

fn coverage(status: &RevisionStatus) -> &str {
    &status.conditions.iter().find(|condition| condition.kind == "Coverage").expect("a condition").reason
}

#[test]
fn after_a_restart_nothing_shrinks_for_a_window() {
    let mut world = World::new(ScalingSpec { stable_window: seconds(60), ..spec(10.0) }, 1);
    world.pass(59_000);
    assert!(world.scales.is_empty(), "also not from one to zero");
    world.pass(70_000);
    assert_eq!(world.counts(), [(1, 0)]);
    let mut many = World::new(ScalingSpec { stable_window: seconds(60), ..spec(10.0) }, 4);
    many.pass(60_000);
    assert!(many.scales.is_empty());
    many.pass(80_000);
    assert_eq!(many.requested, 0, "{:?}", many.scales);
}

#[test]
fn a_follower_decides_silently_and_takes_over_warm() {
    let mut world = World::new(spec(10.0), 0);
    world.event(Event::Leadership(false));
    world.pass(3_000);
    world.load(10);
    world.pass(5_000);
    assert!(world.scales.is_empty());
    world.event(Event::Leadership(true));
    assert_eq!(world.counts(), [(0, 2)]);
}

#[test]
fn the_same_count_is_asked_for_once_a_second_until_it_is_shown() {
    let mut brain = Brain::new(at(0), BrainSettings::default());
    let mut commands = Vec::new();
    let id = RevisionId::new("default", "model");
    let mut step = |millis, event| brain.handle(at(millis), event, &mut commands);
    step(0, Event::Leadership(true));
    step(
        0,
        Event::Change(applied(revision(
            "model",
            ScalingSpec { min_scale: Resolved::default_value(Replicas::new(2)), ..spec(10.0) },
        ))),
    );
    let shown = |requested| {
        Event::Change(Change::Replicas {
            revision: id.clone(),
            requested: Replicas::new(requested),
            ready: Replicas::ZERO,
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: None,
        })
    };
    step(0, shown(0));
    step(0, Event::Change(Change::Synced));
    for millis in (100..=2_500).step_by(100) {
        step(millis, Event::Tick);
    }
    step(2_550, shown(2));
    for millis in (2_600..=6_000).step_by(100) {
        step(millis, Event::Tick);
    }
    let scales = commands.iter().filter(|command| matches!(command, Command::Scale { .. })).count();
    assert_eq!(scales, 3);
}

#[test]
fn many_replicas_leave_as_the_load_falls_and_idle_ones_first() {
    let mut world = World::new(six_and_five(), 1);
    world.pass(10_000);
    world.load(70);
    world.pass(12_000);
    assert_eq!(world.requested, 10);
    world.load(7);
    world.pass(60_000);
    assert_eq!(world.requested, 1, "{:?}", world.scales);
    assert_eq!(world.replicas[0].0, "old-0", "the busy one stays");
    world.load(0);
    world.pass(30_000);
    assert_eq!(world.requested, 0);
}

#[test]
fn an_asleep_revision_has_no_slot() {
    let mut world = World::new(six_and_five(), 0);
    world.pass(5_000);
    assert_eq!(world.brain.awake(), 0);
    world.load(1);
    world.pass(8_000);
    assert_eq!(world.brain.awake(), 1);
    world.load(0);
    world.pass(40_000);
    assert_eq!((world.requested, world.brain.awake()), (0, 0));
    let history = world.brain.history(&world.id);
    assert!(history.len() > 3 && history.iter().any(|kept| kept.why.replicas.get() == 1));
    let id = world.id.clone();
    world.event(Event::Change(Change::Deleted(id.clone())));
    assert!(world.brain.statuses(at(world.now)).is_empty() && world.brain.history(&id).is_empty());
}

#[test]
fn the_status_serialises_with_every_setting() {
    let mut world = World::new(spec(10.0), 1);
    world.pass(2_000);
    world.load(8);
    world.pass(65_000);
    let status = serde_json::to_value(world.status()).unwrap();
    assert_eq!(status["targets"], "4/7");
    assert_eq!(status["reference"], "Deployment/model");
    assert_eq!(status["lastDecision"]["demand"]["stable"]["signal"], "concurrency");
    let keys: Vec<_> = status["settings"].as_array().unwrap().iter().map(|one| one["key"].clone()).collect();
    assert!(keys.contains(&"window".into()) && keys.contains(&"queue-depth".into()));
}

/// Everything that a brain is told in a random life of one revision; what its ticks decided, and what they remember.
fn life(max: Option<u32>, steps: &[(u32, bool)], urgent: bool) -> Vec<(Why, Memory)> {
    let max = max.map(Replicas::new);
    let mut world = World::new(ScalingSpec { max_scale: Resolved::default_value(max), ..six_and_five() }, 1);
    let mut ticks: Vec<(Why, Memory)> = Vec::new();
    let mut seq = 1_000;
    let (mut area, mut requests) = (0, 0);
    for (second, (load, surge)) in (1_u64..).zip(steps) {
        requests += u64::from(*load);
        area += u64::from(*load) * 1000;
        let frame = |tick: u64, seq, urgent, load| FrameChunk {
            header: FrameHeader {
                reporter: ReporterId::new("a"),
                boot: 1,
                tick,
                seq,
                at: Millis(tick * 1000),
                leaving: false,
                draining: false,
                sharing: None,
                urgent,
                complete: false,
            },
            rows: vec![Row { n: 0, area: RequestMillis(area), requests, in_flight: load, ..Row::default() }],
            names: vec![(0, RevisionId::new("default", "model"))],
            last: true,
        };
        let mut commands = Vec::new();
        let mut take = |world: &mut World, millis, event| {
            let (before, memory) = world.decided();
            world.brain.handle(at(millis), event, &mut commands);
            let (Some(why), after) = world.decided() else { return };
            let again = recompute(&why, &memory);
            assert_eq!((again.replicas, again.after), (why.replicas, after), "{why:#?}");
            if why.at != at(millis) || why.trigger != Trigger::Tick {
                assert_eq!(memory, after, "only a tick remembers");
                return;
            }
            let floor =
                |why: Option<Why>| why.and_then(|why| why.backlog).map_or(Replicas::ZERO, |floor| floor.replicas);
            assert!(floor(Some(why)) <= floor(before), "a tick raises no floor");
            let most = max.unwrap_or(Replicas::MAX);
            assert!(floor(Some(why)) <= most && (why.replicas <= most || why.hold.is_some()), "{why:#?}");
            ticks.push((why, after));
        };
        // The load of the whole trace is above zero, so that no decision for zero is ever poked.
        take(&mut world, second * 1000, Event::Frame(frame(second, seq, false, *load)));
        seq += 1;
        if urgent && *surge {
            take(&mut world, second * 1000 + 50, Event::Frame(frame(second, seq, true, load * 9)));
        }
        seq += 1;
        for slot in 1..=10 {
            take(&mut world, second * 1000 + slot * 100 - 20, Event::Tick);
        }
    }
    ticks
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]

    /// Urgent frames leave the windowed state as it is, and only ever raise what is applied (engineering 26). However long
    /// a floor stays, each record explains its count.
    #[test]
    fn urgent_frames_change_no_tick_and_only_raise(
        max in proptest::option::of(1_u32..12),
        steps in proptest::collection::vec((1_u32..60, proptest::bool::weighted(0.4)), 4..60),
    ) {
        let (with, without) = (life(max, &steps, true), life(max, &steps, false));
        proptest::prop_assert!(!without.is_empty());
        proptest::prop_assert_eq!(with.len(), without.len());
        for ((with, memory), (without, bare)) in with.iter().zip(&without) {
            proptest::prop_assert_eq!((with.at, with.demand, with.desired), (without.at, without.demand, without.desired));
            proptest::prop_assert_eq!(memory, bare);
            proptest::prop_assert!(with.replicas >= without.replicas);
            proptest::prop_assert_eq!(without.backlog, None, "no floor without an urgent frame");
        }
    }
}

/// What an activator's clock or a count that wrapped could make it say, once.
#[test]
fn a_reading_that_is_wrong_once_asks_for_nobody() {
    let mut world = World::new(six_and_five(), 3);
    world.load(15);
    world.pass(20_000);
    world.area += 20_000_000;
    world.pass(1_000);
    world.area -= 20_000_000;
    world.pass(30_000);
    assert_eq!((world.requested, world.brain.doubts().0), (3, 1));
    assert!(world.scales.iter().all(|(_, _, to)| *to == 3), "{:?}", world.scales);
}

/// A frame of one row by `reporter`, 3 requests in flight all the time.
fn three_in_flight(reporter: &str, tick: u64) -> FrameChunk {
    FrameChunk {
        header: FrameHeader {
            reporter: ReporterId::new(reporter),
            boot: 1,
            tick,
            seq: tick,
            at: Millis(tick * 1000),
            leaving: false,
            draining: false,
            sharing: None,
            urgent: false,
            complete: false,
        },
        rows: vec![Row { n: 0, area: RequestMillis(tick * 3000), requests: 3, in_flight: 3, ..Row::default() }],
        names: vec![(0, RevisionId::new("default", "model"))],
        last: true,
    }
}

/// Two activators whose seconds end at different moments: no tick sees a half-filled second.
#[test]
fn decisions_read_closed_seconds_only() {
    let mut brain = Brain::new(at(0), BrainSettings::default());
    let mut commands = Vec::new();
    let id = RevisionId::new("default", "model");
    brain.handle(at(0), Event::Change(applied(revision("model", six_and_five()))), &mut commands);
    let shown = Change::Replicas {
        revision: id,
        requested: Replicas::ONE,
        ready: Replicas::ONE,
        terminating: Replicas::ZERO,
        trouble: None,
        foreign: None,
    };
    brain.handle(at(0), Event::Change(shown), &mut commands);
    brain.handle(at(0), Event::Change(Change::Synced), &mut commands);
    for millis in (10..40_000).step_by(10) {
        for (reporter, phase) in [("a", 130), ("b", 870)] {
            if millis % 1000 == phase {
                let chunk = three_in_flight(reporter, millis / 1000 + 1);
                brain.handle(at(millis), Event::Frame(chunk), &mut commands);
            }
        }
        if millis % 100 == 50 {
            brain.handle(at(millis), Event::Tick, &mut commands);
            let why = brain.statuses(at(millis)).remove(0).last_decision.unwrap();
            if let Some(demand) = why.demand.filter(|_| millis > 10_000) {
                assert_eq!((demand.stable.reading, demand.panic.reading), (6.0, 6.0), "at {millis}");
            }
        }
    }
}

#[test]
fn a_request_that_comes_before_the_platforms_counts_still_wakes() {
    let mut brain = Brain::new(at(0), BrainSettings::default());
    let mut commands = Vec::new();
    let id = RevisionId::new("default", "model");
    brain.handle(at(0), Event::Leadership(true), &mut commands);
    brain.handle(at(0), Event::Change(applied(revision("model", six_and_five()))), &mut commands);
    brain.handle(at(500), Event::Frame(three_in_flight("a", 1)), &mut commands);
    let shown = Change::Replicas {
        revision: id,
        requested: Replicas::ZERO,
        ready: Replicas::ZERO,
        terminating: Replicas::ZERO,
        trouble: None,
        foreign: None,
    };
    brain.handle(at(600), Event::Change(shown), &mut commands);
    assert!(commands.iter().all(|command| !matches!(command, Command::Scale { .. })), "not everything is known yet");
    brain.handle(at(700), Event::Change(Change::Synced), &mut commands);
    assert_eq!(commands.iter().filter(|command| matches!(command, Command::Scale { .. })).count(), 1);
}
