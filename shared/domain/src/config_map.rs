//! Reading the data of a ConfigMap of ours by its table of keys.
//!
//! Invariant: every key that is wrong or unknown is told, all at once.

use crate::annotations::keys::KeyDoc;
use crate::annotations::kind::{Kind, Refused, quoted};
use crate::origin::{Origin, Resolved};
use crate::problem::{Problem, Severity};
use std::collections::BTreeMap;

/// What Knative's own ConfigMaps keep their documentation under; never read.
const EXAMPLE_KEY: &str = "_example";

/// A map being read.
pub(crate) struct Map<'a> {
    /// Its name.
    pub(crate) name: &'static str,
    /// Every key it may have.
    pub(crate) keys: &'static [KeyDoc],
    /// What happens now when a value is wrong.
    pub(crate) consequence: &'static str,
    /// Where it stands.
    pub(crate) place: &'a str,
    /// What it holds.
    pub(crate) data: &'a BTreeMap<String, String>,
    /// What was found wrong.
    pub(crate) problems: Vec<Problem>,
}

impl Map<'_> {
    /// The value of a key, else `default`.
    pub(crate) fn read<T>(
        &mut self,
        row: &KeyDoc,
        parse: impl FnOnce(&Kind, &str) -> Result<T, Refused>,
        default: Resolved<T>,
    ) -> Resolved<T> {
        let Some(text) = self.data.get(row.key) else { return default };
        // Knative trims texts and nothing else.
        match parse(&row.kind, text) {
            Ok(value) => Resolved::new(value, Origin::ClusterConfig),
            Err(Refused(what)) => {
                self.refuse(row, &what, &row.kind.to_string());
                default
            }
        }
    }

    /// Records that the value of `row` is wrong.
    pub(crate) fn refuse(&mut self, row: &KeyDoc, what: &str, expected: &str) {
        self.problems.push(Problem {
            severity: Severity::Error,
            place: self.place.into(),
            key: format!("data[{:?}]", row.key),
            what: what.into(),
            expected: expected.into(),
            consequence: self.consequence.into(),
        });
    }

    /// Knative ignores unknown keys in silence, so that a typing error looks like a default.
    pub(crate) fn unknown_keys(&mut self) {
        for key in self.data.keys() {
            if key == EXAMPLE_KEY || self.keys.iter().any(|row| row.key == key) {
                continue;
            }
            let known = self.keys.iter().map(|row| row.key);
            self.problems.push(Problem {
                severity: Severity::Warning,
                place: self.place.into(),
                key: format!("data[{}]", quoted(key)),
                what: format!("is not a key of {}", self.name),
                expected: crate::annotations::did_you_mean(key, known).unwrap_or_default(),
                consequence: "it is ignored".into(),
            });
        }
    }

    /// Whether a value is wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}
