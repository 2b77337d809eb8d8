//! Certificates as text (RFC 7468).
//!
//! Invariant: only the form is known here: whole blocks, whole bytes. Whether a certificate is any good is for those to say
//! who check others against it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest text, in bytes: a quarter of what all annotations of an object may have.
pub const PEM_BYTES_MAX: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One or more certificates, PEM. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Certificates(Arc<str>);

impl Certificates {
    /// No certificate at all: nothing leads to it.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::from(""))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`Certificates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificates {
    /// It is too long.
    #[error("has more than {PEM_BYTES_MAX} bytes")]
    TooLong,
    /// It has none.
    #[error("has no -----BEGIN CERTIFICATE-----")]
    None,
    /// One does not end.
    #[error("has a certificate without -----END CERTIFICATE-----")]
    Unfinished,
    /// One is not whole.
    #[error("has a certificate that is not whole, or is not base64")]
    Damaged,
    /// It has a private key.
    #[error("has a private key in it, which is nobody else's to know")]
    PrivateKey,
}

impl FromStr for Certificates {
    type Err = BadCertificates;

    fn from_str(text: &str) -> Result<Self, BadCertificates> {
        if text.len() > PEM_BYTES_MAX {
            return Err(BadCertificates::TooLong);
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(BadCertificates::PrivateKey);
        }
        let mut blocks = text.split(BEGIN).skip(1).peekable();
        if blocks.peek().is_none() {
            return Err(BadCertificates::None);
        }
        for block in blocks {
            let (content, _) = block.split_once(END).ok_or(BadCertificates::Unfinished)?;
            if !decode(content).is_some_and(|der| is_whole(&der)) {
                return Err(BadCertificates::Damaged);
            }
        }
        Ok(Self(text.trim().into()))
    }
}

/// How many there are: the text itself would fill a page.
impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.matches(BEGIN).count() {
            1 => f.write_str("1 certificate"),
            count => write!(f, "{count} certificates"),
        }
    }
}

/// Base64 with padding, white space left out (RFC 4648 section 4).
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let padding = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    if !digits.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    for four in digits[..digits.len() - padding].chunks(4) {
        let mut bits = 0_u32;
        for digit in four {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // Four digits are three bytes; three and two, which only padding leaves, two and one.
        let [_, three @ ..] = (bits << (6 * (4 - four.len()))).to_be_bytes();
        bytes.extend_from_slice(&three[..four.len() * 6 / 8]);
    }
    Some(bytes)
}

/// Whether it is one DER SEQUENCE from its first byte to its last.
fn is_whole(der: &[u8]) -> bool {
    match der {
        [0x30, length @ 0..=0x7f, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_and_anything_else_is_not() {
        for (text, bytes) in [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8=", Some("fo")),
            ("Zm9v", Some("foo")),
            (" Zm9v\nYmFy\n", Some("foobar")),
        ] {
            assert_eq!(decode(text), bytes.map(|text| text.as_bytes().to_vec()), "{text:?}");
        }
        for text in ["Z", "Zg", "Zg=", "====", "Z===", "Zm9_", "Zg==Zg=="] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_whole_certificates_pass() {
        let block = |content: &str| format!("{BEGIN}\n{content}\n{END}\n");
        let check = |text: &str, expected: Result<&str, BadCertificates>| {
            let read = text.parse::<Certificates>().map(|certificates| certificates.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text:?}");
        };
        // SEQUENCE { INTEGER 1 }.
        let whole = block("MAMCAQE=");
        check(&whole, Ok("1 certificate"));
        check(&format!("# a comment\n{whole}\n{whole}"), Ok("2 certificates"));
        check("", Err(BadCertificates::None));
        check("/etc/ca.pem", Err(BadCertificates::None));
        check(&whole.replace(END, ""), Err(BadCertificates::Unfinished));
        check(&block("MAMCAQ=="), Err(BadCertificates::Damaged));
        check(&block("bm90aGluZw=="), Err(BadCertificates::Damaged));
        check(&format!("{whole}{}", block("")), Err(BadCertificates::Damaged));
        check(&format!("{whole}-----BEGIN PRIVATE KEY-----"), Err(BadCertificates::PrivateKey));
        check(&format!("{whole}{}", " ".repeat(PEM_BYTES_MAX)), Err(BadCertificates::TooLong));
    }
}
