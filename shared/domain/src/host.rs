//! Which revision a Host and a path mean, and who may claim which (kpa-behaviour 3.1 and 3.2).
//!
//! Invariant: a name is compared without port and case, a path byte for byte.

mod allowed;
mod table;

pub use allowed::{ALLOWED_MAX, AllowedHosts};
pub use table::{Match, PREFIXES_MAX, RouteTable};

use crate::revision::RevisionId;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Longest host name (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;
/// Longest path prefix.
pub const PREFIX_BYTES_MAX: usize = 1_024;

/// The domains under which every revision has names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    /// Of `<name>.<namespace>.<domain>`. Default `example.com`.
    pub domain: String,
    /// Of `<name>.<namespace>.svc.<cluster domain>`. Default `cluster.local`.
    pub cluster_domain: String,
}

impl Default for Domains {
    fn default() -> Self {
        Self { domain: "example.com".into(), cluster_domain: "cluster.local".into() }
    }
}

impl Domains {
    /// The public name of a revision.
    #[must_use]
    pub fn public_host(&self, id: &RevisionId) -> String {
        format!("{}.{}.{}", id.name(), id.namespace(), self.domain).to_ascii_lowercase()
    }

    /// The names that a revision has by itself, the public one first.
    #[must_use]
    pub fn own_hosts(&self, id: &RevisionId) -> [String; 4] {
        let [whole, svc, short] = self.service_hosts(id.namespace(), id.name());
        [self.public_host(id), whole, svc, short]
    }

    /// The names by which a cluster's DNS knows a Service, except the one without dots.
    #[must_use]
    pub fn service_hosts(&self, namespace: &str, service: &str) -> [String; 3] {
        let short = format!("{service}.{namespace}").to_ascii_lowercase();
        [format!("{short}.svc.{}", self.cluster_domain).to_ascii_lowercase(), format!("{short}.svc"), short]
    }
}

/// A Host as names are compared: without port, brackets and the root's dot, in lower case. Borrows when it can.
#[must_use]
pub fn normalise(host: &str) -> Cow<'_, str> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// A Host without its port, and an IPv6 literal without its brackets.
fn without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split_once(']').map_or(host, |(address, _)| address);
    }
    match host.rsplit_once(':') {
        // More colons are a bare IPv6 literal, which has no port.
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether `host` is a Host field's value by the grammar of RFC 9110 section 7.2 (an empty one is): a name or an address,
/// and a port or none. Says nothing about whether anybody is called so.
#[must_use]
pub fn is_well_formed(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if let Some(bracketed) = host.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    // A bare IPv6 literal is nothing that the grammar knows; it is common, and means nothing else.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, _)) if name.contains(':') => return host.parse::<Ipv6Addr>().is_ok(),
        Some(parts) => parts,
        None => (host, ""),
    };
    // reg-name (RFC 3986 section 3.2.2): unreserved, sub-delims, percent-encoded.
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&b)) && is_port(port)
}

/// Whether `path` is `prefix` or lies below it: whole segments, byte for byte, nothing decoded. Everything lies below the
/// empty prefix.
#[inline]
#[must_use]
pub fn is_below(path: &str, prefix: &str) -> bool {
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path prefix as it is compared: one slash at its end says nothing, so `/v1/` is `/v1` and `/` is every path (`None`).
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_prefix(path: &str) -> Result<Option<String>, &'static str> {
    if !path.starts_with('/') {
        return Err("is no path that begins with /");
    }
    if path.len() > PREFIX_BYTES_MAX {
        return Err("is longer than 1024 bytes");
    }
    if path.contains(['?', '#']) {
        return Err("has a query or a fragment, and only paths are compared");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("has bytes that a path does not have on the wire; write them percent-encoded");
    }
    let prefix = path.strip_suffix('/').unwrap_or(path);
    Ok((!prefix.is_empty()).then(|| prefix.to_owned()))
}

/// Whether a host can be claimed: a name of DNS labels in lower case, `*.` allowed in front, no port, no address.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_claim(host: &str) -> Result<(), &'static str> {
    let (name, wildcard) = match host.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (host, false),
    };
    if name.contains(':') || name.starts_with('[') {
        return Err("has a port or is an address");
    }
    if name.contains('*') {
        return Err("has a * that is not the whole first label");
    }
    if host.len() > HOST_BYTES_MAX {
        return Err("is longer than 253 bytes");
    }
    if name.parse::<IpAddr>().is_ok() || name == "localhost" {
        return Err("is what kpa.dev/default-route is for");
    }
    if wildcard && !name.contains('.') {
        return Err("is a wildcard for a whole top-level domain");
    }
    if is_name(name) { Ok(()) } else { Err("is no host name") }
}

/// Whether `text` is DNS labels with dots between them, in lower case.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= HOST_BYTES_MAX && text.split('.').all(is_label)
}

/// Whether `text` is a DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, which stands neither first nor last.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
