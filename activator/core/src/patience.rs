//! How long a request may wait (kpa-behaviour 2, `queue-timeout` and `start-deadline`; engineering notes on clocks across
//! cold and warm).
//!
//! Invariant: the rule depends on what the revision is now, so a request that arrived cold gets its time again when the
//! first replica is ready, and one whose last replica dies gets the time of a start.

use domain::Timestamp;
use std::time::Duration;

/// Whether replicas answer, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// No replica, and nobody waits.
    Asleep,
    /// No replica; a start was asked for at this moment.
    Waking {
        /// When somebody first waited, or the last replica died with somebody waiting.
        since: Timestamp,
    },
    /// At least one replica may be sent requests.
    Warm {
        /// Since when.
        since: Timestamp,
    },
}

/// When a request that arrived at `arrived` has waited long enough.
#[must_use]
pub fn due(warmth: Warmth, arrived: Timestamp, queue_timeout: Duration, start_deadline: Duration) -> Timestamp {
    match warmth {
        Warmth::Warm { since } => arrived.max(since) + queue_timeout,
        Warmth::Waking { since } => since + start_deadline,
        Warmth::Asleep => arrived + start_deadline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_follows_the_revision() {
        let (queue, start) = (Duration::from_secs(60), Duration::from_secs(1800));
        let at = Timestamp::from_secs;
        for (warmth, arrived, expected) in [
            (Warmth::Warm { since: at(0) }, at(100), at(160)),
            (Warmth::Waking { since: at(90) }, at(100), at(1890)),
            (Warmth::Warm { since: at(130) }, at(100), at(190)),
            (Warmth::Asleep, at(100), at(1900)),
        ] {
            assert_eq!(due(warmth, arrived, queue, start), expected, "{warmth:?}");
        }
    }
}
