//! Services that share slots, with a machine that starts and ends their processes, and an activator that holds requests.

use super::*;
use crate::event::Happening;

/// One service on the machine.
struct Service {
    id: RevisionId,
    requested: u32,
    /// Its process: name, and when it is ready.
    replicas: Vec<(String, u64)>,
    /// When processes that were told to end are gone.
    ending: Vec<u64>,
    client: bool,
    /// When the request that runs is answered.
    in_flight: Option<u64>,
    /// Since when a request waits.
    queued: Option<u64>,
    longest_wait: u64,
    answered: u64,
    arrived: u64,
    area: u64,
    drained: Vec<EndpointId>,
}

struct Machine {
    brain: Brain,
    now: u64,
    services: Vec<Service>,
    start: u64,
    work: u64,
    stop: u64,
    frames: u64,
    tick: u64,
    swaps: Vec<String>,
    stories: Vec<String>,
    most_used: usize,
    reporting: bool,
    born: u32,
}

fn spec_of(residence: u64) -> ScalingSpec {
    ScalingSpec {
        exclusive_group: Resolved::default_value(Some("gpu".to_owned())),
        exclusive_residence: seconds(residence),
        ..six_and_five()
    }
}

impl Machine {
    fn new(specs: Vec<ScalingSpec>) -> Self {
        let names = ["a", "b", "c", "d"];
        let mut machine = Self {
            brain: Brain::new(at(0), BrainSettings::default()),
            now: 0,
            services: Vec::new(),
            start: 1_500,
            work: 300,
            stop: 700,
            frames: 0,
            tick: 0,
            swaps: Vec::new(),
            stories: Vec::new(),
            most_used: 0,
            reporting: true,
            born: 0,
        };
        machine.event(Event::Leadership(true));
        for (name, spec) in names.iter().zip(specs) {
            let revision = revision(name, spec);
            machine.services.push(Service {
                id: revision.id.clone(),
                requested: 0,
                replicas: Vec::new(),
                ending: Vec::new(),
                client: false,
                in_flight: None,
                queued: None,
                longest_wait: 0,
                answered: 0,
                arrived: 0,
                area: 0,
                drained: Vec::new(),
            });
            machine.event(Event::Change(applied(revision)));
            machine.show(machine.services.len() - 1);
        }
        machine.event(Event::Change(Change::Activators(vec![ReporterId::new("a")])));
        machine.event(Event::Change(Change::Synced));
        // Until the data covers a window, which protects nobody but would keep idle ones.
        machine.pass(8_000);
        machine
    }

    fn event(&mut self, event: Event) {
        let mut commands = Vec::new();
        self.brain.handle(at(self.now), event, &mut commands);
        for command in commands {
            match command {
                Command::Tell(story) => {
                    if let Happening::Scaled { from, to, why } = &story.what
                        && to < from
                        && why.exclusive.is_some_and(|step| step.wanted > step.at_most)
                    {
                        self.swaps.push(story.revision.as_ref().unwrap().name().to_owned());
                    }
                    self.stories.push(story.to_string());
                }
                Command::Scale { revision, to, remove_first, .. } => {
                    let index = self.services.iter().position(|service| service.id == revision).unwrap();
                    self.scale(index, to.get(), &remove_first);
                }
            }
        }
    }

    fn scale(&mut self, index: usize, to: u32, remove_first: &[EndpointId]) {
        let (now, start, stop) = (self.now, self.start, self.stop);
        let service = &mut self.services[index];
        service.requested = to;
        while service.replicas.len() > to as usize {
            let named = service.replicas.iter().position(|(name, _)| remove_first.contains(&EndpointId::new(name)));
            service.replicas.remove(named.unwrap_or_default());
            assert!(service.in_flight.is_none(), "a request was cut");
            service.ending.push(now + stop);
        }
        while service.replicas.len() < to as usize {
            self.born += 1;
            service.replicas.push((format!("r{}", self.born), now + start));
        }
        self.show(index);
    }

