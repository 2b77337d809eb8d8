//! Time as the cores see it: a span since an arbitrary start, handed in by the caller.
//!
//! Invariant: nothing here reads a clock; a recorded trace and a test can make every value.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

/// A moment on some monotonic clock, as the time since that clock's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The clock's start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// `since_start` after the clock's start.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// `secs` whole seconds after the clock's start.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Time since the clock's start.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The whole seconds since the clock's start.
    #[must_use]
    pub const fn whole_seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// Milliseconds since the clock's start.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "580 million years")]
    pub const fn as_millis(self) -> u64 {
        self.0.as_millis() as u64
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` moved back, not before the clock's start.
    #[must_use]
    pub const fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}

/// Milliseconds of a sender's own clock, as they stand on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);
/// A moment on the wall clock: milliseconds since the Unix epoch, up to the year 9999. Shown and serialised as RFC 3339 in
/// UTC (`2026-11-22T13:05:09.250Z`); `{:.0}` leaves the fraction out. For people and for what outlives a process, never for
/// measuring spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(i64);

/// Why a text is no [`WallTime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no moment since 1970 in RFC 3339, such as 2026-11-22T13:05:09Z")]
pub struct BadWallTime(pub String);

impl WallTime {
    /// The latest moment that can be written.
    pub const LATEST: Self = Self(253_402_207_200_000);

    /// `millis` milliseconds after the Unix epoch; [`Self::LATEST`] if that is later.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        if millis > Self::LATEST.0.unsigned_abs() { Self::LATEST } else { Self(millis.cast_signed()) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// `span` later, to the millisecond.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self::from_unix_millis(self.unix_millis().saturating_add(span))
    }

    /// `span` earlier; the epoch if that is later.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self::from_unix_millis(self.unix_millis().saturating_sub(span))
    }

    /// How long after `earlier`; nothing if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.unix_millis().saturating_sub(earlier.unix_millis()))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        let digits = f.precision().unwrap_or(3);
        write!(f, "{moment:.digits$}")
    }
}

impl FromStr for WallTime {
    type Err = BadWallTime;
    fn from_str(text: &str) -> Result<Self, BadWallTime> {
        let bad = || BadWallTime(text.chars().take(100).collect());
        let moment: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        u64::try_from(moment.as_millisecond()).map(Self::from_unix_millis).map_err(|_| bad())
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_it_is_read() {
        let moment = WallTime::from_unix_millis(1_795_352_709_250);
        assert_eq!(moment.to_string(), "2026-11-22T13:05:09.250Z");
        assert_eq!(format!("{moment:.0}"), "2026-11-22T13:05:09Z");
        assert_eq!(serde_json::to_string(&moment).unwrap(), r#""2026-11-22T13:05:09.250Z""#);
        for moment in [moment, WallTime::default(), WallTime::LATEST, WallTime::from_unix_millis(u64::MAX)] {
            assert_eq!(moment.to_string().parse(), Ok(moment), "{moment}");
            assert_eq!(serde_json::from_str::<WallTime>(&serde_json::to_string(&moment).unwrap()).unwrap(), moment);
        }
        assert_eq!("2026-11-22T14:05:09.25+01:00".parse(), Ok(moment));
        for bad in ["", "13:05", "2026-11-22", "1969-12-31T23:59:59Z", "99999-01-01T00:00:00Z"] {
            assert!(bad.parse::<WallTime>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_never_leaves_what_can_be_written() {
        let (epoch, hour) = (WallTime::default(), Duration::from_secs(3600));
        assert_eq!(epoch.after(hour).since(epoch), hour);
        assert_eq!(epoch.before(hour), epoch);
        assert_eq!(epoch.since(epoch.after(hour)), Duration::ZERO);
        assert_eq!(epoch.after(Duration::MAX), WallTime::LATEST);
    }
}
