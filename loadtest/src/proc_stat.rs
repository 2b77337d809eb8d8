//! CPU time and memory of a process and its descendants, from /proc.
//!
//! Invariant: a process that ended in between counts as nothing, never as an error of the benchmark.

use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::io;
use std::time::Duration;

/// The fields of /proc/PID/stat that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, in clock ticks.
    ticks: u64,
    /// Resident pages.
    pages: u64,
}

/// Reads one line of /proc/PID/stat. The name in parentheses may hold anything, spaces and parentheses included.
fn parse(line: &str) -> Option<Stat> {
    let (_, fields) = line.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // proc_pid_stat(5): fields 4, 14, 15 and 24, here counted from the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks: number(14)? + number(15)?, pages: number(24)? })
}

fn stat(pid: u32) -> io::Result<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&line).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))
}

/// `root` and everything below it.
fn tree(root: u32) -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Ok(stat) = stat(pid) {
            all.push((pid, stat));
        }
    }
    let mut members = vec![root];
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        members.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(all.into_iter().filter(|(pid, _)| members.contains(pid)).map(|(_, stat)| stat).collect())
}

fn cpu(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second.max(1)))
}

/// CPU time that the process has used so far.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    Ok(cpu(stat(pid)?.ticks))
}

/// CPU time that the process and its descendants have used so far.
pub(crate) fn cpu_of_tree(pid: u32) -> io::Result<Duration> {
    Ok(cpu(tree(pid)?.iter().map(|stat| stat.ticks).sum()))
}

/// Resident memory of the process and its descendants. Pages they share count once for each.
pub(crate) fn rss_of_tree(pid: u32) -> io::Result<u64> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(4096);
    Ok(tree(pid)?.iter().map(|stat| stat.pages).sum::<u64>() * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "42 (a) R 7 (b) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 4 0 12345 1000000 321 18446744073709551615";
        assert_eq!(parse(line), Some(Stat { parent: 7, ticks: 300, pages: 321 }));
        assert_eq!(parse("42 (short) S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_tree_holds_the_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let alone = stat(child.id()).unwrap();
        assert_eq!(alone.parent, std::process::id());
        assert!(tree(std::process::id()).unwrap().len() >= 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(stat(child.id()).is_err());
        assert!(rss_of_tree(std::process::id()).unwrap() > 100_000);
    }
}
