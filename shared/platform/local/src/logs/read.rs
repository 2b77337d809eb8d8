//! Reading what replicas said from the log files of a state directory, whether anybody is writing to them or not.
//!
//! Invariant: reads only, and each line once: a file that is set aside while it is read is read to its end first, and what
//! came after it follows in its order.

use super::files::{FILES_MAX, numbered};
use super::lines::LINE_BYTES_MAX;
use domain::{RevisionId, WallTime};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A line without an end is given out in pieces of this size: no writer of ours makes one as long.
const PIECE_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The state directory, or a file of it, cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No service of this name has ever written anything.
    #[error("{} holds no output of {asked}; {}", state_dir.display(), known(services))]
    NotFound {
        /// The name.
        asked: String,
        /// The state directory.
        state_dir: PathBuf,
        /// Whose output it holds.
        services: Vec<RevisionId>,
    },
    /// Services of several namespaces have the name.
    #[error("there are {}; say which", names(services))]
    Ambiguous {
        /// All of them.
        services: Vec<RevisionId>,
    },
    /// The service has no such replica.
    #[error("{service} has no output of a replica {slot}; there is {}", slots(present))]
    NoSuchSlot {
        /// The service.
        service: RevisionId,
        /// The slot that was asked for.
        slot: u32,
        /// The slots that have written.
        present: Vec<u32>,
    },
}

fn names(services: &[RevisionId]) -> String {
    services.iter().map(RevisionId::as_str).collect::<Vec<_>>().join(", ")
}

fn known(services: &[RevisionId]) -> String {
    if services.is_empty() { "nothing has run yet".into() } else { format!("there is {}", names(services)) }
}

fn slots(present: &[u32]) -> String {
    if present.is_empty() { "none".into() } else { present.iter().map(u32::to_string).collect::<Vec<_>>().join(", ") }
}

/// One line of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the replica; that of the line before it where a file does not say.
    pub at: Option<WallTime>,
    /// What it says, without line feed.
    pub text: Vec<u8>,
}

/// The log files of one service.
#[derive(Debug)]
pub struct ServiceLogs {
    service: RevisionId,
    folder: PathBuf,
    only: Option<u32>,
    slots: BTreeMap<u32, SlotLog>,
}

impl ServiceLogs {
    /// Opens the files of `name` in `state_dir`: `NAME`, `NAMESPACE/NAME`, or one replica as `NAME-SLOT`. With `slot`, of
    /// that replica only.
    ///
    /// # Errors
    /// No service, or more than one, or no replica goes by that name, or the directory cannot be read.
    pub fn open(state_dir: &Path, name: &str, slot: Option<u32>) -> Result<Self, LogError> {
        let logs = state_dir.join("logs");
        let services = services(state_dir, &logs)?;
        let (service, only) = match (pick(&services, name)?, slot, name.rsplit_once('-')) {
            (Some(service), slot, _) => (service, slot),
            (None, None, Some((service, slot))) => match (pick(&services, service)?, slot.parse().ok()) {
                (Some(service), Some(slot)) => (service, Some(slot)),
                _ => return Err(not_found(name, state_dir, services)),
            },
            (None, ..) => return Err(not_found(name, state_dir, services)),
        };
        let folder = logs.join(format!("{}.{}", service.namespace(), service.name()));
        let mut found = Self { service, folder, only, slots: BTreeMap::new() };
        found.look()?;
        match only {
            Some(slot) if !found.slots.contains_key(&slot) => {
                let present = present(&found.folder).map_err(|error| unreadable(&found.folder, error))?;
                Err(LogError::NoSuchSlot { service: found.service, slot, present })
            }
            Some(_) | None => Ok(found),
        }
    }

    /// Whose they are.
    #[must_use]
    pub const fn service(&self) -> &RevisionId {
        &self.service
    }

    /// The replicas that are read.
    #[must_use]
    pub fn slots(&self) -> Vec<u32> {
        self.slots.keys().copied().collect()
    }

