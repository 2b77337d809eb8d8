//! `kpa.dev/session-affinity`: what says that two requests belong together.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name of a field or cookie, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Where a request carries the name of its session. Written `header=NAME` or `cookie=NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SessionAffinity {
    /// In the value of a field; the name is in lower case.
    Header(Box<str>),
    /// In the value of a cookie, whose name is compared byte for byte.
    Cookie(Box<str>),
}

/// Why a text names no place of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAffinity {
    /// Neither form.
    #[error("begins with neither header= nor cookie=")]
    Form,
    /// Nothing behind the equals sign.
    #[error("names nothing")]
    NoName,
    /// A name of more than [`NAME_BYTES_MAX`] bytes.
    #[error("has a name of more than {NAME_BYTES_MAX} bytes")]
    LongName,
    /// A name with a character that no name may have.
    #[error("has a character that no name may have (RFC 9110 section 5.6.2)")]
    NoToken,
    /// The whole Cookie field.
    #[error("means all cookies together; one of them is written cookie=NAME")]
    AllCookies,
    /// A field that says nothing of a session, or does not get as far as that.
    #[error("is a field that belongs to the connection or the message, and to no session")]
    Framing,
}

/// Fields whose values frame a message or end with its connection.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl FromStr for SessionAffinity {
    type Err = BadAffinity;

    fn from_str(text: &str) -> Result<Self, BadAffinity> {
        let (place, name) = text.trim().split_once('=').ok_or(BadAffinity::Form)?;
        let is_header = match place.trim() {
            "header" => true,
            "cookie" => false,
            _ => return Err(BadAffinity::Form),
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(BadAffinity::NoName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(BadAffinity::LongName);
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
            return Err(BadAffinity::NoToken);
        }
        if !is_header {
            return Ok(Self::Cookie(name.into()));
        }
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "cookie" => Err(BadAffinity::AllCookies),
            framing if FRAMING.contains(&framing) => Err(BadAffinity::Framing),
            _ => Ok(Self::Header(name.into())),
        }
    }
}

impl TryFrom<String> for SessionAffinity {
    type Error = BadAffinity;

    fn try_from(text: String) -> Result<Self, BadAffinity> {
        text.parse()
    }
}

impl From<SessionAffinity> for String {
    fn from(affinity: SessionAffinity) -> Self {
        affinity.to_string()
    }
}

impl fmt::Display for SessionAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header={name}"),
            Self::Cookie(name) => write!(f, "cookie={name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_nothing_else() {
        let header = |name: &str| Ok(SessionAffinity::Header(name.into()));
        let cookie = |name: &str| Ok(SessionAffinity::Cookie(name.into()));
        for (text, expected) in [
            ("header=X-Session-Id", header("x-session-id")),
            (" header = x-user ", header("x-user")),
            ("cookie=SID", cookie("SID")),
            ("cookie=__Host-sid", cookie("__Host-sid")),
            ("cookie=", Err(BadAffinity::NoName)),
            ("header= ", Err(BadAffinity::NoName)),
            ("X-Session-Id", Err(BadAffinity::Form)),
            ("query=id", Err(BadAffinity::Form)),
            ("Header=x", Err(BadAffinity::Form)),
            ("", Err(BadAffinity::Form)),
            ("cookie=a b", Err(BadAffinity::NoToken)),
            ("cookie=a=b", Err(BadAffinity::NoToken)),
            ("header=x,y", Err(BadAffinity::NoToken)),
            ("header=caf\u{e9}", Err(BadAffinity::NoToken)),
            ("header=Cookie", Err(BadAffinity::AllCookies)),
            ("header=Connection", Err(BadAffinity::Framing)),
            ("header=host", Err(BadAffinity::Framing)),
        ] {
            assert_eq!(text.parse::<SessionAffinity>(), expected, "{text:?}");
        }
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(format!("header={longest}").parse(), header(&longest));
        assert_eq!(format!("header={longest}x").parse::<SessionAffinity>(), Err(BadAffinity::LongName));
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in ["header=x-session-id", "cookie=SID"] {
            let affinity: SessionAffinity = text.parse().unwrap();
            assert_eq!(affinity.to_string(), text);
            let json = serde_json::to_string(&affinity).unwrap();
            assert_eq!(serde_json::from_str::<SessionAffinity>(&json).unwrap(), affinity);
        }
        assert!(serde_json::from_str::<SessionAffinity>("\"path=x\"").is_err());
    }
}
