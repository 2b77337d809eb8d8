//! What a proxy changes on a message: hop-by-hop fields and forwarding fields (RFC 9110 section 7.6, kpa-behaviour 3.5).
//!
//! Invariant: heads are edited in place; what is not named here arrives byte for byte.

use crate::request::Peer;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version};
use std::time::Duration;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const KNATIVE_REVISION: HeaderName = HeaderName::from_static("knative-serving-revision");
const KNATIVE_NAMESPACE: HeaderName = HeaderName::from_static("knative-serving-namespace");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Which HTTP a message is sent in next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Removes what was meant for this hop only, routing fields of ours included. One pass finds what is there, so that an
/// ordinary message pays for no removal.
fn strip_hop_by_hop(headers: &mut HeaderMap, keep_transfer_encoding: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    let mut found = [const { None }; 7];
    let mut count = 0;
    let mut has_te = false;
    for name in headers.keys() {
        has_te |= *name == TE;
        let hop = match *name {
            TRANSFER_ENCODING if !keep_transfer_encoding => Some(TRANSFER_ENCODING),
            UPGRADE => Some(UPGRADE),
            EXPECT => Some(EXPECT),
            _ if *name == KEEP_ALIVE => Some(KEEP_ALIVE),
            _ if *name == PROXY_CONNECTION => Some(PROXY_CONNECTION),
            _ if *name == KNATIVE_REVISION => Some(KNATIVE_REVISION),
            _ if *name == KNATIVE_NAMESPACE => Some(KNATIVE_NAMESPACE),
            _ => None,
        };
        if let Some(hop) = hop
            && count < found.len()
        {
            found[count] = Some(hop);
            count += 1;
        }
    }
    for name in found.into_iter().flatten() {
        headers.remove(name);
    }
    if has_te {
        keep_only_trailers(headers);
    }
}

/// Trailers go through us; codings would not, because the answer's framing is made anew.
fn keep_only_trailers(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("trailers")))
    });
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Makes a client's request one of ours.
///
/// `waited` is taken off a gRPC deadline, so that the replica does not believe it has time that the queue has used.
pub fn forward_request(head: &mut Parts, peer: &Peer, next: Next, waited: Duration) {
    let from_http2 = head.version == Version::HTTP_2;
    strip_hop_by_hop(&mut head.headers, next == Next::Http1);
    if !waited.is_zero() {
        reduce_grpc_timeout(&mut head.headers, waited);
    }
    if !head.headers.contains_key(HOST)
        && let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(HOST, host);
    }
    forwarding(&mut head.headers, peer);
    match next {
        Next::Http1 => {
            head.version = Version::HTTP_11;
            if from_http2 {
                join_cookies(&mut head.headers);
            }
            if head.uri.authority().is_some() {
                let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                head.uri = Uri::from(path);
            }
        }
        Next::Http2 => to_http2(head),
    }
}

fn forwarding(headers: &mut HeaderMap, peer: &Peer) {
    // The map was made for the fields that came; three more would make it grow twice.
    headers.reserve(3);
    let host = headers.get(HOST).cloned();
    if peer.trusted {
        let chain = if headers.contains_key(FORWARDED_FOR) {
            let mut chain = Vec::with_capacity(128);
            // The list may be spread over several fields; all of it comes first.
            for before in headers.get_all(FORWARDED_FOR) {
                chain.extend_from_slice(before.as_bytes());
                chain.extend_from_slice(b", ");
            }
            chain.extend_from_slice(peer.forwarded_for.as_bytes());
            HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.forwarded_for.clone())
        } else {
            peer.forwarded_for.clone()
        };
        headers.insert(FORWARDED_FOR, chain);
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
    } else {
        headers.insert(FORWARDED_FOR, peer.forwarded_for.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.remove(FORWARDED);
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

/// The authority moves from Host into the target.
fn to_http2(head: &mut Parts) {
    head.version = Version::HTTP_2;
    let host = head.headers.remove(HOST);
    let mut target = std::mem::take(&mut head.uri).into_parts();
    if let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) {
        target.authority = Some(authority);
    }
    target.scheme = target.authority.is_some().then_some(Scheme::HTTP);
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(target).unwrap_or_default();
}

/// Makes a replica's answer one of ours. Gives how long the replica will keep the connection, where it says so.
pub fn forward_response(head: &mut http::response::Parts) -> Option<Duration> {
    let keep_alive = head.headers.get(KEEP_ALIVE).and_then(keep_alive_timeout);
    strip_hop_by_hop(&mut head.headers, false);
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
pub fn grpc_deadline(headers: &HeaderMap) -> Option<Duration> {
    headers.get(GRPC_TIMEOUT).and_then(parse_grpc_timeout)
}

/// Whether the head asks for another protocol on the same connection. `h2c` is no reason: HTTP/2 comes by prior
/// knowledge, and a tunnel would hide every request in it (RFC 9113 section 3.1 lets a server ignore it).
#[must_use]
pub fn wants_upgrade(head: &Parts) -> bool {
    head.version == Version::HTTP_11
        && head.headers.get(UPGRADE).is_some_and(|asked| !asked.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && head.headers.get_all(CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
        })
}

/// The host a request is for; an error says how it contradicts itself.
///
/// # Errors
/// What is wrong, for the client (RFC 9112 section 3.2).
pub fn host(head: &Parts) -> Result<&str, &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err("more than one Host field");
    }
    let field = match first {
        Some(value) => Some(value.to_str().map_err(|_| "the Host field has bytes that no host name has")?),
        None => None,
    };
    match (head.uri.authority(), field) {
        (Some(authority), Some(field)) if !authority.as_str().eq_ignore_ascii_case(field) => {
            Err("the Host field and the target name different hosts")
        }
        (Some(authority), _) => Ok(authority.as_str()),
        (None, Some(field)) => Ok(field),
        (None, None) if head.version == Version::HTTP_10 => Ok(""),
        (None, None) => Err("no Host field"),
    }
}

/// Two framings at once are how requests are smuggled (RFC 9112 section 6.1).
#[must_use]
pub fn is_ambiguous(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

#[cfg(test)]
mod tests;
