//! The manifests' files: which there are, what they say, and when that changes.
//!
//! Invariant: a folder is watched, never a single file, because editors replace files; a slow look besides finds what a
//! notification missed. A file that was named and cannot be read for a moment still says what it last said; what can be
//! read only once (standard input, a pipe) says so for ever.

use crate::options::StartError;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use platform::manifest::{Role, SOURCE_BYTES_MAX, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
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

/// What standard input is called among files.
const STANDARD_INPUT: &str = "<stdin>";

/// Where manifests are read from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Files or folders of YAML or JSON; edits are followed.
    pub manifests: Vec<PathBuf>,
    /// Files or folders of patches, merged into the manifests in this order; edits are followed.
    pub patches: Vec<PathBuf>,
    /// What was read already and is not followed: [`standard_input`].
    pub given: Vec<Source>,
}

/// Reads manifests from standard input to its end. Relative folders in them are relative to the current one.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn standard_input() -> Result<Source, StartError> {
    given(io::stdin().lock())
}

fn given(input: impl Read) -> Result<Source, StartError> {
    here(STANDARD_INPUT, input).map_err(|error| StartError::Manifest { path: STANDARD_INPUT.into(), error })
}

/// What a pipe holds.
fn read_once(path: &Path) -> io::Result<Source> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    here(&format!("<{name}>"), std::fs::File::open(path)?)
}

/// A text that is in no file, as if it were in the current folder.
fn here(name: &str, input: impl Read) -> io::Result<Source> {
    Ok(Source { path: std::path::absolute(name)?, text: text(input)?, role: Role::Manifest })
}

/// The files and folders that hold manifests and patches.
#[derive(Debug)]
pub(crate) struct Files {
    paths: Vec<(PathBuf, Role)>,
    /// Files that are patches, and no manifests although they may lie among them.
    patches: BTreeSet<PathBuf>,
    /// What is not followed.
    given: Vec<Source>,
    /// What named files last said.
    last: BTreeMap<PathBuf, String>,
    /// Files of folders that cannot be read, said once.
    passed_over: BTreeSet<PathBuf>,
}

impl Files {
    /// Reads everything once.
    ///
    /// # Errors
    /// A path that cannot be read at all: at the start, that is a mistake to be mended.
    pub(crate) fn open(inputs: &Inputs) -> Result<(Self, Vec<Source>), StartError> {
        let absolute = |(path, role): (&PathBuf, Role)| match std::path::absolute(path) {
            Ok(path) => Ok((path, role)),
            Err(error) => Err(StartError::Manifest { path: path.clone(), error }),
        };
        let manifests = inputs.manifests.iter().map(|path| (path, Role::Manifest));
        let patches = inputs.patches.iter().map(|path| (path, Role::Patch));
        let mut paths: Vec<(PathBuf, Role)> = manifests.chain(patches).map(absolute).collect::<Result<_, _>>()?;
        let mut given = inputs.given.clone();
        for (path, role) in paths.extract_if(.., |(path, _)| is_read_once(path)) {
            let read = read_once(&path).map_err(|error| StartError::Manifest { path, error })?;
            given.push(Source { role, ..read });
        }
        let is_patch = |(path, role): &(PathBuf, Role)| (*role == Role::Patch).then(|| real(path));
        let mut files = Self {
            patches: paths.iter().filter_map(is_patch).collect(),
            paths,
            given,
            last: BTreeMap::new(),
            passed_over: BTreeSet::new(),
        };
        let mut sources = files.given.clone();
        for (path, role) in files.paths.clone() {
            files.read_path(&path, role, &mut sources).map_err(|error| StartError::Manifest { path, error })?;
        }
        Ok((files, sources))
    }

    /// Reads everything again.
    pub(crate) fn read(&mut self) -> Vec<Source> {
        let mut sources = self.given.clone();
        for (path, role) in self.paths.clone() {
            if let Err(error) = self.read_path(&path, role, &mut sources) {
                tracing::debug!(path = %path.display(), %error, "cannot be read now");
                if let Some(last) = self.last.get(&path) {
                    sources.push(Source { text: last.clone(), path, role });
                }
            }
        }
        sources
    }

