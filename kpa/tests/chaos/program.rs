//! The built program under test: started, asked, measured and ended; and what /proc tells about it and its replicas.
//!
//! Invariant: a process is taken for one of ours only if its environment carries this run's mark.

use crate::clock;
use crate::services::MARK;
use crate::support::{PATIENCE as LOOKING, Running, http_get, kpa};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// What has not happened by then never will: long enough for a machine that stands still for minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(LOOKING.as_secs() * 6);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// Looks at what a process holds.
const LOOKS: u32 = 50;

/// Milliseconds since the machine was started: one clock for every process.
pub(crate) fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("/proc tells the uptime");
    (seconds * 1_000.0).round() as u64
}

/// Waits until `look` gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= until {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        sleep(LOOK).await;
    }
}

/// Where replicas listen: outside of the default range and of the machine's ephemeral ports, in one of a few parts. A replica
/// that refuses gives its port up for a moment, and another kpa on this machine might take it: then one run's requests
/// would reach the other's replicas.
const PORTS: std::ops::Range<u32> = 30_000..32_750;
/// Ports of one run: those that rest after use are far fewer.
const PORTS_PER_RUN: u32 = 250;

/// Where the program lives and listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Place {
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.folder.join("services")
    }

    pub(crate) fn ledgers(&self) -> PathBuf {
        self.folder.join("ledgers")
    }

    /// What the wall clock of the program shows.
    pub(crate) fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The program's log, over all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The last lines of it.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = self.log();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How often the program's log says so.
    pub(crate) fn logged(&self, words: &str) -> usize {
        self.log().lines().filter(|line| line.ends_with(words)).count()
    }

    async fn get(&self, path: &'static str) -> Option<String> {
        let admin = self.admin;
        let answer = spawn_blocking(move || http_get(admin, "admin", path)).await.ok()??;
        answer.0.starts_with("HTTP/1.1 200").then_some(answer.1)
    }

    /// The metrics' sums over all their labels.
    pub(crate) async fn metrics(&self) -> Option<BTreeMap<String, f64>> {
        let page = self.get("/metrics").await?;
        let mut sums = BTreeMap::new();
        for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name.to_owned()).or_insert(0.0) += value.parse::<f64>().ok()?;
        }
        Some(sums)
    }

    /// What is not over yet: loads and counts that are not 0.
    pub(crate) async fn unrest(&self) -> Option<Vec<String>> {
        const AT_REST: [&str; 7] = [
            "activator_in_flight_requests",
            "activator_waiting_requests",
            "activator_replicas_usable",
            "autoscaler_requested_replicas",
            "autoscaler_draining_replicas",
            "autoscaler_in_flight_requests",
            "autoscaler_queued_requests",
        ];
        let metrics = self.metrics().await?;
        let value = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
        Some(AT_REST.iter().filter(|name| value(name) != 0.0).map(|name| format!("{name} {}", value(name))).collect())
    }
}

/// A running kpa.
pub(crate) struct Kpa(Running);

impl Kpa {
    /// Starts it on the folders of `place`; its log is added to the one there.
    pub(crate) fn start(place: &Place) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(place.log_file())?;
        let (listen, admin) = (place.proxy.to_string(), place.admin.to_string());
        let first = PORTS.start + std::process::id() % (PORTS.len() as u32 / PORTS_PER_RUN) * PORTS_PER_RUN;
        let ports = format!("{first}-{}", first + PORTS_PER_RUN - 1);
        let mut command = kpa(&place.folder, &["run", "services", "--state-dir", "state", "--quiet-replicas"]);
        command.args(["--listen", &listen, "--admin", &admin, "--ports", &ports]).stderr(Stdio::from(log));
        clock::give(&mut command, place)?;
        Ok(Self(Running(command.spawn()?)))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// Waits until it serves; an error when it ends instead.
    pub(crate) async fn ready(&mut self, place: &Place) -> Result<(), String> {
        let running = &mut self.0.0;
        let ended = eventually("kpa gets ready", async || match running.try_wait().ok().flatten() {
            Some(status) => Some(Some(status)),
            None => place.get("/ready").await.map(|_| None),
        });
        match ended.await? {
            None => Ok(()),
            Some(status) => Err(format!("kpa ended at its start: {status}")),
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.0.0.kill()?;
        self.0.0.wait().map(drop)
    }

    /// Whether it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.0.try_wait().ok().flatten()
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(mut self) -> Result<ExitStatus, String> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).map_err(|error| error.to_string())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).map_err(|error| error.to_string())?;
        let running = &mut self.0.0;
        eventually("kpa ends", async || running.try_wait().ok().flatten()).await
    }
}

/// What a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Open descriptors by kind; log files of replicas, whose number is bounded and not that of now, are left out.
    pub(crate) descriptors: BTreeMap<String, usize>,
    pub(crate) resident_kib: u64,
}

impl Held {
    /// What process `pid` holds at rest: of each kind the least seen in several looks, because a question of ours may be
    /// just ending.
    pub(crate) async fn at_rest(pid: u32, state: &Path) -> io::Result<Self> {
        let mut least = Self::by(pid, state)?;
        for _ in 0..LOOKS {
            sleep(LOOK).await;
            let now = Self::by(pid, state)?;
            least.resident_kib = least.resident_kib.min(now.resident_kib);
            for (kind, count) in &mut least.descriptors {
                *count = now.descriptors.get(kind).map_or(0, |now| (*count).min(*now));
            }
            least.descriptors.retain(|_, count| *count > 0);
        }
        Ok(least)
    }

    /// Now, without the log files of the replicas, which are in `state`.
    fn by(pid: u32, state: &Path) -> io::Result<Self> {
        let logs = state.join("logs");
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if target.starts_with(&logs) || target == Path::new("/dev/full") {
                continue;
            }
            let text = target.to_string_lossy();
            // "socket:[123]" and the like are kinds with a number.
            let kind = text.split(":[").next().unwrap_or(&text);
            // A file that was deleted while it is open, as the lock of a lost folder.
            let kind = kind.trim_end_matches(" (deleted)");
            *descriptors.entry(kind.to_owned()).or_insert(0) += 1;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident_kib = resident.and_then(|kib| kib.parse().ok()).unwrap_or(u64::MAX);
        Ok(Self { descriptors, resident_kib })
    }
}

/// Whether process `pid` lives and carries the mark of the run.
pub(crate) fn is_ours(pid: i32, mark: &str) -> bool {
    let marked = format!("{MARK}={mark}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == marked.as_bytes())
}

/// Every process that carries the mark of the run.
pub(crate) fn all_ours(mark: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_ours(*pid, mark)).collect()
}
