//! A simulated cluster: two activators, two autoscalers, one machine of replicas, clients and a network between them.
//!
//! Invariant: the same seed and the same script give the same history; every step looks for what must not be.

use crate::clients::{self, Addresses, Crowd, ORDERS_MAX, Order};
use crate::cluster::{ACTIVATORS, AUTOSCALERS, Cluster};
use crate::ledger::{Call, Ledger, Write};
use crate::node::{self, Pace};
use crate::programs::{self, FRAMES, TRAFFIC, activator_name, autoscaler_name};
use domain::annotations::{Annotated, resolve};
use domain::defaults::Defaults;
use domain::{Peer, ReporterId, Revision, RevisionId};
use platform::fake::Fake;
use platform::fixed::default_revision;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use turmoil::Sim;

/// How far every host runs before the next one does. Messages are delivered between ticks.
const TICK: Duration = Duration::from_millis(10);
/// The stable window of every revision here: the shortest there is.
pub(crate) const WINDOW: Duration = Duration::from_secs(6);
/// Longest way of a message.
const LATENCY_MAX: Duration = Duration::from_millis(20);
/// Replicas are made ready by the machine that runs them, on its own clock: never by the platform's.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const FIRST_PORT: u32 = 20_000;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Annotations besides the window.
    pub(crate) annotations: &'static [(&'static str, &'static str)],
    pub(crate) pace: Pace,
}

/// How a part of the network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Messages vanish; connects are refused at once.
    Lost,
    /// Messages wait, connects hang, and all of it arrives when the network heals, as TCP repeats what was lost.
    Late,
}

/// Every scale call and every answer, with its moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) writes: Vec<Write>,
    pub(crate) calls: Vec<Call>,
}

/// The simulation and those who act in it.
pub(crate) struct World {
    sim: Sim<'static>,
    seed: u64,
    pub(crate) cluster: Arc<Cluster>,
    crowd: watch::Sender<Crowd>,
    orders: mpsc::Sender<Order>,
    listed: Vec<ReporterId>,
}

impl World {
    /// Everything is started, autoscaler 0 leads, the revision has no replica and nobody asks.
    pub(crate) fn new(seed: u64, spec: Spec) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .tick_duration(TICK)
            .max_message_latency(LATENCY_MAX)
            .simulation_duration(NEVER)
            // Also the listeners' backlog: what was held arrives all at once.
            .tcp_capacity(1024)
            .build();
        let node = sim.lookup("node");
        let fake = Fake::at(Arc::new(move |number| {
            let port = u16::try_from(FIRST_PORT + number).expect("a scenario starts a few replicas");
            SocketAddr::new(node, port)
        }));
        let revision = revision(spec.annotations);
        let ledger = Ledger::of(&revision);
        let cluster = Cluster::new(fake, revision.id.clone(), ledger);
        cluster.fake.apply(revision, NEVER);

        let addresses = Addresses {
            activators: (0..ACTIVATORS).map(|n| SocketAddr::new(sim.lookup(activator_name(n)), TRAFFIC)).collect(),
            autoscalers: (0..AUTOSCALERS).map(|n| SocketAddr::new(sim.lookup(autoscaler_name(n)), FRAMES)).collect(),
        };
        let listed: Vec<_> = (0..ACTIVATORS).map(|n| ReporterId::new(&activator_name(n))).collect();
        cluster.fake.set_activators(listed.clone());
        let peers = addresses.autoscalers.iter().enumerate();
        let peer =
            |(n, address): (usize, &SocketAddr)| Peer { id: ReporterId::new(&autoscaler_name(n)), address: *address };
        cluster.fake.set_autoscalers(peers.map(peer).collect());
        cluster.lead(Some(0));