    /// Looks for replicas that have begun to write since.
    ///
    /// # Errors
    /// A file cannot be read. A folder that is gone holds nothing new and is no error.
    pub fn look(&mut self) -> Result<(), LogError> {
        let found = present(&self.folder).map_err(|error| unreadable(&self.folder, error))?;
        for slot in found.into_iter().filter(|slot| self.only.is_none_or(|only| only == *slot)) {
            let path = self.folder.join(format!("{slot}.log"));
            self.slots.entry(slot).or_insert_with(|| SlotLog::new(path));
        }
        Ok(())
    }

    /// Gives every line that is there and was not given yet, in the order of their moments. `last`: only as many of each
    /// replica, the newest.
    ///
    /// # Errors
    /// Whatever `out` says, and what the system says of a file.
    pub fn read(&mut self, last: Option<usize>, mut out: impl FnMut(u32, LogLine) -> io::Result<()>) -> io::Result<()> {
        let mut next: BTreeMap<(Option<WallTime>, u32), LogLine> = BTreeMap::new();
        for (slot, log) in &mut self.slots {
            log.skip_to(last)?;
            next.extend(log.next()?.map(|line| ((line.at, *slot), line)));
        }
        while let Some(((_, slot), line)) = next.pop_first() {
            out(slot, line)?;
            if let Some(log) = self.slots.get_mut(&slot) {
                next.extend(log.next()?.map(|line| ((line.at, slot), line)));
            }
        }
        Ok(())
    }

    /// Gives the last words that no line feed ended, for a reader that waits for no more.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn finish(&mut self, mut out: impl FnMut(u32, LogLine) -> io::Result<()>) -> io::Result<()> {
        self.slots.iter_mut().try_for_each(|(slot, log)| match log.rest() {
            Some(line) => out(*slot, line),
            None => Ok(()),
        })
    }
}

fn unreadable(path: &Path, error: io::Error) -> LogError {
    LogError::Unreadable { path: path.to_owned(), error }
}

fn not_found(asked: &str, state_dir: &Path, services: Vec<RevisionId>) -> LogError {
    LogError::NotFound { asked: asked.to_owned(), state_dir: state_dir.to_owned(), services }
}

/// Every service that has written.
fn services(state_dir: &Path, logs: &Path) -> Result<Vec<RevisionId>, LogError> {
    fs::read_dir(state_dir).map_err(|error| unreadable(state_dir, error))?;
    let entries = match fs::read_dir(logs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(logs, error)),
    };
    let mut found: Vec<RevisionId> = entries
        .flatten()
        .filter_map(|entry| {
            // A namespace has no dot, a name may have some.
            let (namespace, name) = entry.file_name().to_str()?.split_once('.').map(own)?;
            format!("{namespace}/{name}").parse().ok()
        })
        .collect();
    found.sort();
    Ok(found)
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

fn pick(services: &[RevisionId], name: &str) -> Result<Option<RevisionId>, LogError> {
    let fits = |service: &&RevisionId| service.as_str() == name || service.name() == name;
    let found: Vec<RevisionId> = services.iter().filter(fits).cloned().collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(LogError::Ambiguous { services: found }),
    }
}

/// The slots that have a file.
fn present(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut slots: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.split_once(".log").and_then(|(slot, _)| slot.parse().ok()))
        .collect();
    slots.sort_unstable();
    slots.dedup();
    Ok(slots)
}

/// The files of one replica, oldest first.
#[derive(Debug)]
struct SlotLog {
    path: PathBuf,
    /// The one that is read, then those that follow it. They are held open, so that being set aside takes none away.
    files: VecDeque<BufReader<File>>,
    open: Vec<u8>,
    last_at: Option<WallTime>,
    /// Lines read ahead.
    ahead: VecDeque<LogLine>,
}

impl SlotLog {
    fn new(path: PathBuf) -> Self {
        Self { path, files: VecDeque::new(), open: Vec::new(), last_at: None, ahead: VecDeque::new() }
    }

    /// Leaves out all but the newest `last` lines that are there.
    fn skip_to(&mut self, last: Option<usize>) -> io::Result<()> {
        let Some(last) = last else { return Ok(()) };
        let mut kept = VecDeque::new();
        while let Some(line) = self.next()? {
            kept.push_back(line);
            if kept.len() > last {
                kept.pop_front();
            }
        }
        self.ahead = kept;
        Ok(())
    }

