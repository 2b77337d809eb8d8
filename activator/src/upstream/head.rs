//! Heads on an HTTP/1.1 connection to a replica: requests written, answers read.
//!
//! Invariant: the fields of a request are written as they are, in lower case, and its framing fields say what the body
//! is sent in; an answer whose framing two readers could understand differently is not read.

use super::framing::{Decoder, Encoder};
use crate::{HEAD_BYTES_MAX, HEADERS_MAX};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use std::mem::MaybeUninit;

use crate::body::RequestBody;

/// Most interim answers before the one that counts.
const INTERIM_MAX: u32 = 100;

/// What a replica sent is no HTTP/1.1, or not unambiguously.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub(super) &'static str);

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) body: Decoder,
    /// Another request may follow on the connection.
    pub(super) keeps_alive: bool,
}

/// One field as it stands on the wire.
pub(super) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of `request`; gives how its body is framed.
pub(super) fn write_request(out: &mut Vec<u8>, request: &Request<RequestBody>) -> Encoder {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(if target.is_empty() { b"/" } else { target.as_bytes() });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (headers, body) = (request.headers(), request.body());
    // Without a body there is nothing to frame; with one, chunks win over a length (RFC 9112 section 6.3). Whatever the
    // fields say, at most one framing is written, and it is the body's.
    let (mut chunked, mut length) = (false, None);
    for (name, value) in headers {
        if *name == TRANSFER_ENCODING {
            if chunked || body.is_none() {
                continue;
            }
            chunked = true;
            write_field(out, name, &HeaderValue::from_static("chunked"));
            continue;
        }
        if *name == CONTENT_LENGTH {
            let announced = digits(value.as_bytes()).filter(|length| *length == 0 || !body.is_none());
            if length.is_some() || announced.is_none() || headers.contains_key(TRANSFER_ENCODING) && !body.is_none() {
                continue;
            }
            length = announced;
        }
        write_field(out, name, value);
    }
    let encoder = match length {
        _ if body.is_none() => Encoder::Done,
        Some(length) if !chunked => Encoder::Length(length),
        None if !chunked && let Some(length) = body.size_hint().exact() => {
            write_field(out, &CONTENT_LENGTH, &HeaderValue::from(length));
            Encoder::Length(length)
        }
        Some(_) | None => {
            if !chunked {
                write_field(out, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
            }
            Encoder::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    encoder
}

/// `1*DIGIT`, in which a sign or a space would be read differently by somebody (RFC 9110 section 8.6).
fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The bytes of the head that begins `read`, its empty line included, once it is all there.
fn length(read: &[u8]) -> Result<Option<usize>, Unreadable> {
    let line_ends = memchr::memchr_iter(b'\n', read);
    for end in line_ends {
        match read.get(end + 1..) {
            Some([b'\n', ..]) => return Ok(Some(end + 2)),
            Some([b'\r', b'\n', ..]) => return Ok(Some(end + 3)),
            _ => {}
        }
    }
    if read.len() >= HEAD_BYTES_MAX { Err(Unreadable("a head is longer than 64 KiB")) } else { Ok(None) }
}

/// The answer to a request of `method` whose head begins `read`, once it is all there. Interim answers are passed over
/// (RFC 9110 section 15.2) and counted.
///
/// # Errors
/// It is no head, too large a one, or ambiguous.
pub(super) fn read_answer(
    read: &mut BytesMut,
    method: &Method,
    interim: &mut u32,
) -> Result<Option<Answer>, Unreadable> {
    loop {
        let Some(length) = length(read)? else { return Ok(None) };
        let head = read.split_to(length).freeze();
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut fields);
        match outcome {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Unreadable("a head ends too early")),
            Err(httparse::Error::TooManyHeaders) => return Err(Unreadable("an answer has more than 100 fields")),
            Err(_) => return Err(Unreadable("an answer is no HTTP/1.1")),
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Unreadable("an answer has no proper status"))?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            *interim += 1;
            if *interim > INTERIM_MAX {
                return Err(Unreadable("more than 100 interim answers come before one"));
            }
            continue;
        }
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        *answer.version_mut() = version;
        *answer.headers_mut() = collect(&head, parsed.headers)?;
        if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason())
            && let Ok(reason) = ReasonPhrase::try_from(head.slice_ref(reason.as_bytes()))
        {
            answer.extensions_mut().insert(reason);
        }
        let (body, keeps_alive) = framing(&mut answer, method)?;
        return Ok(Some(Answer { head: answer, body, keeps_alive }));
    }
}

/// The trailers that begin `read`, once they are all there. There is at least one.
///
/// # Errors
/// They are no fields, or too many.
pub(super) fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, Unreadable> {
    let Some(length) = length(read)? else { return Ok(None) };
    let block = read.split_to(length).freeze();
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(&block, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => collect(&block, fields).map(Some),
        Ok(httparse::Status::Partial) | Err(_) => Err(Unreadable("trailers are no fields")),
    }
}

/// Fields as a map. Values are parts of `block`, not copies.
fn collect(block: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Unreadable> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Unreadable("a field is none")) };
        map.append(name, value);
    }
    Ok(map)
}

/// How the body is framed (RFC 9112 section 6.3), and whether the connection stays open (section 9.3).
fn framing(answer: &mut Response<()>, method: &Method) -> Result<(Decoder, bool), Unreadable> {
    let (status, version) = (answer.status(), answer.version());
    let headers = answer.headers_mut();
    let named = |headers: &HeaderMap, word: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    let keeps_alive = !headers.contains_key(CONNECTION) && version == Version::HTTP_11
        || !named(headers, "close") && (version == Version::HTTP_11 || named(headers, "keep-alive"));
    let length = content_length(headers)?;
    if let Some((length, repeated)) = length
        && repeated
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let length = length.map(|(length, _)| length);
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(_), _) if version == Version::HTTP_10 => {
            return Err(Unreadable("an HTTP/1.0 answer has a Transfer-Encoding"));
        }
        (Some(_), _) if length.is_some() => {
            return Err(Unreadable("an answer has both Transfer-Encoding and Content-Length"));
        }
        // We ask for no other (no TE), could not undo it, and it goes no further than this connection.
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        (Some(_), _) => return Err(Unreadable("an answer has a Transfer-Encoding other than `chunked`")),
    };
    let none = *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (chunked, length) {
        _ if none => (Decoder::Done, keeps_alive),
        (true, _) => (Decoder::Chunked(super::framing::Chunk::Size), keeps_alive),
        (false, Some(length)) => (Decoder::of_length(length), keeps_alive),
        (false, None) => (Decoder::UntilClose, false),
    })
}

/// The one length that all fields and all their items agree on, and whether it is said more than once.
fn content_length(headers: &HeaderMap) -> Result<Option<(u64, bool)>, Unreadable> {
    let mut agreed = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for item in value.to_str().unwrap_or("?").split(',') {
            agreed = match (digits(item.trim().as_bytes()), agreed) {
                (Some(length), None) => Some((length, false)),
                (Some(length), Some((before, _))) if length == before => Some((length, true)),
                _ => return Err(Unreadable("an answer has no one Content-Length")),
            }
        }
    }
    Ok(agreed)
}

#[cfg(test)]
mod tests;
