//! Which revision a Host means (kpa-behaviour 3.1 and 3.2).
//!
//! Invariant: a name belongs to at most one revision. A revision's own names are nobody else's; any other name belongs
//! to the oldest that claims it.

use crate::problem::{Problem, Severity};
use crate::revision::{Revision, RevisionId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest host name (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;
/// How many similar names a "not found" offers.
const SIMILAR_MAX: usize = 3;
/// How many names are compared for it: an unknown Host must stay cheap.
const COMPARED_MAX: usize = 1_000;

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
        let short = format!("{}.{}", id.name(), id.namespace()).to_ascii_lowercase();
        [
            self.public_host(id),
            format!("{short}.svc.{}", self.cluster_domain).to_ascii_lowercase(),
            format!("{short}.svc"),
            short,
        ]
    }
}

/// What a Host means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// This revision.
    Found(RevisionId),
    /// None.
    NotFound {
        /// Names that could have been meant, the likeliest first.
        similar: Vec<String>,
    },
}

/// Names to revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// Whole names.
    exact: BTreeMap<String, RevisionId>,
    /// What stands behind `*.`.
    wildcards: BTreeMap<String, RevisionId>,
    /// Takes localhost and IP literals: the one with `default-route`, else the only one.
    default_route: Option<RevisionId>,
    /// The public name of each revision, for suggestions.
    public: Vec<String>,
}

impl RouteTable {
    /// The table of these revisions, and every claim that was not granted.
    #[must_use]
    pub fn build(revisions: &[Arc<Revision>], domains: &Domains) -> (Self, Vec<Problem>) {
        let mut oldest_first: Vec<&Revision> = revisions.iter().map(Arc::as_ref).collect();
        oldest_first.sort_by_key(|revision| (revision.route.age_rank, revision.id.clone()));
        let mut table = Self::default();
        let mut problems = Vec::new();
        for revision in &oldest_first {
            table.public.push(domains.public_host(&revision.id));
            for host in domains.own_hosts(&revision.id) {
                claim(&mut table.exact, host, revision, "metadata.name", &mut problems);
            }
        }
        for revision in &oldest_first {
            for host in &revision.route.hosts {
                let (map, host) = match host.strip_prefix("*.") {
                    Some(suffix) => (&mut table.wildcards, suffix),
                    None => (&mut table.exact, host.as_str()),
                };
                claim(map, host.to_owned(), revision, "kpa.dev/hosts", &mut problems);
            }
        }
        table.bare_names(&oldest_first);
        table.default_route = default_route(&oldest_first, &mut problems);
        (table, problems)
    }

    /// A name without dots means the only revision that is called so, unless somebody claimed it as a host.
    fn bare_names(&mut self, revisions: &[&Revision]) {
        let mut named: BTreeMap<String, Option<&RevisionId>> = BTreeMap::new();
        for revision in revisions {
            named
                .entry(revision.id.name().to_ascii_lowercase())
                .and_modify(|only| *only = None)
                .or_insert(Some(&revision.id));
        }
        for (name, only) in named {
            if let Some(id) = only {
                self.exact.entry(name).or_insert_with(|| id.clone());
            }
        }
    }

    /// Every whole name with its revision, bare names included. Lower case, without port.
    pub fn exact(&self) -> impl Iterator<Item = (&str, &RevisionId)> {
        self.exact.iter().map(|(host, id)| (host.as_str(), id))
    }

    /// Who takes requests whose Host is localhost or an IP literal.
    #[must_use]
    pub const fn default_route(&self) -> Option<&RevisionId> {
        self.default_route.as_ref()
    }

    /// Which revision `host` means; port and case do not matter.
    #[must_use]
    pub fn lookup(&self, host: &str) -> Match {
        let host = normalise(host);
        let found = self.exact.get(&*host).or_else(|| self.wildcard(&host)).or_else(|| {
            let local = host == "localhost" || host.parse::<IpAddr>().is_ok();
            self.default_route.as_ref().filter(|_| local)
        });
        found.map_or_else(|| Match::NotFound { similar: self.similar(&host) }, |id| Match::Found(id.clone()))
    }

    /// `*.` stands for exactly one label.
    fn wildcard(&self, host: &str) -> Option<&RevisionId> {
        let (first, suffix) = host.split_once('.')?;
        if first.is_empty() { None } else { self.wildcards.get(suffix) }
    }

    fn similar(&self, host: &str) -> Vec<String> {
        const LIKENESS_MIN: f64 = 0.6;
        if host.len() > HOST_BYTES_MAX {
            return Vec::new();
        }
        let first = |host: &str| host.split_once('.').map_or(host, |(first, _)| first).to_owned();
        let wanted = first(host);
        let mut near: Vec<(f64, &String)> = self
            .public
            .iter()
            .take(COMPARED_MAX)
            .map(|name| {
                let whole = strsim::normalized_damerau_levenshtein(host, name);
                (whole.max(strsim::normalized_damerau_levenshtein(&wanted, &first(name))), name)
            })
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        // With one or two services, what could have been meant is no riddle.
        if near.is_empty() && self.public.len() <= SIMILAR_MAX {
            return self.public.clone();
        }
        near.into_iter().take(SIMILAR_MAX).map(|(_, name)| name.clone()).collect()
    }
}

/// Gives `host` to `revision` unless another has it.
fn claim(
    map: &mut BTreeMap<String, RevisionId>,
    host: String,
    revision: &Revision,
    key: &str,
    problems: &mut Vec<Problem>,
) {
    match map.entry(host) {
        Entry::Vacant(free) => {
            free.insert(revision.id.clone());
        }
        Entry::Occupied(held) if *held.get() == revision.id => {}
        Entry::Occupied(held) => problems.push(not_granted(
            revision,
            key,
            format!("the host {} belongs to {}", held.key(), held.get()),
            "a host that nobody else has",
            format!("requests for it go to {}", held.get()),
        )),
    }
}

/// The oldest with `default-route`, else the only one there is.
fn default_route(oldest_first: &[&Revision], problems: &mut Vec<Problem>) -> Option<RevisionId> {
    let mut claimants = oldest_first.iter().filter(|revision| revision.route.default_route);
    let Some(holder) = claimants.next() else {
        return match oldest_first {
            [only] => Some(only.id.clone()),
            _ => None,
        };
    };
    problems.extend(claimants.map(|loser| {
        not_granted(
            loser,
            "kpa.dev/default-route",
            format!("the default route belongs to {}", holder.id),
            "one service with default-route",
            format!("requests for localhost go to {}", holder.id),
        )
    }));
    Some(holder.id.clone())
}

fn not_granted(loser: &Revision, key: &str, what: String, expected: &str, consequence: String) -> Problem {
    Problem {
        severity: Severity::Warning,
        place: format!("{} {}", loser.target.kind, loser.id),
        key: key.into(),
        what,
        expected: expected.into(),
        consequence,
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
    if name.split('.').all(is_label) { Ok(()) } else { Err("is no host name") }
}

/// Whether `text` is a DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, which stands neither first nor last.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
