//! `config-activator`: what holds for the whole request path, whatever the service (kpa-behaviour 3).
//!
//! Invariant: a wrong value never opens anything. While no good map is known, what decides whom to believe and who may
//! claim which host is as narrow as it can be.

use crate::annotations::keys::{KeyDoc, Served, keys};
use crate::annotations::kind::{Kind, Refused, quoted};
use crate::annotations::shown::{Shown, shown_as_displayed};
use crate::config_map::Map;
use crate::host::{self, AllowedHosts, Domains};
use crate::limits::words;
use crate::origin::{Origin, Resolved};
use crate::problem::Problem;
use crate::revision::UnknownWord;
use crate::trust::TrustedProxies;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The name of the ConfigMap.
pub const CONFIG_MAP: &str = "config-activator";
/// Most entries of a list of exempt paths or agents.
pub const EXEMPT_MAX: usize = 100;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const fn span(min: Duration, max: Duration) -> Kind {
    Kind::Span { min, max, whole_seconds: false }
}

keys! {
    /// Every key of `config-activator`.
    ACTIVATOR_KEYS;

    DOMAIN = "domain", Kind::Text("a domain name"),
        default "example.com",
        "Services are called NAME.NAMESPACE.domain.";
    CLUSTER_DOMAIN = "cluster-domain", Kind::Text("a domain name"),
        default "cluster.local",
        "Services are also called NAME.NAMESPACE.svc.cluster-domain.";
    ALLOWED_HOSTS = "allowed-hosts", Kind::Text("any, none, or NAMESPACE=SUFFIX,SUFFIX with semicolons between namespaces"),
        default "any",
        "Which hosts the services of a namespace may claim with kpa.dev/hosts: a suffix, and whatever lies below it. \
         As a namespace, * is each that is not named; as a suffix, any host. A service's own names are always its own.";
    TRUSTED_PROXIES = "trusted-proxies", Kind::Text("none, or loopback and networks such as 10.0.0.0/8, comma separated"),
        default "loopback",
        "Peers whose forwarding fields are kept and added to; those of others are replaced. Counts for connections \
         that are opened after a change.";
    FORWARDED = "forwarded", Kind::Word(&["x-forwarded", "rfc7239", "both", "off"]),
        default "x-forwarded",
        "Which fields tell a replica where a request came from: X-Forwarded-For, -Host and -Proto, Forwarded of RFC \
         7239, both or none. Counts for connections that are opened after a change.";
    EXEMPT_USER_AGENTS = "exempt-user-agents", Kind::Text("beginnings of User-Agent fields, comma separated; none"),
        default "kube-probe/,Prometheus/,GoogleHC/,ELB-HealthChecker/",
        "Requests that neither count nor wake: a ready replica answers, else 503. Counts for connections that are \
         opened after a change.";
    EXEMPT_PATHS = "exempt-paths", Kind::Text("whole paths, each beginning with /, comma separated; none"),
        default "none",
        "The same for requests of these paths.";
    HEAD_TIMEOUT = "head-timeout", span(Duration::from_millis(100), HOUR),
        default "30s",
        "How long the head of a request may take to arrive. Counts for connections that are opened after a change.";
    KEEP_ALIVE_TIMEOUT = "keep-alive-timeout", span(Duration::from_millis(100), DAY),
        default "1m15s",
        "How long a client's connection may be idle between requests, and how long a client may take nothing of an answer \
         that waits for it where kpa.dev/idle-timeout is off. Counts for connections that are opened after a change.";
    MAX_CONNECTIONS = "max-connections", Kind::Whole { min: 1, max: 1_000_000 },
        default "50000",
        "Connections of clients, in all; at most three quarters of the process's open files. One more is closed at once, \
         before anything of it is read. Those at kpa run --internal-listen count and are not refused.";
    MAX_HELD_REQUESTS = "max-held-requests", Kind::Whole { min: 2, max: 1_000_000 },
        default "20000",
        "Requests that may wait for replicas, over all services. One more is answered 503 held_requests_full. One \
         service may hold half of them, whatever its kpa.dev/queue-depth: then 503 held_share_full.";
    MAX_HELD_BYTES = "max-held-bytes", Kind::Whole { min: 64 * 1024, max: u32::MAX },
        default "268435456",
        "What the bodies of waiting requests may take up over HTTP/2, where each may fill a window of 12 KiB before \
         anybody reads it, and of 64 KiB on a connection that has sent bodies before. Beyond: 503 held_bytes_full. Over HTTP/1.1 a waiting request takes up at most 24 KiB.";
    DRAIN_DELAY = "drain-delay", span(Duration::ZERO, HOUR),
        default "0s",
        "How long new connections are accepted after the activator was told to stop. On one machine nobody has to be \
         told first.";
    DRAIN_GRACE = "drain-grace", span(Duration::ZERO, WEEK),
        default "1h",
        "How long requests and tunnels may go on after that.";
}

