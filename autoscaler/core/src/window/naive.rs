//! The window from its description alone: a plain list of samples, every question answered by walking it.

use std::collections::BTreeMap;

/// What was recorded, second by second, with nothing incremental.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naive {
    pub(crate) length: i64,
    values: BTreeMap<i64, f64>,
    first: Option<i64>,
    last: Option<i64>,
}

impl Naive {
    pub(crate) fn new(length: i64) -> Self {
        Self { length, ..Self::default() }
    }

    pub(crate) fn record(&mut self, second: i64, value: f64) {
        let last = self.last.unwrap_or(i64::MIN / 2);
        if second != last && second + self.length <= last {
            return;
        }
        let fresh = second > last && second - last >= self.length;
        if fresh {
            self.values.clear();
        }
        self.first = Some(if fresh { second } else { self.first.map_or(second, |first| first.min(second)) });
        self.last = Some(last.max(second));
        *self.values.entry(second).or_default() += value;
    }

    /// The values of the window that ends with the newest second, without those that are outdated at `now`.
    fn visible(&self, now: i64) -> impl Iterator<Item = (i64, f64)> {
        let last = self.last.unwrap_or_default();
        let from = last.max(now) - self.length;
        self.values.iter().map(|(second, value)| (*second, *value)).filter(move |(second, _)| *second > from)
    }

    pub(crate) fn most(&self, now: i64) -> f64 {
        self.visible(now).map(|(_, value)| value).fold(0.0, f64::max)
    }

    pub(crate) fn linear(&self, now: i64) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.last) else { return 0.0 };
        let silent = (now - last).max(0);
        if silent >= self.length {
            return 0.0;
        }
        let sum: f64 = self.visible(now).map(|(_, value)| value).sum();
        let divisor = (last - first + 1).min(self.length - silent);
        (sum / divisor as f64 * 1e6).round() / 1e6
    }

    pub(crate) fn weighted(&self, now: i64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        if now - last > self.length {
            return 0.0;
        }
        let coefficient = (1.0 - (0.0001_f64).powf(1.0 / self.length as f64)).max(0.2);
        let newest = now.max(last);
        self.visible(now)
            .map(|(second, value)| value * coefficient * (1.0 - coefficient).powi((newest - second) as i32))
            .sum()
    }
}
