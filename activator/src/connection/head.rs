//! Heads on a client's HTTP/1.1 connection: requests read, answers written (RFC 9112).
//!
//! Invariant: a request whose framing two readers could understand differently is refused, whatever stands in the rest of
//! it; an answer's framing fields say what its body is sent in.

use crate::error::RequestError;
use crate::headers::names;
use crate::http1::Unreadable;
use crate::http1::fields::{self, digits, write_field};
use crate::http1::framing::{Chunk, Decoder, Encoder};
use crate::{HEAD_BYTES_MAX, HEADERS_MAX, URI_BYTES_MAX};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri, Version, response};
use hyper::ext::ReasonPhrase;
use std::mem::MaybeUninit;

/// Largest Content-Length, in bytes: nobody's signed number turns negative with it.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// What the head of a request says about its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follows {
    /// The request's body.
    pub(super) body: Decoder,
    /// Another request may follow (RFC 9112 section 9.3).
    pub(super) keeps_alive: bool,
    /// The client waits for 100 before it sends the body (RFC 9110 section 10.1.1).
    pub(super) expects: bool,
    /// It asks for another protocol (RFC 9110 section 7.8).
    pub(super) upgrades: bool,
    /// An answer may have no content (RFC 9110 section 9.3.2).
    is_head: bool,
    /// It knows no chunks.
    is_10: bool,
    /// It takes trailers (RFC 9110 section 10.1.4).
    pub(super) takes_trailers: bool,
}

/// How far the bytes that begin a head were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// No head ends before this.
    scanned: usize,
    /// So many were the beginning of a head.
    parsed: usize,
}

/// The request whose head begins `read`, once it is all there; nothing is looked at twice but for a part that is no
/// longer than what is new.
///
/// # Errors
/// It is no request, or none that can be understood in one way only. Nothing behind it can be.
pub(super) fn read_request(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<(Parts, Follows)>, RequestError> {
    // Empty lines before a request are passed over (RFC 9112 section 2.2).
    while let [b'\n', ..] | [b'\r', b'\n', ..] = read[..] {
        read.advance(if read[0] == b'\n' { 1 } else { 2 });
        *progress = Progress::default();
    }
    let Some(end) = fields::head_end(read, progress.scanned) else {
        progress.scanned = read.len().saturating_sub(2);
        return check_part(read, progress).map(|()| None);
    };
    *progress = Progress::default();
    if end > HEAD_BYTES_MAX {
        return Err(RequestError::HeadTooLarge);
    }
    parse(&read.split_to(end).freeze()).map(Some)
}

/// Whether a head may begin like this, so that who speaks another protocol need not wait.
fn check_part(read: &[u8], progress: &mut Progress) -> Result<(), RequestError> {
    if read.len() >= HEAD_BYTES_MAX {
        return Err(RequestError::HeadTooLarge);
    }
    if read.len() < 2 * progress.parsed || read.is_empty() {
        return Ok(());
    }
    progress.parsed = read.len();
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, read, &mut fields) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

const fn refused(error: httparse::Error) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::TooManyFields(HEADERS_MAX + 1),
        httparse::Error::Version => RequestError::BadRequest("the request is of no HTTP version that is spoken here"),
        httparse::Error::Token => RequestError::BadRequest("the request line has no method and target"),
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status => RequestError::BadRequest("the head is none of HTTP/1.1"),
    }
}

fn parse(head: &Bytes) -> Result<(Parts, Follows), RequestError> {
    let mut uninit = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, &mut uninit);
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(outcome
            .err()
            .map_or(RequestError::BadRequest("the request line has no method and target"), refused));
    };
    match outcome {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(RequestError::BadRequest("the head ends too early")),
        Err(error) => return Err(refused(error)),
    }
    if target.len() > URI_BYTES_MAX {
        return Err(RequestError::UriTooLong(target.len()));
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes())
        .map_err(|_| RequestError::BadRequest("the request line has no method and target"))?;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| RequestError::BadRequest("the target is no URI (RFC 9112 section 3.2)"))?;
    let is_10 = parsed.version == Some(0);
    parts.version = if is_10 { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers.reserve(parsed.headers.len());
    let mut said = Said::default();
    fields::collect(head, parsed.headers, |name, value| said.take(name, value), &mut parts.headers)
        .map_err(|Unreadable(why)| RequestError::BadRequest(why))?;
    let follows = said.follows(&parts.method, is_10)?;
    Ok((parts, follows))
}

/// What the fields say about the message and its connection.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    expects: bool,
    upgrades: bool,
    takes_trailers: bool,
}

