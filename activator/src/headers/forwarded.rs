//! The fields that tell a replica where a request came from (kpa-behaviour 3.3, RFC 7239).
//!
//! Invariant: nothing that a client wrote there itself goes on unless the client is trusted.

use super::asked::Fields;
use crate::request::Peer;
use domain::Forwarding;
use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Writes the fields that are wanted and removes the others' unless they are believed. `found` says which the client sent,
/// `host` what it asked for, `secure` that the target says https.
pub(super) fn tell(headers: &mut HeaderMap, found: Fields, host: Option<HeaderValue>, secure: bool, peer: &Peer) {
    let style = peer.forwarding;
    if matches!(style, Forwarding::Rfc7239 | Forwarding::Both) {
        rfc7239(headers, found, host.as_ref(), secure, peer);
    } else if found.have(Fields::FORWARDED) && !peer.trusted {
        headers.remove(FORWARDED);
    }
    if matches!(style, Forwarding::XForwarded | Forwarding::Both) {
        x_forwarded(headers, found, host, secure, peer);
    } else if !peer.trusted {
        for (field, name) in [
            (Fields::FORWARDED_FOR, FORWARDED_FOR),
            (Fields::FORWARDED_PROTO, FORWARDED_PROTO),
            (Fields::FORWARDED_HOST, FORWARDED_HOST),
        ] {
            if found.have(field) {
                headers.remove(name);
            }
        }
    }
}

fn x_forwarded(headers: &mut HeaderMap, found: Fields, host: Option<HeaderValue>, secure: bool, peer: &Peer) {
    // The map was made for the fields that came; three more would make it grow twice.
    headers.reserve(3);
    let believed = |field| peer.trusted && found.have(field);
    let chain = if believed(Fields::FORWARDED_FOR) {
        let mut chain = before(headers, &FORWARDED_FOR);
        chain.extend_from_slice(peer.forwarded_for.as_bytes());
        HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.forwarded_for.clone())
    } else {
        peer.forwarded_for.clone()
    };
    headers.insert(FORWARDED_FOR, chain);
    if !believed(Fields::FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto(secure)));
    }
    if !believed(Fields::FORWARDED_HOST) {
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        } else if found.have(Fields::FORWARDED_HOST) {
            headers.remove(FORWARDED_HOST);
        }
    }
}

/// One element for this hop, behind those of trusted proxies.
fn rfc7239(headers: &mut HeaderMap, found: Fields, host: Option<&HeaderValue>, secure: bool, peer: &Peer) {
    let believed = peer.trusted && found.have(Fields::FORWARDED);
    let mut element = if believed { before(headers, &FORWARDED) } else { Vec::with_capacity(128) };
    element.extend_from_slice(peer.forwarded_element.as_bytes());
    if let Some(host) = host {
        element.extend_from_slice(b";host=");
        put_value(&mut element, host.as_bytes());
    }
    element.extend_from_slice(b";proto=");
    element.extend_from_slice(proto(secure).as_bytes());
    match HeaderValue::from_bytes(&element) {
        Ok(value) => {
            headers.insert(FORWARDED, value);
        }
        // Cannot be: everything in it has been a header's value before.
        Err(_) => {
            headers.remove(FORWARDED);
        }
    }
}

