//! What holds for the whole activator: kpa-behaviour 3.3, 3.4 and 4.9.

use std::net::IpAddr;
use std::time::Duration;

/// Settings of the request path that are not a revision's own.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domains of the host names.
    pub domains: domain::host::Domains,
    /// Peers whose X-Forwarded-* headers are appended to instead of replaced. Default: loopback.
    pub trusted: Trusted,
    /// User-Agent prefixes whose requests neither count nor wake (health checkers, scrapers).
    pub exempt_agents: Vec<String>,
    /// Paths whose requests neither count nor wake.
    pub exempt_paths: Vec<String>,
    /// How long a new or partly read request head may take. Default 30 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests. Default 75 s: longer than common clients' pools.
    pub keep_alive: Duration,
    /// How long the listener stays open after the activator was told to stop. Default 10 s; 0 on one machine.
    pub drain_delay: Duration,
    /// How long requests and tunnels may go on after that. Default 1 h.
    pub drain_grace: Duration,
}

/// Whose forwarding headers are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// Nobody's.
    Nobody,
    /// Peers on the loopback interface.
    Loopback,
}

impl Trusted {
    /// Whether `peer` is believed.
    #[must_use]
    pub const fn trusts(self, peer: IpAddr) -> bool {
        match self {
            Self::Nobody => false,
            Self::Loopback => peer.is_loopback(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self {
            domains: domain::host::Domains::default(),
            trusted: Trusted::Loopback,
            exempt_agents: words(&["kube-probe/", "Prometheus/", "GoogleHC/", "ELB-HealthChecker/"]),
            exempt_paths: Vec::new(),
            head_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            drain_delay: Duration::ZERO,
            drain_grace: Duration::from_secs(3600),
        }
    }
}
