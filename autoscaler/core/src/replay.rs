//! The decisions that given samples lead to, tick by tick: equality with Knative can be checked from outside.
//!
//! Invariant: the same windows and the same decision as the running program, without frames, idleness or platform. The
//! format is documented in docs/replay.md.

use crate::decide::{Memory, Observation, decide};
use crate::delay::DelayWindow;
use crate::window::{Collection, Sample};
use domain::why::{Idleness, Trigger};
use domain::{Replicas, ScalingSpec, Signal, Timestamp, Why};
use serde::{Deserialize, Serialize};

/// Seconds between two ticks.
const TICK: u64 = 2;

/// One line in: what was measured in one second, and how many replicas were ready at its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleLine {
    /// The second.
    pub t: u64,
    /// Average requests in flight during it.
    #[serde(default)]
    pub concurrency: f64,
    /// Requests that arrived in it.
    #[serde(default)]
    pub requests: f64,
    /// Replicas that are ready.
    #[serde(default)]
    pub ready: Replicas,
}

/// One line out: the decision of one tick.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TickLine {
    /// When.
    pub t: u64,
    /// Average over the stable window, of the signal that asks for most.
    pub stable: Option<f64>,
    /// Average over the panic window, of the signal that asks for most.
    pub panic: Option<f64>,
    /// Replicas that are ready.
    pub ready: Replicas,
    /// What Knative's decider publishes (knative-behaviour 6.9); `null` without a reading.
    pub desired: Option<Replicas>,
    /// The same within the bounds (knative-behaviour 8.2).
    pub bounded: Replicas,
    /// `stable` or `panic`.
    pub mode: ReplayMode,
    /// Every step with its numbers.
    pub why: Why,
}

/// Which window the decision followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayMode {
    /// The stable one.
    Stable,
    /// The panic one: nothing falls.
    Panic,
}

/// The decisions that `lines` lead to. The decider is created at the first line, with its ready count, and ticks every
/// 2 s from then on, after the line of that second; the last tick is not after the last line.
pub fn replay(spec: &ScalingSpec, lines: impl Iterator<Item = SampleLine>) -> impl Iterator<Item = TickLine> {
    let mut lines = lines.peekable();
    let mut decider: Option<Decider<'_>> = None;
    std::iter::from_fn(move || {
        loop {
            let next = lines.peek().copied();
            if let Some(decider) = &mut decider
                && next.map_or(decider.next <= decider.newest, |line| line.t > decider.next)
            {
                return Some(decider.tick());
            }
            let line = next?;
            lines.next();
            decider.get_or_insert_with(|| Decider::new(spec, &line)).record(&line);
        }
    })
}

struct Decider<'a> {
    spec: &'a ScalingSpec,
    rings: Collection,
    delay: Option<DelayWindow>,
    memory: Memory,
    ready: Replicas,
    initialised: bool,
    /// The next tick.
    next: u64,
    /// The newest line.
    newest: u64,
}

impl<'a> Decider<'a> {
    fn new(spec: &'a ScalingSpec, first: &SampleLine) -> Self {
        Self {
            spec,
            rings: Collection::new(spec),
            delay: DelayWindow::new(*spec.scale_down_delay),
            memory: Memory::at_creation(Timestamp::from_secs(first.t), first.ready),
            ready: first.ready,
            initialised: false,
            next: first.t + TICK,
            newest: first.t,
        }
    }

    fn record(&mut self, line: &SampleLine) {
        self.rings.record(Sample { second: line.t, concurrency: line.concurrency, requests: line.requests });
        if line.t >= self.newest {
            (self.newest, self.ready) = (line.t, line.ready);
        }
        self.initialised |= self.ready >= self.spec.initial_scale.max(*self.spec.min_scale);
    }

    fn tick(&mut self) -> TickLine {
        let t = self.next;
        let now = Timestamp::from_secs(t);
        let seen = Observation {
            // One revision alone: whom it shared slots with is not in its samples.
            at_most: None,
            trigger: Trigger::Tick,
            ready: self.ready,
            requested: self.ready,
            concurrency: self.rings.reading(Signal::Concurrency, t),
            rps: self.rings.reading(Signal::Rps, t),
            delay: self.delay.as_ref().and_then(|delay| delay.floor(now)),
            initialised: self.initialised,
            idleness: Idleness::Spent,
            backlog: None,
            hold: None,
        };
        let decision = decide(now, self.spec, &self.memory, &seen);
        self.memory = decision.after;
        if let (Some(delay), Some(undelayed)) = (&mut self.delay, decision.undelayed) {
            delay.record(now, undelayed);
        }
        self.next += TICK;
        let why = decision.why;
        TickLine {
            t,
            stable: why.demand.map(|demand| demand.stable.reading),
            panic: why.demand.map(|demand| demand.panic.reading),
            ready: self.ready,
            desired: why.desired,
            bounded: decision.replicas,
            mode: if why.panic.panicking() { ReplayMode::Panic } else { ReplayMode::Stable },
            why,
        }
    }
}

#[cfg(test)]
mod tests;
