//! What the reporter keeps for one revision.
//!
//! Invariant: readings never go back within a boot, also when a revision is removed and comes back with new counters.

use crate::revisions::Handle;
use activator_core::Area;
use domain::{Row, Timestamp};
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// What is kept for one revision.
#[derive(Default)]
pub(super) struct Entry {
    /// What was told last.
    pub(super) told: Row,
    /// When the next urgent frame may name it.
    pub(super) urgent_after: Option<Instant>,
    /// Whose counters these are.
    handle: Weak<Handle>,
    areas: Vec<Area>,
    /// Area and requests that earlier incarnations counted.
    before: (u64, u64),
    /// Area and requests as they were read last.
    last: (u64, u64),
}

impl Entry {
    /// Area in request-milliseconds, requests that arrived, and requests now, over all workers and incarnations.
    pub(super) fn read(&mut self, handle: &Arc<Handle>, now: Timestamp) -> (u64, u64, u32) {
        if !std::ptr::eq(self.handle.as_ptr(), Arc::as_ptr(handle)) {
            let (handle, before) = (Arc::downgrade(handle), self.last);
            *self = Self { handle, before, last: before, ..Self::default() };
        }
        let counters = handle.counters();
        self.areas.resize_with(counters.len(), Area::default);
        let ((mut area, mut requests), mut load) = (self.before, 0);
        for (counters, widened) in counters.iter().zip(&mut self.areas) {
            // Before the meter: an arrival that is missed here has its time in the next reading, where it is counted.
            requests += counters.requests.load(Acquire);
            let reading = counters.meter.read(now);
            area += widened.widen(reading);
            load += reading.in_flight;
        }
        self.last = (area, requests);
        (area, requests, load)
    }
}
