//! Waiting in front of replicas of limited concurrency, in simulated time: ours beside an ideal central queue.
//!
//! Invariants: both get the same arrivals and the same service times, which follow from a seed; the ideal is one queue, first
//! come first served, whose head goes to any free place at once (M/G/c); ours is the real [`Admission`], one an activator.
//! What several activators tell each other is `activator::sharing` in small: one question per pair on its way, answered as soon as
//! a slot falls to it, then one hop.

use activator_core::{Admission, Ask, Class, Part, SeatId, SeatKey, Session, Slot, TicketId, Verdict};
use domain::{EndpointId, LoadBalancing, ReporterId, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Nanoseconds since the start.
type Time = u64;

/// The mean service time.
pub(crate) const SERVICE: Time = 100_000_000;
/// One way between two activators: a datacentre's, with the work at either end.
pub(crate) const ONE_WAY: Time = 250_000;
/// What is no wait beside a service time: a question and a hop take less than half of it.
pub(crate) const SLACK: Time = SERVICE / 50;
/// How much of what the replicas can do arrives.
pub(crate) const LOAD: f64 = 0.8;
/// Slots that one question asks for at most.
const WANT_MAX: usize = 64;

/// How long requests take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Exponentially distributed: the squared coefficient of variation is 1.
    Exponential,
    /// Lognormal with sigma 1.5, as long and short generations together: it is 8.5.
    HeavyTailed,
}

/// One world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) limit: u32,
    pub(crate) replicas: u32,
    pub(crate) service: Service,
    pub(crate) activators: usize,
    /// Of the requests, those that come to the first activator; the others get equal parts of the rest.
    pub(crate) first: f64,
    /// Requests belong to so many sessions, each with a replica of its own; 0 is none.
    pub(crate) sessions: u64,
}

impl World {
    /// One activator, no sessions.
    pub(crate) const fn new(limit: u32, replicas: u32, service: Service) -> Self {
        Self { limit, replicas, service, activators: 1, first: 1.0, sessions: 0 }
    }

    /// Several activators.
    pub(crate) const fn among(self, activators: usize, first: f64) -> Self {
        Self { activators, first, ..self }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    arrives: Time,
    takes: Time,
    at: usize,
    session: Option<Session>,
}

/// Waiting times in nanoseconds, sorted.
#[derive(Debug)]
pub(crate) struct Waits(Vec<Time>);

impl Waits {
    fn of(mut waits: Vec<Time>) -> Self {
        // The queue was empty at the start, and is not on average.
        waits.drain(..waits.len() / 10);
        waits.sort_unstable();
        Self(waits)
    }

    /// What 99 of 100 do not exceed.
    #[must_use]
    pub(crate) fn p99(&self) -> Time {
        self.0[self.0.len() * 99 / 100]
    }

    #[must_use]
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<Time>() as f64 / self.0.len() as f64
    }
}

/// `count` requests of a world.
#[must_use]
pub(crate) fn jobs(world: World, count: usize, seed: u64) -> Vec<Job> {
    let mut random = SmallRng::seed_from_u64(seed);
    let places = f64::from(world.limit * world.replicas);
    let mut uniform = move || 1.0 - random.random::<f64>();
    let mut now = 0.0;
    let mut job = || {
        now -= uniform().ln() * SERVICE as f64 / (places * LOAD);
        let takes = match world.service {
            Service::Exponential => -uniform().ln(),
            Service::HeavyTailed => {
                let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                1.5_f64.mul_add(normal, -1.5 * 1.5 / 2.0).exp()
            }
        };
        let draw = uniform();
        let others = world.activators.max(2) - 1;
        let at = if draw <= world.first {
            0
        } else {
            1 + ((draw - world.first) / (1.0 - world.first) * others as f64).min(others as f64 - 1.0) as usize
        };
        // Popular ones are: the number is the square of a uniform one.
        let session = (world.sessions > 0).then(|| {
            let number = (uniform().powi(2) * world.sessions as f64) as u64;
            Session::of(&number.to_be_bytes())
        });
        Job { arrives: now as Time, takes: (takes * SERVICE as f64) as Time, at, session }
    };
    (0..count).map(|_| job()).collect()
}

