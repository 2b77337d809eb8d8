//! Pods as real child processes, each on an address of its own.
//!
//! Invariant: no process outlives its pod's future or this kubelet. Only the readiness probe is honoured, of one container.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use super::super::pods::since_then;
use super::command::{CommandLine, command_line, only_container};
use super::probe::Readiness;
use super::{BackOff, Ended, Kubelet, Life, Orders, Reports, Seen, State, crash_loop};

/// Addresses of one kubelet before they are used again: x.y.0.1 to x.y.255.254.
const ADDRESSES: u32 = 65_534;
/// What a process has at least after a preStop hook that took all of its grace.
const GRACE_LEAST: Duration = Duration::from_secs(2);

/// Where processes live.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The first two numbers of their addresses, all of which this machine must have. Default: 127 and one from the id of
    /// this process, so that tests side by side rarely meet.
    pub network: [u8; 2],
    /// Whether stdout and stderr go where this process's go. Default false: nowhere.
    pub shows_output: bool,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        let network = u8::try_from(std::process::id() % 254 + 1).unwrap_or(1);
        Self { network: [127, network], shows_output: false }
    }
}

/// Process groups that run; killed when the last holder goes.
#[derive(Debug, Default)]
struct Groups(Mutex<BTreeSet<i32>>);

impl Groups {
    fn end_all(&self) {
        for group in std::mem::take(&mut *self.0.lock()) {
            // One that is gone already is no problem.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// A kubelet that starts a process per pod.
#[derive(Debug)]
pub struct Processes {
    options: ProcessOptions,
    addresses: AtomicU32,
    groups: Arc<Groups>,
}

impl Processes {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(options: ProcessOptions) -> Self {
        Self { options, addresses: AtomicU32::new(0), groups: Arc::default() }
    }

    /// Process ids of what runs now, one per pod.
    #[must_use]
    pub fn running(&self) -> Vec<i32> {
        self.groups.0.lock().iter().copied().collect()
    }

    fn address(&self) -> IpAddr {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed) % ADDRESSES + 1;
        let ([first, second], [_, _, high, low]) = (self.options.network, number.to_be_bytes());
        Ipv4Addr::new(first, second, high, low).into()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.groups.end_all();
    }
}

impl Kubelet for Processes {
    fn run(&self, pod: Arc<Pod>, orders: Orders, reports: Reports) -> Life {
        let address = self.address();
        let seen = Seen {
            ips: vec![address],
            state: State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() },
            ready: false,
            restarts: 0,
            last: None,
        };
        let shows_output = self.options.shows_output;
        let run = Run { pod, address, orders, reports, seen, shows_output, groups: Arc::clone(&self.groups) };
        Box::pin(run.live())
    }

    fn end_now(&self) {
        self.groups.end_all();
    }
}

/// A started process; its group is killed when this is dropped.
struct Started {
    child: Child,
    group: i32,
    groups: Arc<Groups>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.groups.0.lock().remove(&self.group) {
            self.signal(Signal::SIGKILL);
        }
    }
}

impl Started {
    fn signal(&self, signal: Signal) {
        // Gone already is what was wanted.
        let _ = killpg(Pid::from_raw(self.group), signal);
    }
}

struct Run {
    pod: Arc<Pod>,
    address: IpAddr,
    orders: Orders,
    reports: Reports,
    seen: Seen,
    shows_output: bool,
    groups: Arc<Groups>,
}

/// Why a run is over.
enum Over {
    Exited(ExitStatus),
    Stopped,
}

impl Run {
    async fn live(mut self) {
        self.reports.tell(&self.seen).await;
        let wanted = command_line(&self.pod, self.address).and_then(|line| {
            let container = only_container(&self.pod)?.clone();
            // Made only to be judged before anything is started.
            Readiness::new(&container, self.address)?;
            Ok((line, container))
        });
        let (line, container) = match wanted {
            Ok(wanted) => wanted,
            Err(message) => {
                self.wait_with("CreateContainerConfigError", message).await;
                self.orders.stop().await;
                return;
            }
        };
        let mut back_off = BackOff::new();
        loop {
            let started = self.reports.now();
            let over = match self.start(&line) {
                Ok(process) => self.attend(process, &container).await,
                Err(error) => {
                    self.wait_with("RunContainerError", format!("{}: {error}", line.program)).await;
                    Over::Exited(ExitStatus::from_raw(127 << 8))
                }
            };
            let Over::Exited(status) = over else { return };
            if !self.pause(status, started, &mut back_off).await {
                return;
            }
        }
    }

