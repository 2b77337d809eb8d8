//! What clients meet: one certificate and key, who has to show a certificate, and the handshake.
//!
//! Invariant: a connection keeps the certificate that it began with; a handshake ends within [`HANDSHAKE_TIMEOUT`]; sessions
//! are resumed only under the very files that they began under.

use super::certificate::not_after;
use super::fault::Fault;
use super::stream::FromClient;
use super::{ALPN_H2, ALPN_HTTP1, certificates, provider, roots};
use crate::bounds::{Bounds, HANDSHAKE_TIMEOUT, Limit};
use arc_swap::ArcSwap;
use runtime::net::Socket;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// Files as they are read, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// The certificate, and those between it and its root.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Roots of clients' certificates. With them every client has to show one.
    pub client_roots: Option<Vec<u8>>,
}

/// Why [`Material`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The certificate.
    #[error("the certificate cannot be used: {0}")]
    Certificate(String),
    /// The key.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The two.
    #[error("certificate and key do not belong together: {0}")]
    Pair(String),
    /// The roots of clients' certificates.
    #[error("the roots of clients' certificates cannot be used: {0}")]
    ClientRoots(String),
}

/// [`Material`] that was understood.
#[derive(Debug, Clone)]
pub struct Credentials {
    config: Arc<ServerConfig>,
    /// The end of the certificate's validity, in seconds since 1970; `None` when it cannot be read.
    pub not_after: Option<u64>,
}

impl Credentials {
    /// Understands `material`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(material: &Material) -> Result<Self, Unusable> {
        let chain = certificates(&material.certificate).map_err(Unusable::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&material.key)
            .map_err(|error| Unusable::Key(format!("there is no unencrypted private key in it: {error}")))?;
        let not_after = chain.first().and_then(|certificate| not_after(certificate));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::Pair(error.to_string()))?;
        let builder = match &material.client_roots {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = roots(pem).map_err(Unusable::ClientRoots)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| Unusable::ClientRoots(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| Unusable::Pair(error.to_string()))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        Ok(Self { config: Arc::new(config), not_after })
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
        let check = |certificate: &[u8], key: &[u8], client_roots: Option<&[u8]>, expected: &str| {
            let client_roots = client_roots.map(<[u8]>::to_vec);
            let material = Material { certificate: certificate.to_vec(), key: key.to_vec(), client_roots };
            let error = Credentials::of(&material).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(b"", &key, None, "the certificate cannot be used: there is no certificate");
        check(&key, &key, None, "the certificate cannot be used: there is no certificate");
        check(&certificate[..100], &key, None, "the certificate cannot be used: it is no PEM");
        check(&certificate, b"nothing", None, "the key cannot be used");
        check(&certificate, &certificate, None, "the key cannot be used");
        check(&certificate, &other, None, "certificate and key do not belong together");
        check(&certificate, &key, Some(b""), "the roots of clients' certificates cannot be used");
        let fine = Material { client_roots: Some(certificate.clone()), certificate, key };
        assert!(Credentials::of(&fine).unwrap().not_after.is_some());
    }
}
