//! The files of certificates and keys, read again when they change.
//!
//! They are read, not watched: a Secret that Kubernetes mounts is changed by swapping a link two folders up, and what counts
//! is what can be read under the name.
//!
//! Invariants: what is in force was right as a whole when it was read; what is wrong is told once for each change.

use super::backend::Roots;
use super::fault::{Counts, Reload};
use super::server::{Credentials, Material, PAIRS_MAX, Pair, Server, Unusable};
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

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, and those between it and its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
}

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// 1 to [`PAIRS_MAX`]; the first is shown where no name matches.
    pub pairs: Vec<PairFiles>,
    /// Roots of clients' certificates, PEM.
    pub client_roots: Option<PathBuf>,
    /// Lists of revoked ones among them, PEM.
    pub client_revoked: Option<PathBuf>,
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
    /// Not every certificate has a key.
    #[error(
        "--tls-cert is given {certificates} times and --tls-key {keys} times; expected a key for each certificate, in the same \
         order; nothing is started"
    )]
    Unpaired {
        /// How many certificates.
        certificates: usize,
        /// How many keys.
        keys: usize,
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

async fn read_any(path: Option<&Path>) -> Result<Option<Vec<u8>>, FilesError> {
    match path {
        Some(path) => read(path).await.map(Some),
        None => Ok(None),
    }
}

impl ServerFiles {
    async fn read(&self) -> Result<Material, FilesError> {
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for files in self.pairs.iter().take(PAIRS_MAX + 1) {
            pairs.push(Pair { certificate: read(&files.certificate).await?, key: read(&files.key).await? });
        }
        let client_roots = read_any(self.client_roots.as_deref()).await?;
        Ok(Material { pairs, client_roots, client_revoked: read_any(self.client_revoked.as_deref()).await? })
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
        Credentials::of(material).map_err(|why| FilesError::Unusable { files: self.blamed(&why), why: why.to_string() })
    }

    /// The files that `why` is about.
    fn blamed(&self, why: &Unusable) -> String {
        let files: Vec<Option<&PathBuf>> = match why {
            Unusable::Certificate(index, _) => vec![self.pairs.get(*index).map(|files| &files.certificate)],
            Unusable::Key(index, _) => vec![self.pairs.get(*index).map(|files| &files.key)],
            Unusable::Pair(index, _) => {
                let files = self.pairs.get(*index);
                vec![files.map(|files| &files.certificate), files.map(|files| &files.key)]
            }
            Unusable::ClientRoots(_) => vec![self.client_roots.as_ref()],
            Unusable::ClientRevoked(_) => vec![self.client_revoked.as_ref()],
            Unusable::Pairs(_) | Unusable::Other(_) => return self.names(),
        };
        listed(files.into_iter().flatten())
    }

    fn names(&self) -> String {
        let pairs = self.pairs.iter().flat_map(|files| [&files.certificate, &files.key]);
        listed(pairs.chain(&self.client_roots).chain(&self.client_revoked))
    }
}

fn listed<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> String {
    paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
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
                tracing::info!("{}: read again; new connections get what is in them now", self.files.names());
            }
            Err(error) => {
                self.bounds.tls.reloaded(Reload::Refused);
                tracing::error!("{error}; expected PEM that can be used as a whole; the last good files stay in force");
            }
        }
    }
}

/// Keeps the first end of what is in force, and says of which certificates the end is past.
fn note(counts: &Counts, credentials: &Credentials, files: &ServerFiles) {
    counts.set_not_after(credentials.first_end().unwrap_or(0));
    let now = runtime::clock::unix_millis();
    for (end, PairFiles { certificate, .. }) in credentials.ends.iter().zip(&files.pairs) {
        if end.is_none_or(|end| end.saturating_mul(1000) < now) {
            tracing::warn!("{}: the certificate has expired, so that clients will refuse it", certificate.display());
        }
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
