//! Heads on an HTTP/1.1 connection to a replica: requests written, answers read.
//!
//! Invariant: the fields of a request are written as they are, in lower case, and its framing fields say what the body
//! is sent in; an answer whose framing two readers could understand differently is not read.

use crate::headers::names;
use crate::http1::fields::{self, Unreadable, digits, write_field};
use crate::http1::framing::{Chunk, Decoder, Encoder};
use crate::{HEAD_BYTES_MAX, HEADERS_MAX};
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use std::mem::MaybeUninit;

use crate::body::RequestBody;

/// Most interim answers before the one that counts.
const INTERIM_MAX: u32 = 100;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) body: Decoder,
    /// Another request may follow on the connection.
    pub(super) keeps_alive: bool,
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
        let Some(length) = fields::head_end(read, 0).filter(|length| *length <= HEAD_BYTES_MAX) else {
            let too_long = read.len() >= HEAD_BYTES_MAX;
            return if too_long { Err(Unreadable("a head is longer than 64 KiB")) } else { Ok(None) };
        };
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
        answer.headers_mut().reserve(parsed.headers.len());
        fields::collect(&head, parsed.headers, |_, _| Ok(true), answer.headers_mut())?;
        if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason())
            && let Ok(reason) = ReasonPhrase::try_from(head.slice_ref(reason.as_bytes()))
        {
            answer.extensions_mut().insert(reason);
        }
        let (body, keeps_alive) = framing(&mut answer, method)?;
        return Ok(Some(Answer { head: answer, body, keeps_alive }));
    }
}

/// How the body is framed (RFC 9112 section 6.3), and whether the connection stays open (section 9.3).
fn framing(answer: &mut Response<()>, method: &Method) -> Result<(Decoder, bool), Unreadable> {
    let (status, version) = (answer.status(), answer.version());
    let headers = answer.headers_mut();
    let named = |headers: &HeaderMap, word: &str| headers.get_all(CONNECTION).iter().any(|value| names(value, word));
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
        (true, _) => (Decoder::Chunked(Chunk::Size), keeps_alive),
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