words! {
    /// `forwarded`: which fields tell a replica where a request came from.
    Forwarding {
        /// `X-Forwarded-For`, `-Host` and `-Proto`.
        #[default]
        XForwarded = "x-forwarded",
        /// `Forwarded` (RFC 7239).
        Rfc7239 = "rfc7239",
        /// All of them.
        Both = "both",
        /// None.
        Off = "off",
    }
    "x-forwarded, rfc7239, both, off"
}

/// Texts with commas between them; `none` is the empty list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List(pub Vec<String>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(",")) }
    }
}

shown_as_displayed!(Forwarding, List, TrustedProxies, AllowedHosts);

/// The configuration of an activator, every value with its origin. What each means stands in [`ACTIVATOR_KEYS`].
#[derive(Debug, Clone, PartialEq)]
pub struct ActivatorConfig {
    /// `domain`.
    pub domain: Resolved<String>,
    /// `cluster-domain`.
    pub cluster_domain: Resolved<String>,
    /// `allowed-hosts`.
    pub allowed_hosts: Resolved<AllowedHosts>,
    /// `trusted-proxies`.
    pub trusted_proxies: Resolved<TrustedProxies>,
    /// `forwarded`.
    pub forwarded: Resolved<Forwarding>,
    /// `exempt-user-agents`.
    pub exempt_user_agents: Resolved<List>,
    /// `exempt-paths`.
    pub exempt_paths: Resolved<List>,
    /// `head-timeout`.
    pub head_timeout: Resolved<Duration>,
    /// `keep-alive-timeout`.
    pub keep_alive_timeout: Resolved<Duration>,
    /// `max-connections`.
    pub max_connections: Resolved<u32>,
    /// `max-held-requests`.
    pub max_held_requests: Resolved<u32>,
    /// `max-held-bytes`.
    pub max_held_bytes: Resolved<u32>,
    /// `drain-delay`.
    pub drain_delay: Resolved<Duration>,
    /// `drain-grace`.
    pub drain_grace: Resolved<Duration>,
    /// What was noteworthy in the map although it is in force (unknown keys).
    pub warnings: Vec<Problem>,
}

impl Default for ActivatorConfig {
    fn default() -> Self {
        let Domains { domain, cluster_domain } = Domains::default();
        let agents = ["kube-probe/", "Prometheus/", "GoogleHC/", "ELB-HealthChecker/"];
        let span = |secs| Resolved::default_value(Duration::from_secs(secs));
        Self {
            domain: Resolved::default_value(domain),
            cluster_domain: Resolved::default_value(cluster_domain),
            allowed_hosts: Resolved::default(),
            trusted_proxies: Resolved::default(),
            forwarded: Resolved::default(),
            exempt_user_agents: Resolved::default_value(List(agents.map(ToOwned::to_owned).to_vec())),
            exempt_paths: Resolved::default(),
            head_timeout: span(30),
            keep_alive_timeout: span(75),
            max_connections: Resolved::default_value(50_000),
            max_held_requests: Resolved::default_value(20_000),
            max_held_bytes: Resolved::default_value(256 << 20),
            drain_delay: span(0),
            drain_grace: span(3600),
            warnings: Vec::new(),
        }
    }
}

/// A map that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    /// All problems, warnings included.
    pub problems: Vec<Problem>,
    /// What is in force while no good map is known: the keys that are right; of the others, the built-in values, and where
    /// trust is concerned the narrowest.
    pub meanwhile: ActivatorConfig,
}

impl ActivatorConfig {
    /// What is in force while nothing of a map can be read and no good one is known: nobody is believed, nobody claims.
    #[must_use]
    pub fn cautious() -> Self {
        Self {
            allowed_hosts: Resolved::default_value(AllowedHosts::none()),
            trusted_proxies: Resolved::default_value(TrustedProxies::none()),
            ..Self::default()
        }
    }

