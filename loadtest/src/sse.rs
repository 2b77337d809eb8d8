//! Reads a `text/event-stream` only as far as a load generator needs: how many events, and whether the end was said.
//!
//! Invariant: the answer does not depend on how the bytes are cut into chunks, and a line uses bounded memory.

/// The longest line that is looked at; longer ones count as data and are otherwise skipped.
const LINE_BYTES_MAX: usize = 64;

/// The reader's state between chunks.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    overlong: bool,
    events: u64,
    done: bool,
}

impl Reader {
    /// Nothing read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the stream. Lines end with LF or CR LF; comments and other fields are passed over.
    pub fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            if byte == b'\n' {
                self.end_line();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            } else {
                self.overlong = true;
            }
        }
    }

    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if data == b"[DONE]" && !self.overlong {
                self.done = true;
            } else {
                self.events += 1;
            }
        }
        self.line.clear();
        self.overlong = false;
    }

    /// `data` lines so far, without the final one.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Whether `data: [DONE]` was read: a stream that ends without it was cut.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> (u64, bool) {
        let mut reader = Reader::new();
        for chunk in chunks {
            reader.push(chunk);
        }
        (reader.events(), reader.is_done())
    }

    #[test]
    fn the_end_must_be_said() {
        assert_eq!(read(&[b"data: {}\n\ndata: {}\n\ndata: [DONE]\n\n"]), (2, true));
        assert_eq!(read(&[b"data: {}\r\n\r\ndata:[DONE]\r\n"]), (1, true));
        assert_eq!(read(&[b"data: {}\n\n"]), (1, false));
        assert_eq!(read(&[b"data: [DONE]"]), (0, false), "the line did not end: it was cut");
        assert_eq!(read(&[b": data: [DONE]\nevent: [DONE]\ndata: [DONE] more\n"]), (1, false));
    }

    #[test]
    fn an_endless_line_uses_no_memory() {
        let mut reader = Reader::new();
        for _ in 0..1000 {
            reader.push(&[b'x'; 1024]);
        }
        assert!(reader.line.capacity() <= 2 * LINE_BYTES_MAX);
        reader.push(b"\ndata: [DONE]\n");
        assert!(reader.is_done());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            lines in proptest::collection::vec("(data: )?[a-z]{0,70}|data: \\[DONE\\]", 0..12),
            cut in 1_usize..20,
        ) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(read(&chunks), read(&[text.as_bytes()]));
        }
    }
}
