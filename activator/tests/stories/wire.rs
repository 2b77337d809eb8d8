//! HTTP/1.1 by hand, for both ends: what is on the wire is what a test sees.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test waits longer for anything: what hangs ends, and a machine that others have taken most of is not what is tested.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen soon.
#[track_caller]
pub(crate) fn soon<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(output) => output,
            Err(_) => panic!("nothing happened for {PATIENCE:?} at {place}"),
        }
    }
}

/// Polls a condition until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !holds() {
            assert!(tokio::time::Instant::now() < end, "never: {what}, at {place}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// One message as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// The request or status line.
    pub(crate) first: String,
    /// Fields in order, names as they came.
    pub(crate) fields: Vec<(String, String)>,
    /// The body, with its framing taken off.
    pub(crate) body: Vec<u8>,
    /// Fields after a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The only value of a field.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} more than once: {all:?}");
        all.first().copied()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection that is read message by message.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::new(soon(TcpStream::connect(to)).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// On any stream.
    pub(crate) const fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }

    /// The next line without its end, a character a byte; `None` at the end of the stream.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Some(line.into_iter().map(char::from).collect());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { return Some(fields) };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Exactly `count` bytes; fewer at the end of the stream.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().await {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// The next head, without its body.
    pub(crate) async fn head(&mut self) -> Option<Message> {
        let first = self.line().await?;
        Some(Message { first, fields: self.fields().await?, ..Message::default() })
    }

    /// The body that `head` announces; `None` when it breaks off. `bare` says that there is none whatever the head says.
    pub(crate) async fn body(&mut self, head: &mut Message, bare: bool) -> Option<()> {
        let chunked = head.field("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let length = head.field("content-length").map(|value| value.parse::<usize>().unwrap());
        match (chunked, length) {
            _ if bare => {}
            (true, _) => loop {
                let size = usize::from_str_radix(self.line().await?.split(';').next()?, 16).ok()?;
                if size == 0 {
                    head.trailers = self.fields().await?;
                    break;
                }
                let chunk = self.take(size + 2).await;
                if chunk.len() < size + 2 {
                    head.body.extend(chunk);
                    return None;
                }
                head.body.extend(&chunk[..size]);
            },
            (false, Some(length)) => {
                head.body = self.take(length).await;
                if head.body.len() < length {
                    return None;
                }
            }
            (false, None) if head.first.starts_with("HTTP/") => head.body = self.rest().await,
            (false, None) => {}
        }
        Some(())
    }

    /// The next request; `None` when the peer leaves.
    pub(crate) async fn request(&mut self) -> Option<Message> {
        let mut head = self.head().await?;
        self.body(&mut head, false).await?;
        Some(head)
    }

    /// The next answer, however long it takes.
    async fn answer_or_end(&mut self, bare: bool) -> Option<Message> {
        loop {
            let mut head = self.head().await?;
            let status = head.status();
            if status == 100 {
                continue;
            }
            let bare = bare || status == 204 || status == 304 || status == 101;
            self.body(&mut head, bare).await?;
            return Some(head);
        }
    }

    /// The next answer, which must come soon and whole.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> impl Future<Output = Message> {
        let answer = soon(self.answer_or_end(false));
        async move { answer.await.expect("the connection ended without an answer") }
    }

    /// The next answer, to a HEAD request.
    #[track_caller]
    pub(crate) fn bare_answer(&mut self) -> impl Future<Output = Message> {
        let answer = soon(self.answer_or_end(true));
        async move { answer.await.expect("the connection ended without an answer") }
    }

    /// The next answer if there is one before the connection ends.
    #[track_caller]
    pub(crate) fn maybe_answer(&mut self) -> impl Future<Output = Option<Message>> {
        soon(self.answer_or_end(false))
    }

    /// Sends a request and gives its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    /// Whether the peer closes without another byte.
    #[track_caller]
    pub(crate) fn closes(&mut self) -> impl Future<Output = bool> {
        let rest = soon(self.rest());
        async move { rest.await.is_empty() }
    }
}

/// A plain GET of `/` at the usual service.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: svc.default\r\n\r\n";

/// A POST with a body of known length.
pub(crate) fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: svc.default\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A plain 200 with a body of known length.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
