//! What clients meet: certificates with their keys, who has to show a certificate, and the handshake.
//!
//! Invariant: a connection keeps the certificate that it began with; a handshake ends within [`HANDSHAKE_TIMEOUT`]; sessions
//! are resumed only under the very files that they began under.

use super::certificate::not_after;
use super::fault::Fault;
use super::names::ByName;
use super::stream::FromClient;
use super::{ALPN_H2, ALPN_HTTP1, certificates, provider, roots};
use crate::bounds::{Bounds, HANDSHAKE_TIMEOUT, Limit};
use arc_swap::ArcSwap;
use runtime::net::Socket;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// Most certificates with keys.
pub const PAIRS_MAX: usize = 64;

/// A certificate and its key as they are read, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those between it and its root.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// Files as they are read, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// 1 to [`PAIRS_MAX`], chosen by the name that a client asks for; the first where none matches.
    pub pairs: Vec<Pair>,
    /// Roots of clients' certificates. With them every client has to show one.
    pub client_roots: Option<Vec<u8>>,
    /// Lists of revoked ones among them.
    pub client_revoked: Option<Vec<u8>>,
}

/// Why [`Material`] cannot be used. The number is the index of the pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The certificate.
    #[error("the certificate cannot be used: {1}")]
    Certificate(usize, String),
    /// The key.
    #[error("the key cannot be used: {1}")]
    Key(usize, String),
    /// The two.
    #[error("certificate and key do not belong together: {1}")]
    Pair(usize, String),
    /// How many pairs there are.
    #[error("there are {0} certificates with keys; expected 1 to {PAIRS_MAX}")]
    Pairs(usize),
    /// The roots of clients' certificates.
    #[error("the roots of clients' certificates cannot be used: {0}")]
    ClientRoots(String),
    /// The lists of revoked ones.
    #[error("the lists of clients' revoked certificates cannot be used: {0}")]
    ClientRevoked(String),
    /// Whatever else.
    #[error("TLS cannot be served: {0}")]
    Other(String),
}

/// [`Material`] that was understood.
#[derive(Debug, Clone)]
pub struct Credentials {
    config: Arc<ServerConfig>,
    /// The end of each certificate's validity, in seconds since 1970; `None` when it cannot be read.
    pub ends: Vec<Option<u64>>,
}

impl Credentials {
    /// Understands `material`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(material: &Material) -> Result<Self, Unusable> {
        let Material { pairs, client_roots, client_revoked } = material;
        let too_many = Unusable::Pairs(pairs.len());
        if pairs.len() > PAIRS_MAX {
            return Err(too_many);
        }
        let keys = pairs.iter().enumerate().map(|(index, pair)| certified(index, pair));
        let keys: Vec<Arc<CertifiedKey>> = keys.collect::<Result<_, _>>()?;
        let ends = keys.iter().map(|key| key.end_entity_cert().ok().and_then(|der| not_after(der))).collect();
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::Other(error.to_string()))?;
        let builder = match client_roots {
            None => builder.with_no_client_auth(),
            Some(pem) => builder.with_client_cert_verifier(verifier(pem, client_revoked.as_deref())?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(keys).ok_or(too_many)?));
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Self { config: Arc::new(config), ends })
    }

    /// The end of the validity of the certificate that ends first, in seconds since 1970.
    #[must_use]
    pub fn first_end(&self) -> Option<u64> {
        self.ends.iter().flatten().min().copied()
    }
}

fn certified(index: usize, pair: &Pair) -> Result<Arc<CertifiedKey>, Unusable> {
    let chain = certificates(&pair.certificate).map_err(|why| Unusable::Certificate(index, why))?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key)
        .map_err(|error| Unusable::Key(index, format!("there is no unencrypted private key in it: {error}")))?;
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(|error| Unusable::Pair(index, error.to_string()))
}

/// What checks the certificates of clients: against `client_roots`, and where there are lists of revoked ones, each certificate
/// up to its root against the list of its authority, which has to be there.
fn verifier(client_roots: &[u8], revoked: Option<&[u8]>) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let roots = roots(client_roots).map_err(Unusable::ClientRoots)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let lists = revoked.map(lists).transpose().map_err(Unusable::ClientRevoked)?.unwrap_or_default();
    verifier.with_crls(lists).build().map_err(|error| {
        let is_list = matches!(error, VerifierBuilderError::InvalidCrl(_));
        let unusable = if is_list { Unusable::ClientRevoked } else { Unusable::ClientRoots };
        unusable(error.to_string())
    })
}