/// What they wait in one queue in front of all places.
#[must_use]
pub(crate) fn ideal(world: World, jobs: &[Job]) -> Waits {
    let mut free: BinaryHeap<Reverse<Time>> = (0..world.limit * world.replicas).map(|_| Reverse(0)).collect();
    let wait = |job: &Job| {
        let Reverse(at) = free.pop().expect("a place");
        let starts = at.max(job.arrives);
        free.push(Reverse(starts + job.takes));
        starts - job.arrives
    };
    Waits::of(jobs.iter().map(wait).collect())
}

/// What happens.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request comes to its activator.
    Arrives(usize),
    /// A request ends at this activator's replica.
    Ends(usize, usize),
    /// `.0` asks `.1` for so many slots, for whoever waits there since then.
    Question(usize, usize, usize, Timestamp),
    /// `.1` answers `.0` with so many.
    Answer(usize, usize, usize),
    /// Request `.0` comes to activator `.1`, which has a slot for it.
    Hop(usize, usize),
    /// `.0` had a slot too many from an owner, which has it back.
    Back(usize),
}

/// Who waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    Job(usize),
    /// A question of an activator, for so many.
    Question(usize, usize),
}

struct Activator {
    admission: Admission<Waiter>,
    /// Slots that others have claims for.
    kept: Vec<Slot>,
    /// Whom it has asked.
    asked: Vec<bool>,
    has_replicas: bool,
}

struct Run<'a> {
    jobs: &'a [Job],
    activators: Vec<Activator>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    number: u64,
    now: Time,
    running: BTreeMap<usize, Slot>,
    waits: Vec<Time>,
}

/// What they wait with us.
#[must_use]
pub(crate) fn ours(world: World, jobs: &[Job], policy: LoadBalancing) -> Waits {
    let names: Arc<[ReporterId]> = (0..world.activators).map(|n| ReporterId::new(&format!("activator-{n}"))).collect();
    let activators = names.iter().map(|own| Activator::new(world, policy, own, &names)).collect();
    let mut run = Run {
        jobs,
        activators,
        events: BinaryHeap::new(),
        number: 0,
        now: 0,
        running: BTreeMap::new(),
        waits: vec![Time::MAX; jobs.len()],
    };
    for (index, job) in jobs.iter().enumerate() {
        run.at(job.arrives, Event::Arrives(index));
    }
    while let Some(Reverse((now, _, event))) = run.events.pop() {
        run.now = now;
        run.handle(event);
    }
    assert!(run.waits.iter().all(|wait| *wait != Time::MAX), "everybody was served");
    assert!(run.running.is_empty() && run.activators.iter().all(|activator| activator.kept.is_empty()));
    Waits::of(run.waits)
}

impl Activator {
    fn new(world: World, policy: LoadBalancing, own: &ReporterId, members: &Arc<[ReporterId]>) -> Self {
        let part = match members.len() {
            1 => Part::All,
            _ => Part::Of { own: own.clone(), members: Arc::clone(members), settled: true },
        };
        let mut admission = Admission::new(NonZeroU32::new(world.limit), u32::MAX, policy, 1);
        for number in 0..world.replicas {
            let id = EndpointId::new(&format!("model-6f7d9-{number}"));
            let seat: SeatId = admission.add_seat(SeatKey::of(&id));
            admission.set_open(seat, part.allows(&id, false, false));
        }
        let has_replicas = admission.open_seats() > 0;
        Self { admission, kept: Vec::new(), asked: vec![false; members.len()], has_replicas }
    }
}

