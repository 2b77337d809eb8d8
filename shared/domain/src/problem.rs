//! What is wrong with an input, said so that it can be mended: what, where, what would be right, what happens now.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a [`Problem`] weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Worth knowing; nothing is lost by it.
    Notice,
    /// Something asked for is not done.
    Warning,
    /// A value was refused.
    Error,
}

/// One thing wrong with an annotation, a config key or a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How much it weighs.
    pub severity: Severity,
    /// The object or file, with the line where known (`app.yaml:12 Deployment default/app`).
    pub place: String,
    /// The key or path inside it (`metadata.annotations["autoscaling.knative.dev/min-scale"]`).
    pub key: String,
    /// What is wrong, with the value (`"two" is not a whole number`).
    pub what: String,
    /// What would be right (`a whole number from 0 to 2147483647, such as "2"`).
    pub expected: String,
    /// What happens now (`the last good value 3 stays in force`).
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.key, self.what)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        if !self.consequence.is_empty() {
            write!(f, "; {}", self.consequence)?;
        }
        Ok(())
    }
}
