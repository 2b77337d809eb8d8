//! Reaps what we were given: as a subreaper (or as process 1) we become the parent of replicas' daemonised helpers.
//!
//! Invariant: it reaps one process at a time and by its id, and only one that nobody else has reaped for a whole
//! period; `waitpid(-1)` would steal the exit statuses of children that somebody waits for.

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use procfs::process::Process;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a zombie may stay before it is nobody's.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// Makes this process the parent of all orphaned descendants. One that is process 1 is that already.
pub(crate) fn adopt() -> Result<(), nix::Error> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// A zombie by id and start time.
pub(crate) type Zombie = (i32, u64);

/// Zombies among our children now.
pub(crate) fn zombies() -> BTreeSet<Zombie> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return BTreeSet::new() };
    let children = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<i32> =
        children.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    pids.into_iter()
        .filter_map(|pid| {
            let stat = Process::new(pid).ok()?.stat().ok()?;
            (stat.state == 'Z').then_some((pid, stat.starttime))
        })
        .collect()
}

/// Reaps what was a zombie in `before` and is one still; gives the zombies there are now.
pub(crate) fn reap(before: &BTreeSet<Zombie>) -> BTreeSet<Zombie> {
    let now = zombies();
    for (pid, _) in now.intersection(before) {
        // Somebody may have been faster.
        let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
    }
    now
}

/// Reaps for ever.
pub(crate) async fn run() {
    let mut seen = BTreeSet::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        seen = reap(&seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_what_nobody_waited_for_is_reaped() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ours = |zombies: &BTreeSet<Zombie>| zombies.iter().copied().find(|(found, _)| *found == pid);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let zombie = loop {
            if let Some(zombie) = ours(&zombies()) {
                break zombie;
            }
            assert!(tokio::time::Instant::now() < deadline, "no zombie");
            std::thread::yield_now();
        };
        // Seen for the first time: left to whoever started it.
        assert!(ours(&reap(&BTreeSet::new())).is_some());
        assert!(ours(&zombies()).is_some());
        reap(&BTreeSet::from([zombie]));
        assert!(ours(&zombies()).is_none());
        assert!(child.wait().is_err());
    }
}
