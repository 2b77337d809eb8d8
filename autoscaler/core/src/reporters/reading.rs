//! Cumulative readings of one revision, and whether one can follow another.
//!
//! Invariant: a bound that no true reading breaks. Whoever is in flight at some moment between two readings was so at the
//! first, or has arrived since; so the area between them is at most that many requests, each for all the time, and what
//! those add that a reader met between their first count and their second.

use super::effect::Span;
use domain::{ReporterId, RevisionId};
use std::fmt;

/// By how many milliseconds the clock of a frame may differ from the moment at which a row of it was read: rows are read
/// one after the other, by a process that others may hold up.
pub const SLACK_MS: u64 = 1000;

/// What one frame counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reading {
    pub(super) area: u64,
    pub(super) requests: u64,
    /// In flight and waiting at that moment.
    pub(super) load: u32,
    /// The reporter's clock, in milliseconds.
    pub(super) at: u64,
    /// The second that its frame closed.
    pub(super) second: u64,
}

/// What lies between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) area: u64,
    pub(super) arrived: u64,
    pub(super) millis: u64,
    pub(super) seconds: u64,
}

/// Why a reading cannot follow another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// A count went back.
    WentBack,
    /// More request-milliseconds than there can have been.
    TooMuch { area: u64, most: u64 },
}

impl Reading {
    /// The same counts at another moment: nothing happened in between.
    pub(super) const fn idle_until(self, at: u64, second: u64) -> Self {
        Self { load: 0, at, second, ..self }
    }

    /// What was counted from `before` to this.
    pub(super) fn since(self, before: Self) -> Result<Counted, Contradiction> {
        let (area, arrived) = self
            .area
            .checked_sub(before.area)
            .zip(self.requests.checked_sub(before.requests))
            .ok_or(Contradiction::WentBack)?;
        let millis = self.at.saturating_sub(before.at);
        let requests = u64::from(before.load).saturating_add(arrived);
        // An activator counts an arrival in the area first: some of those there now, or one that has left at once, may be
        // missing among the arrivals.
        let met = (u64::from(self.load) + 1) * SLACK_MS;
        let most = requests.saturating_mul(millis.saturating_add(SLACK_MS)).saturating_add(met);
        if area > most {
            return Err(Contradiction::TooMuch { area, most });
        }
        Ok(Counted { area, arrived, millis, seconds: self.second.saturating_sub(before.second) })
    }
}

/// The seconds that a regular frame closes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) millis: u64,
}

impl Interval {
    /// What was counted, for each of its seconds. Frames that were not believed before it make it count for longer.
    #[expect(clippy::cast_precision_loss, reason = "counts of one interval are far below 2^53")]
    pub(super) fn span(self, Counted { area, arrived, millis, seconds }: Counted) -> Span {
        let seconds = seconds.max(self.last + 1 - self.first);
        self.held((area as f64 / millis.max(self.millis) as f64, arrived as f64 / seconds as f64))
    }

    /// What was believed last, for each of its seconds.
    pub(super) const fn held(self, (concurrency, requests): (f64, f64)) -> Span {
        Span { first: self.first, last: self.last, concurrency, requests }
    }
}

/// A reading that was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Whose.
    pub reporter: ReporterId,
    /// Of what.
    pub revision: RevisionId,
    /// Request-milliseconds that it adds.
    pub area: u64,
    /// Request-milliseconds that there can have been at most.
    pub most: u64,
}

impl Doubt {
    pub(super) fn of(reporter: &ReporterId, revision: &RevisionId, area: u64, most: u64) -> Self {
        Self { reporter: reporter.clone(), revision: revision.clone(), area, most }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reporter, revision, area, most } = self;
        write!(
            f,
            "{reporter} says that requests for {revision} have taken {area} ms in all since its last frame, and those it \
             counted can have taken {most} ms; its last good value stays in force"
        )
    }
}

/// What is kept of a reporter's readings of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Ledger {
    /// The latest reading that was believed.
    good: Reading,
    /// The latest one, if it was not.
    doubted: Option<Reading>,
    /// Average concurrency and requests a second, as they were believed last.
    last: (f64, f64),
}

impl Ledger {
    /// Counting starts at `reading`.
    pub(super) fn begin(&mut self, reading: Reading) {
        *self = Self { good: reading, ..Self::default() };
    }

    /// What the regular frames say that have come since and left this out: it is unchanged and idle.
    pub(super) fn idle_until(&mut self, at: u64, second: u64) {
        if self.good.second < second && self.doubted.is_none() {
            self.good = self.good.idle_until(at, second);
            self.last = (0.0, 0.0);
        }
    }