        for number in 0..AUTOSCALERS {
            let cluster = Arc::clone(&cluster);
            sim.host(autoscaler_name(number), move || programs::run_autoscaler(Arc::clone(&cluster), number));
        }
        for number in 0..ACTIVATORS {
            let (cluster, boots) = (Arc::clone(&cluster), AtomicU64::new(1));
            sim.host(activator_name(number), move || {
                let boot = boots.fetch_add(1, Ordering::Relaxed);
                programs::run_activator(Arc::clone(&cluster), number, boot, seed + number as u64)
            });
        }
        let of_node = Arc::clone(&cluster);
        sim.host("node", move || node::run(Arc::clone(&of_node), spec.pace));
        let (crowd, in_crowd) = watch::channel(Crowd::default());
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        sim.client("clients", clients::run(Arc::clone(&cluster), addresses, in_crowd, ordered));
        Self { sim, seed, cluster, crowd, orders, listed }
    }

    /// Reads the ledger. The guard does not outlive the reading, so that a failing assertion can tell its story.
    pub(crate) fn noted<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.cluster.ledger())
    }

    /// Requests that have ended so far.
    pub(crate) fn ended(&self) -> usize {
        self.noted(|ledger| ledger.calls.len())
    }

    /// Accepted calls that changed the count, as `(before, to)`.
    pub(crate) fn steps(&self) -> Vec<(u32, u32)> {
        self.noted(Ledger::steps)
    }

    /// Replicas that the measured load needs.
    pub(crate) fn need(&self) -> u32 {
        self.noted(Ledger::need)
    }

    /// Simulated time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.step();
        }
    }

    /// Lets time pass until something is so; fails when it takes longer than `limit`.
    #[track_caller]
    pub(crate) fn until(&mut self, limit: Duration, what: &str, reached: impl Fn(&Self) -> bool) {
        let end = self.now() + limit;
        while !reached(self) {
            assert!(self.now() < end, "not within {limit:?}: {what}; {}", self.story());
            self.step();
        }
    }

    #[track_caller]
    fn step(&mut self) {
        self.sim.step().unwrap_or_else(|error| panic!("a host ended: {error}; {}", self.story()));
        let mut ledger = self.cluster.ledger();
        ledger.sample();
        let violations = ledger.violations();
        drop(ledger);
        assert!(violations.is_empty(), "{violations:#?}; {}", self.story());
    }

    /// What a person needs to understand a failure, the seed first.
    pub(crate) fn story(&self) -> String {
        let ledger = self.cluster.ledger();
        let writes: Vec<String> = ledger.writes.iter().map(show).collect();
        format!(
            "seed {}, at {:?}, {} sent, {} answered, failures {:#?}, writes {writes:#?}",
            self.seed,
            self.now(),
            ledger.sent,
            ledger.calls.len(),
            ledger.failures(),
        )
    }

    /// So many clients always have a request under way.
    pub(crate) fn load(&self, active: usize) {
        assert!(active <= clients::CROWD);
        self.crowd.send_modify(|crowd| crowd.active = active);
    }

    /// The crowd prefers one activator; `None`: half each.
    pub(crate) fn home(&self, home: Option<usize>) {
        self.crowd.send_modify(|crowd| crowd.home = home);
    }

    /// One request through one activator.
    pub(crate) fn visit(&self, via: usize) {
        self.orders.try_send(Order::Visit(via)).expect("the clients keep up");
    }

    /// What an autoscaler says of the revision, over the network.
    #[track_caller]
    pub(crate) fn ask(&mut self, autoscaler: usize) -> serde_json::Value {
        self.cluster.ledger().statuses.remove(&autoscaler);
        self.orders.try_send(Order::Ask(autoscaler)).expect("the clients keep up");
        let answered = |world: &Self| world.cluster.ledger().statuses.contains_key(&autoscaler);
        self.until(Duration::from_secs(5), "an autoscaler answers", answered);
        self.cluster.ledger().statuses[&autoscaler].clone()
    }

    /// Every request that was sent has its answer.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        self.load(0);
        self.until(Duration::from_secs(30), "every request is answered", |world| {
            world.noted(|ledger| ledger.calls.len() as u64 == ledger.sent)
        });
    }

    /// A program dies. Its peers see its connections close, as when the kernel of a living machine closes them.
    pub(crate) fn crash(&mut self, name: &str) {
        self.cluster.ledger().failed.remove(name);
        self.sim.crash(name);
    }

    /// An activator is told to leave, as by SIGTERM.
    pub(crate) fn stop(&self, name: &str) {
        let stop = self.cluster.ledger().stops.get(name).cloned();
        stop.expect("it runs").cancel();
    }

    /// A program is started again.
    pub(crate) fn start(&mut self, name: &str) {
        self.sim.bounce(name);
    }

    /// The platform lists these activators.
    pub(crate) fn list_activators(&self, which: impl IntoIterator<Item = usize>) {
        self.cluster.fake.set_activators(which.into_iter().map(|number| self.listed[number].clone()).collect());
    }

    /// Cuts activators from autoscalers.
    pub(crate) fn cut(&self, cut: Cut) {
        for (activator, autoscaler) in pairs() {
            match cut {
                Cut::Lost => self.sim.partition(activator, autoscaler),
                Cut::Late => self.sim.hold(activator, autoscaler),
            }
        }
    }

    /// Undoes [`World::cut`].
    pub(crate) fn heal(&self, cut: Cut) {
        for (activator, autoscaler) in pairs() {
            match cut {
                Cut::Lost => self.sim.repair(activator, autoscaler),
                Cut::Late => self.sim.release(activator, autoscaler),
            }
        }
    }

    /// Fails if any request was not answered 200.
    #[track_caller]
    pub(crate) fn assert_all_answered(&self) {
        assert!(self.noted(|ledger| ledger.failures().is_empty()), "{}", self.story());
    }

    /// Nothing is under way, and what these autoscalers were told of is exactly what clients sent.
    #[track_caller]
    pub(crate) fn assert_counted(&mut self, autoscalers: impl IntoIterator<Item = usize>) {
        self.settle();
        // Two frames later everybody knows.
        self.run(Duration::from_millis(2500));
        for number in autoscalers {
            let (counted, sent) = self.noted(|ledger| (ledger.counted(number), ledger.sent));
            assert_eq!(counted, sent, "autoscaler {number} counted {counted} of {sent} requests; {}", self.story());
            let status = self.ask(number);
            assert_eq!(
                (&status["inFlight"], &status["queued"]),
                (&0.into(), &0.into()),
                "{status:#}; {}",
                self.story()
            );
        }
    }

    /// What must be the same for the same seed.
    pub(crate) fn history(&self) -> History {
        self.noted(|ledger| History { writes: ledger.writes.clone(), calls: ledger.calls.clone() })
    }
}

