//! The run in its order: a warm-up to compare with, the load with faults, rest and end; then kpa is killed and starts again.
//!
//! Invariant: whatever happens, every process of the run is ended and what was found is reported.

use crate::clients::{Book, Client, Crowd, Load};
use crate::clock;
use crate::faults::Hand;
use crate::ledger::Ledger;
use crate::plan::{ALL, Fault, Plan, is_active};
use crate::program::{Held, Kpa, Place, all_ours, eventually, uptime_ms};
use crate::report::Report;
use crate::rude::{self, RUDE};
use crate::services::{Manifests, TABLE};
use crate::support::free_address;
use parking_lot::Mutex;
use runtime::Tasks;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Load before the first look at what kpa holds.
const WARM_UP: Duration = Duration::from_secs(3);
/// Load before and after kpa is killed.
const AROUND_KILL: Duration = Duration::from_secs(2);
/// How often it is looked which services are asked for.
const PACE: Duration = Duration::from_millis(100);
/// The service whose first log file leads nowhere from the beginning.
const LOGLESS: usize = 1;

/// Everything of one run.
struct Run {
    place: Place,
    mark: String,
    seed: u64,
    book: Arc<Mutex<Book>>,
    hand: Hand,
    report: Report,
}

/// Does it all; true when nothing was wrong.
pub(crate) async fn run(seed: u64, length: Duration, edits: usize) -> bool {
    let mut folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the run");
    let place = Place {
        folder: folder.path().canonicalize().expect("a folder that exists"),
        proxy: free_address(),
        admin: free_address(),
    };
    let mark = format!("{seed}-{}", std::process::id());
    let hand = Hand { place: place.clone(), mark: mark.clone(), history: Arc::default(), hits: Arc::default() };
    let mut run = Run { place, mark, seed, book: Arc::default(), hand, report: Report::default() };
    let outcome = tokio::select! {
        biased;
        error = told_to_end() => Err(error),
        outcome = run.phases(length, edits) => outcome,
    };
    if let Err(error) = outcome {
        run.report.wrong(error);
    }
    // A run that was given up left what it was about to look at.
    for pid in all_ours(&run.mark) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let ledger = read_ledgers(&run.place.ledgers());
    let (history, hits) = (run.hand.history.lock().clone(), run.hand.hits.lock().clone());
    let book = std::mem::take(&mut *run.book.lock());
    let passed = run.report.end(&book, &ledger, &history, &hits, &run.place);
    folder.disable_cleanup(!passed);
    passed
}

