//! Bytes to lines.
//!
//! Invariant: no line is longer than [`LINE_BYTES_MAX`], however long a replica writes without a line feed.

/// Longest line; a longer one is split.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// How much of a replica's last words is kept for the reason of its end.
const TAIL_BYTES_MAX: usize = 300;

/// What was read of a line that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Takes bytes as they come; gives each line that is complete, without its line feed.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.open.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (text, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => bytes.split_at(bytes.len().min(room)),
            };
            self.open.extend_from_slice(text);
            bytes = rest;
            // A full line is given only when more follows, so that its own line feed makes no empty one.
            if end.is_some() || (self.open.len() == LINE_BYTES_MAX && !bytes.is_empty()) {
                line(self.open.strip_suffix(b"\r").unwrap_or(&self.open));
                self.open.clear();
            }
        }
    }

    /// The end of input: gives what has no line feed.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.open.is_empty() {
            line(&self.open);
            self.open.clear();
        }
    }
}

/// The last line that said something.
#[derive(Debug, Default)]
pub(crate) struct Tail(String);

impl Tail {
    pub(super) fn push(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(&line[..line.len().min(TAIL_BYTES_MAX)]);
        if !text.trim().is_empty() {
            self.0 = text.trim().to_owned();
        }
    }

    /// It, cut to a few hundred bytes; empty if there was none.
    pub(crate) fn last(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn lines_end_where_they_end() {
        assert_eq!(split(&[b"a\nb", b"c\r\n\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
    }

    #[test]
    fn a_long_line_is_split_and_a_full_one_is_not() {
        let full = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(split(&[&full, b"\nnext\n"]), [full.clone(), b"next".to_vec()]);
        assert_eq!(split(&[&full, b"y\n"]), [full.clone(), b"y".to_vec()]);
        let three = full.repeat(3);
        assert_eq!(split(&[&three]), vec![full; 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![9 => b'a'..b'e', 1 => Just(b'\n')], 0..40_000), 0..4)
        ) {
            let refs: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let lines = split(&refs);
            prop_assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
            let text: Vec<u8> = chunks.concat().into_iter().filter(|byte| *byte != b'\n').collect();
            prop_assert_eq!(lines.concat(), text);
        }
    }
}
