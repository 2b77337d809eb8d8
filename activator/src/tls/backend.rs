//! TLS to the replicas of one revision (`kpa.dev/backend-tls`).
//!
//! Invariants: a replica's certificate has to lead to the roots of `kpa.dev/backend-ca`, else of `--backend-ca`, and there
//! are no others; a connection is used only for settings that it was checked against; a failure is said once in a while, not
//! for each.

use super::fault::Fault;
use super::stream::ToReplica;
use super::{ALPN_H2, ALPN_HTTP1, provider, roots};
use crate::bounds::Bounds;
use crate::headers::Next;
use arc_swap::ArcSwapOption;
use domain::{Certificates, Limits, RevisionId};
use parking_lot::Mutex;
use runtime::net::Connect;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// A revision's failures are said at most so often.
pub const TELL_EVERY: Duration = Duration::from_secs(60);
/// No failure since the last success.
const FINE: usize = usize::MAX;

/// The roots of replicas whose revision names none (`--backend-ca`).
#[derive(Debug, Default)]
pub struct Roots(ArcSwapOption<RootCertStore>);

impl Roots {
    /// Trusts the certificates of `pem` from now on.
    ///
    /// # Errors
    /// What is wrong with it; then nothing changes.
    pub fn set(&self, pem: &[u8]) -> Result<(), String> {
        self.0.store(Some(roots(pem)?));
        Ok(())
    }

    /// Trusts from now on what `others` do.
    pub fn take_over(&self, others: &Self) {
        self.0.store(others.0.load_full());
    }
}

/// What a replica's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    roots: Option<Certificates>,
    name: Option<String>,
}

impl Identity {
    fn of(limits: &Limits) -> Self {
        Self { roots: limits.backend_ca.value.clone(), name: limits.backend_server_name.value.clone() }
    }

    /// Whether `limits` ask for the same.
    #[must_use]
    pub fn is_of(&self, limits: &Limits) -> bool {
        self.roots == limits.backend_ca.value && self.name == limits.backend_server_name.value
    }
}

/// [`Identity`], understood.
struct Prepared {
    identity: Arc<Identity>,
    roots: Arc<RootCertStore>,
    name: ServerName<'static>,
    http1: TlsConnector,
    http2: TlsConnector,
}

/// One revision's way to reach its replicas over TLS.
pub struct Backend {
    id: RevisionId,
    roots: Arc<Roots>,
    bounds: Arc<Bounds>,
    prepared: Mutex<Option<Arc<Prepared>>>,
    /// The newest failure since the last success, as an index.
    failure: AtomicUsize,
    told: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("id", &self.id).field("failure", &self.failure()).finish_non_exhaustive()
    }
}

impl Backend {
    /// That of `id`, whose replicas lead to `roots` unless it names its own.
    #[must_use]
    pub fn new(id: RevisionId, roots: Arc<Roots>, bounds: Arc<Bounds>) -> Self {
        let (prepared, told) = (Mutex::default(), Mutex::default());
        Self { id, roots, bounds, prepared, failure: AtomicUsize::new(FINE), told }
    }

    /// Why no replica can be reached over TLS, as far as the newest try knows.
    #[must_use]
    pub fn failure(&self) -> Option<Fault> {
        Fault::ALL.get(self.failure.load(Relaxed)).copied()
    }

    /// TLS is asked for no longer.
    pub fn forget(&self) {
        self.failure.store(FINE, Relaxed);
    }

    /// A connection to `to` behind TLS for HTTP of the version `next`, or nothing within `limit`.
    pub async fn connect<C: Connect>(
        &self,
        connector: &C,
        (to, next): (SocketAddr, Next),
        limits: &Limits,
        limit: Duration,
    ) -> Option<ToReplica<C::Stream>> {
        let until = Instant::now() + limit;
        let prepared = match self.prepare(limits) {
            Ok(prepared) => prepared,
            Err((fault, why)) => {
                self.failed(fault, to, &why);
                return None;
            }
        };
        let socket = timeout_at(until, connector.connect(to)).await.ok()?.ok()?;
        let connector = match next {
            Next::Http1 => &prepared.http1,
            Next::Http2 => &prepared.http2,
        };
        let (fault, why) = match timeout_at(until, connector.connect(prepared.name.clone(), socket)).await {
            Ok(Ok(stream)) if next == Next::Http1 || stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) => {
                if self.failure.load(Relaxed) != FINE {
                    self.failure.store(FINE, Relaxed);
                }
                return Some(ToReplica::Tls(Box::new(stream), Arc::clone(&prepared.identity)));
            }
            Ok(Ok(_)) => (Fault::Alpn, "it does not choose h2".to_owned()),
            Ok(Err(error)) => (Fault::of(&error), error.to_string()),
            Err(_) => (Fault::Timeout, format!("nothing within {limit:?}")),
        };
        self.failed(fault, to, &why);
        None
    }

    fn failed(&self, fault: Fault, to: SocketAddr, why: &str) {
        self.bounds.tls.replica_failed(fault);
        self.failure.store(fault as usize, Relaxed);
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            drop(told);
            tracing::warn!(
                revision = %self.id, replica = %to, reason = fault.label(),
                "a replica cannot be reached over TLS: {} ({why}); it gets no request; said at most every {TELL_EVERY:?}",
                fault.of_replica(),
            );
        }
    }

    fn prepare(&self, limits: &Limits) -> Result<Arc<Prepared>, (Fault, String)> {
        let given = limits.backend_ca.is_none().then(|| self.roots.0.load_full());
        let mut prepared = self.prepared.lock();
        if let Some(prepared) = &*prepared
            && prepared.identity.is_of(limits)
            && given
                .as_ref()
                .is_none_or(|given| given.as_ref().is_some_and(|given| Arc::ptr_eq(given, &prepared.roots)))
        {
            return Ok(Arc::clone(prepared));
        }
        let roots = match (&*limits.backend_ca, given.flatten()) {
            (Some(pem), _) => roots(pem.as_str().as_bytes()).map_err(|why| (Fault::NoRoots, why))?,
            (None, Some(given)) => given,
            (None, None) => {
                return Err((Fault::NoRoots, "neither kpa.dev/backend-ca nor --backend-ca is given".to_owned()));
            }
        };
        let new = Arc::new(self.understand(limits, roots)?);
        *prepared = Some(Arc::clone(&new));
        Ok(new)
    }

    fn understand(&self, limits: &Limits, roots: Arc<RootCertStore>) -> Result<Prepared, (Fault, String)> {
        let default_name = || format!("{}.{}", self.id.name(), self.id.namespace());
        let name = limits.backend_server_name.value.clone().unwrap_or_else(default_name);
        let name = ServerName::try_from(name).map_err(|error| (Fault::WrongName, error.to_string()))?;
        let connector = |alpn: &[u8]| -> Result<TlsConnector, (Fault, String)> {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(|error| (Fault::Other, error.to_string()))?
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        };
        let (http1, http2) = (connector(ALPN_HTTP1)?, connector(ALPN_H2)?);
        Ok(Prepared { identity: Arc::new(Identity::of(limits)), roots, name, http1, http2 })
    }
}
