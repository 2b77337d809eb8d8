//! The state directory: what outlives a run of the supervisor.
//!
//! Invariant: it has one user at a time, who holds its lock; files are replaced whole, so a crash leaves the old one or
//! the new one. Whoever deletes it while it is in use stops nothing: it is made again.

use crate::options::StartError;
use crate::overrides::Overrides;
use crate::procs;
use domain::{EndpointId, Replicas, RevisionId};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is remembered in one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Grows with every start on this directory.
    pub(crate) boot: u64,
    /// The count last asked for, by revision.
    pub(crate) requested: BTreeMap<RevisionId, Replicas>,
    /// The last count other than zero, by revision (kpa-behaviour 1.8).
    #[serde(default)]
    pub(crate) last_nonzero: BTreeMap<RevisionId, Replicas>,
    /// What was set by hand.
    #[serde(default)]
    pub(crate) overrides: Overrides,
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
    /// What whoever changes something by hand shows; new at every start.
    secret: String,
    /// Held as long as this value lives; `None` when another process took the directory after it had been deleted.
    lock: Mutex<Option<File>>,
}

/// The file in a state directory that holds what whoever changes something by hand must show.
pub const TOKEN_FILE: &str = "token";

/// What became of the directory since it was last looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is there.
    Intact,
    /// It had been deleted, and was made again.
    Restored,
    /// It had been deleted, and another process has made one in its place.
    Lost(Option<u32>),
}

impl StateDir {
    /// Creates or opens the directory, locks it, and counts the start.
    pub(crate) fn open(path: &Path) -> Result<(Self, Memory), StartError> {
        let failed = |error| StartError::StateDir { dir: path.to_owned(), error };
        fs::create_dir_all(path.join("replicas")).map_err(failed)?;
        let lock = Mutex::new(Some(lock(path)?));
        let instance = instance(path).map_err(failed)?;
        let secret = procs::unique_id().map_err(failed)?;
        let state = Self { path: path.to_owned(), instance, secret, lock };
        state.write_secret().map_err(failed)?;
        let mut memory: Memory = read(&state.path.join("state.json")).unwrap_or_default();
        memory.boot += 1;
        state.remember(&memory).map_err(failed)?;
        Ok((state, memory))
    }

    /// The id that replicas carry in their environment.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// What whoever changes something by hand must show; also in [`TOKEN_FILE`], which only this user may read.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    fn write_secret(&self) -> io::Result<()> {
        let path = self.path.join(TOKEN_FILE);
        let next = path.with_extension("new");
        // One that is left over may be open to others.
        drop(fs::remove_file(&next));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(self.secret.as_bytes())?;
        fs::rename(next, path)
    }

    /// Whether the directory is still the one that was locked; makes it again if it was deleted.
    pub(crate) fn look(&self, memory: &Memory) -> Result<Found, StartError> {
        let mut held = self.lock.lock();
        let Some(file) = held.as_ref() else { return Ok(Found::Intact) };
        // Deleted, moved away, or hidden by another file system: it is not found under its name any more.
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        if fs::metadata(self.path.join("lock")).ok().map(id) == file.metadata().ok().map(id) {
            return Ok(Found::Intact);
        }
        let failed = |error| StartError::StateDir { dir: self.path.clone(), error };
        fs::create_dir_all(self.path.join("replicas")).map_err(failed)?;
        match lock(&self.path) {
            Ok(file) => *held = Some(file),
            Err(StartError::Locked { pid, .. }) => {
                *held = None;
                return Ok(Found::Lost(pid));
            }
            Err(error) => return Err(error),
        }
        drop(held);
        fs::write(self.path.join("instance"), &self.instance).map_err(failed)?;
        self.write_secret().map_err(failed)?;
        self.remember(memory).map_err(failed)?;
        Ok(Found::Restored)
    }

    /// Where replicas' output goes.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Replaces what is remembered; in a directory that is another's now, nothing.
    pub(crate) fn remember(&self, memory: &Memory) -> io::Result<()> {
        if self.lock.lock().is_none() {
            return Ok(());
        }
        replace(&self.path.join("state.json"), memory)
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.path.join("replicas").join(format!("{id}.json"))
    }

    /// Writes down a replica that runs.
    pub(crate) fn record(&self, id: &EndpointId, pid: i32, grace: Duration) -> io::Result<()> {
        let Some(start_time) = procs::start_time(pid) else { return Ok(()) };
        replace(&self.record_path(id.as_str()), &Record { boot_id: procs::boot_id(), pid, start_time, grace })
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
    let next = path.with_extension("new");
    fs::write(&next, &id)?;
    fs::rename(next, path)?;
    Ok(id)
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
    fn a_damaged_memory_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), "{half").unwrap();
        let (_, memory) = StateDir::open(dir.path()).unwrap();
        assert_eq!(memory, Memory { boot: 1, ..Memory::default() });
    }

    #[test]
    fn what_an_earlier_version_remembered_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), r#"{"boot":7,"requested":{"default/app":2}}"#).unwrap();
        let (_, memory) = StateDir::open(dir.path()).unwrap();
        assert_eq!((memory.boot, memory.requested.len()), (8, 1));
    }

    #[test]
    fn the_token_is_for_this_user_only_and_new_at_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let (state, _) = StateDir::open(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.len() >= 32 && first == state.secret());
        drop(state);
        let (state, _) = StateDir::open(dir.path()).unwrap();
        assert_ne!(state.secret(), first);
    }

    #[test]
    fn a_directory_that_was_deleted_is_made_again_and_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (state, mut memory) = StateDir::open(&path).unwrap();
        assert_eq!(state.look(&memory).unwrap(), Found::Intact);
        memory.requested.insert(RevisionId::new("default", "app"), Replicas::new(3));
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(state.look(&memory).unwrap(), Found::Restored);
        assert_eq!(state.look(&memory).unwrap(), Found::Intact);
        assert!(matches!(StateDir::open(&path), Err(StartError::Locked { .. })), "it is in use");
        let (instance, secret) = (state.instance().to_owned(), state.secret().to_owned());
        assert_eq!(fs::read_to_string(path.join(TOKEN_FILE)).unwrap(), secret);
        fs::rename(&path, dir.path().join("moved")).unwrap();
        assert_eq!(state.look(&memory).unwrap(), Found::Restored);
        drop(state);
        let (state, remembered) = StateDir::open(&path).unwrap();
        assert_eq!((state.instance(), &remembered.requested), (instance.as_str(), &memory.requested));
    }

    #[test]
    fn a_directory_that_became_anothers_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (first, memory) = StateDir::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        let (second, theirs) = StateDir::open(&path).unwrap();
        assert_eq!(first.look(&memory).unwrap(), Found::Lost(Some(std::process::id())));
        let ours = Memory { boot: 70, ..memory };
        first.remember(&ours).unwrap();
        drop(second);
        assert_eq!(StateDir::open(&path).unwrap().1.boot, theirs.boot + 1, "nothing of it was overwritten");
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