    /// What `reading` adds to what was counted, without counting it.
    pub(super) fn look(&self, reading: Reading) -> Result<(u64, u64), Contradiction> {
        let (area, requests) = (self.good.area, self.good.requests);
        let added = reading.area.checked_sub(area).zip(reading.requests.checked_sub(requests));
        added.ok_or(Contradiction::WentBack)
    }

    /// Counts `reading`. One that cannot follow what was believed is believed when the next one follows it: then it was
    /// no error of one moment, and counting has started again there.
    pub(super) fn count(&mut self, reading: Reading) -> Result<Counted, Contradiction> {
        let doubted = self.doubted.take();
        let counted = reading.since(self.good).or_else(|contradiction| {
            let again = doubted.and_then(|doubted| reading.since(doubted).ok());
            again.ok_or(contradiction)
        });
        match counted {
            Ok(_) => self.good = reading,
            Err(_) => self.doubted = Some(reading),
        }
        counted
    }

    /// What was measured and believed.
    pub(super) fn keep(&mut self, concurrency: f64, requests: f64) {
        self.last = (concurrency, requests);
    }

    /// What was believed last.
    pub(super) const fn last(&self) -> (f64, f64) {
        self.last
    }

    /// Nothing is in flight any more; the counts stay.
    pub(super) fn forget(&mut self) {
        self.last = (0.0, 0.0);
        self.good.load = 0;
        self.doubted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Requests that come and go as they like, read whenever: what a meter says of them is always believed, however
        /// many frames are missed.
        #[test]
        fn no_true_reading_breaks_the_bound(
            stays in prop::collection::vec((0_u64..60_000, 0_u64..30_000), 0..200),
            frames in prop::collection::btree_set(1_u64..60, 1..20),
        ) {
            let mut ledger = Ledger::default();
            for second in frames {
                let now = second * 1000;
                let arrived = stays.iter().filter(|(from, _)| *from <= now);
                let reading = Reading {
                    area: arrived.clone().map(|(from, stay)| (now - from).min(*stay)).sum(),
                    requests: arrived.clone().count() as u64,
                    load: u32::try_from(arrived.filter(|(from, stay)| from + stay > now).count()).unwrap(),
                    at: now,
                    second,
                };
                prop_assert!(ledger.count(reading).is_ok());
            }
        }
    }

    fn reading(second: u64, area: u64, requests: u64, load: u32) -> Reading {
        Reading { area, requests, load, at: second * 1000, second }
    }

    #[test]
    fn the_bound_is_met_exactly_and_not_passed() {
        let before = reading(10, 5_000, 7, 2);
        let most = (2 + 3) * (1000 + SLACK_MS) + SLACK_MS;
        assert_eq!(
            reading(11, 5_000 + most, 10, 0).since(before),
            Ok(Counted { area: most, arrived: 3, millis: 1000, seconds: 1 })
        );
        let over = reading(11, 5_000 + most + 1, 10, 0);
        assert_eq!(over.since(before), Err(Contradiction::TooMuch { area: most + 1, most }));
        for back in [reading(11, 4_999, 7, 2), reading(11, 5_000, 6, 2)] {
            assert_eq!(back.since(before), Err(Contradiction::WentBack));
        }
        // It began two milliseconds before it was read, and is not counted among the arrivals yet.
        assert!(reading(11, 2, 0, 1).since(reading(10, 0, 0, 0)).is_ok());
        let huge = Reading { area: u64::MAX, requests: u64::MAX, load: u32::MAX, at: u64::MAX, second: u64::MAX };
        assert!(huge.since(reading(0, 0, 0, u32::MAX)).is_ok(), "no sum overflows");
    }

    #[test]
    fn one_wrong_reading_is_passed_over_and_nothing_is_lost() {
        let mut ledger = Ledger::default();
        ledger.begin(reading(1, 1_000, 1, 1));
        assert!(ledger.count(reading(2, 9_999_999, 1, 1)).is_err());
        let next = ledger.count(reading(3, 3_000, 1, 1));
        assert_eq!(next, Ok(Counted { area: 2_000, arrived: 0, millis: 2_000, seconds: 2 }));
    }

    #[test]
    fn a_meter_that_started_again_is_believed_with_its_second_reading() {
        let mut ledger = Ledger::default();
        ledger.begin(reading(1, 50_000, 40, 1));
        for (lower, higher) in [(20, 1_020), (9_000_000, 9_001_000)] {
            let mut ledger = ledger;
            assert!(ledger.count(reading(2, lower, 41, 1)).is_err());
            let next = ledger.count(reading(3, higher, 41, 1));
            assert_eq!(next, Ok(Counted { area: 1_000, arrived: 0, millis: 1_000, seconds: 1 }));
        }
    }
}