    fn show(&mut self, index: usize) {
        let now = self.now;
        let service = &self.services[index];
        let endpoints: Vec<_> = service
            .replicas
            .iter()
            .map(|(name, ready)| Endpoint {
                id: EndpointId::new(name),
                address: ([127, 0, 0, 1], 80).into(),
                state: if *ready <= now { EndpointState::Ready } else { EndpointState::Starting },
                early_probe: None,
            })
            .collect();
        let ready = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Ready).count();
        let revision = service.id.clone();
        let counts = Change::Replicas {
            revision: revision.clone(),
            requested: Replicas::new(service.requested),
            ready: Replicas::new(u32::try_from(ready).unwrap()),
            terminating: Replicas::new(u32::try_from(service.ending.len()).unwrap()),
            trouble: None,
            foreign: None,
        };
        self.event(Event::Change(Change::Endpoints { revision, version: now, endpoints: endpoints.into() }));
        self.event(Event::Change(counts));
    }

    fn frame(&mut self, urgent: bool) {
        self.frames += 1;
        let header = FrameHeader {
            reporter: ReporterId::new("a"),
            boot: 1,
            tick: self.tick,
            seq: self.frames,
            at: Millis(self.now),
            leaving: false,
            draining: false,
            sharing: None,
            urgent,
            complete: false,
        };
        let row = |(n, service): (u32, &Service)| Row {
            n,
            area: RequestMillis(service.area),
            requests: service.arrived,
            in_flight: u32::from(service.in_flight.is_some()),
            queued: u32::from(service.queued.is_some()),
            endpoints_version: 0,
            endpoints: service
                .replicas
                .iter()
                .map(|(name, _)| (EndpointId::new(name), u32::from(service.in_flight.is_some())))
                .collect(),
            drained: service.drained.clone(),
            held: Vec::new(),
            unreachable: Vec::new(),
        };
        let rows = (0..).zip(&self.services).map(row).collect();
        let names = (0..).zip(&self.services).map(|(n, service)| (n, service.id.clone())).collect();
        self.event(Event::Frame(FrameChunk { header, rows, names, last: true }));
        let ack = self.brain.ack(at(self.now), &ReporterId::new("a"));
        for service in &mut self.services {
            let told = ack.drain.iter().filter(|(id, _)| *id == service.id);
            service.drained = told.flat_map(|(_, endpoints)| endpoints.clone()).collect();
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += 10;
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut urgent = false;
        for index in 0..self.services.len() {
            let service = &mut self.services[index];
            let ended = service.ending.iter().any(|gone| *gone <= now);
            service.ending.retain(|gone| *gone > now);
            if ended || service.replicas.iter().any(|(_, ready)| *ready == now) {
                self.show(index);
            }
            let service = &mut self.services[index];
            service.area += 10 * (u64::from(service.in_flight.is_some()) + u64::from(service.queued.is_some()));
            if service.in_flight.is_some_and(|until| until <= now) {
                service.in_flight = None;
                service.answered += 1;
            }
            if service.client && service.in_flight.is_none() && service.queued.is_none() {
                service.arrived += 1;
                service.queued = Some(now);
            }
            let open =
                |(name, ready): &(String, u64)| *ready <= now && !service.drained.contains(&EndpointId::new(name));
            if let Some(since) = service.queued {
                if service.replicas.iter().any(open) && service.in_flight.is_none() {
                    (service.queued, service.in_flight) = (None, Some(now + self.work));
                    service.longest_wait = service.longest_wait.max(now - since);
                } else {
                    urgent |= since == now;
                }
            }
        }
        if urgent && self.reporting {
            self.frame(true);
        }
        if now.is_multiple_of(1000) {
            self.tick += 1;
            if self.reporting {
                self.frame(false);
            }
        }
        if now.is_multiple_of(100) {
            self.event(Event::Tick);
        }
        let used: usize = self.services.iter().map(|service| service.replicas.len() + service.ending.len()).sum();
        self.most_used = self.most_used.max(used);
    }

    fn status(&self, name: &str) -> RevisionStatus {
        self.brain.statuses(at(self.now)).into_iter().find(|status| status.name == name).unwrap()
    }

    fn requested(&self) -> Vec<u32> {
        self.services.iter().map(|service| service.requested).collect()
    }
}

