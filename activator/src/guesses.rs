//! What could have been meant by a host that nobody has ("did you mean").
//!
//! Invariant: whatever is asked and however often, guessing takes a bounded part of a worker. A client that asks for the same
//! host again is told the same; of others no more than [`GUESSES_MAX`] a second are compared with all names, and the rest
//! are told that nobody has it, and no more.

use domain::Timestamp;

/// Hosts that one worker compares with all names in a second. Each costs up to some milliseconds.
pub const GUESSES_MAX: u32 = 10;

/// The guesses of one worker.
#[derive(Debug, Default)]
pub struct Guesses {
    /// The last host that was compared, and what is like it.
    last: Option<(Box<str>, Box<[String]>)>,
    /// The second of the clock that `count` is of.
    second: u64,
    count: u32,
}

impl Guesses {
    /// Names like `host`; `compare` finds them.
    pub fn like(&mut self, host: &str, now: Timestamp, compare: impl FnOnce() -> Vec<String>) -> Box<[String]> {
        if let Some((asked, similar)) = &self.last
            && **asked == *host
        {
            return similar.clone();
        }
        let second = now.whole_seconds();
        if self.second != second {
            (self.second, self.count) = (second, 0);
        }
        if self.count == GUESSES_MAX {
            return Box::default();
        }
        self.count += 1;
        let similar = compare().into_boxed_slice();
        self.last = Some((host.into(), similar.clone()));
        similar
    }

    /// The names have changed.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn guessing_has_a_bound_and_who_asks_again_is_told_the_same() {
        let (mut guesses, compared) = (Guesses::default(), Cell::new(0));
        let mut ask = |host: &str, millis: u64| {
            let compare = || {
                compared.set(compared.get() + 1);
                vec![format!("like {host}")]
            };
            guesses.like(host, Timestamp::from_millis(millis), compare).first().cloned()
        };
        for _ in 0..1000 {
            assert_eq!(ask("a", 0).as_deref(), Some("like a"));
        }
        let told = (0..1000).filter(|n| ask(&n.to_string(), 500).is_some()).count();
        assert_eq!((told, compared.get()), (9, 10), "one was compared before");
        let last = ask("8", 999);
        assert_eq!((last.as_deref(), compared.get()), (Some("like 8"), 10), "what is remembered costs nothing");
        assert_eq!(ask("b", 1000).as_deref(), Some("like b"), "the next second");
        guesses.forget();
        guesses.like("b", Timestamp::from_millis(1000), Vec::new);
        assert_eq!(
            guesses.like("b", Timestamp::from_millis(1000), || vec![String::new()]).len(),
            0,
            "nothing is like it"
        );
    }
}
