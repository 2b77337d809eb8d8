//! What cannot wait for the next tick: urgent frames and their trailing edge (kpa-behaviour 7.1).
//!
//! Invariants: a revision is urgent at most once in [`URGENT_PAUSE`]; a load that was caught growing is looked at again
//! after each pause until it has stopped, and then nothing is looked at until somebody raises an alarm; what an autoscaler
//! misses while a frame is on its way to it goes with the next frame to it, and to nobody else again.

use super::book::{Kind, is_urgent, next_alarm};
use super::{Reporter, Target};
use crate::revisions::Handle;
use domain::{ReporterId, RevisionId, Row, Signal};
use runtime::net::Connect;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// Between two urgent frames about the same revision.
pub const URGENT_PAUSE: Duration = Duration::from_millis(50);

/// Why a revision is looked at when its pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It was urgent: the newest reading is told in any case.
    Tell,
    /// It was told: it is told again if it has grown since.
    Grown,
}

impl Target {
    fn is_owed(&self, id: &RevisionId) -> bool {
        self.urgent.is_some() && self.owed.contains(id)
    }
}

impl<C: Connect + Clone> Reporter<C> {
    /// Sets the workers' alarms to the next load that matters after what was `told`, now that the load is `load`. Each
    /// worker gets an equal share of what is left to it, so the sum cannot get there without one of them noticing.
    pub(super) fn set_alarms(&self, handle: &Handle, told: &Row, load: u32) {
        let left = next_alarm(told, threshold(handle)).saturating_sub(load);
        let share = (left / u32::try_from(self.workers).unwrap_or(u32::MAX)).max(1);
        for counters in handle.counters() {
            counters.alarm_at.store(counters.meter.in_flight().saturating_add(share), Relaxed);
        }
    }

    pub(super) fn raised(&mut self, ids: &[RevisionId]) {
        for id in ids {
            let Some(handle) = self.revisions.get(id) else { continue };
            handle.lower();
            let row = self.read(&handle);
            let told = self.entries.get(id).map(|entry| entry.told.clone()).unwrap_or_default();
            if is_urgent(&told, &row, threshold(&handle)) {
                self.looks.insert(id.clone(), Look::Tell);
            } else {
                self.set_alarms(&handle, &told, row.load());
            }
        }
        self.send_urgent();
    }

    /// When the next urgent frame may leave.
    pub(super) fn next_urgent(&self) -> Option<Instant> {
        let after = |id| self.entries.get(id).and_then(|entry| entry.urgent_after);
        self.looks.keys().map(|id| after(id).unwrap_or(self.booted)).min()
    }

    pub(super) fn send_urgent(&mut self) {
        let now = Instant::now();
        let is_due = |id: &RevisionId| {
            self.entries.get(id).and_then(|entry| entry.urgent_after).is_none_or(|after| after <= now)
        };
        let due: Vec<RevisionId> = self.looks.keys().filter(|id| is_due(id)).cloned().collect();
        let mut rows = Vec::with_capacity(due.len());
        for id in due {
            let look = self.looks.remove(&id);
            let Some(handle) = self.revisions.get(&id) else {
                for target in self.targets.values_mut() {
                    target.owed.remove(&id);
                }
                continue;
            };
            let row = self.read(&handle);
            let told = self.entries.get(&id).map_or(0, |entry| entry.told.load());
            if look == Some(Look::Tell) || row.load() > told {
                self.told(&handle, &row);
                for target in self.targets.values_mut() {
                    target.owed.insert(id.clone());
                }
                self.looks.insert(id.clone(), Look::Grown);
            } else if !self.targets.values().any(|target| target.is_owed(&id)) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.urgent_after = Some(now + URGENT_PAUSE);
            }
            rows.push((id, row));
        }
        self.send_owed(now, &rows);
    }

    /// Sends to everybody what it is owed of `rows`, except where a frame is on its way already.
    fn send_owed(&mut self, now: Instant, rows: &[(RevisionId, Row)]) {
        let mut frames: Vec<(ReporterId, Vec<Row>)> = Vec::new();
        for (to, target) in &mut self.targets {
            let owed = rows.iter().filter(|(id, _)| target.urgent.is_some() && target.owed.remove(id));
            frames.push((to.clone(), owed.map(|(_, row)| row.clone()).collect()));
        }
        for (to, rows) in frames.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            self.post(now, &to, &rows, Kind::Urgent);
        }
    }

    /// An urgent frame to `to` is over: what `to` has missed meanwhile goes with the next one.
    pub(super) fn catch_up(&mut self, to: &ReporterId) {
        for id in self.targets.get(to).iter().flat_map(|target| &target.owed) {
            self.looks.entry(id.clone()).or_insert(Look::Grown);
        }
    }
}

/// The load at which panic would begin: threshold × target × ready replicas.
fn threshold(handle: &Handle) -> f64 {
    let revision = handle.revision();
    let target = revision
        .scaling
        .signals
        .iter()
        .find(|signal| signal.signal == Signal::Concurrency)
        .map_or(f64::INFINITY, domain::SignalSpec::target);
    let ready = handle.gate.endpoints().iter().filter(|(_, usable)| *usable).count().max(1);
    revision.scaling.panic_threshold() * target * f64::from(u32::try_from(ready).unwrap_or(u32::MAX))
}
