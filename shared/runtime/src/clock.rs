//! The one place where the process's clocks are read and turned into the cores' [`Timestamp`].

use domain::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A monotonic clock with a start of its own. Copies share the start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start. Follows tokio's paused clock in tests.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// `instant` on this clock; the start for anything earlier.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Timestamp {
        Timestamp::new(instant.saturating_duration_since(self.origin))
    }

    /// `timestamp` as tokio's timers need it.
    #[must_use]
    pub fn instant(&self, timestamp: Timestamp) -> Instant {
        self.origin + timestamp.since_start()
    }
}

/// What a calendar and a watch would say; never for measuring spans.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since the Unix epoch, for humans and for boot numbers; never for measuring spans.
#[must_use]
pub fn unix_millis() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
