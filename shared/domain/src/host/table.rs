//! The table of names: who gets a request for a host and a path, and who claimed what he did not get.
//!
//! Invariant: a name belongs to at most one revision for each path prefix. A revision's own names are nobody else's; any
//! other name, or a prefix of it, belongs to the oldest that claims it.

use super::{AllowedHosts, Domains, HOST_BYTES_MAX, is_below, normalise};
use crate::problem::{Problem, Severity};
use crate::revision::{Revision, RevisionId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

/// Path prefixes that one host may be divided into. They are compared one after the other.
pub const PREFIXES_MAX: usize = 64;
/// How many similar names, or prefixes, a "not found" offers.
const SIMILAR_MAX: usize = 3;
/// How many names are compared for it: an unknown Host must stay cheap.
const COMPARED_MAX: usize = 1_000;

/// What a Host and a path mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// This revision.
    Found(RevisionId),
    /// The host is known, and nobody claims this path of it.
    NoPath {
        /// Prefixes that somebody claims, not more than a few.
        prefixes: Vec<String>,
    },
    /// None.
    NotFound {
        /// Names that could have been meant, the likeliest first.
        similar: Vec<String>,
    },
}

/// One name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Site {
    /// Its owner, when it is a revision's own name: nobody else may claim any path of it.
    owner: Option<RevisionId>,
    /// Prefixes with their holders, the longest first. The empty prefix is every path.
    ways: Vec<(String, RevisionId)>,
}

impl Site {
    fn holder(&self, prefix: &str) -> Option<&RevisionId> {
        let held = self.ways.iter().find(|(held, _)| held == prefix).map(|(_, id)| id);
        self.owner.as_ref().or(held)
    }

    fn insert(&mut self, prefix: &str, id: &RevisionId) {
        // Of equal length no two match the same path, so their order says nothing; it is fixed for the comparison of tables.
        let order = |held: &str| (std::cmp::Reverse(held.len()), held.to_owned());
        let at = self.ways.partition_point(|(held, _)| order(held) < order(prefix));
        self.ways.insert(at, (prefix.to_owned(), id.clone()));
    }

    fn covers_all(&self) -> bool {
        self.ways.last().is_some_and(|(prefix, _)| prefix.is_empty())
    }
}

/// Names to revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// Whole names.
    exact: BTreeMap<String, Site>,
    /// What stands behind `*.`.
    wildcards: BTreeMap<String, Site>,
    /// Takes localhost and IP literals: the one with `default-route`, else the only one.
    default_route: Option<RevisionId>,
    /// The public name of each revision, for suggestions.
    public: Vec<String>,
}

impl RouteTable {
    /// The table of these revisions, and every claim that was not granted.
    #[must_use]
    pub fn build(revisions: &[Arc<Revision>], domains: &Domains, allowed: &AllowedHosts) -> (Self, Vec<Problem>) {
        let mut oldest_first: Vec<&Revision> = revisions.iter().map(Arc::as_ref).collect();
        oldest_first.sort_by_key(|revision| (revision.route.age_rank, revision.id.clone()));
        let mut table = Self::default();
        let mut problems = Vec::new();
        for revision in &oldest_first {
            table.public.push(domains.public_host(&revision.id));
            for host in domains.own_hosts(&revision.id) {
                table.own("metadata.name", host, revision, &mut problems);
            }
        }
        for revision in &oldest_first {
            if let Some(service) = &revision.route.taken_over {
                for host in domains.service_hosts(revision.id.namespace(), service) {
                    table.own("kpa.dev/service", host, revision, &mut problems);
                }
            }
        }
        for revision in &oldest_first {
            for host in &revision.route.hosts {
                match allowed.check(revision.id.namespace(), host) {
                    Ok(()) => table.claim(host, revision, &mut problems),
                    Err(instead) => problems.push(not_allowed(revision, host, instead)),
                }
            }
        }
        table.bare_names(&oldest_first);
        table.default_route = default_route(&oldest_first, &mut problems);
        (table, problems)
    }

    /// A revision's own name, or that of a Service which it has taken over, with every path of it.
    fn own(&mut self, key: &str, host: String, revision: &Revision, problems: &mut Vec<Problem>) {
        match self.exact.entry(host) {
            Entry::Vacant(free) => {
                let owner = Some(revision.id.clone());
                free.insert(Site { owner, ways: vec![(String::new(), revision.id.clone())] });
            }
            Entry::Occupied(held) => {
                if let Some(holder) = held.get().owner.as_ref().filter(|holder| **holder != revision.id) {
                    problems.push(held_by(revision, key, held.key(), "", holder));
                }
            }
        }
    }

