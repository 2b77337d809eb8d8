//! Certificates, and both ends of TLS as tests need them.

use crate::wire::{Wire, soon};
use activator::tls::server::{self, Credentials, Material};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Somebody who signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) serial: SerialNumber,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("root")
    }

    /// Certificates say by name who has signed them, and so do lists of revoked ones.
    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, whose validity ends in `year`.
    pub(crate) fn until(&self, names: &[&str], year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        // Hardly ever the same twice, and of this issuer.
        let serial = SerialNumber::from_slice(&[&[1], &key.public_key_raw()[1..9]].concat());
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem(), serial }
    }

    /// The list of what was revoked, PEM.
    pub(crate) fn list(&self, revoked: &[&Pair]) -> String {
        let [begin, end] = [2001, 2096].map(|year| rcgen::date_time_ymd(year, 1, 1));
        let revoked = revoked.iter().map(|pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: begin,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: begin,
            next_update: end,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn sign(&self, names: &[&str]) -> Pair {
        self.until(names, 2096)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Pair {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    pub(crate) fn material(&self, client_roots: Option<&Authority>) -> Material {
        let pair =
            server::Pair { certificate: self.certificate.clone().into_bytes(), key: self.key.clone().into_bytes() };
        let client_roots = client_roots.map(|authority| authority.pem.clone().into_bytes());
        Material { pairs: vec![pair], client_roots, client_revoked: None }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::of(&self.material(None)).unwrap()
    }

    /// What a replica shows, and what it speaks.
    pub(crate) fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(self.chain(), self.private()).unwrap();
        config.alpn_protocols = alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A client.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'static [&'static str],
    pub(crate) shows: Option<Pair>,
    /// The name that it asks for, and that the certificate has to be for.
    pub(crate) asks_for: &'static str,
}

impl Default for Visitor {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, alpn: &["http/1.1"], shows: None, asks_for: "svc.default" }
    }
}

impl Visitor {
    /// The connection behind the handshake, with a server that `authority` vouches for under the name that is asked for.
    pub(crate) async fn visit(&self, authority: &Authority, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.visit_over(authority, soon(TcpStream::connect(to)).await?).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn visit_over(
        &self,
        authority: &Authority,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(self.versions).unwrap().with_root_certificates(authority.roots());
        let mut config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.private()).unwrap(),
        };
        config.alpn_protocols = self.alpn.iter().map(|word| word.as_bytes().to_vec()).collect();
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.asks_for).unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// The same, for HTTP/1.1 by hand.
    pub(crate) async fn wire(&self, authority: &Authority, to: SocketAddr) -> Wire<TlsStream<TcpStream>> {
        Wire::over(self.visit(authority, to).await.unwrap())
    }
}
