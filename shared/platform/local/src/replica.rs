//! The dull runner of one replica: starts its process, watches it, ends it as told, and says what it saw.
//!
//! Invariant: it says [`Seen::Exited`] or [`Seen::PortTaken`] exactly once, as the last thing, when every process of the
//! replica is gone, whatever still holds its pipes.

use crate::health::{Health, Verdict};
use crate::launch::Environment;
use crate::logs::{Logs, Source, Tail};
use crate::options::{OnReady, Spawn};
use crate::ports;
use crate::probe::{Prober, get};
use crate::process::{Process, Spawner};
use crate::procs::{self, Mark};
use crate::state::StateDir;
use crate::supervisor::{Failure, Launch, Seen};
use domain::EndpointId;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use platform::manifest::PreStop;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long the last words of a process that ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What every replica needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) spawner: Spawner,
    pub(crate) logs: Logs,
    pub(crate) state: Arc<StateDir>,
    pub(crate) shim: Arc<[OsString]>,
    pub(crate) spawn: Spawn,
    pub(crate) on_ready: OnReady,
    pub(crate) seen: mpsc::Sender<(EndpointId, Seen)>,
}

/// How far a replica is told to go. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Run.
    Run,
    /// preStop, then TERM.
    Stop,
    /// KILL.
    Kill,
}

/// Runs one replica from start to end.
pub(crate) async fn run(context: Context, launch: Launch, orders: watch::Receiver<Order>) {
    let id = launch.id.clone();
    let last = match start(&context, &launch).await {
        Ok((process, environment, output)) => attend(&context, launch, process, environment, output, orders).await,
        Err(seen) => seen,
    };
    context.state.forget(id.as_str());
    tell(&context, &id, last).await;
}

async fn tell(context: &Context, id: &EndpointId, seen: Seen) {
    // A supervisor that is gone does not care.
    drop(context.seen.send((id.clone(), seen)).await);
}

/// The last words of a process, and the end of its output.
struct LastWords {
    tail: Arc<Mutex<Tail>>,
    end: oneshot::Receiver<()>,
}

async fn start(context: &Context, launch: &Launch) -> Result<(Process, Environment, LastWords), Seen> {
    if !ports::is_free(launch.port) {
        return Err(Seen::PortTaken);
    }
    let environment = Environment::new(launch, context.state.instance(), &context.shim);
    let mut command = environment.command(&launch.workload.command).map_err(Seen::Exited)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: io::Error| {
        Seen::Exited(Failure { reason: None, message: format!("cannot start: {error}"), permanent: false })
    };
    let mut process = context.spawner.spawn(command).await.map_err(failed)?;
    tracing::debug!(replica = %launch.id, pid = process.pid(), port = launch.port, "started");
    tell(context, &launch.id, Seen::Started(process.pid())).await;
    let output = read_output(context, launch, &mut process).map_err(failed)?;
    // Best effort: without it the start after a hard kill still finds the process by its mark.
    if let Err(error) = context.state.record(&launch.id, process.pid(), launch.workload.termination_grace) {
        tracing::warn!(replica = %launch.id, %error, "cannot be written down");
    }
    Ok((process, environment, output))
}

fn read_output(context: &Context, launch: &Launch, process: &mut Process) -> io::Result<LastWords> {
    let (revision, slot) = (&launch.workload.id, launch.slot);
    let folder = format!("{}.{}", revision.namespace(), revision.name());
    let source = Arc::new(Source {
        label: format!("{}-{slot}", revision.name()),
        path: context.state.logs().join(folder).join(format!("{slot}.log")),
    });
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (ended, end) = oneshot::channel();
    let (stdout, stderr) = process.output();
    if let Some(stdout) = stdout {
        let pipe = Receiver::from_owned_fd(stdout.into())?;
        (context.spawn)("replica-stdout", Box::pin(context.logs.clone().read(pipe, Arc::clone(&source), None)));
    }
    if let Some(stderr) = stderr {
        let pipe = Receiver::from_owned_fd(stderr.into())?;
        let read = context.logs.clone().read(pipe, source, Some(Arc::clone(&tail)));
        let read = async move {
            read.await;
            // Whoever waited may have given up.
            let _ = ended.send(());
        };
        (context.spawn)("replica-stderr", Box::pin(read));
    }
    Ok(LastWords { tail, end })
}

