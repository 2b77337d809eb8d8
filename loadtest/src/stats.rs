//! What a run saw: latencies, statuses, errors by kind.
//!
//! Invariant: every request that was started is recorded exactly once, as an answer or as an error.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Longest latency that is told apart from longer ones.
const LONGEST_NANOS: u64 = 3_600_000_000_000;

/// Latencies with three significant digits, from 1 µs to an hour.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// Nothing recorded.
    ///
    /// # Panics
    ///
    /// Never: the bounds are constants that the histogram accepts.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1000, LONGEST_NANOS, 3).expect("constant bounds"))
    }

    /// One more latency.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NANOS));
    }

    /// Those of `other` as well.
    pub fn merge(&mut self, other: &Self) {
        // Fails only on another range of values, and there is one constructor.
        let _ = self.0.add(&other.0);
    }

    /// How many were recorded.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The percentiles that are printed, in milliseconds; zeros when nothing was recorded.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| nanos_to_millis(self.0.value_at_quantile(quantile));
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: nanos_to_millis(self.0.max()) }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

fn nanos_to_millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50:.2} ms  p90 {p90:.2} ms  p99 {p99:.2} ms  p99.9 {p999:.2} ms  max {max:.2} ms")
    }
}

/// Why a request got no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// No connection was made.
    Connect,
    /// The connection ended before a response head.
    NoResponse,
    /// The response body broke off.
    CutBody,
    /// The event stream ended without `data: [DONE]`.
    CutStream,
    /// No whole answer within the time for one request.
    Timeout,
    /// Not sent: the bound of requests in flight was reached at its intended time.
    NotSent,
}

impl ErrorKind {
    /// The words of the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "could not connect",
            Self::NoResponse => "closed before a response",
            Self::CutBody => "body broke off",
            Self::CutStream => "stream without [DONE]",
            Self::Timeout => "timed out",
            Self::NotSent => "not sent, too many in flight",
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// From the intended start to the response head.
    pub first_byte: Duration,
    /// From the intended start to the end of the body.
    pub latency: Duration,
    /// It carried `x-kpa-cold: true`: it waited for a replica to start.
    pub cold: bool,
}

/// Counts of a run.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    latencies: Latencies,
    first_bytes: Latencies,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<ErrorKind, u64>,
    cold: u64,
}

impl Recorder {
    /// One request is over.
    pub fn record(&mut self, outcome: Result<Answer, ErrorKind>) {
        match outcome {
            Ok(answer) => {
                self.latencies.record(answer.latency);
                self.first_bytes.record(answer.first_byte);
                *self.statuses.entry(answer.status).or_default() += 1;
                self.cold += u64::from(answer.cold);
            }
            Err(kind) => *self.errors.entry(kind).or_default() += 1,
        }
    }

    /// What is printed after `elapsed`; an answer with another status than `expected` is a failure.
    #[must_use]
    pub fn summary(&self, elapsed: Duration, expected: u16) -> Summary {
        let errors: u64 = self.errors.values().sum();
        let answers: u64 = self.statuses.values().sum();
        let ok = self.statuses.get(&expected).copied().unwrap_or(0);
        Summary {
            requests: answers + errors,
            ok,
            failed: answers + errors - ok,
            statuses: self.statuses.clone(),
            errors: self.errors.clone(),
            cold: self.cold,
            elapsed_seconds: elapsed.as_secs_f64(),
            latency_ms: self.latencies.percentiles(),
            first_byte_ms: self.first_bytes.percentiles(),
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Requests that were started, or should have been.
    pub requests: u64,
    /// Answers with the expected status.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by kind.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Answers that say they waited for a cold start.
    pub cold: u64,
    /// From the first start to the last end.
    pub elapsed_seconds: f64,
    /// Of whole answers.
    pub latency_ms: Percentiles,
    /// Of whole answers.
    pub first_byte_ms: Percentiles,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = if self.elapsed_seconds > 0.0 { self.requests as f64 / self.elapsed_seconds } else { 0.0 };
        writeln!(f, "requests    {} in {:.2} s ({rate:.1}/s)", self.requests, self.elapsed_seconds)?;
        writeln!(f, "ok          {}", self.ok)?;
        writeln!(f, "failed      {}", self.failed)?;
        for (status, count) in &self.statuses {
            writeln!(f, "  status {status}  {count}")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  {}  {count}", kind.as_str())?;
        }
        if self.cold > 0 {
            writeln!(f, "cold        {}", self.cold)?;
        }
        writeln!(f, "first byte  {}", self.first_byte_ms)?;
        write!(f, "latency     {}", self.latency_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        let Percentiles { p50, p90, p99, p999, max } = latencies.percentiles();
        for (got, wanted) in [(p50, 500.0), (p90, 900.0), (p99, 990.0), (p999, 999.0), (max, 1000.0)] {
            assert!((got - wanted).abs() <= wanted / 1000.0 + 0.001, "{got} for {wanted}");
        }
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut recorder = Recorder::default();
        let answer = |status| {
            let latency = Duration::from_millis(2);
            Ok(Answer { status, first_byte: Duration::from_millis(1), latency, cold: status == 200 })
        };
        for outcome in [answer(200), answer(200), answer(503), Err(ErrorKind::Connect), Err(ErrorKind::CutStream)] {
            recorder.record(outcome);
        }
        let summary = recorder.summary(Duration::from_secs(1), 200);
        assert_eq!((summary.requests, summary.ok, summary.failed, summary.cold), (5, 2, 3, 2));
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["statuses"]["200"], 2);
        assert_eq!(json["errors"]["cutStream"], 1);
    }
}
