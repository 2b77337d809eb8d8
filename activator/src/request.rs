//! A request on its way through the steps: each one knows more than the one before, so that a wrong order does not
//! compile.

use crate::body::{FromClient, Open};
use crate::bounds::Taken;
use crate::gate::HeldSlot;
use crate::headers::Asked;
use crate::local::{Local, Permit};
use crate::settings::Settings;
use crate::upstream::exchange::InFlight;
use activator_core::Session;
use domain::{Forwarding, Limits, Timestamp};
use http::HeaderValue;
use http::request::Parts;
use runtime::net::Socket;
use runtime::watched::Watch;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What kind of listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Anybody's.
    Public,
    /// Anybody's, behind TLS.
    Secure,
    /// Only our own programs'; `Knative-Serving-*` fields name the revision here (kpa-behaviour 3.3).
    Internal,
}

/// The client's side of a connection. Values that depend on it are made once.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its address as X-Forwarded-For shows it.
    pub forwarded_for: HeaderValue,
    /// Its address as Forwarded shows it: `for=` and a node name (RFC 7239 section 6).
    pub forwarded_element: Box<str>,
    /// Which forwarding fields replicas get.
    pub forwarding: Forwarding,
    /// Whether its own forwarding headers are believed.
    pub trusted: bool,
    /// Where it came in.
    pub door: Door,
    /// The settings when it began.
    pub settings: Arc<Settings>,
    /// Shared with the connection.
    pub watch: Arc<Watch>,
    /// Its place among the connections, kept for as long as any request of it goes on, be it as a tunnel.
    pub place: Option<Taken>,
}

impl Peer {
    /// The peer at `address` of a connection that begins now.
    #[must_use]
    pub fn new(address: SocketAddr, door: Door, settings: Arc<Settings>, watch: Arc<Watch>) -> Self {
        let ip = address.ip().to_canonical();
        let forwarded_for =
            HeaderValue::from_str(&ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let forwarded_element = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            // Colons and brackets are no token (RFC 7239 section 4).
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        Self {
            address,
            forwarded_for,
            forwarded_element: forwarded_element.into(),
            forwarding: settings.forwarded,
            trusted: settings.trusted.trust(ip),
            door,
            settings,
            watch,
            place: None,
        }
    }
}

/// A request as it came. The steps pass it on in a box: each of their futures holds one.
#[derive(Debug)]
pub struct Request {
    /// Method, target, headers.
    pub head: Parts,
    /// What its fields say.
    pub asked: Asked,
    /// What follows.
    pub body: FromClient,
    /// Who sent it; marks the connection as busy.
    pub open: Open,
    /// The end of the whole exchange, if it has one.
    pub until: Option<Until>,
}

/// The end of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    /// When it is over.
    pub at: Instant,
    /// How long it may take in all, for the error.
    pub total: Duration,
}

/// It belongs to a revision.
#[derive(Debug)]
pub struct Routed<S: Socket> {
    /// The request.
    pub request: Box<Request>,
    /// The revision on this worker.
    pub local: Arc<Local<S>>,
    /// Its settings.
    pub limits: Arc<Limits>,
    /// What it belongs to, where its revision asks.
    pub session: Option<Session>,
    /// When it arrived.
    pub arrived: Timestamp,
    /// Neither counts nor wakes (kpa-behaviour 3.4).
    pub exempt: bool,
    /// The slot that another activator has for it, who counts it (kpa-behaviour 4.10).
    pub claimed: Option<Box<HeldSlot>>,
}

/// It is counted.
#[derive(Debug)]
pub struct Counted<S: Socket> {
    /// What it was.
    pub routed: Routed<S>,
    /// The count; none for exempt requests.
    pub in_flight: InFlight<S>,
}

/// It may go to a replica.
#[derive(Debug)]
pub struct Admitted<S: Socket> {
    /// What it was.
    pub counted: Counted<S>,
    /// Where it goes.
    pub permit: Permit<S>,
    /// How it waited.
    pub wait: Wait,
}

/// How a request waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wait {
    /// How long; zero when it did not.
    pub queued: Duration,
    /// It waited for a start.
    pub cold: bool,
}