#[test]
fn a_request_for_one_without_a_slot_makes_the_idle_one_leave() {
    let mut machine = Machine::new(vec![spec_of(30), spec_of(30)]);
    machine.services[0].client = true;
    machine.pass(10_000);
    machine.services[0].client = false;
    machine.pass(3_000);
    assert_eq!(machine.requested(), [1, 0], "it would stay for window and retention");
    machine.services[1].client = true;
    machine.pass(100);
    let (a, b) = (machine.status("a"), machine.status("b"));
    assert_eq!((a.mode, a.reason.as_str()), (Activity::Draining, "makes room in group gpu for default/b"));
    assert_eq!(
        (b.mode, b.reason.as_str()),
        (Activity::Waiting, "waits for a slot of group gpu, held by default/a"),
        "before its residence, for it is idle"
    );
    machine.pass(5_000);
    assert_eq!((machine.requested(), machine.most_used), (vec![0, 1], 1));
    assert_eq!(machine.swaps, ["a"]);
    assert_eq!(machine.status("a").mode, Activity::Asleep, "its average is no claim");
    // Told in the answer to the frame that brought the claim, confirmed by the next one; then the stop and the start.
    assert!(machine.services[1].longest_wait < 1_100 + 700 + 1_500, "{}", machine.services[1].longest_wait);
    let story = |text: &str| machine.stories.iter().any(|story| story == text);
    assert!(story("default/b: waits for a slot of group gpu, held by default/a"), "{:#?}", machine.stories);
    assert!(story("default/a: makes room in group gpu for default/b"));
    assert!(story("default/a: scaled 1 -> 0 because makes room in its exclusive group"));
}

#[test]
fn under_steady_load_of_all_everybody_has_a_turn() {
    for (slots, bound) in [(1, 2), (2, 1)] {
        let spec = ScalingSpec { exclusive_slots: Resolved::default_value(Replicas::new(slots)), ..spec_of(10) };
        let mut machine = Machine::new(vec![spec.clone(), spec.clone(), spec]);
        machine.services.iter_mut().for_each(|service| service.client = true);
        machine.pass(200_000);
        assert_eq!(machine.most_used, slots as usize, "never more, and never less than there are");
        for service in &machine.services {
            // Others have 10 s each from ready on; each change is a drain of two frames, a stop and a start.
            let turn = 10_000 + 2_500 + machine.work + machine.stop + machine.start;
            assert!(service.longest_wait < bound * turn + 3_000, "{} ms", service.longest_wait);
            assert!(service.answered > 100, "{}", service.answered);
        }
        assert!(machine.swaps.len() > 10, "{:?}", machine.swaps);
    }
}

#[test]
fn one_with_work_keeps_its_slot_for_its_residence() {
    let mut machine = Machine::new(vec![spec_of(20), spec_of(20)]);
    machine.services[0].client = true;
    machine.pass(2_000);
    let ready = machine.now;
    machine.services[1].client = true;
    machine.pass(17_000);
    assert_eq!(machine.requested(), [1, 0]);
    machine.pass(6_000);
    assert_eq!(machine.requested(), [0, 1]);
    assert!(machine.services[1].longest_wait + ready > 19_000);
}