impl Run<'_> {
    fn at(&mut self, time: Time, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrives(job) => {
                let Job { at, session, .. } = self.jobs[job];
                let ask = Ask { session, since: Timestamp::new(Duration::from_nanos(self.now)), ..Ask::default() };
                match self.activators[at].admission.admit(ask, || Waiter::Job(job)) {
                    Verdict::Go(slot) => self.start(job, at, slot),
                    Verdict::Wait(_) => self.ask(at),
                    Verdict::Full => unreachable!("there is no bound"),
                }
            }
            Event::Ends(job, at) => {
                let slot = self.running.remove(&job).expect("it runs");
                self.release(at, slot);
            }
            Event::Question(from, to, want, since) => {
                let now = Timestamp::new(Duration::from_nanos(self.now));
                let ask = Ask::of_neighbour(now, now.since(since));
                let verdict: Verdict = self.activators[to].admission.admit(ask, || Waiter::Question(from, want));
                match verdict {
                    Verdict::Go(slot) => self.lend(from, to, want, slot),
                    Verdict::Wait(TicketId { .. }) => {}
                    Verdict::Full => unreachable!("there is no bound"),
                }
            }
            Event::Answer(from, to, count) => {
                self.activators[from].asked[to] = false;
                for _ in 0..count {
                    let next = self.activators[from].admission.take_next(Class::Normal);
                    let event = match next {
                        Some(Waiter::Job(job)) => Event::Hop(job, to),
                        Some(Waiter::Question(..)) | None => Event::Back(to),
                    };
                    self.at(self.now + ONE_WAY, event);
                }
                self.ask(from);
            }
            Event::Hop(job, at) => {
                let slot = self.activators[at].kept.pop().expect("a claim");
                self.start(job, at, slot);
            }
            Event::Back(at) => {
                let slot = self.activators[at].kept.pop().expect("a claim");
                self.release(at, slot);
            }
        }
    }

    fn start(&mut self, job: usize, at: usize, slot: Slot) {
        self.waits[job] = self.now - self.jobs[job].arrives;
        self.running.insert(job, slot);
        self.at(self.now + self.jobs[job].takes, Event::Ends(job, at));
    }

    fn release(&mut self, at: usize, slot: Slot) {
        self.activators[at].admission.release(slot);
        let mut granted = Vec::new();
        self.activators[at].admission.grant(usize::MAX, &mut granted);
        for (waiter, slot) in granted {
            match waiter {
                Waiter::Job(job) => self.start(job, at, slot),
                Waiter::Question(from, want) => self.lend(from, at, want, slot),
            }
        }
    }

    /// One slot, and as many more as there are at this moment.
    fn lend(&mut self, from: usize, to: usize, want: usize, first: Slot) {
        let owner = &mut self.activators[to];
        owner.kept.push(first);
        let mut count = 1;
        while count < want
            && let Some(slot) = owner.admission.spare(Ask::default())
        {
            owner.kept.push(slot);
            count += 1;
        }
        self.at(self.now + ONE_WAY, Event::Answer(from, to, count));
    }

    /// Whoever waits asks each of the others that has replicas, once at a time.
    fn ask(&mut self, from: usize) {
        let waiting = self.activators[from].admission.waiting();
        let others: Vec<usize> =
            (0..self.activators.len()).filter(|to| *to != from && self.activators[*to].has_replicas).collect();
        let Some(since) = self.activators[from].admission.waiting_since() else { return };
        let want = waiting.div_ceil(others.len().max(1)).min(WANT_MAX);
        for to in others {
            if !std::mem::replace(&mut self.activators[from].asked[to], true) {
                self.at(self.now + ONE_WAY, Event::Question(from, to, want, since));
            }
        }
    }
}

/// A world's waiting beside the ideal.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) world: World,
    pub(crate) ideal: Waits,
    pub(crate) ours: Waits,
}

impl Compared {
    /// `count` requests that follow from `seed`.
    #[must_use]
    pub(crate) fn run(world: World, policy: LoadBalancing, count: usize, seed: u64) -> Self {
        let jobs = jobs(world, count, seed);
        Self { world, ideal: ideal(world, &jobs), ours: ours(world, &jobs, policy) }
    }

    /// Our p99 as a multiple of the ideal one; nothing where next to nobody waits ([`SLACK`]).
    #[must_use]
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, ideal) = (self.ours.p99(), self.ideal.p99());
        (ideal > SLACK).then(|| ours as f64 / ideal as f64)
    }
}

/// Every world of the table with so many activators, the first of which gets this part of the requests.
pub(crate) fn worlds(activators: usize, first: f64) -> impl Iterator<Item = World> {
    [1, 10].into_iter().flat_map(move |limit| {
        [4, 16, 64].into_iter().flat_map(move |replicas| {
            [Service::Exponential, Service::HeavyTailed]
                .map(|service| World::new(limit, replicas, service).among(activators, first))
        })
    })
}
