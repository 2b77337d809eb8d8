//! Log files of bounded size: the newest is `N.log`, older ones `N.log.1`, `N.log.2`.
//!
//! Invariant: a slot's files never hold more than [`FILE_BYTES_MAX`] times [`FILES_MAX`].

use super::{Source, Target};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that would grow beyond this is set aside (a kubelet's default).
pub(super) const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files kept of a slot, the open one included.
pub(super) const FILES_MAX: u32 = 3;
/// Files held open; beyond, all are closed and opened again as needed.
const OPEN_MAX: usize = 256;

/// The open log files.
#[derive(Debug)]
pub(super) struct Files {
    open: BTreeMap<PathBuf, (File, u64)>,
    bytes_max: u64,
}

impl Default for Files {
    fn default() -> Self {
        Self { open: BTreeMap::new(), bytes_max: FILE_BYTES_MAX }
    }
}

impl Target for Files {
    fn write(&mut self, source: &Source, text: &[u8]) -> io::Result<()> {
        let added = text.len() as u64 + 1;
        let (file, bytes) = match self.open.remove(&source.path) {
            Some((file, bytes)) if bytes + added <= self.bytes_max => (file, bytes),
            Some(_) => rotate(&source.path)?,
            None => {
                let (file, bytes) = append(&source.path)?;
                if bytes > 0 && bytes + added > self.bytes_max { rotate(&source.path)? } else { (file, bytes) }
            }
        };
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        let (file, bytes) = self.open.entry(source.path.clone()).or_insert((file, bytes));
        file.write_all(&[text, b"\n"].concat())?;
        *bytes += added;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn rotate(path: &Path) -> io::Result<(File, u64)> {
    let numbered = |number: u32| match number {
        0 => path.to_owned(),
        number => PathBuf::from(format!("{}.{number}", path.display())),
    };
    for number in (1..FILES_MAX).rev() {
        match fs::rename(numbered(number - 1), numbered(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    append(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_set_aside_and_the_oldest_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { label: "app-0".into(), path: dir.path().join("app").join("0.log") };
        let mut files = Files { open: BTreeMap::new(), bytes_max: 10 };
        for line in ["first", "1234", "second", "third", "forth"] {
            files.write(&source, line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join("app").join(name));
        assert_eq!(read("0.log").unwrap(), "forth\n");
        assert_eq!(read("0.log.1").unwrap(), "third\n");
        assert_eq!(read("0.log.2").unwrap(), "second\n");
        assert!(read("0.log.3").is_err());
    }

    #[test]
    fn a_file_of_an_earlier_run_is_continued_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { label: "app-0".into(), path: dir.path().join("0.log") };
        fs::write(&source.path, "1234567\n").unwrap();
        Files { open: BTreeMap::new(), bytes_max: 10 }.write(&source, b"x").unwrap();
        assert_eq!(fs::read_to_string(&source.path).unwrap(), "1234567\nx\n");
        Files { open: BTreeMap::new(), bytes_max: 10 }.write(&source, b"y").unwrap();
        assert_eq!(fs::read_to_string(&source.path).unwrap(), "y\n");
    }
}