    /// The next whole line; `None` when there is none yet.
    fn next(&mut self) -> io::Result<Option<LogLine>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        loop {
            let Some(file) = self.files.front_mut() else {
                if self.open_newer()? {
                    continue;
                } else {
                    return Ok(None);
                };
            };
            let room = PIECE_BYTES_MAX.saturating_sub(self.open.len()) as u64;
            let read = io::Read::take(&mut *file, room).read_until(b'\n', &mut self.open)?;
            if self.open.last() == Some(&b'\n') {
                self.open.pop();
                return Ok(self.rest_of_line());
            }
            if self.open.len() >= PIECE_BYTES_MAX {
                return Ok(self.rest_of_line());
            }
            if read > 0 {
                continue;
            }
            // A line that could not be written whole was cut off again.
            let (length, position) = (file.get_ref().metadata()?.len(), file.stream_position()?);
            if length < position {
                file.seek(SeekFrom::Start(length))?;
                self.open.clear();
                continue;
            }
            if self.files.len() == 1 && !self.open_newer()? {
                return Ok(None);
            }
            self.files.pop_front();
            if let Some(line) = self.rest() {
                return Ok(Some(line));
            }
        }
    }

    /// What was read of a line that has no end.
    fn rest(&mut self) -> Option<LogLine> {
        if self.open.is_empty() { None } else { self.rest_of_line() }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what its callers give")]
    fn rest_of_line(&mut self) -> Option<LogLine> {
        let text = std::mem::take(&mut self.open);
        let stamp = text.iter().position(|byte| *byte == b' ').and_then(|end| {
            let at = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
            Some((at, end + 1))
        });
        let (at, from) = stamp.map_or((self.last_at, 0), |(at, from)| (Some(at), from));
        self.last_at = at;
        Some(LogLine { at, text: text[from..].to_vec() })
    }

    /// Opens what came after the newest file that is open; whether there was any.
    fn open_newer(&mut self) -> io::Result<bool> {
        let id = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        let mut known = self.files.back().map(|file| id(file.get_ref())).into_iter().collect::<io::Result<Vec<_>>>()?;
        let mut newer = Vec::new();
        for number in 0..FILES_MAX {
            let file = match File::open(numbered(&self.path, number)) {
                Ok(file) => file,
                // Being set aside just now; or the oldest there is.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let this = id(&file)?;
            if self.files.back().is_some() && this == known[0] {
                break;
            }
            // Set aside between two looks, it would be seen twice.
            if !known.contains(&this) {
                known.push(this);
                newer.push(file);
            }
        }
        let found = !newer.is_empty();
        self.files.extend(newer.into_iter().rev().map(BufReader::new));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Files;
    use super::super::{Source, Target};
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> WallTime {
        WallTime::from_unix_millis(millis)
    }

    struct Writer {
        dir: tempfile::TempDir,
        files: Files,
        now: u64,
    }

    impl Writer {
        fn new(bytes_max: u64) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), files: Files::with_bytes_max(bytes_max), now: 0 }
        }

        fn write(&mut self, service: &str, slot: u32, text: &str) {
            let path = self.dir.path().join("logs").join(service).join(format!("{slot}.log"));
            let source = Source { label: format!("{service}-{slot}"), path };
            self.now += 1;
            self.files.write(&source, at(self.now), text.as_bytes()).unwrap();
        }

        fn open(&self, name: &str, slot: Option<u32>) -> Result<ServiceLogs, LogError> {
            ServiceLogs::open(self.dir.path(), name, slot)
        }
    }

    fn read(logs: &mut ServiceLogs, last: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        logs.look().unwrap();
        logs.read(last, |slot, line| {
            lines.push(format!("{slot} {}", String::from_utf8(line.text).unwrap()));
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn replicas_are_read_in_the_order_of_time_and_followed() {
        let mut writer = Writer::new(1 << 20);
        for (slot, text) in [(0, "a"), (1, "b"), (0, "c")] {
            writer.write("default.app", slot, text);
        }
        let mut logs = writer.open("app", None).unwrap();
        assert_eq!(read(&mut logs, None), ["0 a", "1 b", "0 c"]);
        assert!(read(&mut logs, None).is_empty());
        writer.write("default.app", 2, "new");
        writer.write("default.app", 0, "d");
        assert_eq!(read(&mut logs, None), ["2 new", "0 d"]);
        assert_eq!(read(&mut writer.open("default/app", None).unwrap(), Some(1)), ["1 b", "2 new", "0 d"]);
        assert_eq!(read(&mut writer.open("app", Some(1)).unwrap(), None), ["1 b"]);
        assert_eq!(read(&mut writer.open("app-1", None).unwrap(), None), ["1 b"]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let mut writer = Writer::new(1 << 20);
        let error = |name: &str, slot: Option<u32>, writer: &Writer| writer.open(name, slot).unwrap_err().to_string();
        assert!(error("app", None, &writer).ends_with("holds no output of app; nothing has run yet"));
        writer.write("default.app", 0, "a");
        writer.write("shop.app", 0, "a");
        writer.write("shop.dotted.name", 0, "a");
        assert!(error("who", None, &writer).ends_with("there is default/app, shop/app, shop/dotted.name"));
        assert_eq!(error("app", None, &writer), "there are default/app, shop/app; say which");
        assert_eq!(error("shop/app", Some(3), &writer), "shop/app has no output of a replica 3; there is 0");
        assert!(error("shop/app-x", None, &writer).contains("holds no output of shop/app-x"));
        let nowhere = ServiceLogs::open(&writer.dir.path().join("no"), "app", None).unwrap_err();
        assert!(matches!(nowhere, LogError::Unreadable { .. }), "{nowhere}");
    }

    #[test]
    fn lines_of_an_earlier_version_have_the_moment_of_those_before() {
        let writer = Writer::new(1 << 20);
        let folder = writer.dir.path().join("logs").join("default.app");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0.log"), "old\n1970-01-01T00:00:01.000Z new\nolder still\nhalf").unwrap();
        let mut logs = writer.open("app", None).unwrap();
        let mut found = Vec::new();
        let mut take = |_, line: LogLine| {
            found.push((line.at.map(WallTime::unix_millis), String::from_utf8(line.text).unwrap()));
            Ok(())
        };
        logs.read(None, &mut take).unwrap();
        logs.finish(&mut take).unwrap();
        let expected = [(None, "old"), (Some(1000), "new"), (Some(1000), "older still"), (Some(1000), "half")];
        assert_eq!(found, expected.map(|(at, text)| (at, text.to_owned())));
    }

    #[test]
    fn a_line_without_end_is_given_in_pieces() {
        let writer = Writer::new(1 << 20);
        let folder = writer.dir.path().join("logs").join("default.app");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("0.log"), vec![b'x'; 2 * PIECE_BYTES_MAX + 1]).unwrap();
        let lengths: Vec<usize> = read(&mut writer.open("app", None).unwrap(), None).iter().map(String::len).collect();
        let slot = "0 ".len();
        assert_eq!(lengths, [PIECE_BYTES_MAX + slot, PIECE_BYTES_MAX + slot], "the rest may still grow");
    }

    #[test]
    fn a_folder_that_was_deleted_is_followed_when_it_comes_back() {
        let mut writer = Writer::new(1 << 20);
        writer.write("default.app", 0, "before");
        let mut logs = writer.open("app", None).unwrap();
        assert_eq!(read(&mut logs, None), ["0 before"]);
        fs::remove_dir_all(writer.dir.path().join("logs")).unwrap();
        assert!(read(&mut logs, None).is_empty());
        writer.write("default.app", 0, "after");
        assert_eq!(read(&mut logs, None), ["0 after"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        /// Two files are kept behind the open one, so a reader that looks at least every two rotations misses nothing.
        #[test]
        fn rotation_takes_no_line_away(looks in prop::collection::vec(0usize..4, 1..40)) {
            // Two lines a file.
            let mut writer = Writer::new(60);
            writer.write("default.app", 0, "0");
            let mut logs = writer.open("app", None).unwrap();
            let (mut written, mut found) = (1, read(&mut logs, None));
            for lines in looks {
                for _ in 0..lines {
                    writer.write("default.app", 0, &written.to_string());
                    written += 1;
                }
                found.extend(read(&mut logs, None));
            }
            prop_assert_eq!(found, (0..written).map(|number| format!("0 {number}")).collect::<Vec<_>>());
        }
    }
}
