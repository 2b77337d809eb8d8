//! Header fields and trailers on the wire.
//!
//! Invariant: values are parts of what was read, not copies; a length that is not exactly digits is none.

use crate::{HEAD_BYTES_MAX, HEADERS_MAX};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// What came is no HTTP/1.1, or not unambiguously.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub(crate) &'static str);

/// One field as it stands on the wire.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `1*DIGIT`, in which a sign or a space would be read differently by somebody (RFC 9110 section 8.6).
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Behind the empty line that ends the head in `read`, if that is there; nothing before `from` needs to be looked at again.
pub(crate) fn head_end(read: &[u8], from: usize) -> Option<usize> {
    let from = from.min(read.len());
    memchr::memchr_iter(b'\n', &read[from..]).find_map(|end| match read.get(from + end + 1..) {
        Some([b'\n', ..]) => Some(from + end + 2),
        Some([b'\r', b'\n', ..]) => Some(from + end + 3),
        _ => None,
    })
}

/// The trailers that begin `read`, once they are all there. There is at least one.
///
/// A line end is CRLF only (RFC 9112 section 7.1.2 as it is written): who takes a lone LF for one and who does not would
/// disagree about where the message ends.
///
/// # Errors
/// They are no fields, too many, or too long.
pub(crate) fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, Unreadable> {
    let end = memchr::memmem::find(read, b"\r\n\r\n").map(|end| end + 4);
    let seen = &read[..end.unwrap_or(read.len())];
    if memchr::memchr_iter(b'\n', seen).any(|at| at == 0 || seen[at - 1] != b'\r') {
        return Err(Unreadable("a line of the trailers ends with a lone LF"));
    }
    let Some(end) = end.filter(|end| *end <= HEAD_BYTES_MAX) else {
        return if read.len() >= HEAD_BYTES_MAX {
            Err(Unreadable("trailers are longer than 64 KiB"))
        } else {
            Ok(None)
        };
    };
    let block = read.split_to(end).freeze();
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(&block, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            collect(&block, fields, |_, _| Ok(true), &mut trailers)?;
            Ok(Some(trailers))
        }
        Ok(httparse::Status::Partial) | Err(_) => Err(Unreadable("trailers are no fields")),
    }
}

/// Puts fields into `map`, those that `take` wants.
///
/// # Errors
/// One is none, or `take` says so.
pub(crate) fn collect(
    block: &Bytes,
    fields: &[httparse::Header<'_>],
    mut take: impl FnMut(&HeaderName, &HeaderValue) -> Result<bool, Unreadable>,
    map: &mut HeaderMap,
) -> Result<(), Unreadable> {
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Unreadable("a field is none")) };
        if take(&name, &value)? {
            map.append(name, value);
        }
    }
    Ok(())
}
