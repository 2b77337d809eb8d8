//! The calm human log: what happened to a revision, one line each.
//!
//! Invariant: only what a person would want to be told; everything else is a metric or a decision record.

use autoscaler_core::Story;
use autoscaler_core::reporters::Doubt;
use std::time::Duration;
use tokio::time::Instant;

/// A reporter that is wrong may be so every second, and says the same then.
const DOUBTS_EVERY: Duration = Duration::from_secs(60);

/// Tells of readings that cannot be true, seldom.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    told: u64,
    quiet_until: Option<Instant>,
}

impl Doubts {
    /// Writes a line if there were more, and the last line is old enough.
    pub(crate) fn tell(&mut self, now: Instant, (count, latest): (u64, Option<&Doubt>)) {
        if let (Some(more), Some(latest)) = (self.due(now, count), latest) {
            tracing::warn!(frames = more, "a reading is not believed: {latest}");
        }
    }

    /// How many of `count` nobody was told of, when it is time to.
    fn due(&mut self, now: Instant, count: u64) -> Option<u64> {
        let more = count.saturating_sub(self.told);
        if more == 0 || self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        (self.told, self.quiet_until) = (count, Some(now + DOUBTS_EVERY));
        Some(more)
    }
}

/// Writes one line, such as `default/model: ready in 1.2 s`.
pub(crate) fn tell(story: &Story) {
    if story.what.is_warning() {
        tracing::warn!("{story}");
    } else {
        tracing::info!("{story}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_told_once_a_minute_with_their_number() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        let mut due = |secs, count| doubts.due(start + Duration::from_secs(secs), count);
        assert_eq!(due(0, 0), None);
        assert_eq!(due(1, 2), Some(2));
        assert_eq!((due(2, 3), due(60, 9)), (None, None));
        assert_eq!(due(61, 9), Some(7));
        assert_eq!(due(500, 9), None, "nothing new");
    }
}
