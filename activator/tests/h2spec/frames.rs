//! HTTP/2 by hand, for a client: frames as they are written and read.

use crate::wire::soon;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 32;
/// A head that is whole, of a request without a body.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Any frame, right or wrong.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

pub(crate) fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

/// A field as it is, neither indexed nor compressed (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| {
        assert!(text.len() < 127, "one byte of length");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0], string(name), string(value)].concat()
}

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// What every request says, of `path` at the usual service.
pub(crate) fn head<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "svc.default"), (":path", path)]
}

/// A request without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &block(&head("GET", path)))
}

/// The head of a request whose body is to come.
pub(crate) fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&head("POST", path)))
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of an RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in the first head of a connection: the first field, indexed or with an indexed name.
    pub(crate) fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let block = &self.payload[self.payload.iter().take_while(|byte| **byte >> 5 == 1).count()..];
        if let 0x88..=0x8e = block[0] {
            return INDEXED[usize::from(block[0] - 0x88)];
        }
        assert!(matches!(block[0], 0x48 | 0x08 | 0x18), "not a status: {block:?}");
        let length = usize::from(block[1] & 0x7f);
        let text = &block[2..2 + length];
        if block[1] < 0x80 {
            return std::str::from_utf8(text).unwrap().parse().unwrap();
        }
        // Digits in Huffman's code are five bits for 0, 1 and 2, six for the others (RFC 7541 appendix B).
        let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |n| u16::from(byte >> n & 1)));
        (0..3).fold(0, |status, _| {
            let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
            let digit = if five < 3 { five } else { (five << 1 | bits.next().unwrap()) - 0b01_1001 + 3 };
            status * 10 + digit
        })
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Connected, with nothing said.
    pub(crate) async fn bare(to: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(to)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Both sides have said and confirmed their settings.
    pub(crate) async fn new(to: SocketAddr) -> Self {
        Self::with(to, &[]).await
    }

    /// The same with settings of one's own.
    pub(crate) async fn with(to: SocketAddr, values: &[(u16, u32)]) -> Self {
        let mut client = Self::bare(to).await;
        client.send([PREFACE, &settings(values), &frame(SETTINGS, ACK, 0, &[])].concat()).await;
        client.until(|frame| frame.kind == SETTINGS && frame.flags == ACK).await;
        client
    }

    /// Writes; whoever was closed in the middle of it reads why.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        soon(self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// The next frame; `None` when the connection ended.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Option<Frame>> {
        soon(async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        })
    }

    /// The next frame of this sort, whatever comes before.
    #[track_caller]
    pub(crate) fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> impl Future<Output = Frame> {
        let place = std::panic::Location::caller();
        async move {
            let mut before = Vec::new();
            while let Some(frame) = self.next().await {
                if is_it(&frame) {
                    return frame;
                }
                before.push((frame.kind, frame.flags, frame.stream));
            }
            panic!("it never came, at {place}; kind, flags and stream of what did: {before:?}")
        }
    }

    /// The code of the GOAWAY that ends the connection; `None` when it ends without.
    pub(crate) async fn ends(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }

    /// Whether a new stream is answered with 200.
    pub(crate) async fn is_served(&mut self, stream: u32) -> bool {
        self.send(get(stream, "/")).await;
        while let Some(frame) = self.next().await {
            match frame.kind {
                HEADERS if frame.stream == stream => return frame.payload[0] == 0x88,
                GOAWAY => return false,
                _ => {}
            }
        }
        false
    }
}
