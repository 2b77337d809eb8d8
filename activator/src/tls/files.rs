//! The files of certificates and keys, read again when they change.
//!
//! They are read, not watched: a Secret that Kubernetes mounts is changed by swapping a link two folders up, and what counts
//! is what can be read under the name.
//!
//! Invariants: what is in force was right as a whole when it was read; what is wrong is told once for each change.

use super::backend::Roots;
use super::fault::{Counts, Reload};
use super::server::{Credentials, Material, Server};
use crate::bounds::Bounds;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{MissedTickBehavior, interval};

/// How often files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, and those between it and its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
    /// Roots of clients' certificates, PEM.
    pub client_roots: Option<PathBuf>,
}

/// What is wrong with files, and which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {why}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
    /// They are read and cannot be used.
    #[error("{files}: {why}")]
    Unusable {
        /// Which.
        files: String,
        /// Why.
        why: String,
    },
}

async fn read(path: &Path) -> Result<Vec<u8>, FilesError> {
    let reading = async {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    };
    let unreadable =
        |error: io::Error| FilesError::Unreadable { file: path.display().to_string(), why: error.to_string() };
    reading.await.map_err(unreadable)
}

impl ServerFiles {
    async fn read(&self) -> Result<Material, FilesError> {
        let client_roots = match &self.client_roots {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Material { certificate: read(&self.certificate).await?, key: read(&self.key).await?, client_roots })
    }

    /// Reads them for the first time.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub async fn load(self) -> Result<LoadedServer, FilesError> {
        let material = self.read().await?;
        let credentials = self.understand(&material)?;
        Ok(LoadedServer { files: self, material, credentials })
    }

    fn understand(&self, material: &Material) -> Result<Credentials, FilesError> {
        Credentials::of(material).map_err(|why| FilesError::Unusable { files: self.names(), why: why.to_string() })
    }

    fn names(&self) -> String {
        let paths = [Some(&self.certificate), Some(&self.key), self.client_roots.as_ref()];
        let names: Vec<String> = paths.into_iter().flatten().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }
}

/// [`ServerFiles`] that were right when they were read.
#[derive(Debug)]
pub struct LoadedServer {
    files: ServerFiles,
    material: Material,
    credentials: Credentials,
}

/// What was seen last under the names of some files: news is what differs from it.
#[derive(Debug)]
struct Seen<T>(Result<T, FilesError>);

impl<T: PartialEq> Seen<T> {
    /// What is there `now`, if that is news.
    fn news(&mut self, now: Result<T, FilesError>) -> Option<&Result<T, FilesError>> {
        if self.0 == now {
            return None;
        }
        self.0 = now;
        Some(&self.0)
    }
}

/// Files that are looked at again and again.
pub trait Followed: Sized + Send {
    /// Looks at the files once.
    fn look(&mut self) -> impl Future<Output = ()> + Send;

    /// Looks at the files every [`LOOK_EVERY`], for ever.
    fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                self.look().await;
            }
        }
    }
}

/// The files of a [`Server`], followed.
#[derive(Debug)]
pub struct FollowedServer {
    files: ServerFiles,
    seen: Seen<Material>,
    server: Arc<Server>,
    bounds: Arc<Bounds>,
}

impl FollowedServer {
    /// Begins with what was `loaded`.
    #[must_use]
    pub fn new(loaded: LoadedServer, bounds: Arc<Bounds>) -> Self {
        let LoadedServer { files, material, credentials } = loaded;
        note(&bounds.tls, &credentials, &files);
        Self { files, seen: Seen(Ok(material)), server: Arc::new(Server::new(credentials)), bounds }
    }

    /// What listeners need.
    #[must_use]
    pub const fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Followed for FollowedServer {
    async fn look(&mut self) {
        let Some(news) = self.seen.news(self.files.read().await) else { return };
        let understood = news.as_ref().map_err(Clone::clone).and_then(|material| self.files.understand(material));
        match understood {
            Ok(credentials) => {
                note(&self.bounds.tls, &credentials, &self.files);
                self.server.replace(credentials);
                self.bounds.tls.reloaded(Reload::Taken);
                tracing::info!("{}: read again; new connections get the new certificate", self.files.names());
            }
            Err(error) => {
                self.bounds.tls.reloaded(Reload::Refused);
                tracing::error!("{error}; expected a certificate and its key in PEM; the last good ones stay in force");
            }
        }
    }
}

/// Keeps the end of what is in force, and says when that is past.
fn note(counts: &Counts, credentials: &Credentials, files: &ServerFiles) {
    let not_after = credentials.not_after.unwrap_or(0);
    counts.set_not_after(not_after);
    if not_after.saturating_mul(1000) < runtime::clock::unix_millis() {
        tracing::warn!("{}: the certificate has expired, so that clients will refuse it", files.certificate.display());
    }
}

/// Roots that were right when they were read.
#[derive(Debug)]
pub struct LoadedRoots {
    path: PathBuf,
    pem: Vec<u8>,
    roots: Roots,
}

/// The file of the roots that replicas' certificates lead to where a revision names none, followed.
#[derive(Debug)]
pub struct FollowedRoots {
    path: PathBuf,
    seen: Seen<Vec<u8>>,
    roots: Arc<Roots>,
    bounds: Arc<Bounds>,
}

impl FollowedRoots {
    /// Reads `path` for the first time.
    ///
    /// # Errors
    /// It cannot be read or used.
    pub async fn load(path: PathBuf) -> Result<LoadedRoots, FilesError> {
        let (pem, roots) = (read(&path).await?, Roots::default());
        roots.set(&pem).map_err(|why| FilesError::Unusable { files: path.display().to_string(), why })?;
        Ok(LoadedRoots { path, pem, roots })
    }

    /// Begins with what was `loaded`, which is in force at `roots` from now on.
    #[must_use]
    pub fn new(loaded: LoadedRoots, roots: Arc<Roots>, bounds: Arc<Bounds>) -> Self {
        let LoadedRoots { path, pem, roots: read } = loaded;
        roots.take_over(&read);
        Self { path, seen: Seen(Ok(pem)), roots, bounds }
    }
}

impl Followed for FollowedRoots {
    async fn look(&mut self) {
        let Some(news) = self.seen.news(read(&self.path).await) else { return };
        let files = || self.path.display().to_string();
        let set = |pem: &Vec<u8>| self.roots.set(pem).map_err(|why| FilesError::Unusable { files: files(), why });
        match news.as_ref().map_err(Clone::clone).and_then(set) {
            Ok(()) => {
                self.bounds.tls.reloaded(Reload::Taken);
                tracing::info!("{}: read again; new connections to replicas use the new roots", files());
            }
            Err(error) => {
                self.bounds.tls.reloaded(Reload::Refused);
                tracing::error!("{error}; expected roots in PEM; the last good ones stay in force");
            }
        }
    }
}
