//! The request path's keys: limits, routing, port.

use super::keys::{self, KeyDoc};
use super::kind::{Kind, Refused, quoted};
use super::read::{Reader, Reading};
use super::shown::Shown;
use crate::affinity::{BadAffinity, SessionAffinity};
use crate::host;
use crate::limits::{Limits, OnDisconnect};
use crate::origin::{Origin, Resolved};
use crate::pem::{BadCertificates, Certificates};
use crate::problem::Severity;
use crate::revision::Route;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Every limit, resolved.
pub(super) fn limits(reader: &mut Reader<'_>, last: Option<&Limits>) -> Limits {
    let built_in = Limits::default();
    let container_concurrency = reader.value(
        &keys::CONTAINER_CONCURRENCY,
        |kind, text| kind.whole(text).map(NonZeroU32::new),
        last.map(|last| &*last.container_concurrency),
        built_in.container_concurrency,
    );
    let span =
        |reader: &mut Reader<'_>, row, last: Option<&Duration>, default| reader.value(row, Kind::span, last, default);
    let span_or_off = |reader: &mut Reader<'_>, row, last: Option<&Option<Duration>>, default| {
        reader.value(row, Kind::span_or_off, last, default)
    };
    let limits = Limits {
        container_concurrency,
        protocol: reader.value(&keys::PROTOCOL, Kind::word, last.map(|l| &*l.protocol), built_in.protocol),
        queue_depth: reader.value(&keys::QUEUE_DEPTH, Kind::whole, last.map(|l| &*l.queue_depth), built_in.queue_depth),
        queue_timeout: span(reader, &keys::QUEUE_TIMEOUT, last.map(|l| &*l.queue_timeout), built_in.queue_timeout),
        start_deadline: span(reader, &keys::START_DEADLINE, last.map(|l| &*l.start_deadline), built_in.start_deadline),
        connect_timeout: span(
            reader,
            &keys::CONNECT_TIMEOUT,
            last.map(|l| &*l.connect_timeout),
            built_in.connect_timeout,
        ),
        upstream_idle_timeout: span(
            reader,
            &keys::UPSTREAM_IDLE_TIMEOUT,
            last.map(|l| &*l.upstream_idle_timeout),
            built_in.upstream_idle_timeout,
        ),
        on_disconnect: reader.value(
            &keys::ON_DISCONNECT,
            Kind::word,
            last.map(|l| &*l.on_disconnect),
            Resolved::default_value(on_disconnect(*container_concurrency)),
        ),
        response_start_timeout: span_or_off(
            reader,
            &keys::RESPONSE_START_TIMEOUT,
            last.map(|l| &*l.response_start_timeout),
            built_in.response_start_timeout,
        ),
        idle_timeout: span_or_off(reader, &keys::IDLE_TIMEOUT, last.map(|l| &*l.idle_timeout), built_in.idle_timeout),
        timeout: span_or_off(reader, &keys::TIMEOUT, last.map(|l| &*l.timeout), built_in.timeout),
        drain_timeout: span(reader, &keys::DRAIN_TIMEOUT, last.map(|l| &*l.drain_timeout), built_in.drain_timeout),
        load_balancing: reader.value(
            &keys::LOAD_BALANCING,
            Kind::word,
            last.map(|l| &*l.load_balancing),
            built_in.load_balancing,
        ),
        session_affinity: reader.value(
            &keys::SESSION_AFFINITY,
            session_affinity,
            last.map(|l| &*l.session_affinity),
            built_in.session_affinity,
        ),
        backend_tls: unless_refused(reader, &keys::BACKEND_TLS, Kind::flag, last.map(|l| *l.backend_tls), true)
            .unwrap_or(built_in.backend_tls),
        backend_ca: unless_refused(
            reader,
            &keys::BACKEND_CA,
            certificates,
            last.map(|l| l.backend_ca.value.clone()),
            Some(Certificates::none()),
        )
        .unwrap_or(built_in.backend_ca),
        backend_server_name: reader.value(
            &keys::BACKEND_SERVER_NAME,
            server_name,
            last.map(|l| &*l.backend_server_name),
            built_in.backend_server_name,
        ),
    };
    check_backend(reader, &limits);
    limits
}

/// The value of a key that protects something: a wrong one that was never right is taken for `strictest`, not for the
/// default. `None` where there is none.
fn unless_refused<T: Shown>(
    reader: &mut Reader<'_>,
    row: &KeyDoc,
    parse: impl FnOnce(&Kind, &str) -> Result<T, Refused>,
    last: Option<T>,
    strictest: T,
) -> Option<Resolved<T>> {
    match reader.read(row, parse, last.as_ref().map(Shown::shown)) {
        Reading::Good(value) => Some(value),
        Reading::Absent => None,
        Reading::Refused => {
            let strictest = Resolved::default_value(strictest);
            Some(last.map_or(strictest, |last| Resolved::new(last, Origin::LastGood)))
        }
    }
}

