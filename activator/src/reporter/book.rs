//! What each autoscaler has been told, and what it has to be told next. Pure.
//!
//! Invariant: a row is sent if it differs from what this receiver acknowledged, or has work in flight; a lost frame is
//! repaired by the next, because readings are cumulative.

use domain::report::FRAME_VERSION;
use domain::{Frame, Millis, ReporterId, RevisionId, Row};
use std::collections::HashMap;

/// Who reports, in which life.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub id: ReporterId,
    /// Drawn at its start.
    pub boot: u64,
    /// It takes no new requests any more.
    pub draining: bool,
    /// The sharing that it goes by.
    pub sharing: Option<u64>,
}

/// Numbers for revisions, for one boot.
#[derive(Debug, Default)]
pub struct Names {
    by_id: HashMap<RevisionId, u32>,
    by_number: Vec<RevisionId>,
}

impl Names {
    /// The number of `id`, which it keeps for this boot.
    pub fn number(&mut self, id: &RevisionId) -> u32 {
        if let Some(number) = self.by_id.get(id) {
            return *number;
        }
        let number = u32::try_from(self.by_number.len()).unwrap_or(u32::MAX);
        self.by_id.insert(id.clone(), number);
        self.by_number.push(id.clone());
        number
    }

    fn name(&self, number: u32) -> Option<&RevisionId> {
        self.by_number.get(number as usize)
    }
}

/// What one receiver has acknowledged.
#[derive(Debug, Default)]
pub struct Receiver {
    acknowledged: HashMap<u32, Row>,
    /// It does not know our numbers: everything is sent again.
    resync: bool,
    fresh: bool,
}

impl Receiver {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { fresh: true, ..Self::default() }
    }

    /// The next frame for this receiver, from all `rows` as they stand.
    pub fn frame(&mut self, who: &Identity, names: &Names, clock: FrameClock, rows: &[Row], kind: Kind) -> Frame {
        let complete = self.resync || self.fresh;
        let wanted = |row: &&Row| complete || row.load() > 0 || self.acknowledged.get(&row.n) != Some(*row);
        let rows: Vec<Row> = rows.iter().filter(wanted).cloned().collect();
        let names = rows
            .iter()
            .filter(|row| complete || !self.acknowledged.contains_key(&row.n))
            .filter_map(|row| Some((row.n, names.name(row.n)?.clone())))
            .collect();
        Frame {
            v: FRAME_VERSION,
            reporter: who.id.clone(),
            boot: who.boot,
            tick: clock.tick,
            seq: clock.seq,
            at: clock.at,
            leaving: kind == Kind::Leaving,
            draining: who.draining,
            sharing: who.sharing,
            urgent: kind == Kind::Urgent,
            complete: complete && kind != Kind::Urgent,
            names,
            rows,
        }
    }

    /// The receiver has taken `rows`. With `resync` it could not place them.
    pub fn acknowledge(&mut self, rows: Vec<Row>, complete: bool, resync: bool) {
        self.resync = resync;
        if resync {
            self.acknowledged.clear();
            return;
        }
        if complete {
            self.fresh = false;
        }
        self.acknowledged.extend(rows.into_iter().map(|row| (row.n, row)));
    }
}

/// The numbers of one frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameClock {
    /// The latest tick.
    pub tick: u64,
    /// The frame's own number.
    pub seq: u64,
    /// The reporter's clock.
    pub at: Millis,
}

/// Why a frame is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tick.
    Regular,
    /// Something cannot wait.
    Urgent,
    /// The last one.
    Leaving,
}

/// Whether a load is worth an urgent frame (kpa-behaviour 7.1): somebody waits where nobody waited, the load has doubled,
/// or it has crossed the panic threshold of what is ready.
#[must_use]
pub fn is_urgent(told: &Row, now: &Row, threshold: f64) -> bool {
    let (before, load) = (told.load(), now.load());
    (now.queued > 0 && told.queued == 0)
        || (load > before && load >= before.saturating_mul(2))
        || (f64::from(load) >= threshold && f64::from(before) < threshold)
}

/// The load at which the next urgent look is due, given what was told last.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u32")]
pub fn next_alarm(told: &Row, threshold: f64) -> u32 {
    let doubled = told.load().saturating_mul(2).max(1);
    if f64::from(told.load()) < threshold {
        doubled.min(threshold.ceil().clamp(1.0, f64::from(u32::MAX)) as u32)
    } else {
        doubled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::RequestMillis;
    use proptest::prelude::*;

    fn row(n: u32, area: u64, in_flight: u32, queued: u32) -> Row {
        Row { n, area: RequestMillis(area), requests: area, in_flight, queued, ..Row::default() }
    }

    fn identity() -> Identity {
        Identity { id: ReporterId::new("a"), boot: 1, draining: false, sharing: None }
    }

    const CLOCK: FrameClock = FrameClock { tick: 1, seq: 1, at: Millis(1000) };

    #[test]
    fn idle_rows_are_told_once() {
        let (who, mut names, mut receiver) = (identity(), Names::default(), Receiver::new());
        names.number(&RevisionId::new("default", "m"));
        let rows = [row(0, 10, 0, 0)];
        let first = receiver.frame(&who, &names, CLOCK, &rows, Kind::Regular);
        assert_eq!((first.rows.len(), first.names.len(), first.complete), (1, 1, true));
        receiver.acknowledge(first.rows, true, false);
        let second = receiver.frame(&who, &names, CLOCK, &rows, Kind::Regular);
        assert_eq!((second.rows.len(), second.names.len(), second.complete), (0, 0, false));
        receiver.acknowledge(Vec::new(), false, true);
        let third = receiver.frame(&who, &names, CLOCK, &rows, Kind::Regular);
        assert_eq!((third.rows.len(), third.names.len(), third.complete), (1, 1, true), "a resync asks for everything");
    }

    #[test]
    fn surges_cannot_wait() {
        for (told, now, threshold, urgent) in [
            (row(0, 0, 0, 0), row(0, 0, 0, 1), 20.0, true),
            (row(0, 0, 0, 5), row(0, 0, 0, 6), 20.0, false),
            (row(0, 0, 4, 0), row(0, 0, 7, 0), 20.0, false),
            (row(0, 0, 4, 0), row(0, 0, 8, 0), 20.0, true),
            (row(0, 0, 15, 0), row(0, 0, 20, 0), 20.0, true),
            (row(0, 0, 20, 0), row(0, 0, 25, 0), 20.0, false),
        ] {
            assert_eq!(is_urgent(&told, &now, threshold), urgent, "{told:?} {now:?}");
        }
    }

    proptest! {
        /// Whatever would be urgent is at or above the alarm, so no worker can miss it.
        #[test]
        fn the_alarm_comes_before_the_need(before in 0_u32..500, load in 0_u32..2000, threshold in 1.0_f64..300.0) {
            let (told, now) = (row(0, 0, before, 0), row(0, 0, load, 0));
            if is_urgent(&told, &now, threshold) {
                prop_assert!(load >= next_alarm(&told, threshold));
            }
        }
    }
}
