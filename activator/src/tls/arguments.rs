//! TLS as it is asked for on the command line, alike in every program that runs an activator.
//!
//! Invariant: what cannot be used ends the program with its own error before anything listens or runs.

use super::files::{
    FilesError, Followed, FollowedRoots, FollowedServer, LoadedRoots, LoadedServer, PairFiles, ServerFiles,
};
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
    /// The certificate that they get, with those between it and its root: PEM. May be repeated, each with its --tls-key: the name
    /// that a client asks for chooses, and the first is for all others. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_cert: Vec<PathBuf>,
    /// Its private key, not encrypted: PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_key: Vec<PathBuf>,
    /// Roots of clients' certificates: PEM. With it each client of --tls-listen has to show one.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_client_ca: Option<PathBuf>,
    /// Lists of clients' revoked certificates, one of each authority that signs them: PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_client_ca")]
    pub tls_client_crl: Option<PathBuf>,
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
        let server = match self.tls_listen {
            Some(_) => Some(self.files()?.load().await?),
            None => None,
        };
        let roots = match &self.backend_ca {
            Some(path) => Some(FollowedRoots::load(path.clone()).await?),
            None => None,
        };
        Ok(LoadedTls { server, roots })
    }

    fn files(&self) -> Result<ServerFiles, FilesError> {
        let Self { tls_cert, tls_key, tls_client_ca, tls_client_crl, .. } = self;
        if tls_cert.len() != tls_key.len() {
            return Err(FilesError::Unpaired { certificates: tls_cert.len(), keys: tls_key.len() });
        }
        let pairs = tls_cert.iter().cloned().zip(tls_key.iter().cloned());
        Ok(ServerFiles {
            pairs: pairs.map(|(certificate, key)| PairFiles { certificate, key }).collect(),
            client_roots: tls_client_ca.clone(),
            client_revoked: tls_client_crl.clone(),
        })
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
