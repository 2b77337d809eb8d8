//! What /proc tells about processes that carry one of our marks, and about who listens on a port.
//!
//! Invariant: read-only; a process that cannot be read is passed over, never guessed at.

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};
use std::collections::BTreeSet;
use std::ffi::OsStr;

/// Carries the state directory's id in the environment of a replica and all its descendants.
pub(crate) const INSTANCE_MARK: &str = "KPA_INSTANCE";
/// Carries the replica's endpoint id, which is unique within the state directory only.
pub(crate) const REPLICA_MARK: &str = "KPA_REPLICA";

/// One process. Its id alone may be given to another after its end; with the start time it is unique within a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Process id.
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
    /// The replica it belongs to, if it says so.
    pub(crate) replica: Option<String>,
}

/// What the environment of a process is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The state directory's id.
    pub(crate) instance: String,
    /// One replica, or any.
    pub(crate) replica: Option<String>,
}

/// Whether a process may listen on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The replica itself.
    Replica,
    /// Somebody else.
    Stranger,
    /// /proc does not say.
    Unknown,
}

/// This boot of the machine.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// A text nobody else has.
pub(crate) fn unique_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// When `pid` was started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    Some(Process::new(pid).ok()?.stat().ok()?.starttime)
}

/// The process `pid` if it carries `mark`.
pub(crate) fn marked(pid: i32, mark: &Mark) -> Option<Marked> {
    read_marked(&Process::new(pid).ok()?, mark)
}

fn read_marked(process: &Process, mark: &Mark) -> Option<Marked> {
    let environ = process.environ().ok()?;
    let var = |name: &str| environ.get(OsStr::new(name)).and_then(|value| value.to_str());
    let replica = var(REPLICA_MARK);
    let fits =
        var(INSTANCE_MARK) == Some(&mark.instance) && (mark.replica.is_none() || replica == mark.replica.as_deref());
    let replica = replica.map(str::to_owned);
    if fits { Some(Marked { pid: process.pid(), start_time: process.stat().ok()?.starttime, replica }) } else { None }
}

/// Every process of our own user that carries `mark`, ourselves left out.
pub(crate) fn all_marked(mark: &Mark) -> Vec<Marked> {
    let us = nix::unistd::Uid::effective().as_raw();
    let own_pid = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(processes) = all_processes() else { return Vec::new() };
    processes
        .flatten()
        .filter(|process| process.pid() != own_pid && process.uid().is_ok_and(|uid| uid == us))
        .filter_map(|process| read_marked(&process, mark))
        .collect()
}

/// Listening sockets as (port, inode).
fn listeners() -> Vec<(u16, u64)> {
    [procfs::net::tcp(), procfs::net::tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Listen)
        .map(|entry| (entry.local_address.port(), entry.inode))
        .collect()
}

fn sockets(pid: i32) -> Option<BTreeSet<u64>> {
    let files = Process::new(pid).ok()?.fd().ok()?;
    Some(
        files
            .flatten()
            .filter_map(|file| if let FDTarget::Socket(inode) = file.target { Some(inode) } else { None })
            .collect(),
    )
}

fn is_running(pid: i32) -> bool {
    Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z')
}

/// Who listens on `port`: the process `leader`, anything that carries the replica's `mark`, or somebody else.
pub(crate) fn port_owner(port: u16, leader: i32, mark: &Mark) -> Owner {
    let inodes: BTreeSet<u64> = listeners().into_iter().filter(|(at, _)| *at == port).map(|(_, inode)| inode).collect();
    if inodes.is_empty() {
        return Owner::Unknown;
    }
    let Some(own) = sockets(leader) else {
        // A replica that ended listens nowhere: whoever does is somebody else.
        return if is_running(leader) { Owner::Unknown } else { Owner::Stranger };
    };
    let owns = |sockets: BTreeSet<u64>| !sockets.is_disjoint(&inodes);
    if owns(own) || all_marked(mark).into_iter().any(|found| sockets(found.pid).is_some_and(owns)) {
        Owner::Replica
    } else {
        Owner::Stranger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_listener_belongs_to_the_process_that_holds_it() {
        let nobody = Mark { instance: "nobody".into(), replica: None };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own_pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(port_owner(port, own_pid, &nobody), Owner::Replica);

        let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        assert_eq!(port_owner(port, i32::try_from(other.id()).unwrap(), &nobody), Owner::Stranger);
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(port_owner(port, i32::try_from(other.id()).unwrap(), &nobody), Owner::Stranger, "it is gone");

        drop(listener);
        assert_eq!(port_owner(port, own_pid, &nobody), Owner::Unknown);
    }

    #[test]
    fn a_mark_is_found_in_the_environment_of_a_child() {
        let value = unique_id().unwrap();
        // Whoever has just been started may still be on its way from our image to its own, without an environment.
        let mut child = Command::new("sh")
            .args(["-c", "echo up; read end"])
            .env(INSTANCE_MARK, &value)
            .env(REPLICA_MARK, "r-1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mark = |replica: Option<&str>| Mark { instance: value.clone(), replica: replica.map(str::to_owned) };
        let found = all_marked(&mark(None));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pid, found[0].replica.as_deref()), (pid, Some("r-1")));
        assert_eq!(marked(pid, &mark(Some("r-1"))).as_ref(), found.first());
        assert_eq!(marked(pid, &mark(Some("r-2"))), None);
        let another = Mark { instance: "another".into(), replica: Some("r-1".into()) };
        assert_eq!(marked(pid, &another), None, "two instances may name their replicas alike");
        assert_eq!(start_time(pid), Some(found[0].start_time));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all_marked(&mark(None)).is_empty());
    }
}
