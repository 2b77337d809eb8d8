//! Log files of bounded size: the newest is `N.log`, older ones `N.log.1`, `N.log.2`. Each line begins with the moment at
//! which it was read, as RFC 3339, and a space.
//!
//! Invariant: a slot's files never hold more than [`FILE_BYTES_MAX`] times [`FILES_MAX`].

use super::{Source, Target};
use domain::WallTime;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that would grow beyond this is set aside (a kubelet's default).
pub(super) const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files kept of a slot, the open one included.
pub(super) const FILES_MAX: u32 = 3;
/// Files held open; beyond, all are closed and opened again as needed.
const OPEN_MAX: usize = 256;

/// One open file.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Device and number.
    id: (u64, u64),
}

/// The open log files.
#[derive(Debug)]
pub(super) struct Files {
    open: BTreeMap<PathBuf, Open>,
    bytes_max: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self { open: BTreeMap::new(), bytes_max: FILE_BYTES_MAX }
    }
}

impl Files {
    /// Files of another size than [`FILE_BYTES_MAX`].
    #[cfg(test)]
    pub(super) const fn with_bytes_max(bytes_max: u64) -> Self {
        Self { open: BTreeMap::new(), bytes_max }
    }
}

impl Target for Files {
    fn write(&mut self, source: &Source, at: WallTime, text: &[u8]) -> io::Result<()> {
        let line = [at.to_string().as_bytes(), b" ", text, b"\n"].concat();
        let added = line.len() as u64;
        let known = self.open.remove(&source.path).filter(|open| open.is_at(&source.path));
        let mut open = match known {
            Some(open) if open.bytes + added <= self.bytes_max => open,
            Some(_) => rotate(&source.path)?,
            None => {
                let open = append(&source.path)?;
                if open.bytes > 0 && open.bytes + added > self.bytes_max { rotate(&source.path)? } else { open }
            }
        };
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        if let Err(error) = open.file.write_all(&line) {
            // Half a line would become part of the next one. If it cannot be cut off, nothing better is left to do.
            drop(open.file.set_len(open.bytes));
            return Err(error);
        }
        open.bytes += added;
        self.open.insert(source.path.clone(), open);
        Ok(())
    }
}

impl Open {
    /// Whether it is found at `path`: one that was deleted or moved away, with its folder perhaps, takes lines for nobody.
    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == self.id)
    }
}

/// The file that was set aside `number` rotations ago.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => PathBuf::from(format!("{}.{number}", path.display())),
    }
}

fn append(path: &Path) -> io::Result<Open> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    let found = file.metadata()?;
    Ok(Open { file, bytes: found.len(), id: (found.dev(), found.ino()) })
}

fn rotate(path: &Path) -> io::Result<Open> {
    for number in (1..FILES_MAX).rev() {
        match fs::rename(numbered(path, number - 1), numbered(path, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    append(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a moment and the space behind it.
    const STAMP: u64 = 25;

    fn slot(dir: &Path) -> Source {
        Source { label: "app-0".into(), path: dir.join("app").join("0.log") }
    }

    fn write(files: &mut Files, source: &Source, line: &str) {
        files.write(source, WallTime::default(), line.as_bytes()).unwrap();
    }

    /// The lines of a file, their moments taken off.
    fn read(source: &Source, number: u32) -> Option<String> {
        let text = fs::read_to_string(numbered(&source.path, number)).ok()?;
        Some(text.lines().map(|line| line.strip_prefix("1970-01-01T00:00:00.000Z ").unwrap_or(line)).collect())
    }

    #[test]
    fn files_are_set_aside_and_the_oldest_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let source = slot(dir.path());
        let mut files = Files::with_bytes_max(10 + STAMP);
        for line in ["first", "1234", "second", "third", "forth"] {
            write(&mut files, &source, line);
        }
        assert_eq!(read(&source, 0).unwrap(), "forth");
        assert_eq!(read(&source, 1).unwrap(), "third");
        assert_eq!(read(&source, 2).unwrap(), "second");
        assert_eq!(read(&source, 3), None);
    }

    #[test]
    fn a_file_of_an_earlier_run_is_continued_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let source = slot(dir.path());
        fs::create_dir_all(source.path.parent().unwrap()).unwrap();
        fs::write(&source.path, "1234567\n").unwrap();
        let again = || Files::with_bytes_max(10 + STAMP);
        write(&mut again(), &source, "x");
        assert_eq!(read(&source, 0).unwrap(), "1234567x");
        write(&mut again(), &source, "y");
        assert_eq!(read(&source, 0).unwrap(), "y");
    }

    #[test]
    fn a_folder_that_was_deleted_or_moved_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let source = slot(dir.path());
        let mut files = Files::default();
        write(&mut files, &source, "before");
        fs::remove_dir_all(source.path.parent().unwrap()).unwrap();
        write(&mut files, &source, "after");
        assert_eq!(read(&source, 0).unwrap(), "after");
        fs::rename(source.path.parent().unwrap(), dir.path().join("moved")).unwrap();
        write(&mut files, &source, "later");
        assert_eq!(read(&source, 0).unwrap(), "later");
    }

    /// A device that is always full stands for a disk that is.
    #[test]
    fn a_full_disk_is_an_error_and_no_half_line() {
        let mut files = Files::default();
        let source = Source { label: "app-0".into(), path: "/dev/full".into() };
        let error = files.write(&source, WallTime::default(), b"line").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(files.open.is_empty(), "it is opened anew for the next line");
    }
}