    async fn wait_with(&mut self, reason: &str, message: String) {
        self.seen.state = State::Waiting { reason: reason.to_owned(), message };
        self.seen.ready = false;
        self.reports.tell(&self.seen).await;
    }

    fn start(&self, line: &CommandLine) -> std::io::Result<Started> {
        let output = || if self.shows_output { Stdio::inherit() } else { Stdio::null() };
        let child = Command::new(&line.program)
            .args(&line.args)
            .envs(&line.env)
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = id.ok_or_else(|| std::io::Error::other("ended before it had an id"))?;
        self.groups.0.lock().insert(group);
        Ok(Started { child, group, groups: Arc::clone(&self.groups) })
    }

    /// Watches a process until it ends by itself or was stopped.
    async fn attend(&mut self, mut process: Started, container: &Container) -> Over {
        let Ok(mut readiness) = Readiness::new(container, self.address) else { return Over::Stopped };
        self.seen.state = State::Running(self.reports.now());
        self.seen.ready = readiness.ready;
        self.reports.tell(&self.seen).await;
        let grace = loop {
            tokio::select! {
                biased;
                status = process.child.wait() => return Over::Exited(status.unwrap_or_default()),
                grace = self.orders.stop() => break grace,
                () = readiness.changed() => {
                    self.seen.ready = readiness.ready;
                    self.reports.tell(&self.seen).await;
                }
            }
        };
        let mut kill = self.orders.clone();
        tokio::select! {
            biased;
            () = kill.kill() => {}
            () = self.stop(&mut process, container, grace, &mut readiness) => {}
        }
        process.signal(Signal::SIGKILL);
        // SIGKILL cannot be refused; an error is that it was reaped already.
        let _ = process.child.wait().await;
        Over::Stopped
    }

    /// preStop, TERM, and the rest of the grace. Readiness is probed on: a pod that still answers still serves.
    async fn stop(&mut self, process: &mut Started, container: &Container, grace: Duration, readiness: &mut Readiness) {
        let ends = Instant::now() + grace;
        let pre_stop = pre_stop(container);
        tokio::select! {
            biased;
            _ = process.child.wait() => return,
            _ = timeout_at(ends, pre_stop) => {}
            () = self.follow(readiness) => {}
        }
        process.signal(Signal::SIGTERM);
        let ends = ends.max(Instant::now() + GRACE_LEAST.min(grace));
        tokio::select! {
            biased;
            _ = timeout_at(ends, process.child.wait()) => {}
            () = self.follow(readiness) => {}
        }
    }

    /// Reports readiness for ever.
    async fn follow(&mut self, readiness: &mut Readiness) {
        loop {
            readiness.changed().await;
            self.seen.ready = readiness.ready;
            self.reports.tell(&self.seen).await;
        }
    }

    /// Reports the end and waits before the next start; false when there is none.
    async fn pause(&mut self, status: ExitStatus, started: Timestamp, back_off: &mut BackOff) -> bool {
        let finished = self.reports.now();
        let exit_code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let ended = Ended { exit_code, started, finished };
        self.seen.ready = false;
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        if policy == "Never" || (policy == "OnFailure" && exit_code == 0) {
            self.seen.state = State::Ended(ended);
            self.reports.tell(&self.seen).await;
            self.orders.stop().await;
            return false;
        }
        let pause = back_off.after(since_then(started, finished));
        self.seen.last = Some(ended);
        if !matches!(&self.seen.state, State::Waiting { reason, .. } if reason == "RunContainerError") {
            self.seen.state = crash_loop(&self.pod, pause);
        }
        self.reports.tell(&self.seen).await;
        tokio::select! {
            biased;
            _ = self.orders.stop() => false,
            () = sleep(pause) => {
                self.seen.restarts = self.seen.restarts.saturating_add(1);
                true
            }
        }
    }
}

/// The preStop hook: a sleep or a command; nothing else is carried out here.
async fn pre_stop(container: &Container) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else { return };
    if let Some(pause) = &hook.sleep {
        sleep(Duration::from_secs(u64::try_from(pause.seconds).unwrap_or(0))).await;
    } else if let Some([program, args @ ..]) = hook.exec.as_ref().and_then(|exec| exec.command.as_deref()) {
        // A hook that fails does not keep the pod, as on a real cluster.
        let _ = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).status().await;
    }
}