/// The lists of revoked certificates of a PEM text, at least one: without any nothing would be checked.
fn lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match lists {
        Ok(none) if none.is_empty() => Err("there is no list in it (-----BEGIN X509 CRL-----)".into()),
        Ok(lists) => Ok(lists),
        Err(error) => Err(format!("it is no PEM: {error}")),
    }
}

/// What listeners with TLS share.
#[derive(Debug)]
pub struct Server {
    config: ArcSwap<ServerConfig>,
    handshake_timeout: Duration,
}

impl Server {
    /// Shows `credentials` to clients.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { config: ArcSwap::new(credentials.config), handshake_timeout: HANDSHAKE_TIMEOUT }
    }

    /// The same with another bound on handshakes than [`HANDSHAKE_TIMEOUT`].
    #[must_use]
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// Shows `credentials` to clients that come from now on.
    pub fn replace(&self, credentials: Credentials) {
        self.config.store(credentials.config);
    }

    /// The connection behind the handshake; `None` when it failed, which is counted.
    pub async fn accept<S: Socket>(&self, socket: S, peer: SocketAddr, bounds: &Bounds) -> Option<FromClient<S>> {
        let accepting = TlsAcceptor::from(self.config.load_full()).accept(socket);
        let (fault, what) = match tokio::time::timeout(self.handshake_timeout, accepting).await {
            Ok(Ok(stream)) => return Some(FromClient::new(stream)),
            Ok(Err(error)) => (Fault::of(&error), error.to_string()),
            Err(_) => {
                bounds.refuse(Limit::SlowHandshake);
                (Fault::Timeout, format!("it took longer than {:?}", self.handshake_timeout))
            }
        };
        bounds.tls.client_failed(fault);
        tracing::debug!(%peer, reason = fault.label(), "the TLS handshake of a client failed: {what}");
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Vec<u8>, Vec<u8>) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["svc.default".to_owned()]).unwrap();
        (cert.pem().into_bytes(), signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn what_cannot_be_used_says_which_and_why() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let check = |certificate: &[u8], key: &[u8], clients: Option<(&[u8], &[u8])>, expected: &str| {
            let pair = Pair { certificate: certificate.to_vec(), key: key.to_vec() };
            let (client_roots, client_revoked) = clients.map(|(roots, lists)| (roots.to_vec(), lists.to_vec())).unzip();
            let material = Material { pairs: vec![pair], client_roots, client_revoked };
            let error = Credentials::of(&material).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(b"", &key, None, "the certificate cannot be used: there is no certificate");
        check(&key, &key, None, "the certificate cannot be used: there is no certificate");
        check(&certificate[..100], &key, None, "the certificate cannot be used: it is no PEM");
        check(&certificate, b"nothing", None, "the key cannot be used");
        check(&certificate, &certificate, None, "the key cannot be used");
        check(&certificate, &other, None, "certificate and key do not belong together");
        check(&certificate, &key, Some((b"", b"")), "the roots of clients' certificates cannot be used");
        let lists = "the lists of clients' revoked certificates cannot be used: ";
        check(&certificate, &key, Some((&certificate, b"")), &format!("{lists}there is no list in it"));
        let broken = b"-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
        check(&certificate, &key, Some((&certificate, broken)), lists);

        let one = Pair { certificate: certificate.clone(), key };
        let many = |count| Material {
            pairs: vec![one.clone(); count],
            client_roots: Some(certificate.clone()),
            client_revoked: None,
        };
        assert!(Credentials::of(&many(1)).unwrap().first_end().is_some());
        assert_eq!(Credentials::of(&many(PAIRS_MAX)).unwrap().ends.len(), PAIRS_MAX);
        for count in [0, PAIRS_MAX + 1] {
            assert_eq!(Credentials::of(&many(count)).unwrap_err(), Unusable::Pairs(count));
        }
        let mut second = many(2);
        second.pairs[1].key = other;
        assert!(matches!(Credentials::of(&second), Err(Unusable::Pair(1, _))));
    }
}
