//! HTTP/1.1 as RFC 9112 writes it, byte for byte: an independent reader that refuses whatever two readers could take
//! differently.
//!
//! Invariant: nothing here is shared with the product. [`Eyes::Replica`] tolerates nothing. [`Eyes::Client`] tolerates what
//! the RFC lets a server tolerate and the activator does; each place says so with "Tolerated" and the section.

/// Most bytes of a chunk's size and extensions (RFC 9112 section 7.1.1 has a recipient limit them).
const CHUNK_LINE_MAX: usize = 1024;

/// Whose bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// What an activator has sent to a replica.
    Replica,
    /// What a client has sent to an activator.
    Client,
}

/// One whole request.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// HTTP/1.1, not 1.0.
    pub(crate) is_11: bool,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy;
        write!(f, "{} {} {:?}", self.method, text(&self.target), text(&self.body))?;
        self.trailers.iter().try_for_each(|(name, value)| write!(f, " +{name}: {:?}", text(value)))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// One whole answer.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Front<T> {
    /// A whole message of so many bytes.
    Whole(T, usize),
    /// The beginning of one, or nothing.
    Part,
    /// What no strict reader takes, and why.
    Refused(&'static str),
}

/// Why reading stopped.
enum Stop {
    Part,
    Refused(&'static str),
}

type Read<T> = Result<T, Stop>;

const fn refuse<T>(why: &'static str) -> Read<T> {
    Err(Stop::Refused(why))
}

impl<T> Front<T> {
    fn of(read: Read<(T, usize)>) -> Self {
        match read {
            Ok((message, used)) => Self::Whole(message, used),
            Err(Stop::Part) => Self::Part,
            Err(Stop::Refused(why)) => Self::Refused(why),
        }
    }
}

/// All values of a field.
pub(crate) fn all<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_slice()).collect()
}

/// All whole requests in `bytes`, and what comes behind them: `Whole` stands for nothing.
pub(crate) fn requests(bytes: &[u8], eyes: Eyes) -> (Vec<Request>, Front<()>) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        if at == bytes.len() {
            return (found, Front::Whole((), at));
        }
        match request(&bytes[at..], eyes) {
            Front::Whole(request, used) => {
                found.push(request);
                at += used;
            }
            Front::Part => return (found, Front::Part),
            Front::Refused(why) => return (found, Front::Refused(why)),
        }
    }
}

/// The request that begins `bytes`.
pub(crate) fn request(bytes: &[u8], eyes: Eyes) -> Front<Request> {
    Front::of(read_request(&mut Cursor { bytes, at: 0, eyes }))
}

/// The answer that begins `bytes`; `to_head` says that it answers HEAD, `closed` that nothing follows.
pub(crate) fn answer(bytes: &[u8], to_head: bool, closed: bool) -> Front<Answer> {
    Front::of(read_answer(&mut Cursor { bytes, at: 0, eyes: Eyes::Replica }, to_head, closed))
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

const fn is_field_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    eyes: Eyes,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Stop::Part)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Part)?;
        self.at = end;
        Ok(taken)
    }

    /// The next line of a head without its end.
    fn line(&mut self) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Stop::Part)?;
        self.at += end + 1;
        match rest[..end].strip_suffix(b"\r") {
            Some(line) => Ok(line),
            // Tolerated (RFC 9112 section 2.2): a single LF ends a line of a head.
            None if self.eyes == Eyes::Client => Ok(&rest[..end]),
            None => refuse("a line ends with a bare LF"),
        }
    }

    /// The next line of chunked framing: only CRLF ends one (section 7.1).
    fn framing_line(&mut self) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or(Stop::Part)?;
        match &rest[end..] {
            [b'\r', b'\n', ..] => {
                self.at += end + 2;
                Ok(&rest[..end])
            }
            [b'\r'] => Err(Stop::Part),
            _ => refuse("chunked framing has a bare CR or LF"),
        }
    }

    fn fields(&mut self) -> Read<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.push(field(line)?);
        }
    }
}

/// Section 5.1: no whitespace before the colon, none before the name.
fn field(line: &[u8]) -> Read<(String, Vec<u8>)> {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return refuse("a field has no colon") };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return refuse("a field's name is no token");
    }
    if !value.iter().copied().all(is_field_byte) {
        return refuse("a field's value has a control character");
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    let name = name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    Ok((name, value[from..to].to_vec()))
}

/// How a body is framed (section 6.3).
enum Framing {
    None,
    Length(u64),
    Chunked,
}

