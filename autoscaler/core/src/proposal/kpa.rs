//! Knative's decider: readings, rate limits, panic, scale-down delay (knative-behaviour 6.3 to 6.7).
//!
//! Invariant: given the same readings, ready counts and times it gives Knative's counts, bit for bit.

use crate::decide::{Memory, Observation};
use domain::why::{Demand, Demands, PanicStep, SignalSet};
use domain::{Replicas, ScalingSpec, Timestamp};

/// How far one evaluation may go, from the ready replicas (knative-behaviour 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Most.
    pub up: Replicas,
    /// Fewest.
    pub down: Replicas,
}

impl RateLimits {
    /// At least one step is possible either way. With nothing ready the rates count from one.
    #[must_use]
    pub fn new(spec: &ScalingSpec, ready: Replicas) -> Self {
        let ready = ready.max(Replicas::ONE).as_f64();
        Self {
            up: Replicas::ceil(*spec.max_scale_up_rate * ready),
            down: Replicas::ceil((ready / *spec.max_scale_down_rate).floor()),
        }
    }

    /// `min(max(wanted, down), up)`: the upper limit wins.
    #[must_use]
    pub fn clamp(self, wanted: Replicas) -> Replicas {
        wanted.max(self.down).min(self.up)
    }
}

/// The outcome of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Desire {
    /// What the signals ask for; `None` when none has a reading: then nothing else changed either.
    pub demand: Option<Demands>,
    /// Signals without a reading.
    pub unavailable: SignalSet,
    /// The rate limits.
    pub limits: RateLimits,
    /// Demand of the stable window, limited.
    pub stable_want: Replicas,
    /// Demand of the panic window, limited.
    pub panic_want: Replicas,
    /// What happened to the panic state.
    pub panic: PanicStep,
    /// What the delay window is to remember.
    pub undelayed: Replicas,
    /// What Knative would publish.
    pub desired: Replicas,
    /// The state for the next evaluation.
    pub after: Memory,
}

/// Evaluates every signal; the one that asks for most counts.
#[must_use]
pub fn desire(now: Timestamp, spec: &ScalingSpec, before: &Memory, seen: &Observation) -> Desire {
    let limits = RateLimits::new(spec, seen.ready);
    let (demand, unavailable) = demands(spec, seen);
    let Some(Demands { stable, panic }) = demand else {
        return Desire {
            demand,
            unavailable,
            limits,
            stable_want: Replicas::ZERO,
            panic_want: Replicas::ZERO,
            panic: if before.panic_since.is_some() { PanicStep::Continued } else { PanicStep::Calm },
            undelayed: seen.requested,
            desired: seen.requested,
            after: *before,
        };
    };
    // The activation scale comes after the rate limits and may exceed them (6.4).
    let limited = |wanted: Replicas| {
        let want = limits.clamp(wanted);
        spec.activation_scale.filter(|scale| !wanted.is_zero() && *scale > want).unwrap_or(want)
    };
    let stable_want = limited(stable.wanted);
    let panic_want = limited(panic.wanted);

    let over = panic.wanted.as_f64() / seen.ready.max(Replicas::ONE).as_f64() >= spec.panic_threshold();
    let (step, after) = panic_step(now, spec, before, over);
    let (undelayed, after) = if step.panicking() {
        let highest = after.panic_max.max(stable_want.max(panic_want));
        (highest, Memory { panic_max: highest, ..after })
    } else {
        (stable_want, after)
    };
    let desired = seen.delay.map_or(undelayed, |floor| undelayed.max(floor.replicas));
    Desire { demand, unavailable, limits, stable_want, panic_want, panic: step, undelayed, desired, after }
}

/// Entry, extension and exit (6.5). The high-water mark is reset at the exit only, never at the entry.
fn panic_step(now: Timestamp, spec: &ScalingSpec, before: &Memory, over: bool) -> (PanicStep, Memory) {
    match (before.panic_since, over) {
        (None, false) => (PanicStep::Calm, *before),
        (None, true) => (PanicStep::Entered, Memory { panic_since: Some(now), ..*before }),
        (Some(_), true) => (PanicStep::Extended, Memory { panic_since: Some(now), ..*before }),
        (Some(since), false) if since + *spec.stable_window < now => {
            (PanicStep::Left, Memory { panic_since: None, panic_max: Replicas::ZERO })
        }
        (Some(_), false) => (PanicStep::Continued, *before),
    }
}

/// The largest demand of each window, and the signals that have none.
fn demands(spec: &ScalingSpec, seen: &Observation) -> (Option<Demands>, SignalSet) {
    let mut unavailable = SignalSet::default();
    let mut most: Option<Demands> = None;
    for signal in &spec.signals {
        let reading = seen
            .reading(signal.signal)
            .filter(|reading| reading.stable.is_finite() && reading.panic.is_finite() && signal.target().is_finite());
        let Some(reading) = reading else {
            unavailable.insert(signal.signal);
            continue;
        };
        let demand = |reading: f64| Demand {
            signal: signal.signal,
            reading,
            total: *signal.total,
            utilization: *signal.utilization,
            wanted: Replicas::ceil(reading / signal.target()),
        };
        let (stable, panic) = (demand(reading.stable), demand(reading.panic));
        most = Some(match most {
            None => Demands { stable, panic },
            Some(most) => Demands {
                stable: if stable.wanted > most.stable.wanted { stable } else { most.stable },
                panic: if panic.wanted > most.panic.wanted { panic } else { most.panic },
            },
        });
    }
    (most, unavailable)
}
