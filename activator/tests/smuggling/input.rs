//! A fuzzer's input: bytes, and where they are cut.
//!
//! Invariant: every input means something, so that no mutation is wasted; what [`Input::write`] writes is read back.

/// Most cuts of one input.
const CUTS_MAX: usize = 4;

/// What the first bytes of an input stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Input<'a> {
    /// What is sent.
    pub(crate) bytes: &'a [u8],
    /// Where a piece ends; each modulo the length.
    pub(crate) cuts: Vec<usize>,
    /// Whoever sends it closes at the end.
    pub(crate) closes: bool,
}

impl<'a> Input<'a> {
    /// Reads an input.
    pub(crate) fn of(data: &'a [u8]) -> Self {
        let (first, rest) = data.split_first().unwrap_or((&0, &[]));
        let count = (usize::from(*first) & 0x7f).min(CUTS_MAX).min(rest.len() / 2);
        let (cuts, bytes) = rest.split_at(2 * count);
        let cuts = cuts.chunks(2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1])).collect();
        Self { bytes, cuts, closes: first & 0x80 != 0 }
    }

    /// Writes one.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut data = vec![self.cuts.len().min(CUTS_MAX) as u8 | if self.closes { 0x80 } else { 0 }];
        for cut in self.cuts.iter().take(CUTS_MAX) {
            data.extend_from_slice(&(*cut as u16).to_be_bytes());
        }
        data.extend_from_slice(self.bytes);
        data
    }
}
