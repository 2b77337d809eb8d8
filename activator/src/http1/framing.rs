//! Where a body ends on an HTTP/1.1 connection (RFC 9112 sections 6 and 7).
//!
//! Invariant: what is read as content was framed as content; a size, a line end or a trailer that is not as the RFC writes
//! it ends the connection, never the body. One thing more is taken for right, because peers write it and nobody reads it
//! in two ways: whitespace behind a chunk's size, which some pad it with.

use super::fields::{self, Unreadable};
use super::inbox::READ_BYTES;
use crate::headers;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::io::Write as _;

/// Longest line with the size of a chunk, extensions included.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// Takes the framing off a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// Until the peer closes.
    UntilClose,
    /// Over.
    Done,
    /// It cannot be understood. Nothing behind that can be, so it never ends.
    Broken(Unreadable),
}

/// Where in the chunks the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// At a size.
    Size,
    /// In content, with so many bytes left of this chunk.
    Content(u64),
    /// At the line end behind a chunk.
    End,
    /// In the trailers.
    Trailers,
}

impl Decoder {
    /// Of `length` bytes.
    pub(crate) const fn of_length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// Whether the body is over.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }

    /// What is known of what is left.
    pub(crate) fn size_hint(self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(left),
            Self::Done => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::UntilClose | Self::Broken(_) => SizeHint::default(),
        }
    }

    /// Most bytes to be read for it at once, so that little is read that stands behind its end.
    pub(crate) fn wants(self) -> usize {
        let bytes = match self {
            Self::Length(left) => left,
            Self::Chunked(Chunk::Content(left)) => left.saturating_add(READ_BYTES as u64),
            Self::UntilClose => u64::MAX,
            Self::Chunked(Chunk::Size | Chunk::End | Chunk::Trailers) | Self::Done | Self::Broken(_) => {
                READ_BYTES as u64
            }
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The next part of the body in `read`; nothing when more has to be read, or when it is over.
    ///
    /// # Errors
    /// The framing is broken, and stays so.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unreadable> {
        let next = self.part(read);
        if let Err(unreadable) = next {
            *self = Self::Broken(unreadable);
        }
        next
    }

    fn part(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Unreadable> {
        loop {
            match self {
                Self::Done => return Ok(None),
                Self::Broken(unreadable) => return Err(*unreadable),
                Self::Length(left) => {
                    let content = take(read, left);
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    return Ok(content.map(Frame::data));
                }
                Self::UntilClose => {
                    return Ok((!read.is_empty()).then(|| Frame::data(read.split().freeze())));
                }
                Self::Chunked(chunk) => match chunk {
                    Chunk::Size => {
                        let Some(size) = size(read)? else { return Ok(None) };
                        *chunk = if size == 0 { Chunk::Trailers } else { Chunk::Content(size) };
                    }
                    Chunk::Content(left) => {
                        let Some(content) = take(read, left) else { return Ok(None) };
                        if *left == 0 {
                            *chunk = Chunk::End;
                            // A short answer is all there: whoever has the content should know that nothing follows.
                            if read.starts_with(b"\r\n0\r\n\r\n") {
                                read.advance(7);
                                *self = Self::Done;
                            }
                        }
                        return Ok(Some(Frame::data(content)));
                    }
                    Chunk::End => {
                        match read.as_ref() {
                            [b'\r', b'\n', ..] => read.advance(2),
                            [] | [b'\r'] => return Ok(None),
                            _ => return Err(Unreadable("a chunk is longer than its size")),
                        }
                        *chunk = Chunk::Size;
                    }
                    Chunk::Trailers => {
                        if read.starts_with(b"\r\n") {
                            read.advance(2);
                            *self = Self::Done;
                            return Ok(None);
                        }
                        let Some(mut trailers) = fields::trailers(read)? else { return Ok(None) };
                        *self = Self::Done;
                        headers::strip_trailers(&mut trailers);
                        return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                    }
                },
            }
        }
    }

    /// The peer closed. Whether the body is whole by that.
    pub(crate) const fn close(&mut self) -> bool {
        let whole = matches!(self, Self::UntilClose | Self::Done);
        *self = Self::Done;
        whole
    }
}

/// Content from the front of `read`, at most `left`.
fn take(read: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= length as u64;
    (length > 0).then(|| read.split_to(length).freeze())
}

/// The size of the chunk that begins `read`, when its whole line is there.
fn size(read: &mut BytesMut) -> Result<Option<u64>, Unreadable> {
    let Some(end) = memchr::memchr(b'\n', read) else {
        return if read.len() > SIZE_LINE_BYTES_MAX { Err(Unreadable("a chunk's size is too long")) } else { Ok(None) };
    };
    let line = read.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.filter(|line| line.len() <= SIZE_LINE_BYTES_MAX);
    // A CR that ends no line would end one for somebody else.
    let line = line.filter(|line| !line.contains(&b'\r')).ok_or(Unreadable("a chunk has no proper size"))?;
    let mut written = line.split(|byte| *byte == b';').next().unwrap_or_default();
    while let [before @ .., b' ' | b'\t'] = written {
        written = before;
    }
    let digits = std::str::from_utf8(written).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let size = digits.and_then(|text| u64::from_str_radix(text, 16).ok());
    let size = size.ok_or(Unreadable("a chunk has no proper size"))?;
    read.advance(end + 1);
    Ok(Some(size))
}

/// Puts the framing on a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// Exactly so many bytes more.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until we close.
    UntilClose,
    /// All was said.
    Done,
}

impl Encoder {
    /// Of `length` bytes.
    pub(crate) const fn of_length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// Whether nothing more is to be sent.
    pub(crate) const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }

    /// What stands before `content` on the wire, into `out`; gives what stands behind it.
    ///
    /// # Errors
    /// It is more than was announced.
    pub(crate) fn content(&mut self, content: &Bytes, out: &mut Vec<u8>) -> Result<&'static [u8], Unreadable> {
        let length = content.len() as u64;
        match self {
            Self::Length(left) => {
                *left = left.checked_sub(length).ok_or(Unreadable("a body is longer than its Content-Length"))?;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(b"")
            }
            Self::Chunked => {
                // Writing into a vector cannot fail.
                let _ = write!(out, "{length:x}\r\n");
                Ok(b"\r\n")
            }
            Self::UntilClose => Ok(b""),
            Self::Done => Err(Unreadable("a body goes on behind its end")),
        }
    }

    /// The end of the body, with its trailers, of which those that may be none were taken away before.
    ///
    /// # Errors
    /// It is less than was announced.
    pub(crate) fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::Length(1..) => return Err(Unreadable("a body is shorter than its Content-Length")),
            Self::Chunked => {
                out.extend_from_slice(b"0\r\n");
                trailers.into_iter().flatten().for_each(|(name, value)| fields::write_field(out, name, value));
                out.extend_from_slice(b"\r\n");
            }
            Self::Length(0) | Self::UntilClose | Self::Done => {}
        }
        *self = Self::Done;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
