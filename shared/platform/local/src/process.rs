//! One child process with its group: started from one thread, its end seen before it is reaped.
//!
//! Invariant: the group is signalled only while its leader is alive or not yet reaped, so its id cannot belong to
//! anybody else; and the leader is reaped only after the rest of its group was killed.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

/// Starts waiting for the spawner's thread.
const SPAWN_QUEUE: usize = 64;

/// The thread that starts every process. A parent-death signal fires when the *thread* that spawned ends, so this one
/// lives as long as anybody holds the spawner; every running replica does.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, mut requests) = mpsc::channel::<Request>(SPAWN_QUEUE);
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            while let Some(Request { mut command, reply }) = requests.blocking_recv() {
                if let Err(Ok(orphan)) = reply.send(command.spawn()) {
                    // Nobody waits for it any more.
                    end_now(orphan);
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Starts `command` as the leader of a process group of its own.
    pub(crate) async fn spawn(&self, mut command: Command) -> io::Result<Process> {
        command.process_group(0);
        let (reply, spawned) = oneshot::channel();
        let gone = || io::Error::other("the spawner is gone");
        self.0.send(Request { command, reply }).await.map_err(|_| gone())?;
        Process::new(spawned.await.map_err(|_| gone())??)
    }
}

/// A pidfd as something to wait for: readable when the process has ended.
#[expect(deprecated, reason = "the successor is unsafe; an OwnedFd that nobody else sees keeps what it asks for")]
pub(crate) fn end_of(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn end_now(mut child: Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may be gone already.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    drop(child.wait());
}

/// A running process, or one that ended and was not reaped yet.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: i32,
    exit: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Process {
    fn new(child: Child) -> io::Result<Self> {
        let watch = |child: &Child| {
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            let raw = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("no process id"))?;
            let exit = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())?;
            Ok((pid, end_of(exit)?))
        };
        match watch(&child) {
            Ok((pid, exit)) => Ok(Self { child, pid, exit, reaped: false }),
            Err(error) => {
                end_now(child);
                Err(error)
            }
        }
    }

    /// Its id, which is its group's too.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// The reading ends of its output, if they were asked for and not taken yet.
    pub(crate) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits until the leader has ended. It is not reaped.
    pub(crate) async fn ended(&self) {
        // Readable means ended; an error can only mean that the runtime is going away, and then nobody waits.
        drop(self.exit.readable().await);
    }

    /// Signals the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only failure is a group that is gone, which is what the signal is for.
        let _ = killpg(Pid::from_raw(self.pid), signal);
    }

    /// Kills what is left of the group and reaps the leader, waiting for its end.
    pub(crate) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        self.ended().await;
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Process {
    /// Whoever gives up a process (a check that is not needed any more, a runtime that ends) leaves nothing running. One
    /// that takes long to die is reaped later, by [`crate::reaper`].
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::SIGKILL);
            drop(self.child.try_wait());
        }
    }
}
