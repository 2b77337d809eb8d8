//! The state directory: what outlives a run of the supervisor.
//!
//! Invariant: it has one user at a time, who holds its lock; files are replaced whole, so a crash leaves the old one or
//! the new one.

use crate::options::StartError;
use crate::procs;
use domain::{EndpointId, Replicas, RevisionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is remembered in one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Grows with every start on this directory.
    pub(crate) boot: u64,
    /// The count last asked for, by revision.
    pub(crate) requested: BTreeMap<RevisionId, Replicas>,
}

/// What is written down of a running replica, for the start after a hard kill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The machine's boot.
    pub(crate) boot_id: String,
    /// The leader.
    pub(crate) pid: i32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start_time: u64,
    /// How long it may take to end after TERM.
    pub(crate) grace: Duration,
}

/// The locked directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The id that replicas carry in their environment.
    instance: String,
    /// Held as long as this value lives.
    _lock: File,
}

impl StateDir {
    /// Creates or opens the directory, locks it, and counts the start.
    pub(crate) fn open(path: &Path) -> Result<(Self, Memory), StartError> {
        let failed = |error| StartError::StateDir { dir: path.to_owned(), error };
        fs::create_dir_all(path.join("replicas")).map_err(failed)?;
        let lock = lock(path)?;
        let instance = instance(path).map_err(failed)?;
        let state = Self { path: path.to_owned(), instance, _lock: lock };
        let mut memory: Memory = read(&state.path.join("state.json")).unwrap_or_default();
        memory.boot += 1;
        state.remember(&memory).map_err(failed)?;
        Ok((state, memory))
    }

    /// The id that replicas carry in their environment.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Where replicas' output goes.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Replaces what is remembered.
    pub(crate) fn remember(&self, memory: &Memory) -> io::Result<()> {
        self.put(&self.path.join("state.json"), memory)
    }

    /// Replaces a file. A directory that somebody deleted meanwhile is made again, so that the next start still finds what
    /// this one leaves behind.
    fn put<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        match replace(path, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.path.join("replicas"))?;
                write_instance(&self.path, &self.instance)?;
                tracing::warn!(dir = %self.path.display(), "the state directory was deleted and is made again; nothing keeps a second run from using it now");
                replace(path, value)
            }
            done => done,
        }
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.path.join("replicas").join(format!("{id}.json"))
    }

    /// Writes down a replica that runs.
    pub(crate) fn record(&self, id: &EndpointId, pid: i32, grace: Duration) -> io::Result<()> {
        let Some(start_time) = procs::start_time(pid) else { return Ok(()) };
        self.put(&self.record_path(id.as_str()), &Record { boot_id: procs::boot_id(), pid, start_time, grace })
    }

    /// Forgets a replica that is gone.
    pub(crate) fn forget(&self, id: &str) {
        // One that was never written down is forgotten already.
        drop(fs::remove_file(self.record_path(id)));
    }

    /// All that was written down, by endpoint id.
    pub(crate) fn records(&self) -> BTreeMap<String, Option<Record>> {
        let Ok(entries) = fs::read_dir(self.path.join("replicas")) else { return BTreeMap::new() };
        entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
                Some((id, read(&entry.path())))
            })
            .collect()
    }
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let failed = |error| StartError::StateDir { dir: dir.to_owned(), error };
    let path = dir.join("lock");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            return Err(StartError::Locked { dir: dir.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(failed)?;
    Ok(file)
}

fn instance(dir: &Path) -> io::Result<String> {
    let path = dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = procs::unique_id()?;
    write_instance(dir, &id)?;
    Ok(id)
}

fn write_instance(dir: &Path, id: &str) -> io::Result<()> {
    let path = dir.join("instance");
    let next = path.with_extension("new");
    fs::write(&next, id)?;
    fs::rename(next, path)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable; starting without it"))
        .ok()
}

fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let next = path.with_extension("new");
    fs::write(&next, serde_json::to_vec(value)?)?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_at_a_time_and_memory_between_them() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut memory) = StateDir::open(dir.path()).unwrap();
        assert_eq!(memory.boot, 1);
        let refused = StateDir::open(dir.path()).unwrap_err();
        assert!(
            matches!(&refused, StartError::Locked { pid: Some(pid), .. } if *pid == std::process::id()),
            "{refused}"
        );

        let revision = RevisionId::new("default", "app");
        memory.requested.insert(revision.clone(), Replicas::new(3));
        state.remember(&memory).unwrap();
        let instance = state.instance().to_owned();
        drop(state);

        let (state, memory) = StateDir::open(dir.path()).unwrap();
        assert_eq!(memory.boot, 2);
        assert_eq!(memory.requested[&revision], Replicas::new(3));
        assert_eq!(state.instance(), instance);
    }

    #[test]
    fn a_directory_that_was_deleted_is_made_again_with_the_same_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (state, mut memory) = StateDir::open(&path).unwrap();
        let instance = state.instance().to_owned();
        let pid = i32::try_from(std::process::id()).unwrap();
        for first in ["record", "remember"] {
            fs::remove_dir_all(&path).unwrap();
            if first == "record" {
                state.record(&EndpointId::new("app-0-1-1"), pid, Duration::from_secs(5)).unwrap();
                assert!(state.records().contains_key("app-0-1-1"));
            } else {
                memory.requested.insert(RevisionId::new("default", "app"), Replicas::new(3));
                state.remember(&memory).unwrap();
            }
        }
        drop(state);
        let (state, remembered) = StateDir::open(&path).unwrap();
        assert_eq!((state.instance(), remembered.requested), (instance.as_str(), memory.requested));
    }

    #[test]
    fn a_damaged_memory_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), "{half").unwrap();
        let (_, memory) = StateDir::open(dir.path()).unwrap();
        assert_eq!(memory, Memory { boot: 1, requested: BTreeMap::new() });
    }

    #[test]
    fn a_record_names_the_process_and_not_only_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(dir.path()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        state.record(&EndpointId::new("app-0-1-1"), pid, Duration::from_secs(5)).unwrap();
        let record = state.records().remove("app-0-1-1").flatten().unwrap();
        assert_eq!((record.pid, Some(record.start_time)), (pid, procs::start_time(pid)));
        assert_eq!(record.boot_id, procs::boot_id());
        state.forget("app-0-1-1");
        assert!(state.records().is_empty());
    }
}
