//! Averages over the last seconds, exactly as Knative computes them (knative-behaviour 5.1).
//!
//! Invariant: one bucket a second; values of the same second add up; the running total is the sum of the buckets.

use domain::{Aggregation, ScalingSpec, Signal};
use std::time::Duration;

#[cfg(test)]
pub(crate) mod naive;
#[cfg(test)]
mod tests;

/// What one reporter measured in one second. There is exactly one per reporter and second; conformance with Knative
/// begins here (kpa-behaviour 5.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The second, on the autoscaler's clock.
    pub second: u64,
    /// Average requests in flight during it, waiting ones included.
    pub concurrency: f64,
    /// Requests that arrived in it.
    pub requests: f64,
}

/// The smallest share of the newest second in a weighted average.
const EXPONENT_MIN: f64 = 0.2;
/// The share of a weighted average that its window covers.
const WEIGHT_PRECISION: f64 = 0.9999;
/// Decimal digits of a linear average.
const PRECISION: f64 = 1e6;

/// A ring of one-second buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    buckets: Vec<f64>,
    first: Option<i64>,
    last: Option<i64>,
    total: f64,
    aggregation: Aggregation,
}

/// Seconds as the ring counts them: signed, because a window reaches back behind the clock's start.
#[expect(clippy::cast_possible_wrap, reason = "292 billion years")]
const fn signed(second: u64) -> i64 {
    second as i64
}

fn rounded(average: f64) -> f64 {
    (average * PRECISION).round() / PRECISION
}

#[expect(clippy::cast_precision_loss, reason = "at most 3600 buckets")]
const fn float(count: i64) -> f64 {
    count as f64
}

impl Window {
    /// An empty ring over `span`, rounded up to whole seconds, at least one.
    #[must_use]
    pub fn new(span: Duration, aggregation: Aggregation) -> Self {
        Self { buckets: vec![0.0; Self::seconds(span)], first: None, last: None, total: 0.0, aggregation }
    }

    fn seconds(span: Duration) -> usize {
        let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
        usize::try_from(whole.max(1)).unwrap_or(usize::MAX)
    }

    #[expect(clippy::cast_possible_wrap, reason = "a ring has at most 3600 buckets")]
    const fn len(&self) -> i64 {
        self.buckets.len() as i64
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder is within the ring")]
    const fn index(&self, second: i64) -> usize {
        second.rem_euclid(self.len()) as usize
    }

    /// The newest second written.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "written seconds come from unsigned ones")]
    pub fn newest(&self) -> Option<u64> {
        self.last.map(|last| last as u64)
    }

    /// Adds `value` to `second`. A second that left the window is dropped.
    pub fn record(&mut self, second: u64, value: f64) {
        let second = signed(second);
        if self.last != Some(second) {
            if self.last.is_some_and(|last| second + self.len() <= last) {
                return;
            }
            if self.first.is_none_or(|first| first > second) {
                self.first = Some(second);
            }
            match self.last {
                Some(last) if second < last => {}
                Some(last) if second - last < self.len() => {
                    for skipped in last + 1..=second {
                        let index = self.index(skipped);
                        self.total -= self.buckets[index];
                        self.buckets[index] = 0.0;
                    }
                    self.last = Some(second);
                }
                Some(_) | None => {
                    self.buckets.fill(0.0);
                    self.total = 0.0;
                    self.first = Some(second);
                    self.last = Some(second);
                }
            }
        }
        let index = self.index(second);
        self.buckets[index] += value;
        self.total += value;
    }

    /// Records zeros up to `second`: time passed, and every reporter has said that nothing happened.
    pub fn advance(&mut self, second: u64) {
        let from = self.last.map_or_else(|| signed(second), |last| (last + 1).max(signed(second) - self.len()));
        for quiet in from..=signed(second) {
            self.record(quiet.unsigned_abs(), 0.0);
        }
    }

    /// The largest second of the window that ends at `now`.
    #[must_use]
    pub fn most(&self, now: u64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let first = last.max(signed(now)) - self.len() + 1;
        (first..=last).map(|second| self.buckets[self.index(second)]).fold(0.0, f64::max)
    }

    /// Whether nothing was written for longer than the window.
    #[must_use]
    pub fn is_empty(&self, now: u64) -> bool {
        self.last.is_none_or(|last| signed(now) - last > self.len())
    }

    /// The average at `now`.
    #[must_use]
    pub fn average(&self, now: u64) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else { return 0.0 };
        let behind = signed(now) - last;
        match self.aggregation {
            Aggregation::Linear => self.linear(first, last, behind),
            Aggregation::WeightedExponential => self.weighted(last, behind),
        }
    }

