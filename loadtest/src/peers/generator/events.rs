//! An open stream of events, each of which says when it was written.
//!
//! Invariant: an event counts when its last byte is read; a stream that ends or says something else is an error.

use super::{Seen, http1};
use crate::model_server::lean::{EVENT, EVENTS_PATH, monotonic_micros};
use crate::net;
use anyhow::bail;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Room for a head or for several events.
const BUFFER_BYTES: usize = 4 * 1024;

/// A stream that has begun.
pub(in crate::peers) struct Stream {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Stream {
    /// Asks `host` for a stream; done when the head of the answer is there.
    pub(super) async fn open(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let mut stream = net::connect(address).await?;
        stream.write_all(&http1::request(host, EVENTS_PATH, 0, false)).await?;
        let mut opened = Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 };
        loop {
            opened.read().await?;
            if let Some(end) = http1::head_end(&opened.buffer[..opened.filled])? {
                opened.keep_from(end);
                return Ok(opened);
            }
        }
    }

    /// Counts events in `seen` until `until`.
    pub(super) async fn listen(mut self, until: Instant, seen: &RefCell<Seen>) {
        loop {
            match timeout_at(until, self.read()).await {
                Err(_) => return,
                Ok(Err(_)) => {
                    seen.borrow_mut().errors += 1;
                    return;
                }
                Ok(Ok(())) => self.take_events(&mut seen.borrow_mut()),
            }
        }
    }

    /// Whole events in the buffer are counted, the rest of it is kept.
    fn take_events(&mut self, seen: &mut Seen) {
        let now = monotonic_micros();
        let mut done = 0;
        while let Some(end) = self.buffer[done..self.filled].windows(2).position(|two| two == b"\n\n") {
            if let Some(written) = written_at(&self.buffer[done..done + end]) {
                seen.count += 1;
                seen.latencies.record(Duration::from_micros(now.saturating_sub(written)));
            }
            done += end + 2;
        }
        self.keep_from(done);
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => bail!("the stream ended, or an event is too long"),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }

    fn keep_from(&mut self, done: usize) {
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
    }
}

/// When an event was written. In front of it may stand the end of one chunk and the size of the next.
fn written_at(event: &[u8]) -> Option<u64> {
    let at = event.windows(EVENT.len()).position(|part| part == EVENT)? + EVENT.len();
    std::str::from_utf8(&event[at..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_through_the_frames_of_chunks() {
        assert_eq!(written_at(b"\r\n18\r\ndata: 1700000000000000"), Some(1_700_000_000_000_000));
        assert_eq!(written_at(b"data: "), None);
        assert_eq!(written_at(b"18\r\n"), None);
    }
}