    fn read_path(&mut self, path: &Path, role: Role, sources: &mut Vec<Source>) -> io::Result<()> {
        if !path.is_dir() {
            let text = text(std::fs::File::open(path)?)?;
            self.last.insert(path.to_owned(), text.clone());
            sources.push(Source { path: path.to_owned(), text, role });
            return Ok(());
        }
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        names.retain(|name| is_manifest(name) && (role == Role::Patch || !self.patches.contains(&real(name))));
        names.sort();
        for name in names {
            match std::fs::File::open(&name).and_then(text) {
                Ok(text) => {
                    self.passed_over.remove(&name);
                    sources.push(Source { path: name, text, role });
                }
                // It was removed between the listing and the reading.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    if self.passed_over.insert(name.clone()) {
                        tracing::warn!(path = %name.display(), %error, "passed over");
                    }
                }
            }
        }
        Ok(())
    }

    /// Folders in which a change may matter.
    fn folders(&self) -> Vec<PathBuf> {
        let folder = |path: &PathBuf| {
            if path.is_dir() { path.clone() } else { path.parent().map_or_else(|| path.clone(), Path::to_owned) }
        };
        let mut folders: Vec<PathBuf> = self.paths.iter().map(|(path, _)| folder(path)).collect();
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

/// All of it, as far as it is looked at: one byte beyond the bound is enough to be refused.
fn text(input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(SOURCE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > SOURCE_BYTES_MAX {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("is no UTF-8 text from byte {at} on"))
    })
}

/// A pipe: what was read of it is gone.
fn is_read_once(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The file itself, whatever way leads to it.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
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

    fn manifests(paths: &[PathBuf]) -> Inputs {
        Inputs { manifests: paths.to_owned(), ..Inputs::default() }
    }

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
        let (_, sources) = Files::open(&manifests(&[dir.path().to_owned()])).unwrap();
        assert_eq!(names(&sources), ["a.yml", "b.yaml", "c.json", "secrets.env"]);
        assert!(matches!(Files::open(&manifests(&[dir.path().join("missing")])), Err(StartError::Manifest { .. })));
    }

    #[test]
    fn a_named_file_says_what_it_last_said_while_it_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app");
        std::fs::write(&path, "one").unwrap();
        let (mut files, first) = Files::open(&manifests(std::slice::from_ref(&path))).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files.read(), first);
        std::fs::write(&path, "two").unwrap();
        assert_eq!(files.read(), [Source { path, text: "two".to_owned(), role: Role::Manifest }]);
    }

    #[test]
    fn a_patch_is_no_manifest_although_it_lies_among_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "patch.yaml"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let patches = vec![dir.path().join(".").join("patch.yaml")];
        let (mut files, sources) = Files::open(&Inputs { patches, ..manifests(&[dir.path().to_owned()]) }).unwrap();
        let roles: Vec<Role> = sources.iter().map(|source| source.role).collect();
        assert_eq!((names(&sources), roles), (vec!["a.yaml", "patch.yaml"], vec![Role::Manifest, Role::Patch]));
        assert_eq!(files.read(), sources);
    }

    #[test]
    fn what_can_be_read_once_is_remembered() {
        let given = given(&b"kind: List"[..]).unwrap();
        assert!(given.path.ends_with("<stdin>") && given.path.is_absolute());
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "piped").unwrap()
        });
        let inputs = Inputs { manifests: vec![pipe], given: vec![given], ..Inputs::default() };
        let (mut files, sources) = Files::open(&inputs).unwrap();
        writer.join().unwrap();
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["kind: List", "piped"]);
        assert_eq!(sources[1].path, std::path::absolute("<pipe>").unwrap(), "its folder is the current one");
        assert_eq!(files.read(), sources);
    }

    #[test]
    fn what_is_too_large_or_no_text_is_not_kept() {
        let endless = given(io::repeat(b'a')).unwrap();
        assert_eq!(endless.text.len(), SOURCE_BYTES_MAX + 1, "enough to be refused as too large");
        let error = given(&b"abc\xff"[..]).unwrap_err().to_string();
        assert_eq!(error, "<stdin>: is no UTF-8 text from byte 3 on");
    }

    #[tokio::test]
    async fn an_edit_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), "one").unwrap();
        let (files, sources) = Files::open(&manifests(&[dir.path().to_owned()])).unwrap();
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