/// Scale-down delay, min-scale and the time after a restart keep replicas from leaving for nothing, not from making room.
#[test]
fn what_is_only_a_wish_protects_nobody() {
    let wish = ScalingSpec {
        min_scale: Resolved::new(Replicas::ONE, domain::Origin::Annotation),
        scale_down_delay: seconds(3_600),
        stable_window: seconds(600),
        ..spec_of(30)
    };
    let mut machine = Machine::new(vec![wish, spec_of(30)]);
    assert_eq!(machine.requested(), [1, 0], "min-scale takes a free slot");
    machine.services[1].client = true;
    machine.pass(5_000);
    assert_eq!(machine.requested(), [0, 1]);
    assert_eq!(machine.status("a").mode, Activity::Waiting);
    machine.services[1].client = false;
    machine.pass(60_000);
    assert_eq!(machine.requested(), [1, 0], "it comes back when the slot is free, and makes nobody leave for that");
    assert_eq!(machine.swaps, ["a"]);
}

#[test]
fn nobody_makes_room_while_an_activator_is_silent() {
    let mut machine = Machine::new(vec![spec_of(1), spec_of(1)]);
    machine.services[0].client = true;
    machine.pass(5_000);
    machine.services[0].client = false;
    machine.pass(400);
    machine.services[1].client = true;
    machine.pass(20);
    machine.reporting = false;
    // One that told a claim is heard, and silent from then on: what it carries is not known.
    machine.pass(30_000);
    assert_eq!(machine.requested(), [1, 0]);
    machine.reporting = true;
    machine.pass(10_000);
    assert_eq!(machine.requested(), [0, 1]);
}

#[test]
fn a_claim_that_ends_takes_the_drain_back() {
    let mut machine = Machine::new(vec![spec_of(1), spec_of(1)]);
    machine.services[0].client = true;
    machine.work = 10_000;
    machine.pass(5_000);
    machine.services[1].client = true;
    machine.pass(1_500);
    assert_eq!(machine.status("a").mode, Activity::Draining);
    assert!(!machine.services[0].drained.is_empty());
    // Its client hangs up.
    machine.services[1].client = false;
    machine.services[1].queued = None;
    machine.pass(1_000);
    assert!(!machine.services[0].drained.is_empty(), "it may try again");
    machine.pass(2_500);
    assert!(machine.services[0].drained.is_empty(), "it is sent requests again");
    machine.pass(20_000);
    assert_eq!((machine.requested(), machine.swaps.len()), (vec![1, 0], 0));
}

#[test]
fn one_that_is_gone_leaves_its_slot() {
    let mut machine = Machine::new(vec![spec_of(600), spec_of(600)]);
    machine.services[0].client = true;
    machine.pass(3_000);
    machine.services[1].client = true;
    machine.pass(3_000);
    assert_eq!(machine.requested(), [1, 0]);
    let id = machine.services[0].id.clone();
    machine.services[0].client = false;
    machine.event(Event::Change(Change::Deleted(id)));
    assert_eq!(machine.services[1].requested, 1, "in the same call");
}

#[test]
fn a_paused_one_is_not_woken_beside_another() {
    let mut machine = Machine::new(vec![spec_of(600), spec_of(600)]);
    machine.services[0].client = true;
    machine.pass(3_000);
    let paused = Revision { mode: Mode::Paused, ..revision("b", spec_of(600)) };
    machine.event(Event::Change(applied(paused)));
    machine.services[1].client = true;
    machine.pass(3_000);
    assert_eq!(machine.requested(), [1, 0]);
    machine.services[0].client = false;
    machine.pass(6_000);
    assert_eq!(machine.requested(), [0, 1]);
}

#[test]
fn members_that_disagree_about_the_slots_are_told() {
    let two = ScalingSpec { exclusive_slots: Resolved::default_value(Replicas::new(2)), ..spec_of(30) };
    let machine = Machine::new(vec![two, spec_of(30)]);
    let status = machine.status("a");
    let condition = status.conditions.iter().find(|condition| condition.kind == "Slots").expect("a condition");
    assert!(condition.message.contains("this one says 2"), "{}", condition.message);
    assert!(machine.status("b").conditions.iter().all(|condition| condition.kind != "Slots"));
}