fn digits(value: &[u8]) -> Read<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return refuse("a Content-Length is no number");
    }
    let mut number = 0_u64;
    for digit in value {
        let next = number.checked_mul(10).and_then(|ten| ten.checked_add(u64::from(digit - b'0')));
        number = next.ok_or(Stop::Refused("a Content-Length is too large"))?;
    }
    Ok(number)
}

/// The framing.
fn framing(fields: &[(String, Vec<u8>)], is_11: bool, eyes: Eyes) -> Read<Framing> {
    let (codings, lengths) = (all(fields, "transfer-encoding"), all(fields, "content-length"));
    match codings[..] {
        [] => {}
        [coding] if coding.eq_ignore_ascii_case(b"chunked") && is_11 => {
            if !lengths.is_empty() {
                return refuse("both Transfer-Encoding and Content-Length");
            }
            return Ok(Framing::Chunked);
        }
        [_] if !is_11 => return refuse("a Transfer-Encoding in HTTP/1.0"),
        _ => return refuse("a Transfer-Encoding is not `chunked` alone"),
    }
    let Some(first) = lengths.first() else { return Ok(Framing::None) };
    let length = digits(first)?;
    for other in &lengths[1..] {
        // Tolerated (RFC 9110 section 8.6): the same length again.
        if eyes == Eyes::Replica || digits(other)? != length {
            return refuse("more than one Content-Length");
        }
    }
    Ok(Framing::Length(length))
}

/// A body without its framing, and its trailers.
type Body = (Vec<u8>, Vec<(String, Vec<u8>)>);

fn chunks(read: &mut Cursor<'_>) -> Read<Body> {
    let mut body = Vec::new();
    loop {
        let line = read.framing_line()?;
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, rest) = line.split_at(end);
        if size.is_empty() {
            return refuse("a chunk has no size");
        }
        // Tolerated (section 7.1.1): whitespace and extensions, whatever is in them but line ends; none goes on.
        if read.eyes == Eyes::Replica && !rest.is_empty() || !matches!(rest, [] | [b' ' | b'\t' | b';', ..]) {
            return refuse("something stands behind a chunk's size");
        }
        if line.len() > CHUNK_LINE_MAX {
            return refuse("a chunk's extensions are too long");
        }
        if rest.iter().find(|byte| !matches!(byte, b' ' | b'\t')).is_some_and(|byte| *byte != b';') {
            return refuse("a chunk's size goes on behind whitespace");
        }
        let text = std::str::from_utf8(size).unwrap_or_default();
        let Ok(size) = u64::from_str_radix(text, 16) else { return refuse("a chunk's size is too large") };
        if size == 0 {
            break;
        }
        body.extend_from_slice(read.take(usize::try_from(size).map_err(|_| Stop::Part)?)?);
        match read.bytes.get(read.at..).unwrap_or_default() {
            [b'\r', b'\n', ..] => read.at += 2,
            [] | [b'\r'] => return Err(Stop::Part),
            _ => return refuse("a chunk is longer than its size"),
        }
    }
    let mut trailers = Vec::new();
    loop {
        let line = read.framing_line()?;
        if line.is_empty() {
            return Ok((body, trailers));
        }
        trailers.push(field(line)?);
    }
}

fn sized(read: &mut Cursor<'_>, framing: &Framing) -> Read<Body> {
    match framing {
        Framing::None => Ok(Body::default()),
        Framing::Length(length) => {
            let length = usize::try_from(*length).map_err(|_| Stop::Part)?;
            Ok((read.take(length)?.to_vec(), Vec::new()))
        }
        Framing::Chunked => chunks(read),
    }
}

/// Fields that would change how a message is framed, routed or believed if somebody merged trailers into its head
/// (RFC 9110 section 6.5.1).
const NO_TRAILERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
];

