//! Compares what is counted with what is there.
//!
//! Counts fall by drop, so one that is wrong is a defect: a guard that was forgotten, or that outlives its request. Too high,
//! it keeps a replica busy for nobody and a revision from ever being idle; too low, it breaks a limit.
//!
//! Invariants: what is there is counted by who owns a request (its steps, the body of its answer, its tunnel, a task that
//! finishes it) and not by what the request holds; a worker looks at its own between two turns of its tasks, when nothing
//! is half done; nothing is corrected here, because a guard that falls late would take away what another one counts.

use super::{Counters, Local, Seat};
use crossbeam_utils::CachePadded;
use runtime::net::Socket;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often counts are compared. What differs twice in a row is told.
pub const WATCH_EVERY: Duration = Duration::from_secs(10);
/// Replicas that one line of the log names.
const TOLD_MAX: usize = 5;
/// In the word of [`There`]: one exchange, and one that is counted as in flight.
const ONE: u64 = 1;
const COUNTED: u64 = 1 << 32;

/// A count that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum What {
    /// Requests in flight, of one worker.
    InFlight,
    /// Requests at replicas, of one worker.
    Permits,
}

impl What {
    /// How many there are.
    pub const COUNT: usize = 2;

    /// Every one, by index.
    pub const ALL: [Self; Self::COUNT] = [Self::InFlight, Self::Permits];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Permits => "permits",
        }
    }
}

/// The exchanges of one revision that one worker has, by their owners.
#[derive(Debug, Default)]
pub struct There {
    /// All of them in the lower half, those that count as in flight in the upper one.
    exchanges: AtomicU64,
    /// Those of them that are at no replica now: they wait, or pause between two tries.
    parked: AtomicU32,
}

/// An exchange is there. Held by its owner, beside whatever the exchange holds.
#[derive(Debug)]
pub struct Present {
    counters: Arc<CachePadded<Counters>>,
    step: u64,
}

impl Present {
    /// From now on until it is dropped; `counts` as in flight or not.
    pub fn new(counters: Arc<CachePadded<Counters>>, counts: bool) -> Self {
        let step = if counts { ONE + COUNTED } else { ONE };
        counters.there.exchanges.fetch_add(step, Relaxed);
        Self { counters, step }
    }

    /// Whose it is.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.counters.there.exchanges.fetch_sub(self.step, Relaxed);
    }
}

/// An exchange is at no replica for a while.
#[derive(Debug)]
pub struct Parked<'a>(&'a Counters);

impl<'a> Parked<'a> {
    /// From now on until it is dropped.
    #[must_use]
    pub fn new(counters: &'a Counters) -> Self {
        counters.there.parked.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.there.parked.fetch_sub(1, Relaxed);
    }
}

/// What was seen of one count.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sight {
    last: i64,
    told: i64,
}

impl Sight {
    /// A count is `off` by so much. Gives by how much it was off in this look and in the one before, once.
    pub(crate) const fn look(&mut self, off: i64) -> Option<i64> {
        let stays = match () {
            () if off > 0 && self.last > 0 => {
                if off < self.last {
                    off
                } else {
                    self.last
                }
            }
            () if off < 0 && self.last < 0 => {
                if off > self.last {
                    off
                } else {
                    self.last
                }
            }
            () => 0,
        };
        let is_news = stays != 0 && stays != self.told;
        (self.last, self.told) = (off, stays);
        if is_news { Some(stays) } else { None }
    }
}

impl<S: Socket> Local<S> {
    /// Compares the counts of this worker with what it has. Tells each difference that it sees twice in a row.
    pub fn watch(&self) {
        let mut view = self.fresh();
        let counters = &self.counters;
        let word = counters.there.exchanges.load(Relaxed);
        let (all, counted) = (word % COUNTED, word / COUNTED);
        let at_replicas = i64::try_from(all).unwrap_or(i64::MAX) - i64::from(counters.there.parked.load(Relaxed));
        let permits: i64 = view.everywhere().map(|seat| i64::from(seat.load.load(Relaxed))).sum();
        let in_flight = i64::from(counters.meter.in_flight());
        for (what, count, there) in [
            (What::InFlight, in_flight, i64::try_from(counted).unwrap_or(i64::MAX)),
            (What::Permits, permits, at_replicas),
        ] {
            if let Some(off) = view.sights[what as usize].look(count - there) {
                counters.differences[what as usize].fetch_add(1, Relaxed);
                let replicas = if what == What::Permits { busy(view.everywhere()) } else { String::new() };
                tracing::error!(
                    revision = %self.handle.id, what = what.label(), count, there, off, replicas,
                    "a count differs from what is there, and did {WATCH_EVERY:?} ago; it stays as it is until the \
                     process ends; please report this"
                );
            }
        }
    }
}

fn busy<'a, S: Socket>(seats: impl Iterator<Item = Seat<'a, S>>) -> String {
    let mut text = String::new();
    for seat in seats.filter(|seat| seat.load.load(Relaxed) > 0).take(TOLD_MAX) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}={} ", seat.endpoint.id, seat.load.load(Relaxed));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_is_told_and_only_once() {
        let looks = |offs: &[i64]| {
            let mut sight = Sight::default();
            offs.iter().filter_map(|off| sight.look(*off)).collect::<Vec<_>>()
        };
        for (offs, told) in [
            (&[0, 0, 0][..], &[][..]),
            (&[1, 0, 1, 0], &[]),
            (&[1, -1, 1], &[]),
            (&[0, 3, 1, 1, 1], &[1]),
            (&[2, 5, 4, 4, 2], &[2, 4, 2]),
            (&[-1, -2, 0, -1, -1], &[-1, -1]),
        ] {
            assert_eq!(looks(offs), told, "{offs:?}");
        }
    }

    #[test]
    fn what_is_there_is_counted_in_two_halves_of_a_word() {
        let counters = Arc::<CachePadded<Counters>>::default();
        let word = || counters.there.exchanges.load(Relaxed);
        let (one, other) = (Present::new(Arc::clone(&counters), true), Present::new(Arc::clone(&counters), false));
        assert_eq!((word() % COUNTED, word() / COUNTED), (2, 1));
        drop(one);
        assert_eq!((word() % COUNTED, word() / COUNTED), (1, 0));
        drop(other);
        assert_eq!(word(), 0);
    }
}
