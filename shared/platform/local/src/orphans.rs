//! Replicas that outlived a hard kill of their supervisor: found by their mark, ended before anything new is started.
//!
//! Invariant: a process is signalled only through a pidfd that was opened before its identity was compared, so an id
//! that was given to somebody else in between is never hit.

use crate::process::end_of;
use crate::procs::{self, Mark, Marked};
use crate::state::{Record, StateDir};
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// For a process of which nothing was written down; Kubernetes' own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Rounds of looking for what was forked while the round before was signalled.
const ROUNDS_MAX: u32 = 10;

/// A handle on exactly the process that was found, or `None` when it is gone or its id is another's now.
fn hold(found: &Marked, mark: &Mark) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(found.pid)?, PidfdFlags::empty()).ok()?;
    (procs::marked(found.pid, mark).as_ref() == Some(found)).then_some(handle)
}

/// Signals exactly the process that was found by `mark`.
pub(crate) fn signal(found: &Marked, mark: &Mark, signal: Signal) {
    if let Some(handle) = hold(found, mark) {
        send(&handle, signal);
    }
}

fn send(handle: &OwnedFd, signal: Signal) {
    let signal = if signal == Signal::SIGKILL { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
    // It may have ended by itself.
    let _ = pidfd_send_signal(handle, signal);
}

/// How long a process may take to end: what was written down of its replica in this boot of the machine.
fn grace(found: &Marked, records: &BTreeMap<String, Option<Record>>, boot_id: &str) -> Duration {
    let record = found.replica.as_ref().and_then(|replica| records.get(replica)).and_then(Option::as_ref);
    // A helper of the replica has another id than the leader that was written down, and the same grace.
    record
        .filter(|record| record.boot_id == boot_id)
        .filter(|record| record.pid != found.pid || record.start_time == found.start_time)
        .map_or(DEFAULT_GRACE, |record| record.grace)
}

/// Ends every process of an earlier life of this state directory: TERM, grace, KILL. Gives how many there were.
pub(crate) async fn reap(state: &StateDir) -> usize {
    let (records, boot_id) = (state.records(), procs::boot_id());
    let mark = Mark { instance: state.instance().to_owned(), replica: None };
    let mut count = 0;
    for round in 0..ROUNDS_MAX {
        let found = procs::all_marked(&mark);
        if found.is_empty() {
            break;
        }
        count += found.len();
        tracing::warn!(processes = found.len(), "ending replicas that an earlier run left behind");
        let now = Instant::now();
        let mut held: Vec<(OwnedFd, Instant)> = found
            .iter()
            .filter_map(|process| {
                let grace = if round == 0 { grace(process, &records, &boot_id) } else { Duration::ZERO };
                Some((hold(process, &mark)?, now + grace))
            })
            .collect();
        for (handle, _) in &held {
            send(handle, Signal::SIGTERM);
        }
        held.sort_by_key(|(_, kill_at)| *kill_at);
        for (handle, kill_at) in held {
            end(handle, kill_at).await;
        }
    }
    for id in records.keys() {
        state.forget(id);
    }
    count
}

/// Waits for the end of a process, and makes it come at `kill_at`.
async fn end(handle: OwnedFd, kill_at: Instant) {
    let Ok(handle) = end_of(handle) else { return };
    if timeout_at(kill_at, handle.readable()).await.is_err() {
        send(handle.get_ref(), Signal::SIGKILL);
        drop(handle.readable().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_believed_only_of_the_process_that_was_written_down() {
        let record = Record { boot_id: "now".into(), pid: 7, start_time: 100, grace: Duration::from_secs(3) };
        let records = BTreeMap::from([("app-0-1-1".to_owned(), Some(record))]);
        let found = |pid, start_time, replica: &str| Marked { pid, start_time, replica: Some(replica.into()) };
        for (process, boot, expected) in [
            (found(7, 100, "app-0-1-1"), "now", 3),
            (found(8, 170, "app-0-1-1"), "now", 3),
            (found(7, 101, "app-0-1-1"), "now", 30),
            (found(7, 100, "app-0-1-1"), "earlier", 30),
            (found(7, 100, "app-0-1-2"), "now", 30),
        ] {
            assert_eq!(grace(&process, &records, boot), Duration::from_secs(expected), "{process:?} {boot}");
        }
    }

    #[test]
    fn an_id_that_changed_hands_is_not_signalled() {
        let value = procs::unique_id().unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").env(procs::INSTANCE_MARK, &value).spawn().unwrap();
        let mark = Mark { instance: value, replica: None };
        // A parent goes on as soon as its child has left the old memory; the new environment is readable a moment later.
        let found = loop {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was found");
            if let Some(found) = procs::all_marked(&mark).pop() {
                break found;
            }
            std::thread::yield_now();
        };
        let other = Marked { start_time: found.start_time + 1, ..found.clone() };
        signal(&other, &mark, Signal::SIGKILL);
        signal(&found, &Mark { instance: "another".into(), replica: None }, Signal::SIGKILL);
        assert!(hold(&other, &mark).is_none());
        assert!(child.try_wait().unwrap().is_none());
        signal(&found, &mark, Signal::SIGKILL);
        assert!(!child.wait().unwrap().success());
    }
}