/// Watches a process until it is gone.
async fn attend(
    context: &Context,
    launch: Launch,
    process: Process,
    environment: Environment,
    output: LastWords,
    mut orders: watch::Receiver<Order>,
) -> Seen {
    let id = &launch.id;
    let mark = Mark { instance: context.state.instance().to_owned(), replica: Some(id.as_str().to_owned()) };
    let prober = Prober { port: launch.port, environment: environment.clone(), spawner: context.spawner.clone() };
    let health = Health {
        prober: prober.clone(),
        leader: process.pid(),
        mark: mark.clone(),
        workload: Arc::clone(&launch.workload),
    };
    let mut told_to_end = false;
    let watching = async {
        let said = |seen| {
            if seen == Seen::Ready {
                (context.on_ready)(&launch.workload.id);
            }
            tell(context, id, seen)
        };
        match health.watch(said).await {
            Verdict::PortTaken => true,
            Verdict::Unhealthy(failure) => {
                tell(context, id, Seen::Unhealthy(failure)).await;
                std::future::pending().await
            }
        }
    };
    let port_taken = tokio::select! {
        biased;
        () = process.ended() => false,
        () = at_least(&mut orders, Order::Stop) => {
            told_to_end = true;
            stop(&process, &prober, launch.workload.pre_stop.as_ref(), &mut orders).await;
            false
        }
        taken = watching => taken,
    };
    let status = process.reap().await;
    sweep(mark).await;
    // A program that could not bind its port ends; the port tells whether that was why.
    let owned_by_a_stranger = || !told_to_end && !ports::is_free(launch.port);
    if port_taken || owned_by_a_stranger() {
        return Seen::PortTaken;
    }
    drop(timeout(LAST_WORDS, output.end).await);
    let words = environment.redact(output.tail.lock().last());
    Seen::Exited(Failure { reason: None, message: describe(status, &words), permanent: false })
}

/// Waits until the order is at least `order`. A supervisor that is gone wants nothing to be left running.
async fn at_least(orders: &mut watch::Receiver<Order>, order: Order) {
    let _ = orders.wait_for(|now| *now >= order).await;
}

/// preStop, TERM to the group, and KILL when it is ordered; returns when the leader has ended.
async fn stop(process: &Process, prober: &Prober, pre_stop: Option<&PreStop>, orders: &mut watch::Receiver<Order>) {
    let gently = async {
        if let Some(pre_stop) = pre_stop {
            run_pre_stop(pre_stop, prober).await;
        }
        process.signal(Signal::SIGTERM);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = process.ended() => return,
        () = at_least(orders, Order::Kill) => {}
        () = gently => {}
    }
    process.signal(Signal::SIGKILL);
    process.ended().await;
}

/// The hook has as long as the replica has to end; the supervisor's KILL cuts it short.
async fn run_pre_stop(pre_stop: &PreStop, prober: &Prober) {
    match pre_stop {
        PreStop::Exec(command) => {
            prober.run(command, Duration::MAX).await;
        }
        PreStop::Http { port, path } => {
            // As for a kubelet, a hook that fails stops nothing.
            drop(get((Ipv4Addr::LOCALHOST, port.unwrap_or(prober.port)).into(), path, &[]).await);
        }
        PreStop::Sleep(span) => tokio::time::sleep(*span).await,
    }
}

/// Kills what left the group and still carries the replica's mark.
async fn sweep(mark: Mark) {
    let swept = tokio::task::spawn_blocking(move || {
        for left in procs::all_marked(&mark) {
            crate::orphans::signal(&left, &mark, Signal::SIGKILL);
        }
    });
    // It fails only when the runtime is going away.
    drop(swept.await);
}

fn describe(status: io::Result<ExitStatus>, words: &str) -> String {
    let mut text = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("ended ({error})"),
    };
    if !words.is_empty() {
        text.push_str(": ");
        text.push_str(words);
    }
    text
}
