//! TLS on both sides of the activator, by rustls: clients that come in ([`server`]) and replicas that are reached
//! ([`backend`]).
//!
//! Invariant: what cannot be used never takes the place of what is in force; every failure has a word of a closed list; no
//! roots but those that somebody gave are trusted.

pub mod arguments;
pub mod backend;
pub mod certificate;
pub mod fault;
pub mod files;
pub mod names;
pub mod server;
pub mod stream;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// What is spoken over TLS when HTTP/2 is (RFC 9113 section 3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// What is spoken over TLS when HTTP/1.1 is (RFC 7301).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The one cryptography there is.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a PEM text, at least one.
///
/// # Errors
/// What is wrong with it.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("it is no PEM: {error}")),
    }
}

/// The roots of a PEM text: every certificate of it has to be one.
///
/// # Errors
/// What is wrong with it.
fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(pem)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| format!("its certificate {} is no root: {error}", index + 1))?;
    }
    Ok(Arc::new(roots))
}