    /// Leading partial windows divide by the seconds seen, trailing silence shrinks the window, gaps count as zeros.
    fn linear(&self, first: i64, last: i64, behind: i64) -> f64 {
        let seen = last - first + 1;
        if behind <= 0 {
            rounded(self.total / float(seen.min(self.len())))
        } else if behind < self.len() {
            let outdated = (last + 1..=last + behind).map(|second| self.buckets[self.index(second)]);
            let total = outdated.fold(self.total, |total, bucket| total - bucket);
            rounded(total / float(seen.min(self.len() - behind)))
        } else {
            0.0
        }
    }

    /// Not normalised and not rounded, as in Knative: the first second of a steady load reads low.
    fn weighted(&self, last: i64, behind: i64) -> f64 {
        if behind > self.len() {
            return 0.0;
        }
        let smoothing = self.smoothing();
        let quiet = behind.max(0);
        let mut weight = if quiet > 0 { smoothing * (1.0 - smoothing).powf(float(quiet)) } else { smoothing };
        let mut average = 0.0;
        for age in 0..self.len() - quiet {
            average += self.buckets[self.index(last - age)] * weight;
            weight *= 1.0 - smoothing;
        }
        average
    }

    /// The weight of the newest second.
    fn smoothing(&self) -> f64 {
        (1.0 - (1.0 - WEIGHT_PRECISION).powf(1.0 / float(self.len()))).max(EXPONENT_MIN)
    }

    /// Changes the span. The newest seconds are kept and the old window is taken to have been full, unless nothing was
    /// written for longer than it: then everything is forgotten.
    pub fn resize(&mut self, span: Duration, now: u64) {
        let seconds = Self::seconds(span);
        if seconds == self.buckets.len() {
            return;
        }
        let empty = self.is_empty(now);
        let old = std::mem::replace(&mut self.buckets, vec![0.0; seconds]);
        self.total = 0.0;
        let Some(last) = self.last.filter(|_| !empty) else {
            self.first = None;
            return;
        };
        let old_len = i64::try_from(old.len()).unwrap_or(i64::MAX);
        for second in (last - old_len.min(self.len()) + 1..=last).rev() {
            let value = old[usize::try_from(second.rem_euclid(old_len)).unwrap_or(0)];
            let index = self.index(second);
            self.buckets[index] = value;
            self.total += value;
        }
        self.first = Some(last - old_len + 1);
    }
}

/// The stable and the panic ring of one quantity.
#[derive(Debug, Clone, PartialEq)]
struct Pair {
    stable: Window,
    panic: Window,
}

impl Pair {
    fn record(&mut self, second: u64, value: f64) {
        self.stable.record(second, value);
        self.panic.record(second, value);
    }
}

/// Everything collected of one revision (knative-behaviour 5.2): totals, not per replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    concurrency: Pair,
    requests: Pair,
}

/// The averages of one signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Over the stable window.
    pub stable: f64,
    /// Over the panic window.
    pub panic: f64,
}

impl Collection {
    /// Empty rings. The way of averaging is fixed here, as in Knative.
    #[must_use]
    pub fn new(spec: &ScalingSpec) -> Self {
        let pair = || Pair {
            stable: Window::new(*spec.stable_window, *spec.aggregation),
            panic: Window::new(spec.panic_window(), *spec.aggregation),
        };
        Self { concurrency: pair(), requests: pair() }
    }

    /// Takes in one sample.
    pub fn record(&mut self, sample: Sample) {
        self.concurrency.record(sample.second, sample.concurrency);
        self.requests.record(sample.second, sample.requests);
    }

    /// Records zeros up to `second`.
    pub fn advance(&mut self, second: u64) {
        for pair in [&mut self.concurrency, &mut self.requests] {
            pair.stable.advance(second);
            pair.panic.advance(second);
        }
    }

    /// Follows changed settings.
    pub fn resize(&mut self, spec: &ScalingSpec, now: u64) {
        for pair in [&mut self.concurrency, &mut self.requests] {
            pair.stable.resize(*spec.stable_window, now);
            pair.panic.resize(spec.panic_window(), now);
        }
    }

    /// The newest second written.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.concurrency.stable.newest()
    }

    /// Requests in flight in the busiest second of the panic window that ends at `now`.
    #[must_use]
    pub fn busiest(&self, now: u64) -> f64 {
        self.concurrency.panic.most(now)
    }

    /// Whether nothing was written for longer than the stable window.
    #[must_use]
    pub fn is_empty(&self, now: u64) -> bool {
        self.concurrency.stable.is_empty(now)
    }

    /// The averages of `signal` at `now`; `None` for what activators cannot measure. An empty ring is a valid zero,
    /// because the activator is always in the path (knative-behaviour 5.2).
    #[must_use]
    pub fn reading(&self, signal: Signal, now: u64) -> Option<Reading> {
        let pair = match signal {
            Signal::Concurrency => &self.concurrency,
            Signal::Rps => &self.requests,
            Signal::Cpu | Signal::Memory => return None,
        };
        Some(Reading { stable: pair.stable.average(now), panic: pair.panic.average(now) })
    }
}