impl Said {
    /// Whether a field goes on as it is.
    fn take(&mut self, name: &http::HeaderName, value: &HeaderValue) -> Result<bool, Unreadable> {
        match *name {
            CONTENT_LENGTH => {
                let length = digits(value.as_bytes()).filter(|length| *length <= LENGTH_MAX);
                let length = length.ok_or(Unreadable("not one Content-Length"))?;
                match self.length {
                    // The same once more (RFC 9110 section 8.6).
                    Some(before) if before == length => return Ok(false),
                    Some(_) => return Err(Unreadable("not one Content-Length")),
                    None => self.length = Some(length),
                }
            }
            TRANSFER_ENCODING => {
                // One coding and nothing else: what a list of them means is read in too many ways (RFC 9112 section 6.1).
                if self.is_chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(Unreadable("a Transfer-Encoding other than `chunked`"));
                }
                self.is_chunked = true;
            }
            CONNECTION => {
                self.closes |= names(value, "close");
                self.keeps_alive |= names(value, "keep-alive");
            }
            EXPECT => self.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            UPGRADE => self.upgrades = true,
            TE => self.takes_trailers |= names(value, "trailers"),
            _ => {}
        }
        Ok(true)
    }

    fn follows(&self, method: &Method, is_10: bool) -> Result<Follows, RequestError> {
        let body = match (self.is_chunked, self.length) {
            (true, _) if is_10 => return Err(RequestError::BadRequest("a Transfer-Encoding in HTTP/1.0")),
            (true, Some(_)) => return Err(RequestError::BadRequest("both Transfer-Encoding and Content-Length")),
            (true, None) => Decoder::Chunked(Chunk::Size),
            (false, length) => Decoder::of_length(length.unwrap_or(0)),
        };
        Ok(Follows {
            body,
            keeps_alive: !self.closes && (!is_10 || self.keeps_alive),
            expects: self.expects && !is_10 && !body.is_done(),
            upgrades: self.upgrades && !is_10,
            is_head: *method == Method::HEAD,
            is_10,
            takes_trailers: self.takes_trailers,
        })
    }
}

impl Follows {
    /// For an answer to something that was no request.
    pub(super) const fn nothing() -> Self {
        Self {
            body: Decoder::Done,
            keeps_alive: false,
            expects: false,
            upgrades: false,
            is_head: false,
            is_10: false,
            takes_trailers: false,
        }
    }

    /// Writes the head of an answer whose body has `length`, where that is known. Gives how the body is framed; whether
    /// the connection stays open is in `self` then.
    pub(super) fn write_answer(&mut self, out: &mut Vec<u8>, head: &response::Parts, length: Option<u64>) -> Encoder {
        let status = head.status;
        out.reserve(64 + 40 * head.headers.len());
        write_status(out, head, self.is_10);
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        let has_none = status.is_informational() || status == StatusCode::NO_CONTENT;
        let may_have_body = !self.is_head && !has_none && status != StatusCode::NOT_MODIFIED;
        let (mut announced, mut has_date) = (None, false);
        for (name, value) in &head.headers {
            match *name {
                // The framing is made anew.
                TRANSFER_ENCODING => continue,
                CONTENT_LENGTH => {
                    if has_none || announced.is_some() {
                        continue;
                    }
                    let Some(length) = digits(value.as_bytes()) else { continue };
                    announced = Some(length);
                }
                CONNECTION if !is_switch => {
                    self.keeps_alive &= !names(value, "close");
                    continue;
                }
                DATE => has_date = true,
                _ => {}
            }
            write_field(out, name, value);
        }
        let encoder = if !may_have_body {
            Encoder::Done
        } else if let Some(length) = announced {
            Encoder::of_length(length)
        } else if let Some(length) = length {
            write_field(out, &CONTENT_LENGTH, &HeaderValue::from(length));
            Encoder::of_length(length)
        } else if self.is_10 {
            self.keeps_alive = false;
            Encoder::UntilClose
        } else {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked
        };
        if !has_date {
            super::date::with(|date| write_field(out, &DATE, date));
        }
        match (self.keeps_alive, self.is_10) {
            _ if is_switch => {}
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, false) => out.extend_from_slice(b"connection: close\r\n"),
            (true, false) | (false, true) => {}
        }
        out.extend_from_slice(b"\r\n");
        encoder
    }
}

fn write_status(out: &mut Vec<u8>, head: &response::Parts, is_10: bool) {
    let reason = head.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    if head.status == StatusCode::OK && reason.is_none() && !is_10 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if is_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    let known = head.status.canonical_reason().unwrap_or_default().as_bytes();
    out.extend_from_slice(reason.unwrap_or(known));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
