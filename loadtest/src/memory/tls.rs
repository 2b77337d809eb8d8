//! A certificate for the activator that is measured, and clients that trust it.
//!
//! Invariant: no session is resumed, so that each connection costs a whole handshake.

use super::subject::host;
use crate::net;
use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Both ends of TLS, with a P-256 key as most certificates have.
pub(super) struct Tls {
    folder: TempDir,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new() -> anyhow::Result<Self> {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec![host()])?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("tls.crt"), cert.pem())?;
        fs::write(folder.path().join("tls.key"), signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { folder, connector: TlsConnector::from(Arc::new(config)), name: host().try_into()? })
    }

    /// What the activator is told to listen for TLS at `address`.
    pub(super) fn arguments(&self, address: SocketAddr) -> [OsString; 6] {
        let file = |name: &str| self.folder.path().join(name).into_os_string();
        let listen = address.to_string().into();
        ["--tls-listen".into(), listen, "--tls-cert".into(), file("tls.crt"), "--tls-key".into(), file("tls.key")]
    }

    /// A connection behind its handshake.
    pub(super) async fn connect(&self, address: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = net::connect(address).await?;
        self.connector.connect(self.name.clone(), stream).await.context("the TLS handshake failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{HandshakeKind, ServerConfig};
    use tokio_rustls::TlsAcceptor;

    #[tokio::test]
    async fn the_files_are_trusted_and_every_handshake_is_a_whole_one() {
        let tls = Tls::new().unwrap();
        let listener = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).unwrap();
        let address = listener.local_addr().unwrap();
        let [_, listen, _, certificate, _, key] = tls.arguments(address);
        assert_eq!(listen, *address.to_string());
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        for _ in 0..2 {
            let accept = async {
                let (socket, _) = listener.accept().await.unwrap();
                acceptor.accept(socket).await.unwrap()
            };
            let (client, server) = tokio::join!(tls.connect(address), accept);
            assert!(client.unwrap().get_ref().1.handshake_kind() == Some(HandshakeKind::Full));
            assert_eq!(server.get_ref().1.server_name(), Some(host().as_str()));
        }
    }
}
