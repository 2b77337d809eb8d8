//! Which certificate a client meets: chosen by the name that it asks for (SNI).
//!
//! Invariant: a wildcard stands for exactly one label, the leftmost and the whole of it (RFC 9525 section 6.3); whoever asks
//! for a name that no certificate has, or for none, meets the first.

use super::certificate::dns_names;
use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates by the names that they are for. Where several have a name, the first of them counts, but one that spells the
/// name out comes before one with a wildcard.
#[derive(Debug)]
pub struct ByName {
    first: Arc<CertifiedKey>,
    exact: Names,
    /// By what follows `*.`
    wildcard: Names,
}

type Names = HashMap<Box<str>, Arc<CertifiedKey>>;

impl ByName {
    /// Knows the names in each of `certificates`, the common name left out (RFC 9525 section 2); `None` without any.
    #[must_use]
    pub fn new(certificates: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let mut by_name =
            Self { first: Arc::clone(certificates.first()?), exact: Names::new(), wildcard: Names::new() };
        for certificate in certificates {
            for name in certificate.end_entity_cert().into_iter().flat_map(|der| dns_names(der)) {
                let (names, name) =
                    name.strip_prefix("*.").map_or((&mut by_name.exact, name), |rest| (&mut by_name.wildcard, rest));
                // Neither names that cannot be asked for, nor a star elsewhere than in front.
                if let Ok(name) = DnsName::try_from(name) {
                    let name = name.to_lowercase_owned();
                    names.entry(name.as_ref().into()).or_insert_with(|| Arc::clone(&certificate));
                }
            }
        }
        Some(by_name)
    }

    /// The certificate for `name`, in lower case.
    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let wild = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wild)
        });
        found.unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.of(hello.server_name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;
    use rustls::pki_types::PrivateKeyDer;

    fn certificate(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        Arc::new(CertifiedKey::from_der(vec![cert.der().clone()], key, &provider()).unwrap())
    }

    #[test]
    fn the_name_decides_and_a_wildcard_is_one_label() {
        let given = [
            certificate(&["first.example.com"]),
            certificate(&["*.example.com", "example.com", "*.Deep.example.com"]),
            certificate(&["a.example.com", "example.com"]),
            certificate(&["f*.other.org", "*", "10.0.0.1"]),
        ];
        let by_name = ByName::new(given.to_vec()).unwrap();
        for (name, expected) in [
            (None, 0),
            (Some("first.example.com"), 0),
            (Some("b.example.com"), 1),
            (Some("x.deep.example.com"), 1),
            (Some("a.example.com"), 2),
            (Some("example.com"), 1),
            (Some("a.b.example.com"), 0),
            (Some("bexample.com"), 0),
            (Some("com"), 0),
            (Some("foo.other.org"), 0),
            (Some("localhost"), 0),
            (Some("10.0.0.1"), 0),
        ] {
            let found = given.iter().position(|one| Arc::ptr_eq(one, by_name.of(name)));
            assert_eq!(found, Some(expected), "{name:?}");
        }
        assert!(ByName::new(Vec::new()).is_none());
    }
}
