//! Problems of one object, collected.

use domain::{Problem, Severity};

/// The problems of the object at one place.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) place: String,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    pub(super) const fn new(place: String) -> Self {
        Self { place, problems: Vec::new() }
    }

    /// A value was refused.
    pub(super) fn error(&mut self, key: &str, what: String, expected: &str, consequence: &str) {
        self.push(Severity::Error, key, what, expected, consequence);
    }

    /// Something asked for is not done.
    pub(super) fn warning(&mut self, key: &str, what: String, expected: &str, consequence: &str) {
        self.push(Severity::Warning, key, what, expected, consequence);
    }

    /// Worth knowing.
    pub(super) fn notice(&mut self, key: &str, what: String, expected: &str, consequence: &str) {
        self.push(Severity::Notice, key, what, expected, consequence);
    }

    fn push(&mut self, severity: Severity, key: &str, what: String, expected: &str, consequence: &str) {
        self.problems.push(Problem {
            severity,
            place: self.place.clone(),
            key: key.into(),
            what,
            expected: expected.into(),
            consequence: consequence.into(),
        });
    }
}
