//! How fast those who waited are let through to a replica that has just begun, where no container concurrency says it
//! (kpa-behaviour 4.5; the rule is TCP's slow start, RFC 5681 section 3.1, with answers for acknowledgements).
//!
//! Invariant: a replica that answers doubles what it carries each time it has answered it all, and no more than
//! [`UNANSWERED_MAX`] of it are unanswered; one that says nothing gets more by time alone, slowly, and in the end everything:
//! who could be answered is not refused for this rule.

use domain::Timestamp;
use std::time::Duration;

/// What a replica that has just begun is sent at once out of a queue.
pub const FIRST_WINDOW: u32 = 8;
/// What a replica that answers may be sent before it has begun to answer it: each of these needs a connection.
pub const UNANSWERED_MAX: u32 = 1_000;
/// After so long without an answer the window doubles: a server that answers late may well answer many at once.
pub const QUIET: Duration = Duration::from_secs(1);

/// How much of a queue one replica may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    window: u32,
    unanswered_max: u32,
    /// When somebody first looked.
    since: Option<Timestamp>,
    /// When somebody first looked after the window had grown.
    quiet_since: Option<Timestamp>,
}

impl Pace {
    /// For a replica that carries `in_use` already.
    pub(crate) const fn new(in_use: u32) -> Self {
        Self {
            window: in_use.saturating_add(FIRST_WINDOW),
            unanswered_max: UNANSWERED_MAX,
            since: None,
            quiet_since: None,
        }
    }

    /// For one that carries as many unanswered ones as it may, `in_use` in all.
    pub(crate) const fn full(in_use: u32) -> Self {
        Self { window: in_use, ..Self::new(0) }
    }

    /// What the replica may carry while it is answering `answering` of it.
    pub(crate) fn window(&self, answering: u32) -> u32 {
        self.window.min(self.unanswered_max.saturating_add(answering))
    }

    /// It has begun an answer. What it answered leaves room of its own when it ends.
    pub(crate) const fn answered(&mut self) {
        self.window = self.window.saturating_add(1);
        self.quiet_since = None;
    }

    /// Time passes. True when the replica has been paced for `at_most`, so that it is over.
    pub(crate) fn look(&mut self, now: Timestamp, at_most: Duration) -> bool {
        let quiet_since = *self.quiet_since.get_or_insert(now);
        if now.since(quiet_since) >= QUIET {
            self.window = self.window.saturating_mul(2);
            self.unanswered_max = self.unanswered_max.saturating_mul(2);
            self.quiet_since = Some(now);
        }
        now.since(*self.since.get_or_insert(now)) >= at_most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_double_the_window_and_silence_does_so_each_second() {
        let at = Timestamp::from_millis;
        let long = Duration::from_secs(30);
        let mut pace = Pace::new(2);
        assert_eq!(pace.window(0), 2 + FIRST_WINDOW);
        for _ in 0..pace.window(0) {
            pace.answered();
        }
        assert_eq!(pace.window(0), 2 * (2 + FIRST_WINDOW), "as many more as were answered");
        for (look, window) in [(0, 20), (900, 20), (1000, 40), (1900, 40), (2000, 80)] {
            assert!(!pace.look(at(look), long));
            assert_eq!(pace.window(0), window, "at {look} ms");
        }
        pace.answered();
        assert!(!pace.look(at(3100), long));
        assert_eq!(pace.window(0), 81, "an answer begins the second anew");
        assert!(!pace.look(at(29_999), long));
        assert!(pace.look(at(30_000), long), "30 s after the first look");
    }

    #[test]
    fn so_many_are_unanswered_at_most_until_a_second_is_silent() {
        let at = Timestamp::from_millis;
        let mut pace = Pace::new(0);
        for _ in 0..2 * UNANSWERED_MAX {
            pace.answered();
        }
        assert_eq!(pace.window(0), UNANSWERED_MAX);
        assert_eq!(pace.window(500), UNANSWERED_MAX + 500, "answers that go on for long do not count");
        pace.look(at(0), Duration::MAX);
        pace.look(at(1000), Duration::MAX);
        assert_eq!(pace.window(0), 2 * UNANSWERED_MAX);
        assert_eq!(Pace::full(UNANSWERED_MAX).window(0), UNANSWERED_MAX, "no room");
    }
}
