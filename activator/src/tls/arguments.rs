//! TLS as it is asked for on the command line, alike in every program that runs an activator.
//!
//! Invariant: what cannot be used ends the program with its own error before anything listens or runs.

use super::files::{FilesError, Followed, FollowedRoots, FollowedServer, LoadedRoots, LoadedServer, ServerFiles};
use super::server::Server;
use crate::revisions::Revisions;
use runtime::Tasks;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What clients and replicas meet over TLS. Without any of it there is none from clients, and of replicas none without
/// `kpa.dev/backend-ca`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArguments {
    /// Where clients connect over TLS, besides --listen.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert", requires = "tls_key")]
    pub tls_listen: Option<SocketAddr>,
    /// The certificate that they get, with those between it and its root: PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, not encrypted: PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_key: Option<PathBuf>,
    /// Roots of clients' certificates: PEM. With it each client of --tls-listen has to show one.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_client_ca: Option<PathBuf>,
    /// Roots of the replicas of services that have kpa.dev/backend-tls and no kpa.dev/backend-ca: PEM. Read again when it
    /// changes.
    #[arg(long, value_name = "FILE")]
    pub backend_ca: Option<PathBuf>,
}

impl TlsArguments {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub async fn load(&self) -> Result<LoadedTls, FilesError> {
        let server = match self.files() {
            Some(files) => Some(files.load().await?),
            None => None,
        };
        let roots = match &self.backend_ca {
            Some(path) => Some(FollowedRoots::load(path.clone()).await?),
            None => None,
        };
        Ok(LoadedTls { server, roots })
    }

    fn files(&self) -> Option<ServerFiles> {
        let Self { tls_listen, tls_cert, tls_key, tls_client_ca, .. } = self;
        (*tls_listen)?;
        Some(ServerFiles { certificate: tls_cert.clone()?, key: tls_key.clone()?, client_roots: tls_client_ca.clone() })
    }
}

/// Files that were right when they were read.
#[derive(Debug)]
pub struct LoadedTls {
    server: Option<LoadedServer>,
    roots: Option<LoadedRoots>,
}

impl LoadedTls {
    /// Has `tasks` follow the files for the activator of `revisions`. What listeners need, if there are to be some.
    pub fn follow(self, revisions: &Revisions, tasks: &Tasks) -> Option<Arc<Server>> {
        if let Some(loaded) = self.roots {
            let roots = Arc::clone(revisions.backend_roots());
            let followed = FollowedRoots::new(loaded, roots, Arc::clone(revisions.bounds()));
            tasks.service("follow the roots of replicas", followed.run());
        }
        let followed = FollowedServer::new(self.server?, Arc::clone(revisions.bounds()));
        let server = Arc::clone(followed.server());
        tasks.service("follow the certificate", followed.run());
        Some(server)
    }
}