/// Waits for whoever has enough of it; kpa and the replicas must not outlive the run.
async fn told_to_end() -> String {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else { return "no signals can be followed".into() };
    tokio::select! {
        biased; // Both mean the same.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    "ended by a signal".into()
}

impl Run {
    async fn phases(&mut self, length: Duration, edits: usize) -> Result<(), String> {
        let place = self.place.clone();
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        fs::create_dir_all(place.manifests()).map_err(failed("manifests"))?;
        fs::create_dir_all(place.ledgers()).map_err(failed("ledgers"))?;
        let manifests =
            Manifests::new(&place.manifests(), &place.ledgers(), &self.mark).map_err(failed("manifests"))?;
        self.hand.fill_logs(LOGLESS).map_err(failed("logs"))?;

        let mut kpa = Kpa::start(&place).map_err(failed("kpa"))?;
        kpa.ready(&place).await?;
        self.load('w', WARM_UP, |_, _| true).await;
        self.rest(&mut kpa, "after the warm-up").await?;
        let before = Held::at_rest(kpa.pid(), &place.state()).await.map_err(failed("/proc"))?;

        let mut plan = Plan::new(self.seed, length, edits);
        if clock::library().is_none() {
            println!("  no libfaketime: the wall clock does not jump");
            plan.strokes.retain(|stroke| !matches!(stroke.fault, Fault::MoveClock { .. }));
        }
        let planned: BTreeSet<&str> = plan.strokes.iter().map(|stroke| stroke.fault.name()).collect();
        let strikes = self.hand.clone().strike(plan.strokes.clone());
        let edits = self.hand.clone().edit(plan, manifests, length);
        let ((), (), edited) = tokio::join!(self.load('c', length, is_active), strikes, edits);
        edited?;
        let hits = self.hand.hits.lock().clone();
        for kind in planned.into_iter().filter(|kind| !hits.contains_key(kind)) {
            self.report.wrong(format!("no replica was ever {kind}: the run has tried less than it says"));
        }
        if clock::library().is_some() && !clock::was_moved(&place.log()) {
            self.report.wrong("the log does not show that the wall clock was moved".into());
        }
        self.rest(&mut kpa, "after the load").await?;
        let after = Held::at_rest(kpa.pid(), &place.state()).await.map_err(failed("/proc"))?;
        self.report.compare(&before, &after);
        self.end(kpa).await?;
        self.killed().await
    }

    /// kpa is killed under load, and starts again on what it left.
    async fn killed(&mut self) -> Result<(), String> {
        let place = self.place.clone();
        let mut first = Kpa::start(&place).map_err(|error| format!("kpa: {error}"))?;
        first.ready(&place).await?;
        let length = AROUND_KILL * 2;
        let history = Arc::clone(&self.hand.history);
        let mark = self.mark.clone();
        let again = async {
            sleep(AROUND_KILL).await;
            let earlier = all_ours(&mark);
            let from = uptime_ms();
            first.kill().map_err(|error| format!("kill: {error}"))?;
            let to = uptime_ms();
            let mut second = Kpa::start(&place).map_err(|error| format!("kpa: {error}"))?;
            second.ready(&place).await?;
            history.lock().kpa_killed = Some((from, to, uptime_ms()));
            let left: Vec<i32> = earlier.iter().copied().filter(|pid| all_ours(&mark).contains(pid)).collect();
            Ok::<_, String>((second, earlier.len(), left))
        };
        let ((), second) = tokio::join!(self.load('k', length, |_, _| true), again);
        let (second, earlier, left) = second?;
        if earlier == 0 {
            self.report.wrong("no replica was running when kpa was killed".into());
        }
        if !left.is_empty() {
            self.report.wrong(format!("replicas of the killed kpa still run beside the next one: {left:?}"));
        }
        self.end(second).await
    }

    /// Load for so long on the services that `is_active` says.
    async fn load(&self, phase: char, length: Duration, is_active: impl Fn(usize, Duration) -> bool) {
        let at =
            |since: Duration| Load { active: std::array::from_fn(|service| is_active(service, since)), over: false };
        let (sender, load) = watch::channel(at(Duration::ZERO));
        let tasks = Tasks::new();
        let (proxy, book) = (self.place.proxy, Arc::clone(&self.book));
        let crowd = Crowd { proxy, tasks: tasks.clone(), load, book, seed: self.seed, phase };
        let mut clients = JoinSet::new();
        let services = (0..ALL).flat_map(|service| std::iter::repeat_n(service, TABLE[service].clients));
        for (number, service) in services.enumerate() {
            clients.spawn(Client::new(crowd.clone(), service, number).run());
        }
        for number in 0..RUDE {
            clients.spawn(rude::run(crowd.clone(), number));
        }
        let begin = Instant::now();
        while begin.elapsed() < length {
            sender.send_if_modified(|load| {
                let now = at(begin.elapsed());
                let differs = now != *load;
                *load = now;
                differs
            });
            sleep_until((begin + length).min(Instant::now() + PACE)).await;
        }
        sender.send_modify(|load| load.over = true);
        while clients.join_next().await.is_some() {}
        tasks.wait().await;
    }

    /// Waits until nothing is asked for any more, no replica is left, and kpa says so.
    async fn rest(&mut self, kpa: &mut Kpa, when: &str) -> Result<(), String> {
        let mut last = String::new();
        let (place, mark) = (&self.place, &self.mark);
        let rested = eventually("rest", async || {
            if let Some(status) = kpa.ended() {
                return Some(Err(format!("kpa ended: {status}")));
            }
            let (unrest, replicas) = (place.unrest().await?, all_ours(mark));
            last = format!("{unrest:?}, replicas {replicas:?}");
            (unrest.is_empty() && replicas.is_empty()).then_some(Ok(()))
        });
        let rested = rested.await.and_then(|rested| rested);
        rested.map_err(|error| format!("{when}: {error}; {last}"))
    }

    /// SIGTERM; nothing may be left.
    async fn end(&mut self, kpa: Kpa) -> Result<(), String> {
        let status = kpa.terminate().await?;
        if !status.success() {
            self.report.wrong(format!("kpa ended with {status} after SIGTERM"));
        }
        let left = all_ours(&self.mark);
        if !left.is_empty() {
            self.report.wrong(format!("replicas outlived kpa's own end: {left:?}"));
        }
        Ok(())
    }
}

fn read_ledgers(folder: &Path) -> Ledger {
    let mut ledger = Ledger::default();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        ledger.add(&entry.file_name().to_string_lossy(), &text);
    }
    ledger
}