    /// Gives a host, or a prefix of its paths, to `revision` unless another has it.
    fn claim(&mut self, host: &str, revision: &Revision, problems: &mut Vec<Problem>) {
        const KEY: &str = "kpa.dev/hosts";
        let prefix = revision.route.path_prefix.as_deref().unwrap_or_default();
        let (names, name) = match host.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcards, suffix),
            None => (&mut self.exact, host),
        };
        let site = names.entry(name.to_owned()).or_default();
        match site.holder(prefix) {
            Some(holder) if *holder == revision.id => {}
            Some(holder) => problems.push(held_by(revision, KEY, host, prefix, holder)),
            None if site.ways.len() >= PREFIXES_MAX => problems.push(not_granted(
                revision,
                KEY,
                format!("the host {host} is divided into {PREFIXES_MAX} paths already"),
                "fewer path prefixes for one host",
                format!("requests below {prefix} do not reach this service by this host"),
            )),
            None => site.insert(prefix, &revision.id),
        }
    }

    /// A name without dots means the only revision that is called so, or whose Service is, unless somebody claimed it as a
    /// host.
    fn bare_names(&mut self, revisions: &[&Revision]) {
        let mut named: BTreeMap<String, Option<&RevisionId>> = BTreeMap::new();
        let own = revisions.iter().map(|revision| (revision.id.name(), &revision.id));
        let taken = revisions.iter().filter_map(|revision| Some((revision.route.taken_over.as_deref()?, &revision.id)));
        for (name, id) in own.chain(taken) {
            let only = named.entry(name.to_ascii_lowercase()).or_insert(Some(id));
            *only = only.filter(|only| *only == id);
        }
        for (name, only) in named {
            if let Some(id) = only {
                let site = self.exact.entry(name).or_default();
                if !site.covers_all() {
                    site.insert("", id);
                }
            }
        }
    }

    /// Who may get a request for `host`, by path prefix, in the order in which the prefixes are to be compared
    /// ([`is_below`]); the empty prefix is every path and stands last. Empty for an unknown host. Port and case do not matter.
    ///
    /// An exact name goes before a wildcard; what it leaves of its paths falls to the wildcard.
    #[must_use]
    pub fn ways(&self, host: &str) -> Vec<(&str, &RevisionId)> {
        let host = normalise(host);
        let mut ways: Vec<(&str, &RevisionId)> = Vec::new();
        for site in self.exact.get(&*host).into_iter().chain(self.wildcard(&host)) {
            ways.extend(site.ways.iter().map(|(prefix, id)| (prefix.as_str(), id)));
            if site.covers_all() {
                break;
            }
        }
        if ways.is_empty() && (host == "localhost" || host.parse::<IpAddr>().is_ok()) {
            ways.extend(self.default_route.as_ref().map(|id| ("", id)));
        }
        ways
    }

    /// Which revision `host` and `path` mean.
    #[must_use]
    pub fn lookup(&self, host: &str, path: &str) -> Match {
        let ways = self.ways(host);
        if let Some((_, id)) = ways.iter().find(|(prefix, _)| is_below(path, prefix)) {
            return Match::Found((*id).clone());
        }
        if ways.is_empty() {
            return Match::NotFound { similar: self.similar(host) };
        }
        Match::NoPath { prefixes: ways.iter().take(SIMILAR_MAX).map(|(prefix, _)| (*prefix).to_owned()).collect() }
    }

    /// Every whole name, bare names included. Lower case, without port.
    pub fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(String::as_str)
    }

    /// Who takes requests whose Host is localhost or an IP literal.
    #[must_use]
    pub const fn default_route(&self) -> Option<&RevisionId> {
        self.default_route.as_ref()
    }

    /// `*.` stands for exactly one label.
    fn wildcard(&self, host: &str) -> Option<&Site> {
        let (first, suffix) = host.split_once('.')?;
        if first.is_empty() { None } else { self.wildcards.get(suffix) }
    }

    /// Public names that are like `host`, the likeliest first.
    #[must_use]
    pub fn similar(&self, host: &str) -> Vec<String> {
        const LIKENESS_MIN: f64 = 0.6;
        let host = &*normalise(host);
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

fn held_by(loser: &Revision, key: &str, host: &str, prefix: &str, holder: &RevisionId) -> Problem {
    let below = if prefix.is_empty() { String::new() } else { format!(" below {prefix}") };
    not_granted(
        loser,
        key,
        format!("the host {host}{below} belongs to {holder}"),
        "a host that nobody else has",
        format!("requests for it go to {holder}"),
    )
}

fn not_allowed(loser: &Revision, host: &str, instead: &[String]) -> Problem {
    let namespace = loser.id.namespace();
    let expected = match instead {
        [] => "no host: this namespace may claim none".into(),
        some => format!("a host that is or lies below {}", some.join(" or ").chars().take(300).collect::<String>()),
    };
    not_granted(
        loser,
        "kpa.dev/hosts",
        format!("allowed-hosts of config-activator does not let the namespace {namespace} claim {host}"),
        &expected,
        "requests for it do not reach this service".into(),
    )
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
