//! What a proxy changes on a message: hop-by-hop fields and forwarding fields (RFC 9110 section 7.6, kpa-behaviour 3.5).
//!
//! Invariant: heads are edited in place; what is not named here arrives byte for byte.

mod asked;
mod forwarded;
pub mod session;

pub use asked::{Asked, Tongue};

use crate::request::{Door, Peer};
use crate::sharing::CLAIM;
use asked::Fields;
use http::header::{
    self, CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version};
use std::time::Duration;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KNATIVE_REVISION: HeaderName = HeaderName::from_static("knative-serving-revision");
const KNATIVE_NAMESPACE: HeaderName = HeaderName::from_static("knative-serving-namespace");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Fields that no trailer may be.
const NO_TRAILERS: [HeaderName; 25] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    COOKIE,
    EXPECT,
    forwarded::FORWARDED,
    forwarded::FORWARDED_FOR,
    forwarded::FORWARDED_HOST,
    forwarded::FORWARDED_PROTO,
    HOST,
    KEEP_ALIVE,
    KNATIVE_NAMESPACE,
    KNATIVE_REVISION,
    header::MAX_FORWARDS,
    PROXY_CONNECTION,
    header::SET_COOKIE,
    TE,
    header::TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CLAIM,
];

/// Which HTTP a message is sent in next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Removes what was meant for this hop only, given what is `found`; gives what is left of that.
fn strip_hop_by_hop(headers: &mut HeaderMap, mut found: Fields, keep_transfer_encoding: bool) -> Fields {
    if found.have(Fields::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != TE && *name != HOST)
            .collect();
        let mut removed = false;
        for name in named {
            removed |= headers.remove(name).is_some();
        }
        headers.remove(CONNECTION);
        if removed {
            found = Fields::of(headers);
        }
    }
    if found.have(Fields::HOP) {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, UPGRADE, EXPECT, KNATIVE_REVISION, KNATIVE_NAMESPACE, CLAIM] {
            headers.remove(name);
        }
    }
    if found.have(Fields::TRANSFER_ENCODING) && !keep_transfer_encoding {
        headers.remove(TRANSFER_ENCODING);
    }
    if found.have(Fields::TE) {
        keep_only_trailers(headers);
    }
    found
}

/// Removes what may be no trailer: somebody who merges trailers into the head would frame, route, believe or read the
/// message differently (RFC 9110 section 6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap) {
    NO_TRAILERS.iter().for_each(|name| drop(trailers.remove(name)));
}

/// Whether a list field has `word` in it.
pub(crate) fn names(value: &HeaderValue, word: &str) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
}

/// Trailers go through us; codings would not, because the answer's framing is made anew.
fn keep_only_trailers(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|value| names(value, "trailers"));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Makes a client's request one of ours.
///
/// `waited` is taken off a gRPC deadline, so that the replica does not believe it has time that the queue has used.
pub fn forward_request(head: &mut Parts, asked: Asked, peer: &Peer, next: Next, waited: Duration) {
    let from_http2 = head.version == Version::HTTP_2;
    let claimed = asked.is_claimed();
    let Asked { fields, mut host, .. } = asked;
    let found = strip_hop_by_hop(&mut head.headers, fields, next == Next::Http1);
    if !waited.is_zero() && found.have(Fields::GRPC_TIMEOUT) {
        reduce_grpc_timeout(&mut head.headers, waited);
    }
    if host.is_none()
        && let Some(authority) = head.uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(HOST, value.clone());
        host = Some(value);
    }
    // Of others only a trusted peer's word for it gets as far as here.
    let secure = peer.door == Door::Secure || head.uri.scheme() == Some(&Scheme::HTTPS);
    // The activator that it came from has said already who the client is.
    if !claimed {
        forwarded::tell(&mut head.headers, found, host, secure, peer);
    }
    match next {
        Next::Http1 => {
            head.version = Version::HTTP_11;
            if from_http2 && found.have(Fields::COOKIE) {
                join_cookies(&mut head.headers);
            }
            if head.uri.authority().is_some() {
                head.uri = Uri::from(origin_form(head.uri.path_and_query().cloned()));
            }
        }
        Next::Http2 => to_http2(head),
    }
}

/// HTTP/2 lets a client split its cookies; HTTP/1.1 does not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

/// What is left of a target in absolute form: an empty path is `/`, before a query too (RFC 9112 section 3.2.1).
fn origin_form(path: Option<PathAndQuery>) -> PathAndQuery {
    let slash = PathAndQuery::from_static("/");
    match path {
        Some(path) if path.as_str().starts_with('?') => format!("/{}", path.as_str()).parse().unwrap_or(slash),
        Some(path) => path,
        None => slash,
    }
}

/// The authority moves from Host into the target.
fn to_http2(head: &mut Parts) {
    head.version = Version::HTTP_2;
    let host = head.headers.remove(HOST);
    let mut target = std::mem::take(&mut head.uri).into_parts();
    if let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) {
        target.authority = Some(authority);
    }
    target.scheme = target.authority.is_some().then_some(Scheme::HTTP);
    target.path_and_query = Some(origin_form(target.path_and_query));
    head.uri = Uri::from_parts(target).unwrap_or_default();
}

/// Says in the target of an HTTP/2 request whether it goes through TLS.
pub fn set_scheme(target: &mut Uri, secure: bool) {
    let mut parts = std::mem::take(target).into_parts();
    if parts.authority.is_some() {
        parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    }
    *target = Uri::from_parts(parts).unwrap_or_default();
}

/// Makes a replica's answer one of ours. Gives how long the replica will keep the connection, where it says so.
pub fn forward_response(head: &mut http::response::Parts) -> Option<Duration> {
    let found = Fields::of(&head.headers);
    let keep_alive = found.have(Fields::KEEP_ALIVE).then(|| head.headers.get(KEEP_ALIVE)).flatten();
    let keep_alive = keep_alive.and_then(keep_alive_timeout);
    strip_hop_by_hop(&mut head.headers, found, false);
    keep_alive
}

/// `timeout=n` of a Keep-Alive field: 0.8 of it, to be gone before the server closes.
fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let seconds: u32 =
        value.to_str().ok()?.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse().ok())?;
    Some(Duration::from_secs(u64::from(seconds)).mul_f64(0.8))
}

/// gRPC's deadline less `waited`; at least 1 ms, so that the replica is the one to say "too late".
fn reduce_grpc_timeout(headers: &mut HeaderMap, waited: Duration) {
    let Some(timeout) = headers.get(GRPC_TIMEOUT).and_then(parse_grpc_timeout) else { return };
    let left = timeout.saturating_sub(waited).max(Duration::from_millis(1));
    // At most eight digits (gRPC over HTTP/2): milliseconds up to a day, whole seconds beyond.
    let text = if left.as_millis() < 100_000_000 {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", left.as_secs().min(99_999_999))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// The deadline of a gRPC call.
#[must_use]
pub fn parse_grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The gRPC deadline of a request, if it is one and has one.
#[must_use]
pub fn grpc_deadline(head: &Parts, asked: &Asked) -> Option<Duration> {
    asked
        .fields
        .have(Fields::GRPC_TIMEOUT)
        .then(|| head.headers.get(GRPC_TIMEOUT).and_then(parse_grpc_timeout))
        .flatten()
}

#[cfg(test)]
mod tests;
