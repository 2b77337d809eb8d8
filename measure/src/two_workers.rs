//! Two workers of one activator on two threads, which serve requests one after the other.
//!
//! Invariant: between the two marks of a turn nothing runs but that worker, with its client and its replicas: the other thread
//! is asleep, and the kernel says so.

use crate::proxy::{Client, on_one_thread, shared};
use anyhow::Context;
use nix::sched::sched_yield;
use nix::unistd::{Pid, gettid, write};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe, stderr};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::{fs, thread};

/// One worker's thread, and how it is told that it may go on.
struct Side {
    begin: &'static [u8],
    thread: OnceLock<Pid>,
    hears: PipeReader,
    told: PipeWriter,
}

impl Side {
    fn new(begin: &'static [u8]) -> anyhow::Result<Self> {
        let (hears, told) = pipe()?;
        Ok(Self { begin, thread: OnceLock::new(), hears, told })
    }

    fn wait(&self) -> anyhow::Result<()> {
        Ok((&self.hears).read_exact(&mut [0])?)
    }

    fn tell(&self) -> anyhow::Result<()> {
        Ok((&self.told).write_all(b".")?)
    }

    /// Returns when this thread sleeps in [`Self::wait`]: what it does on its way there is part of nobody's turn.
    fn is_asleep(&self) -> anyhow::Result<()> {
        let in_read = format!(" {:#x} ", self.hears.as_raw_fd());
        loop {
            if let Some(thread) = self.thread.get() {
                let path = format!("/proc/self/task/{thread}/syscall");
                let call = fs::read_to_string(&path).with_context(|| path)?;
                // The number of the call, its first argument, and so on.
                if call.find(' ').is_some_and(|end| call[end..].starts_with(&in_read)) {
                    return Ok(());
                }
            }
            sched_yield()?;
        }
    }
}

/// So many requests each. Marks are lines on standard error: `turn 0` or `turn 1`, and `over`.
///
/// # Errors
///
/// The kernel does not say in which call a thread is.
pub(crate) fn run(limit: Option<NonZeroU32>, times: u32) -> anyhow::Result<()> {
    let shared = shared(limit);
    let (first, second) = (Side::new(b"turn 0\n")?, Side::new(b"turn 1\n")?);
    let turn = |mine: &Side, other: &Side, is_first: bool| {
        let mut done = Ok(());
        on_one_thread(async {
            done = async {
                mine.thread.get_or_init(gettid);
                let mut client = Client::warm(&shared).await;
                if !is_first {
                    mine.wait()?;
                }
                other.is_asleep()?;
                mark(mine.begin)?;
                client.get(times).await;
                mark(b"over\n")?;
                other.tell()?;
                // Not to free anything in the other's turn.
                if is_first { mine.wait() } else { Ok(()) }
            }
            .await;
        });
        done
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| turn(&second, &first, false));
        turn(&first, &second, true)?;
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Unbuffered and without the lock of the standard library's stream, which both threads would touch.
fn mark(line: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(write(stderr(), line)? == line.len(), "nobody reads the marks");
    Ok(())
}
