//! What is sent and what is answered, known to both sides, so that an answer with another request's content is seen.
//!
//! Invariant: pure; every byte follows from the request's id and the lengths asked for.

use std::fmt;
use std::str::FromStr;

/// The request's own name, in a header of it.
pub(crate) const ID_HEADER: &str = "x-id";
/// Pieces an ordinary answer comes in: it must have a middle.
pub(crate) const UNARY_PIECES: usize = 2;

/// What a request asks for, as its path says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// So many bytes, in so many milliseconds.
    Unary { bytes: usize, ms: u64 },
    /// So many events, with so many milliseconds between two of them, and an end mark.
    Stream { events: usize, ms: u64 },
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unary { bytes, ms } => write!(f, "/unary/{bytes}/{ms}"),
            Self::Stream { events, ms } => write!(f, "/stream/{events}/{ms}"),
        }
    }
}

impl FromStr for Ask {
    type Err = ();

    fn from_str(path: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = path.split('/').collect();
        let [_, kind, count, ms] = parts[..] else { return Err(()) };
        let (count, ms) = (count.parse().map_err(|_| ())?, ms.parse().map_err(|_| ())?);
        match kind {
            "unary" => Ok(Self::Unary { bytes: count, ms }),
            "stream" => Ok(Self::Stream { events: count, ms }),
            _ => Err(()),
        }
    }
}

impl Ask {
    /// The answer to request `id` with a body of `received` bytes, in the pieces it is sent in.
    pub(crate) fn answer(self, id: &str, received: usize) -> Vec<Vec<u8>> {
        match self {
            Self::Unary { bytes, .. } => {
                let mut whole = format!("{id} {received}\n").into_bytes();
                whole.extend(filler(id, bytes));
                let rest = whole.split_off(whole.len() / UNARY_PIECES);
                vec![whole, rest]
            }
            Self::Stream { events, .. } => {
                let event = |number| format!("data: {id} {number}\n\n").into_bytes();
                let end = format!("data: [DONE] {id} {received}\n\n").into_bytes();
                (0..events).map(event).chain([end]).collect()
            }
        }
    }
}

/// `length` bytes that no other request sends.
pub(crate) fn filler(id: &str, length: usize) -> Vec<u8> {
    let unit = format!("{id}|").into_bytes();
    let mut bytes = unit.repeat(length / unit.len() + 1);
    bytes.truncate(length);
    bytes
}