/// Says what has no effect alone.
fn check_backend(reader: &mut Reader<'_>, limits: &Limits) {
    if *limits.backend_tls {
        if limits.backend_ca.is_none() {
            let what = "stands without kpa.dev/backend-ca".to_owned();
            let consequence = "only certificates that lead to the activator's --backend-ca are taken; without it no \
                               replica is reached";
            reader.report(Severity::Notice, &keys::BACKEND_TLS, what, String::new(), consequence.into());
        }
        return;
    }
    for row in [&keys::BACKEND_CA, &keys::BACKEND_SERVER_NAME] {
        if reader.has(row) {
            let what = "stands without kpa.dev/backend-tls: \"true\"".to_owned();
            let consequence = "replicas are reached without TLS, so it has no effect".to_owned();
            reader.report(Severity::Warning, row, what, "both, or neither".into(), consequence);
        }
    }
}

fn certificates(_: &Kind, text: &str) -> Result<Option<Certificates>, Refused> {
    text.parse().map(Some).map_err(|why| match why {
        // Not a byte of it is repeated.
        BadCertificates::PrivateKey => Refused(format!("it {why}")),
        BadCertificates::TooLong | BadCertificates::None | BadCertificates::Unfinished | BadCertificates::Damaged => {
            Refused(format!("{} {why}", quoted(text)))
        }
    })
}

/// A name as certificates have them (RFC 6125), or an address.
fn server_name(_: &Kind, text: &str) -> Result<Option<String>, Refused> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let is_name = text.len() <= 253 && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(Some(text.to_owned()))
    } else {
        Err(Refused(format!("{} is no DNS name and no IP address", quoted(text))))
    }
}

/// A replica that runs one to three requests at once is most likely busy with the abandoned one (kpa-behaviour 2).
fn on_disconnect(container_concurrency: Option<NonZeroU32>) -> OnDisconnect {
    match container_concurrency.map(NonZeroU32::get) {
        Some(1..=3) => OnDisconnect::Finish,
        _ => OnDisconnect::Cancel,
    }
}

/// `hosts`, `path-prefix` and `default-route`.
pub(super) fn route(reader: &mut Reader<'_>, last: Option<&Route>) -> Route {
    let route = Route {
        hosts: reader.value(&keys::HOSTS, hosts, last.map(|l| &l.hosts), Resolved::default_value(Vec::new())).value,
        path_prefix: reader
            .value(&keys::PATH_PREFIX, path_prefix, last.map(|l| &l.path_prefix), Resolved::default_value(None))
            .value,
        default_route: reader
            .value(&keys::DEFAULT_ROUTE, Kind::flag, last.map(|l| &l.default_route), Resolved::default_value(false))
            .value,
        taken_over: None,
        age_rank: 0,
    };
    if route.path_prefix.is_some() && route.hosts.is_empty() {
        let what = "stands without kpa.dev/hosts".to_owned();
        let consequence = "the service's own names take every path, so it has no effect".to_owned();
        reader.report(Severity::Warning, &keys::PATH_PREFIX, what, "a host to share".into(), consequence);
    }
    route
}

/// `port`.
pub(super) fn port(reader: &mut Reader<'_>, last: Option<u16>) -> Option<Resolved<u16>> {
    let number = |kind: &Kind, text: &str| {
        kind.whole(text).and_then(|port| u16::try_from(port).map_err(|_| Refused(format!("{port} is no port"))))
    };
    match reader.read(&keys::PORT, number, last.map(|port| port.to_string())) {
        Reading::Good(port) => Some(port),
        Reading::Absent => None,
        Reading::Refused => last.map(|port| Resolved::new(port, Origin::LastGood)),
    }
}

fn hosts(_: &Kind, text: &str) -> Result<Vec<String>, Refused> {
    let mut hosts: Vec<String> = Vec::new();
    for written in text.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        let host = written.to_ascii_lowercase();
        if let Err(why) = host::check_claim(&host) {
            return Err(Refused(format!("{} {why}", quoted(written))));
        }
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.is_empty() { Err(Refused(format!("{} names no host", quoted(text)))) } else { Ok(hosts) }
}

fn session_affinity(_: &Kind, text: &str) -> Result<Option<SessionAffinity>, Refused> {
    text.parse().map(Some).map_err(|why: BadAffinity| Refused(format!("{} {why}", quoted(text))))
}

fn path_prefix(_: &Kind, text: &str) -> Result<Option<String>, Refused> {
    host::check_prefix(text).map_err(|why| Refused(format!("{} {why}", quoted(text))))
}
