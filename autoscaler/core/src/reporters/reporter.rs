//! One reporter: its numbered ticks become seconds, its cumulative readings become samples (engineering 21 to 23).
//!
//! Invariant: exactly one sample per second and revision in use. The second comes from the tick's number plus an offset
//! of this life, never from the arrival; a gap is back-filled evenly, so the requests in the samples are those counted.

use super::SILENT_AFTER;
use super::effect::{Effect, Refused};
use super::reading::{Contradiction, Doubt, Interval, Ledger, Reading};
use crate::event::{FrameChunk, FrameHeader};
use domain::report::FRAME_ROWS_MAX;
use domain::{EndpointId, RevisionId, Row, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a reporter last said of one revision.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entry {
    ledger: Ledger,
    pub(super) in_flight: u32,
    pub(super) queued: u32,
    pub(super) endpoints: Vec<(EndpointId, u32)>,
    pub(super) drained: Vec<EndpointId>,
    held: Vec<EndpointId>,
    pub(super) unreachable: Vec<EndpointId>,
    mentioned: u64,
    /// The tick up to which it had work.
    active_until: u64,
}

impl Entry {
    const fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.queued)
    }
}

/// The regular frame that the next one is measured against.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    at: u64,
    /// The second that this tick closed.
    second: u64,
}

/// Regular frames in a row whose second is off by two or more before the offset is moved: clocks drift, networks hiccup.
const DRIFT_FRAMES: u8 = 30;

#[derive(Debug)]
pub(super) struct Reporter {
    boot: u64,
    previous_boot: Option<u64>,
    /// Of the latest regular frame: its number, whether further chunks of it follow, its tick and its time.
    seq: u64,
    open: bool,
    tick: u64,
    at: u64,
    /// Number of the latest urgent frame. Apart, because the two travel side by side and may overtake each other.
    urgent_seq: u64,
    offset: Option<i64>,
    drift: u8,
    baseline: Option<Baseline>,
    heard: Timestamp,
    leaving: bool,
    draining: bool,
    /// The sharing that it went by at its last word.
    sharing: Option<u64>,
    /// Revisions of which it holds replicas for others.
    holding: BTreeSet<RevisionId>,
    /// A revision without entry has never been counted by this life.
    complete: bool,
    covered_from: u64,
    names: BTreeMap<u32, RevisionId>,
    entries: BTreeMap<RevisionId, Entry>,
    busy: BTreeSet<RevisionId>,
    unknown_names: bool,
    /// The latest reading that was not believed, until somebody asks.
    doubt: Option<Doubt>,
}