    /// Reads the data of a `config-activator`; `place` says where it stands.
    ///
    /// # Errors
    /// All problems together, when one of them is an error: the last good configuration stays in force.
    pub fn from_map(place: &str, data: &BTreeMap<String, String>) -> Result<Self, Box<Wrong>> {
        let consequence = "the last good map stays in force; without any, the keys that are right count, and of the others \
                           the built-in values, but trusted-proxies: none and allowed-hosts: none";
        let mut map = Map { name: CONFIG_MAP, keys: ACTIVATOR_KEYS, consequence, place, data, problems: Vec::new() };
        let built_in = Self::default();
        let config = Self {
            domain: map.read(&DOMAIN, domain, built_in.domain),
            cluster_domain: map.read(&CLUSTER_DOMAIN, domain, built_in.cluster_domain),
            allowed_hosts: map.read(&ALLOWED_HOSTS, parsed, built_in.allowed_hosts),
            trusted_proxies: map.read(&TRUSTED_PROXIES, parsed, built_in.trusted_proxies),
            forwarded: map.read(&FORWARDED, Kind::word, built_in.forwarded),
            exempt_user_agents: map.read(&EXEMPT_USER_AGENTS, agents, built_in.exempt_user_agents),
            exempt_paths: map.read(&EXEMPT_PATHS, paths, built_in.exempt_paths),
            head_timeout: map.read(&HEAD_TIMEOUT, Kind::span, built_in.head_timeout),
            keep_alive_timeout: map.read(&KEEP_ALIVE_TIMEOUT, Kind::span, built_in.keep_alive_timeout),
            max_connections: map.read(&MAX_CONNECTIONS, Kind::whole, built_in.max_connections),
            max_held_requests: map.read(&MAX_HELD_REQUESTS, Kind::whole, built_in.max_held_requests),
            max_held_bytes: map.read(&MAX_HELD_BYTES, Kind::whole, built_in.max_held_bytes),
            drain_delay: map.read(&DRAIN_DELAY, Kind::span, built_in.drain_delay),
            drain_grace: map.read(&DRAIN_GRACE, Kind::span, built_in.drain_grace),
            warnings: Vec::new(),
        };
        map.unknown_keys();
        if !map.is_wrong() {
            return Ok(Self { warnings: map.problems, ..config });
        }
        let cautious = Self::cautious();
        let narrow = |origin: Origin| origin == Origin::Default;
        let allowed_hosts = if narrow(config.allowed_hosts.origin) && data.contains_key(ALLOWED_HOSTS.key) {
            cautious.allowed_hosts
        } else {
            config.allowed_hosts.clone()
        };
        let trusted_proxies = if narrow(config.trusted_proxies.origin) && data.contains_key(TRUSTED_PROXIES.key) {
            cautious.trusted_proxies
        } else {
            config.trusted_proxies.clone()
        };
        let meanwhile = Self { allowed_hosts, trusted_proxies, ..config };
        Err(Box::new(Wrong { problems: map.problems, meanwhile }))
    }

    /// The domains of the host names.
    #[must_use]
    pub fn domains(&self) -> Domains {
        Domains { domain: self.domain.value.clone(), cluster_domain: self.cluster_domain.value.clone() }
    }

    /// Every key with its value as it would be written and where that came from, in the order of [`ACTIVATOR_KEYS`].
    #[must_use]
    pub fn with_origins(&self) -> Vec<(&'static str, String, Origin)> {
        fn row<T: Shown>(resolved: &Resolved<T>) -> (String, Origin) {
            (resolved.shown(), resolved.origin)
        }
        [
            row(&self.domain),
            row(&self.cluster_domain),
            row(&self.allowed_hosts),
            row(&self.trusted_proxies),
            row(&self.forwarded),
            row(&self.exempt_user_agents),
            row(&self.exempt_paths),
            row(&self.head_timeout),
            row(&self.keep_alive_timeout),
            row(&self.max_connections),
            row(&self.max_held_requests),
            row(&self.max_held_bytes),
            row(&self.drain_delay),
            row(&self.drain_grace),
        ]
        .into_iter()
        .zip(ACTIVATOR_KEYS)
        .map(|((value, origin), row)| (row.key, value, origin))
        .collect()
    }
}

/// A domain name, in lower case and without the root's dot.
fn domain(_: &Kind, text: &str) -> Result<String, Refused> {
    let name = text.trim().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if host::is_name(name) { Ok(name.to_owned()) } else { Err(Refused(format!("{} is no domain name", quoted(text)))) }
}

/// A value with a grammar of its own, whose errors are the ends of sentences.
fn parsed<T: FromStr<Err = String>>(_: &Kind, text: &str) -> Result<T, Refused> {
    text.parse().map_err(|why| Refused(format!("{} {why}", quoted(text))))
}

/// A list whose items are `right`, or `none`.
fn list(text: &str, right: impl Fn(&str) -> bool, what: &str) -> Result<List, Refused> {
    let items: Vec<String> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect();
    match items.iter().find(|item| !right(item)) {
        _ if text.trim() == "none" => Ok(List::default()),
        _ if items.is_empty() => Err(Refused(format!("{} names nothing; none does", quoted(text)))),
        _ if items.len() > EXEMPT_MAX => Err(Refused(format!("{} has more than {EXEMPT_MAX} entries", quoted(text)))),
        Some(wrong) => Err(Refused(format!("{} has {}, which {what}", quoted(text), quoted(wrong)))),
        None => Ok(List(items)),
    }
}

fn agents(_: &Kind, text: &str) -> Result<List, Refused> {
    let is_text = |item: &str| item.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    list(text, is_text, "has bytes that no User-Agent has")
}

fn paths(_: &Kind, text: &str) -> Result<List, Refused> {
    let is_path =
        |item: &str| item.starts_with('/') && item.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
    list(text, is_path, "is no path that begins with /")
}

#[cfg(test)]
mod tests;