fn pairs() -> impl Iterator<Item = (String, String)> {
    (0..ACTIVATORS).flat_map(|activator| {
        (0..AUTOSCALERS).map(move |autoscaler| (activator_name(activator), autoscaler_name(autoscaler)))
    })
}

fn show(write: &Write) -> String {
    let Write { at, caller, before, to, remove_first, accepted } = write;
    let outcome = if *accepted { "" } else { " (refused)" };
    format!("{at:?}: {caller:?} {before} -> {to}{outcome}, first {remove_first:?}")
}

/// A revision with these annotations, the shortest window and everything else by default.
fn revision(annotations: &[(&str, &str)]) -> Revision {
    let id = RevisionId::new("default", "echo");
    let key = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut metadata: BTreeMap<String, String> = annotations.iter().map(key).collect();
    metadata.insert("autoscaling.knative.dev/window".into(), format!("{}s", WINDOW.as_secs()));
    let template = BTreeMap::new();
    let annotated = Annotated { place: id.as_str(), metadata: &metadata, template: &template };
    let resolution = resolve(&annotated, &Defaults::default(), None);
    assert_eq!(resolution.problems, [], "the scenario's annotations are good");
    Revision { route: resolution.route, limits: resolution.limits, scaling: resolution.scaling, ..default_revision(id) }
}