impl Reporter {
    pub(super) fn new(header: &FrameHeader, heard: Timestamp) -> Self {
        Self {
            boot: header.boot,
            previous_boot: None,
            seq: 0,
            open: false,
            tick: 0,
            at: 0,
            urgent_seq: 0,
            offset: None,
            drift: 0,
            baseline: None,
            heard,
            leaving: false,
            draining: false,
            sharing: None,
            holding: BTreeSet::new(),
            // Ticks 0 and 1 are a life that begins: before them it counted nothing.
            complete: header.tick <= 1,
            covered_from: 0,
            names: BTreeMap::new(),
            entries: BTreeMap::new(),
            busy: BTreeSet::new(),
            unknown_names: false,
            doubt: None,
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Timestamp,
        chunk: FrameChunk,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let FrameChunk { header, rows, names, last } = chunk;
        self.check(now, &header)?;
        if self.names.len() + names.len() > 2 * FRAME_ROWS_MAX {
            return Err(Refused::TooManyNames);
        }
        self.names.extend(names);
        let interval = if header.urgent { None } else { self.interval(now, &header) };
        let mut result = Ok(());
        for row in rows {
            let Some(revision) = self.names.get(&row.n).cloned() else {
                // What it counted meanwhile is not known: its next first reading is where counting starts again.
                self.unknown_names = true;
                self.complete = false;
                continue;
            };
            let (effect, contradiction) = self.row(&header, &revision, row, interval);
            effects.push(effect);
            match contradiction {
                Some(Contradiction::WentBack) => result = Err(Refused::WentBack),
                Some(Contradiction::TooMuch { area, most }) => {
                    self.doubt = Some(Doubt::of(&header.reporter, &revision, area, most));
                    result = Err(Refused::TooMuch);
                }
                None => {}
            }
        }
        if header.urgent {
            return result;
        }
        self.open = !last;
        if last {
            self.finish(now, &header, interval);
        }
        result
    }

    /// Refuses what is out of order, and begins a new life when the boot number changed. Last words come between ticks.
    fn check(&mut self, now: Timestamp, header: &FrameHeader) -> Result<(), Refused> {
        if header.boot != self.boot {
            if self.previous_boot == Some(header.boot) {
                return Err(Refused::Late);
            }
            let second = self.baseline.map(|baseline| baseline.second);
            let previous_boot = Some(self.boot);
            *self = Self { previous_boot, ..Self::new(header, now) };
            // The new life may not write into a second that the old one closed.
            self.offset = second.map(|second| signed(second) + 1 - signed(header.tick.max(1)));
            self.offset = self.offset.map(|least| least.max(signed(now.whole_seconds()) - signed(header.tick.max(1))));
        }
        if header.urgent {
            if header.seq <= self.seq.max(self.urgent_seq) || header.tick < self.tick {
                return Err(Refused::Late);
            }
            self.urgent_seq = header.seq;
            return Ok(());
        }
        if self.open && header.seq == self.seq {
            return Ok(());
        }
        if header.seq <= self.seq {
            return Err(Refused::Late);
        }
        if self.seq > 0 && (header.tick < self.tick + u64::from(!header.leaving) || header.at.0 < self.at) {
            return Err(Refused::WentBack);
        }
        self.seq = header.seq;
        self.unknown_names = false;
        Ok(())
    }

    /// What the rows of this regular frame are measured over; `None` makes it a baseline, or a frame that closes no
    /// second.
    fn interval(&mut self, now: Timestamp, header: &FrameHeader) -> Option<Interval> {
        let arrived = signed(now.whole_seconds());
        let offset = *self.offset.get_or_insert_with(|| arrived - signed(header.tick));
        if self.baseline.is_none() && header.tick <= 1 {
            let second = u64::try_from(offset).unwrap_or(0);
            self.baseline = Some(Baseline { at: 0, second });
        }
        let baseline = self.baseline?;
        // What was counted since the latest tick would be lost with its second: the last word closes it early.
        let second = u64::try_from(signed(header.tick) + offset).unwrap_or(0)
            + u64::from(header.leaving && header.tick == self.tick);
        (second > baseline.second).then_some(Interval {
            first: baseline.second + 1,
            last: second,
            millis: header.at.0.saturating_sub(baseline.at).max(1),
        })
    }

    /// The second that a tick closes.
    fn second_of(&self, tick: u64) -> u64 {
        u64::try_from(signed(tick) + self.offset.unwrap_or_default()).unwrap_or(0)
    }

    /// What a row means. One whose counts are not believed changes nothing that was counted; what it says of this moment
    /// stands all the same, because nothing is summed up from it.
    fn row(
        &mut self,
        header: &FrameHeader,
        revision: &RevisionId,
        row: Row,
        interval: Option<Interval>,
    ) -> (Effect, Option<Contradiction>) {
        let known = self.complete || self.entries.contains_key(revision);
        let second = interval.map_or_else(|| self.second_of(header.tick), |interval| interval.last);
        let entry = self.entries.entry(revision.clone()).or_default();
        let (area, requests, load) = (row.area.0, row.requests, row.load());
        let reading = Reading { area, requests, load, at: header.at.0, second };
        if !known {
            // Counted before we listened: the first reading is where counting starts.
            entry.ledger.begin(reading);
        }
        if let Some(baseline) = self.baseline {
            entry.ledger.idle_until(baseline.at, baseline.second);
        }
        let (mut span, mut contradiction, mut added) = (None, None, (0, 0));
        match interval {
            Some(interval) => match entry.ledger.count(reading) {
                Ok(counted) => {
                    let measured = interval.span(counted);
                    entry.ledger.keep(measured.concurrency, measured.requests);
                    (span, added) = (Some(measured), (counted.area, counted.arrived));
                }
                Err(refused) => {
                    (span, contradiction) = (Some(interval.held(entry.ledger.last())), Some(refused));
                }
            },
            None => match entry.ledger.look(reading) {
                Ok(more) => added = more,
                Err(refused) => contradiction = Some(refused),
            },
        }
        // Without an interval a regular frame is a baseline or closes no second: the next one is measured further back.
        if !header.urgent && interval.is_none() && self.baseline.is_none() {
            entry.ledger.begin(reading);
        }
        if header.seq > entry.mentioned {
            entry.mentioned = header.seq;
            (entry.in_flight, entry.queued) = (row.in_flight, row.queued);
            (entry.endpoints, entry.drained, entry.unreachable) = (row.endpoints, row.drained, row.unreachable);
            entry.held = row.held;
            if entry.held.is_empty() {
                self.holding.remove(revision);
            } else {
                self.holding.insert(revision.clone());
            }
        }
        let (area, arrived) = added;
        let holds = contradiction.is_some() && span.is_some_and(|span| span.concurrency > 0.0);
        let active = area > 0 || arrived > 0 || entry.load() > 0 || holds;
        if active {
            entry.active_until = header.tick + 1;
        }
        if entry.load() > 0 {
            self.busy.insert(revision.clone());
        } else {
            self.busy.remove(revision);
        }
        let ever = row.requests > 0 || active;
        (Effect { revision: revision.clone(), span, active, ever, arrived }, contradiction)
    }

    /// All of a regular frame is here: what it left out is unchanged and idle.
    fn finish(&mut self, now: Timestamp, header: &FrameHeader, interval: Option<Interval>) {
        self.tick = header.tick;
        self.at = header.at.0;
        self.leaving = header.leaving;
        (self.draining, self.sharing) = (header.draining, header.sharing);
        self.heard = now;
        if header.complete && !self.unknown_names {
            self.complete = true;
        }
        let entries = &mut self.entries;
        self.busy.retain(|revision| match entries.get_mut(revision) {
            Some(entry) if entry.mentioned < header.seq => {
                (entry.in_flight, entry.queued) = (0, 0);
                entry.endpoints.clear();
                false
            }
            entry => entry.is_some(),
        });
        match (interval, self.baseline) {
            (Some(interval), _) => {
                self.baseline = Some(Baseline { at: header.at.0, second: interval.last });
            }
            (None, None) => {
                let second = self.second_of(header.tick);
                self.baseline = Some(Baseline { at: header.at.0, second });
                self.covered_from = second;
            }
            (None, Some(_)) => {}
        }
        self.follow_drift(now, header);
    }

    /// Two clocks never run equally fast. The offset moves by one second only when it has been off for long: forward by
    /// back-filling a second, backward by a frame that closes none.
    fn follow_drift(&mut self, now: Timestamp, header: &FrameHeader) {
        let Some(offset) = self.offset else { return };
        let lag = signed(now.whole_seconds()) - (signed(header.tick) + offset);
        self.drift = if lag.abs() >= 2 { self.drift + 1 } else { 0 };
        if self.drift >= DRIFT_FRAMES {
            self.offset = Some(offset + lag.signum());
            self.drift = 0;
        }
    }

    pub(super) fn entry(&self, revision: &RevisionId) -> Option<&Entry> {
        self.entries.get(revision)
    }

    /// Whether it had work of `revision` at its last word, or within `window` before.
    pub(super) fn carried(&self, revision: &RevisionId, window: Duration) -> bool {
        !self.complete
            || self.entries.get(revision).is_some_and(|entry| {
                entry.load() > 0 || entry.active_until + window.as_secs() > self.tick && entry.active_until > 0
            })
    }

    pub(super) fn silent(&self, now: Timestamp) -> bool {
        now.since(self.heard) > SILENT_AFTER
    }

    pub(super) const fn heard(&self) -> Timestamp {
        self.heard
    }

    pub(super) const fn leaving(&self) -> bool {
        self.leaving
    }

    pub(super) const fn draining(&self) -> bool {
        self.draining
    }

    pub(super) const fn sharing(&self) -> Option<u64> {
        self.sharing
    }

    /// Replicas that it holds for others.
    pub(super) fn held(&self) -> impl Iterator<Item = (&RevisionId, &[EndpointId])> {
        self.holding.iter().filter_map(|id| Some((id, self.entries.get(id)?.held.as_slice())))
    }

    pub(super) fn delivered(&self) -> Option<u64> {
        self.baseline.map(|baseline| baseline.second)
    }

    pub(super) const fn covered_from(&self) -> u64 {
        self.covered_from
    }

    /// The latest reading that was not believed, once.
    pub(super) const fn take_doubt(&mut self) -> Option<Doubt> {
        self.doubt.take()
    }

    pub(super) const fn wants_resync(&self) -> bool {
        !self.complete || self.unknown_names
    }

    pub(super) fn forget(&mut self, revision: &RevisionId) {
        self.busy.remove(revision);
        self.holding.remove(revision);
        if let Some(entry) = self.entries.get_mut(revision) {
            // The counters stay: the name may come back within this life.
            entry.ledger.forget();
            *entry = Entry { ledger: entry.ledger, ..Entry::default() };
        }
    }
}

#[expect(clippy::cast_possible_wrap, reason = "292 billion years")]
const fn signed(count: u64) -> i64 {
    count as i64
}
