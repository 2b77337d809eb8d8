//! What one pass over a head finds, so that nobody looks up a field that is not there.
//!
//! Invariant: every field that a proxy treats in a way of its own is named here; what is not is never looked at again.

use domain::RevisionId;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri, Version};

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fields(u32);

impl Fields {
    pub(super) const CONNECTION: Self = Self(1);
    pub(super) const KEEP_ALIVE: Self = Self(1 << 1);
    pub(super) const PROXY_CONNECTION: Self = Self(1 << 2);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 3);
    pub(super) const CONTENT_LENGTH: Self = Self(1 << 4);
    pub(super) const UPGRADE: Self = Self(1 << 5);
    pub(super) const EXPECT: Self = Self(1 << 6);
    pub(super) const TE: Self = Self(1 << 7);
    pub(super) const KNATIVE: Self = Self(1 << 8);
    pub(super) const FORWARDED: Self = Self(1 << 9);
    pub(super) const FORWARDED_FOR: Self = Self(1 << 10);
    pub(super) const FORWARDED_PROTO: Self = Self(1 << 11);
    pub(super) const FORWARDED_HOST: Self = Self(1 << 12);
    pub(super) const COOKIE: Self = Self(1 << 13);
    pub(super) const GRPC_TIMEOUT: Self = Self(1 << 14);
    pub(super) const HOST: Self = Self(1 << 15);
    const USER_AGENT: Self = Self(1 << 16);
    const ACCEPT: Self = Self(1 << 17);
    const CONTENT_TYPE: Self = Self(1 << 18);
    pub(super) const CLAIM: Self = Self(1 << 19);
    /// Removed on every hop without a look at their values (RFC 9110 section 7.6.1), routing fields of ours included.
    pub(super) const HOP: Self = Self(
        Self::KEEP_ALIVE.0
            | Self::PROXY_CONNECTION.0
            | Self::UPGRADE.0
            | Self::EXPECT.0
            | Self::KNATIVE.0
            | Self::CLAIM.0,
    );

    fn named(name: &HeaderName) -> Self {
        match name.as_str() {
            "te" => Self::TE,
            "host" => Self::HOST,
            "accept" => Self::ACCEPT,
            "cookie" => Self::COOKIE,
            "expect" => Self::EXPECT,
            "upgrade" => Self::UPGRADE,
            "forwarded" => Self::FORWARDED,
            "connection" => Self::CONNECTION,
            "keep-alive" => Self::KEEP_ALIVE,
            "user-agent" => Self::USER_AGENT,
            "x-kpa-claim" => Self::CLAIM,
            "content-type" => Self::CONTENT_TYPE,
            "grpc-timeout" => Self::GRPC_TIMEOUT,
            "content-length" => Self::CONTENT_LENGTH,
            "x-forwarded-for" => Self::FORWARDED_FOR,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "x-forwarded-host" => Self::FORWARDED_HOST,
            "x-forwarded-proto" => Self::FORWARDED_PROTO,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "knative-serving-revision" | "knative-serving-namespace" => Self::KNATIVE,
            _ => Self(0),
        }
    }

    /// What `headers` hold.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |all, name| all.and(Self::named(name)))
    }

    /// Whether any of `others` is there.
    pub(super) const fn have(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How a client wants to be told of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tongue {
    /// A sentence.
    #[default]
    Text,
    /// An object with code and message.
    Json,
    /// A status in the head (gRPC's trailers-only answer).
    Grpc,
}

/// What a client's head says, as far as the steps ask.
#[derive(Debug, Default)]
pub struct Asked {
    pub(super) fields: Fields,
    /// The Host field; the first, if there are several.
    pub(super) host: Option<HeaderValue>,
    many_hosts: bool,
    /// How the head contradicts itself about what follows it.
    fault: Option<&'static str>,
    /// How errors are told.
    pub tongue: Tongue,
    /// The User-Agent begins with one of the exempt words (kpa-behaviour 3.4).
    pub exempt_agent: bool,
}

impl Asked {
    /// Looks through `headers` once.
    #[must_use]
    pub fn of(headers: &HeaderMap, exempt_agents: &[String]) -> Self {
        let mut asked = Self::default();
        for (name, value) in headers {
            let field = Fields::named(name);
            match field {
                Fields::HOST if asked.host.is_some() => asked.many_hosts = true,
                Fields::HOST => asked.host = Some(value.clone()),
                // One coding and nothing else: what a list of them means is read in too many ways (RFC 9112 section 6.1).
                Fields::TRANSFER_ENCODING
                    if asked.fields.have(field) || !value.as_bytes().eq_ignore_ascii_case(b"chunked") =>
                {
                    asked.fault = Some("a Transfer-Encoding other than `chunked`");
                }
                // h2 looks at the first; of HTTP/1.1 one is left.
                Fields::CONTENT_LENGTH if asked.fields.have(field) || !is_number(value.as_bytes()) => {
                    asked.fault = Some("not one Content-Length");
                }
                Fields::USER_AGENT => {
                    let agent = value.as_bytes();
                    asked.exempt_agent |= exempt_agents.iter().any(|prefix| agent.starts_with(prefix.as_bytes()));
                }
                Fields::CONTENT_TYPE if value.as_bytes().starts_with(b"application/grpc") => {
                    asked.tongue = Tongue::Grpc;
                }
                Fields::ACCEPT if asked.tongue == Tongue::Text && names_json(value) => asked.tongue = Tongue::Json,
                _ => {}
            }
            asked.fields = asked.fields.and(field);
        }
        asked
    }

    /// Whether another activator has announced it (kpa-behaviour 4.10).
    #[must_use]
    pub const fn is_claimed(&self) -> bool {
        self.fields.have(Fields::CLAIM)
    }

    /// Whether its body comes in chunks.
    #[must_use]
    pub const fn is_chunked(&self) -> bool {
        self.fields.have(Fields::TRANSFER_ENCODING)
    }

    /// The host a request is for, as it came; an error says how the request contradicts itself.
    ///
    /// # Errors
    /// What is wrong, for the client (RFC 9112 section 3.2).
    pub fn host<'a>(&'a self, uri: &'a Uri, version: Version) -> Result<&'a [u8], &'static str> {
        if self.many_hosts {
            return Err("more than one Host field");
        }
        let (authority, field) = (uri.authority(), self.host.as_ref().map(HeaderValue::as_bytes));
        match (authority.map(|authority| authority.as_str().as_bytes()), field) {
            (Some(authority), Some(field)) if !is_same(authority, field) => {
                Err("the Host field and the target name different hosts")
            }
            (_, None) if version == Version::HTTP_11 => Err("no Host field"),
            (Some(host), _) | (None, Some(host)) => Ok(host),
            (None, None) if version == Version::HTTP_10 => Ok(b""),
            (None, None) => Err("no Host field"),
        }
    }

    /// The revision that our own programs name by Knative's fields, which are honoured behind an internal door only.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub fn named_revision(&self, headers: &HeaderMap) -> Result<Option<RevisionId>, &'static str> {
        if !self.fields.have(Fields::KNATIVE) {
            return Ok(None);
        }
        let only = |name| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let id = match (only(super::KNATIVE_NAMESPACE), only(super::KNATIVE_REVISION)) {
            (Some(namespace), Some(name)) if !namespace.contains('/') => format!("{namespace}/{name}").parse().ok(),
            _ => None,
        };
        id.map(Some).ok_or("Knative-Serving-Namespace and Knative-Serving-Revision must name one revision together")
    }

    /// Whether nothing else can be understood of it than we do.
    ///
    /// # Errors
    /// What is wrong, for the client: framings that contradict each other are how requests are smuggled (RFC 9112 section
    /// 6.1), and a target of the wrong form how they get past a filter (section 3.2).
    pub fn check(&self, head: &Parts, body_ends: bool) -> Result<(), &'static str> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.fields.have(Fields::CONTENT_LENGTH) {
            if self.fields.have(Fields::TRANSFER_ENCODING) {
                return Err("both Transfer-Encoding and Content-Length");
            }
            // HTTP/2 can end a stream whatever was announced.
            if body_ends && head.headers.get(CONTENT_LENGTH).is_some_and(|length| !is_zero(length.as_bytes())) {
                return Err("the Content-Length announces a body, and there is none");
            }
        }
        match head.uri.path() {
            path if path.starts_with('/') => Ok(()),
            "*" if head.method == Method::OPTIONS => Ok(()),
            _ => Err("the target has a form that its method does not"),
        }
    }

    /// Whether the head asks for another protocol on the same connection. `h2c` is no reason: HTTP/2 comes by prior
    /// knowledge, and a tunnel would hide every request in it (RFC 9113 section 3.1 lets a server ignore it).
    #[must_use]
    pub fn wants_upgrade(&self, head: &Parts) -> bool {
        use http::header::{CONNECTION, UPGRADE};
        self.fields.have(Fields::UPGRADE)
            && head.version == Version::HTTP_11
            && head.headers.get(UPGRADE).is_some_and(|asked| !asked.as_bytes().eq_ignore_ascii_case(b"h2c"))
            && head.headers.get_all(CONNECTION).iter().any(|value| super::names(value, "upgrade"))
    }
}

/// `1*DIGIT` (RFC 9110 section 8.6).
fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

fn is_zero(number: &[u8]) -> bool {
    number.iter().all(|digit| *digit == b'0')
}

/// Whether two authorities are one: case says nothing, and neither does http's own port.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let bare = |authority: &[u8]| authority.len() - if authority.ends_with(b":80") { 3 } else { 0 };
    one[..bare(one)].eq_ignore_ascii_case(&other[..bare(other)])
}

/// Nobody who takes what comes (`*/*`) pays for a search.
fn names_json(accept: &HeaderValue) -> bool {
    const JSON: &str = "application/json";
    accept.len() >= JSON.len() && accept.to_str().is_ok_and(|accept| accept.contains(JSON))
}
