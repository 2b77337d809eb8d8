//! A figure and what it may be at most.

use serde::Serialize;
use std::fmt;

/// In which unit a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Unit {
    Mib,
    Kib,
    Number,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: Unit,
    at_most: Option<u64>,
    at_least: Option<u64>,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, at_most: None, at_least: None }
    }

    /// So many bytes, told in MiB.
    pub(super) fn mib(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, to_mib(bytes), Unit::Mib)
    }

    /// So many bytes, told in KiB.
    pub(super) fn kib(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, bytes as f64 / 1024.0, Unit::Kib)
    }

    /// A count.
    pub(super) fn number(name: impl Into<String>, value: u64) -> Self {
        Self::new(name, value as f64, Unit::Number)
    }

    /// It is to be `limit` at most, in its own unit.
    pub(super) fn at_most(mut self, limit: u64) -> Self {
        self.at_most = Some(limit);
        self
    }

    /// It is to be `limit` at least.
    pub(super) fn at_least(mut self, limit: u64) -> Self {
        self.at_least = Some(limit);
        self
    }

    /// Whether it is what it is to be.
    pub(super) fn kept(&self) -> bool {
        self.at_most.is_none_or(|limit| self.value <= limit as f64)
            && self.at_least.is_none_or(|limit| self.value >= limit as f64)
    }
}

/// Bytes in MiB.
pub(super) fn to_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1024 * 1024)
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, at_most, at_least } = self;
        write!(f, "{name:<58}")?;
        match unit {
            Unit::Mib => write!(f, "{value:>9.1} MiB")?,
            Unit::Kib => write!(f, "{value:>9.1} KiB")?,
            Unit::Number => write!(f, "{value:>9.0}    ")?,
        }
        let verdict = if self.kept() { "ok" } else { "TOO MUCH" };
        match (at_most, at_least) {
            (Some(limit), _) => write!(f, "  at most {limit}: {verdict}"),
            (None, Some(limit)) => write!(f, "  at least {limit}: {}", if self.kept() { "ok" } else { "TOO FEW" }),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_in_its_own_unit() {
        let figure = Figure::kib("each", 25 * 1024);
        assert!(figure.kept() && figure.clone().at_most(25).kept() && !figure.clone().at_most(24).kept());
        assert!(figure.at_most(24).to_string().ends_with("25.0 KiB  at most 24: TOO MUCH"));
        assert!(!Figure::number("answered", 9).at_least(10).kept());
        assert!((to_mib(3 << 20) - 3.0).abs() < 1e-9);
    }
}