fn read_request(read: &mut Cursor<'_>) -> Read<(Request, usize)> {
    let mut line = read.line()?;
    // Tolerated (RFC 9112 section 2.2): empty lines before a request.
    while line.is_empty() && read.eyes == Eyes::Client {
        line = read.line()?;
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return refuse("a request line has not three words") };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return refuse("a method is no token");
    }
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" if read.eyes == Eyes::Client => false,
        _ => return refuse("a version is not HTTP/1.1"),
    };
    // Tolerated (section 3.2): bytes that RFC 3986 does not have but that separate nothing, such as `{` and UTF-8.
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..)) {
        return refuse("a target has a byte that none may have");
    }
    // Tolerated, though section 3.2 would have it refused: what stands behind `#` is cut off before the activator sees the
    // target (crate http), and never goes on.
    if target.contains(&b'#') && read.eyes == Eyes::Replica {
        return refuse("a target has a fragment");
    }
    let form = match target {
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => read.eyes == Eyes::Client && (method == b"CONNECT" || target.windows(3).any(|three| three == b"://")),
    };
    if !form {
        return refuse("a target has a form that its method does not");
    }
    let (method, target) = (method.iter().copied().map(char::from).collect(), target.to_vec());
    let fields = read.fields()?;
    match all(&fields, "host")[..] {
        // Tolerated (RFC 3986 section 3.2.2): a comma, though lists are written with it. Nobody has such a name.
        [host] if is_host(host) && (read.eyes == Eyes::Client || !host.contains(&b',')) => {}
        [] if !is_11 => {}
        [_] => return refuse("a Host is no host"),
        _ => return refuse("there is not one Host"),
    }
    let framing = framing(&fields, is_11, read.eyes)?;
    let (body, trailers) = sized(read, &framing)?;
    if read.eyes == Eyes::Replica && trailers.iter().any(|(name, _)| NO_TRAILERS.contains(&name.as_str())) {
        return refuse("a trailer frames or routes");
    }
    Ok((Request { method, target, fields, body, trailers, is_11 }, read.at))
}

/// `uri-host [ ":" port ]`.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_~%!$&'()*+,;=:[]".contains(byte))
}

fn read_answer(read: &mut Cursor<'_>, to_head: bool, closed: bool) -> Read<(Answer, usize)> {
    let line = read.line()?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] = line else {
        return refuse("an answer begins with no status line");
    };
    let (code, reason) = status.split_at(status.len().min(3));
    if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) || !matches!(reason, [] | [b' ', ..]) {
        return refuse("an answer has no status");
    }
    if !reason.iter().copied().all(is_field_byte) {
        return refuse("a reason has a control character");
    }
    let status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    let is_11 = line[7] == b'1';
    let fields = read.fields()?;
    if status / 100 == 1 || to_head || matches!(status, 204 | 304) {
        return Ok((Answer { status, fields, body: Vec::new() }, read.at));
    }
    let framing = framing(&fields, is_11, Eyes::Replica)?;
    let body = match framing {
        Framing::None if closed => read.take(read.bytes.len() - read.at)?.to_vec(),
        Framing::None => return Err(Stop::Part),
        Framing::Length(_) | Framing::Chunked => sized(read, &framing)?.0,
    };
    Ok((Answer { status, fields, body }, read.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_refused_for_its_reason() {
        let refusals = [
            ("GET / HTTP/1.1\nhost: a\n\n", "a line ends with a bare LF"),
            ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "a request line has not three words"),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "a field's name is no token"),
            ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", "a field has no colon"),
            ("GET / HTTP/1.1\r\na: b\rc\r\n\r\n", "a field's value has a control character"),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "there is not one Host"),
            ("GET /#x HTTP/1.1\r\nhost: a\r\n\r\n", "a target has a fragment"),
            (
                "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
                "more than one Content-Length",
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
                "a Transfer-Encoding is not `chunked` alone",
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a\r\n",
                "something stands behind a chunk's size",
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
                "a chunk is longer than its size",
            ),
        ];
        for (bytes, why) in refusals {
            assert_eq!(request(bytes.as_bytes(), Eyes::Replica), Front::Refused(why), "{bytes:?}");
        }
    }

    #[test]
    fn bytes_are_divided_where_the_framing_says() {
        let bytes = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhiPOST /b HTTP/1.1\r\nhost: x\r\n\
                     transfer-encoding: chunked\r\n\r\n2\r\nyo\r\n0\r\nt: v\r\n\r\nGET /c HTTP/1.1\r\nhost: x\r\n\r\n";
        let (found, end) = requests(bytes.as_bytes(), Eyes::Replica);
        let read: Vec<_> = found.iter().map(|r| (r.target.as_slice(), r.body.as_slice(), r.trailers.len())).collect();
        assert_eq!(read, [(&b"/a"[..], &b"hi"[..], 0), (b"/b", b"yo", 1), (b"/c", b"", 0)]);
        assert_eq!(end, Front::Whole((), bytes.len()));
        for cut in 1..bytes.len() {
            let (part, end) = requests(&bytes.as_bytes()[..cut], Eyes::Replica);
            assert!(!matches!(end, Front::Refused(_)), "{cut}: {end:?}");
            assert_eq!(part, found[..part.len()], "{cut}");
        }
    }
}
