//! What holds for the whole activator: kpa-behaviour 3.3, 3.4 and 4.9.
//!
//! Invariant: a connection keeps the settings that it began with, so that no request looks for newer ones; names, claims
//! and draining follow at once.

use arc_swap::ArcSwap;
use domain::ActivatorConfig;
use domain::host::{AllowedHosts, Domains};
use domain::{Forwarding, TrustedProxies};
use std::time::Duration;

/// The settings in force.
pub type Live = ArcSwap<Settings>;

/// Settings of the request path that are not a revision's own. Ranges and defaults are those of `config-activator`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domains of the host names.
    pub domains: Domains,
    /// Who may claim which hosts.
    pub allowed_hosts: AllowedHosts,
    /// Peers whose forwarding fields are added to instead of replaced.
    pub trusted: TrustedProxies,
    /// Which forwarding fields replicas get.
    pub forwarded: Forwarding,
    /// User-Agent prefixes whose requests neither count nor wake (health checkers, scrapers).
    pub exempt_agents: Vec<String>,
    /// Paths whose requests neither count nor wake.
    pub exempt_paths: Vec<String>,
    /// How long a new or partly read request head may take.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests, and a client take nothing of an answer that has no clock of its
    /// own. By default longer than common clients' pools.
    pub keep_alive: Duration,
    /// Clients' connections over all workers; more are closed at once.
    pub connections_max: u32,
    /// Requests that may wait over all revisions; more are refused. One revision may hold half of them.
    pub held_requests_max: u32,
    /// Bytes that waiting requests' bodies may take up over HTTP/2; more are refused.
    pub held_bytes_max: u64,
    /// How long the listener stays open after the activator was told to stop.
    pub drain_delay: Duration,
    /// How long requests and tunnels may go on after that.
    pub drain_grace: Duration,
}

impl From<&ActivatorConfig> for Settings {
    fn from(config: &ActivatorConfig) -> Self {
        Self {
            domains: config.domains(),
            allowed_hosts: config.allowed_hosts.value.clone(),
            trusted: config.trusted_proxies.value.clone(),
            forwarded: *config.forwarded,
            exempt_agents: config.exempt_user_agents.0.clone(),
            exempt_paths: config.exempt_paths.0.clone(),
            head_timeout: *config.head_timeout,
            keep_alive: *config.keep_alive_timeout,
            connections_max: *config.max_connections,
            held_requests_max: *config.max_held_requests,
            held_bytes_max: u64::from(*config.max_held_bytes),
            drain_delay: *config.drain_delay,
            drain_grace: *config.drain_grace,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&ActivatorConfig::default())
    }
}