/// What came in a list field, which may be spread over several: all of it, ready for one more item.
fn before(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let mut list = Vec::with_capacity(128);
    for value in headers.get_all(name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list
}

const fn proto(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// A token as it is, anything else as a quoted string (RFC 9110 section 5.6): a port's colon needs the quotes.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if !value.is_empty() && value.iter().all(is_token) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::request::Door;
    use std::sync::Arc;

    fn told(style: Forwarding, address: &str, trusted: &str, fields: &[(&str, &str)]) -> Vec<String> {
        let settings = Settings { forwarded: style, trusted: trusted.parse().unwrap(), ..Settings::default() };
        let peer = Peer::new(address.parse().unwrap(), Door::Public, Arc::new(settings), Arc::default());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let host = headers.get("host").cloned();
        let found = Fields::of(&headers);
        tell(&mut headers, found, host, false, &peer);
        headers.remove("host");
        let mut told: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        told.sort();
        told
    }

    const EVIL: &[(&str, &str)] = &[
        ("host", "a.b:80"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "front"),
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("forwarded", "for=7.7.7.7"),
    ];

    #[test]
    fn each_style_writes_its_fields_and_nobodys_else_go_on() {
        let x = ["x-forwarded-for: 9.9.9.9", "x-forwarded-host: a.b:80", "x-forwarded-proto: http"].as_slice();
        let rfc = ["forwarded: for=9.9.9.9;host=\"a.b:80\";proto=http"].as_slice();
        for (style, expected) in [
            (Forwarding::XForwarded, x.to_vec()),
            (Forwarding::Rfc7239, rfc.to_vec()),
            (Forwarding::Both, [rfc, x].concat()),
            (Forwarding::Off, Vec::new()),
        ] {
            assert_eq!(told(style, "9.9.9.9:1", "none", EVIL), expected, "{style}");
            assert_eq!(told(style, "9.9.9.9:1", "10.0.0.0/8", EVIL), expected, "{style}");
        }
    }

    #[test]
    fn a_trusted_proxys_fields_are_kept_and_added_to() {
        let kept_x = ["x-forwarded-for: 6.6.6.6", "x-forwarded-host: front", "x-forwarded-proto: https"];
        let added_x = ["x-forwarded-for: 6.6.6.6, 10.0.0.9", kept_x[1], kept_x[2]];
        let kept = ["forwarded: for=6.6.6.6;proto=https", "forwarded: for=7.7.7.7"];
        let added =
            ["forwarded: for=6.6.6.6;proto=https, for=7.7.7.7, for=10.0.0.9;host=\"a.b:80\";proto=http"].as_slice();
        for (style, expected) in [
            (Forwarding::XForwarded, [kept.as_slice(), &added_x].concat()),
            (Forwarding::Rfc7239, [added, &kept_x].concat()),
            (Forwarding::Both, [added, &added_x].concat()),
            (Forwarding::Off, [kept.as_slice(), &kept_x].concat()),
        ] {
            assert_eq!(told(style, "10.0.0.9:1", "10.0.0.0/8", EVIL), expected, "{style}");
        }
    }

    #[test]
    fn ipv6_is_quoted_where_its_grammar_wants_it() {
        let host = [("host", "a.b")];
        assert_eq!(
            told(Forwarding::Rfc7239, "[2001:db8::1]:4711", "none", &host),
            ["forwarded: for=\"[2001:db8::1]\";host=a.b;proto=http"]
        );
        assert_eq!(
            told(Forwarding::Rfc7239, "[::ffff:1.2.3.4]:4711", "none", &[("host", "[::1]:80")]),
            ["forwarded: for=1.2.3.4;host=\"[::1]:80\";proto=http"]
        );
        assert_eq!(
            told(Forwarding::XForwarded, "[2001:db8::1]:4711", "none", &host),
            ["x-forwarded-for: 2001:db8::1", "x-forwarded-host: a.b", "x-forwarded-proto: http"]
        );
    }

    #[test]
    fn a_request_without_a_host_brings_none() {
        let evil = &[("x-forwarded-host", "front")];
        assert_eq!(
            told(Forwarding::Both, "9.9.9.9:1", "none", evil),
            ["forwarded: for=9.9.9.9;proto=http", "x-forwarded-for: 9.9.9.9", "x-forwarded-proto: http"]
        );
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        for (value, expected) in [("a.b", "a.b"), ("", "\"\""), ("a\"b\\", "\"a\\\"b\\\\\""), ("a:1", "\"a:1\"")] {
            let mut out = Vec::new();
            put_value(&mut out, value.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
