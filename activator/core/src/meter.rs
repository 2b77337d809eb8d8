//! The exact integral of concurrency over time, in one word.
//!
//! Invariant: `area(now) = Σ exits − Σ entries + in flight × now`, so entry and exit are one addition each and no reader
//! ever has to stop a writer. The word holds the sum of times modulo 2⁴⁰ ms above and the count below; only differences
//! of areas mean anything, and [`Area`] widens them. A widened area never goes back.

use domain::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the in-flight count: at most 16 777 215 requests at once.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Counts what is in flight and integrates it over time.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// A request arrived. Gives the count with it.
    #[expect(clippy::cast_possible_truncation, reason = "24 bits")]
    pub fn enter(&self, now: Timestamp) -> u32 {
        let step = 1_u64.wrapping_sub(now.as_millis() << COUNT_BITS);
        ((self.0.fetch_add(step, Ordering::AcqRel) & COUNT_MASK) + 1) as u32
    }

    /// A request ended.
    pub fn exit(&self, now: Timestamp) {
        let step = (now.as_millis() << COUNT_BITS).wrapping_sub(1);
        self.0.fetch_add(step, Ordering::AcqRel);
    }

    /// What is in flight, and the integral so far modulo 2⁴⁰ request-milliseconds.
    pub fn read(&self, now: Timestamp) -> Reading {
        let word = self.0.load(Ordering::Acquire);
        let count = word & COUNT_MASK;
        let area = (word >> COUNT_BITS).wrapping_add(count.wrapping_mul(now.as_millis()));
        Reading { in_flight: count as u32, area_mod: area & AREA_MASK }
    }

    /// What is in flight.
    pub fn in_flight(&self) -> u32 {
        (self.0.load(Ordering::Acquire) & COUNT_MASK) as u32
    }
}

const AREA_MASK: u64 = (1 << (64 - COUNT_BITS)) - 1;

/// One reading of a [`Meter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Requests in flight.
    pub in_flight: u32,
    area_mod: u64,
}

/// Widens the 40-bit integral of one meter to 64 bits. Must be fed at least every 2³⁹ request-milliseconds: at 10 000 in
/// flight, one and a half years.
#[derive(Debug, Default, Clone, Copy)]
pub struct Area {
    last: u64,
    total: u64,
}

impl Area {
    /// Takes a reading; gives the integral since the first request, in request-milliseconds.
    ///
    /// Whoever reads looks at the clock first, and others may enter later than that before the word is read: then the
    /// reading is less than the one before. It adds nothing, and the next one counts from where this began.
    pub const fn widen(&mut self, reading: Reading) -> u64 {
        let step = reading.area_mod.wrapping_sub(self.last) & AREA_MASK;
        if step <= AREA_MASK / 2 {
            self.total += step;
            self.last = reading.area_mod;
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_area_is_exact_while_requests_run() {
        let (meter, mut area) = (Meter::default(), Area::default());
        assert_eq!(meter.enter(at(100)), 1);
        assert_eq!(meter.enter(at(150)), 2);
        assert_eq!(area.widen(meter.read(at(200))), 100 + 50);
        meter.exit(at(250));
        assert_eq!(area.widen(meter.read(at(1250))), 150 + 1100);
        assert_eq!(meter.in_flight(), 1);
    }

    #[test]
    fn a_reading_that_was_overtaken_adds_nothing_and_loses_nothing() {
        let (meter, mut area) = (Meter::default(), Area::default());
        meter.enter(at(100));
        meter.exit(at(110));
        assert_eq!(area.widen(meter.read(at(200))), 10);
        // The clock said 300, then a request arrived, then the word was read.
        meter.enter(at(305));
        let overtaken = meter.read(at(300));
        assert_eq!((overtaken.in_flight, area.widen(overtaken)), (1, 10));
        assert_eq!(area.widen(meter.read(at(400))), 10 + 95);
        meter.exit(at(400));
        assert_eq!(area.widen(meter.read(at(500))), 105);
    }

    proptest! {
        /// Any order of entries and exits, at any times that do not go back, from any start of the clock.
        #[test]
        fn agrees_with_the_plain_sum(start in 0_u64..1 << 41, steps in prop::collection::vec((0_u64..5_000, any::<bool>()), 1..200)) {
            let (meter, mut area) = (Meter::default(), Area::default());
            let (mut now, mut count, mut plain) = (start, 0_u64, 0_u64);
            for (wait, arrive) in steps {
                now += wait;
                plain += count * wait;
                if arrive {
                    count += 1;
                    meter.enter(at(now));
                } else if count > 0 {
                    count -= 1;
                    meter.exit(at(now));
                }
                let reading = meter.read(at(now));
                prop_assert_eq!(u64::from(reading.in_flight), count);
                prop_assert_eq!(area.widen(reading), plain);
            }
        }
    }
}
