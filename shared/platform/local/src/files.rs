//! The manifests' files: which there are, what they say, and when that changes.
//!
//! Invariant: a folder is watched, never a single file, because editors replace files; a slow look besides finds what a
//! notification missed. A file that was named and cannot be read for a moment still says what it last said.

use crate::options::StartError;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use platform::manifest::Source;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// An editor writes in several steps; this long after the first one the files are read.
const SETTLE: Duration = Duration::from_millis(50);
/// Between looks without a notification.
const LOOK: Duration = Duration::from_secs(2);
/// What counts as a manifest, or as something one refers to, in a folder.
const EXTENSIONS: [&str; 4] = ["yaml", "yml", "json", "env"];

/// The files and folders that hold manifests.
#[derive(Debug)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    /// What named files last said.
    last: BTreeMap<PathBuf, String>,
}

impl Files {
    /// Reads everything once.
    ///
    /// # Errors
    /// A path that cannot be read at all: at the start, that is a mistake to be mended.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<(Self, Vec<Source>), StartError> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| StartError::Manifest { path: path.clone(), error })
        };
        let mut files = Self { paths: paths.iter().map(absolute).collect::<Result<_, _>>()?, last: BTreeMap::new() };
        let mut sources = Vec::new();
        for path in files.paths.clone() {
            files.read_path(&path, &mut sources).map_err(|error| StartError::Manifest { path, error })?;
        }
        Ok((files, sources))
    }

    /// Reads everything again.
    pub(crate) fn read(&mut self) -> Vec<Source> {
        let mut sources = Vec::new();
        for path in self.paths.clone() {
            if let Err(error) = self.read_path(&path, &mut sources) {
                tracing::debug!(path = %path.display(), %error, "cannot be read now");
                if let Some(last) = self.last.get(&path) {
                    sources.push(Source { path, text: last.clone() });
                }
            }
        }
        sources
    }

    fn read_path(&mut self, path: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
        if !path.is_dir() {
            let text = std::fs::read_to_string(path)?;
            self.last.insert(path.to_owned(), text.clone());
            sources.push(Source { path: path.to_owned(), text });
            return Ok(());
        }
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        names.retain(|name| is_manifest(name));
        names.sort();
        for name in names {
            match std::fs::read_to_string(&name) {
                Ok(text) => sources.push(Source { path: name, text }),
                // It was removed between the listing and the reading.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %name.display(), %error, "passed over"),
            }
        }
        Ok(())
    }

    /// Folders in which a change may matter.
    fn folders(&self) -> Vec<PathBuf> {
        let folder = |path: &PathBuf| {
            if path.is_dir() { path.clone() } else { path.parent().map_or_else(|| path.clone(), Path::to_owned) }
        };
        let mut folders: Vec<PathBuf> = self.paths.iter().map(folder).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// Follows the files for ever; `changed` gets the sources whenever they differ from the last ones.
    pub(crate) async fn follow<F: Future<Output = ()>>(
        mut self,
        mut last: Vec<Source>,
        mut changed: impl FnMut(Vec<Source>) -> F,
    ) {
        let touched = Arc::new(Notify::new());
        let watcher = watch(&self.folders(), Arc::clone(&touched));
        loop {
            if timeout(LOOK, touched.notified()).await.is_ok() {
                sleep(SETTLE).await;
            }
            let sources = self.read();
            if sources != last {
                last.clone_from(&sources);
                changed(sources).await;
            }
            // Named only to keep it alive; dropping it ends the notifications.
            let _alive = &watcher;
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let known = path.extension().and_then(|ext| ext.to_str()).is_some_and(|ext| EXTENSIONS.contains(&ext));
    !hidden && known && path.is_file()
}

/// Notifications, as far as the system gives them; without, the slow look has to do.
fn watch(folders: &[PathBuf], touched: Arc<Notify>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Reading the files makes events of its own, which must not make us read again.
        if event.map_or(true, |event| !event.kind.is_access()) {
            touched.notify_one();
        }
    };
    let watching = notify::recommended_watcher(handler).and_then(|mut watcher| {
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watching.inspect_err(|error| tracing::warn!(%error, "edits are noticed every 2 s only")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn names(sources: &[Source]) -> Vec<&str> {
        sources.iter().filter_map(|source| source.path.file_name()?.to_str()).collect()
    }

    #[test]
    fn a_folder_is_read_in_order_and_only_its_manifests() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "secrets.env", ".hidden.yaml", "notes.txt", "a.yaml~"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("folder.yaml")).unwrap();
        let (_, sources) = Files::open(&[dir.path().to_owned()]).unwrap();
        assert_eq!(names(&sources), ["a.yml", "b.yaml", "c.json", "secrets.env"]);
        assert!(matches!(Files::open(&[dir.path().join("missing")]), Err(StartError::Manifest { .. })));
    }

    #[test]
    fn a_named_file_says_what_it_last_said_while_it_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        std::fs::write(&path, "one").unwrap();
        let (mut files, first) = Files::open(std::slice::from_ref(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.read(), first);
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.read(), [Source { path, text: "two".to_owned() }]);
    }

    #[tokio::test]
    async fn an_edit_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), "one").unwrap();
        let (files, sources) = Files::open(&[dir.path().to_owned()]).unwrap();
        let (sender, mut told) = mpsc::channel(8);
        let follow = files.follow(sources, |sources| {
            let sender = sender.clone();
            async move { sender.send(sources).await.unwrap() }
        });
        let check = async {
            // As editors do it: another file takes the name.
            std::fs::write(dir.path().join(".a.new"), "two").unwrap();
            std::fs::rename(dir.path().join(".a.new"), dir.path().join("a.yaml")).unwrap();
            assert_eq!(told.recv().await.unwrap()[0].text, "two");
            std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
            assert!(told.recv().await.unwrap().is_empty());
            assert!(told.try_recv().is_err());
        };
        tokio::select! {
            () = follow => unreachable!("it follows for ever"),
            done = timeout(Duration::from_secs(20), check) => done.unwrap(),
        }
    }
}
