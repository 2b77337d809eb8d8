//! Looking keys up and refusing values, with the words for both.
//!
//! Invariant: the first existing key decides, on the metadata and then on the pod template; a wrong value is never
//! passed over in favour of a later spelling (kpa-behaviour 1.3, knative-behaviour 2.1).

use super::keys::{KEYS, KNATIVE_PREFIX, KPA_PREFIX, KeyDoc, Served};
use super::kind::{Kind, Refused, quoted};
use super::shown::Shown;
use super::{Annotated, did_you_mean};
use crate::origin::{Origin, Resolved};
use crate::problem::{Problem, Severity};
use std::collections::BTreeMap;

/// What was found under a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading<T> {
    /// Nothing.
    Absent,
    /// A value that is right.
    Good(Resolved<T>),
    /// A value that was refused; the problem is recorded.
    Refused,
}

impl<T> Reading<T> {
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }

    pub(super) fn good(self) -> Option<Resolved<T>> {
        match self {
            Self::Good(value) => Some(value),
            Self::Absent | Self::Refused => None,
        }
    }
}

/// A key as it is written on the object.
#[derive(Debug, Clone, Copy)]
struct Written<'a> {
    name: &'static str,
    text: &'a str,
    origin: Origin,
}

/// An object being read.
pub(super) struct Reader<'a> {
    input: &'a Annotated<'a>,
    /// A last good state of the object is known.
    known: bool,
    /// A value was refused and nothing good is known to put in its place.
    pub(super) lost: bool,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a Annotated<'a>, known: bool) -> Self {
        Self { input, known, lost: false, problems: Vec::new() }
    }

    /// The value of a key, else the last good one if it was refused, else `default`.
    pub(super) fn value<T: Shown>(
        &mut self,
        row: &KeyDoc,
        parse: impl FnOnce(&Kind, &str) -> Result<T, Refused>,
        last_good: Option<&T>,
        default: Resolved<T>,
    ) -> Resolved<T> {
        match self.read(row, parse, last_good.map(Shown::shown)) {
            Reading::Good(value) => value,
            Reading::Absent => default,
            Reading::Refused => last_good.map_or(default, |value| Resolved::new(value.clone(), Origin::LastGood)),
        }
    }

    /// What stands under a key; `last_good` says what takes the place of a refused value.
    pub(super) fn read<T>(
        &mut self,
        row: &KeyDoc,
        parse: impl FnOnce(&Kind, &str) -> Result<T, Refused>,
        last_good: Option<String>,
    ) -> Reading<T> {
        let Some(written) = self.find(row) else { return Reading::Absent };
        match parse(&row.kind, written.text) {
            Ok(value) => Reading::Good(Resolved::new(value, written.origin)),
            Err(Refused(what)) => {
                self.refuse(row, what, row.kind.to_string(), last_good);
                Reading::Refused
            }
        }
    }

    /// Records that the value of `row` is wrong.
    pub(super) fn refuse(&mut self, row: &KeyDoc, what: String, expected: String, last_good: Option<String>) {
        self.lost |= !self.known;
        let consequence = match (self.known, last_good) {
            (true, Some(value)) => format!("the last good value {value} stays in force"),
            (true, None) => "the last good value stays in force".into(),
            (false, _) => "no good value is known: replicas may be woken and added, never removed".into(),
        };
        self.report(Severity::Error, row, what, expected, consequence);
    }

    /// Records something about a key where it is written.
    pub(super) fn report(
        &mut self,
        severity: Severity,
        row: &KeyDoc,
        what: String,
        expected: String,
        consequence: String,
    ) {
        let key = self.find(row).map_or_else(|| row.key.to_owned(), |written| path(written.origin, written.name));
        self.problems.push(Problem { severity, place: self.input.place.into(), key, what, expected, consequence });
    }

    /// Whether the object carries the key in any spelling.
    pub(super) fn has(&self, row: &KeyDoc) -> bool {
        self.find(row).is_some()
    }

    /// Whether the object carries any key of ours.
    pub(super) fn annotated(&self) -> bool {
        self.levels().any(|(_, map)| map.keys().any(|key| ours(key)))
    }

    fn levels(&self) -> impl Iterator<Item = (Origin, &'a BTreeMap<String, String>)> + use<'a> {
        [(Origin::Annotation, self.input.metadata), (Origin::TemplateAnnotation, self.input.template)].into_iter()
    }

    fn find(&self, row: &KeyDoc) -> Option<Written<'a>> {
        self.all(row).next()
    }

    /// Every place where a key is written, in the order of precedence.
    fn all(&self, row: &KeyDoc) -> impl Iterator<Item = Written<'a>> + use<'a> {
        let names: Vec<&'static str> = row.names().collect();
        self.levels().flat_map(move |(origin, map)| {
            names
                .clone()
                .into_iter()
                .filter_map(move |name| map.get(name).map(|text| Written { name, text: text.as_str(), origin }))
        })
    }

    /// Reports keys that are written twice with different values.
    pub(super) fn conflicts(&mut self) {
        for row in KEYS {
            let mut places = self.all(row);
            let Some(first) = places.next() else { continue };
            for other in places.filter(|other| other.text != first.text) {
                let what = format!(
                    "{} disagrees with {} {}",
                    quoted(other.text),
                    path(first.origin, first.name),
                    quoted(first.text)
                );
                let consequence = format!("{} counts", quoted(first.text));
                self.problems.push(Problem {
                    severity: Severity::Warning,
                    place: self.input.place.into(),
                    key: path(other.origin, other.name),
                    what,
                    expected: "one of the two".into(),
                    consequence,
                });
            }
        }
    }

    /// Reports keys under our prefixes that do not exist.
    pub(super) fn unknown_keys(&mut self) {
        for (origin, map) in self.levels() {
            for key in map.keys().filter(|key| ours(key)) {
                if KEYS.iter().any(|row| row.names().any(|name| name == key)) {
                    continue;
                }
                self.problems.push(Problem {
                    severity: Severity::Warning,
                    place: self.input.place.into(),
                    key: path(origin, key),
                    what: "is no key that exists".into(),
                    expected: did_you_mean(key, KEYS.iter().flat_map(KeyDoc::names)).unwrap_or_default(),
                    consequence: "it is ignored".into(),
                });
            }
        }
    }

    /// Says of a key that is read and not served what happens instead; silent where it asks for the default.
    pub(super) fn not_served(&mut self, row: &KeyDoc) {
        if let (Served::Later(instead), Some(written)) = (row.served, self.find(row))
            && written.text != row.default
        {
            self.report(
                Severity::Warning,
                row,
                format!("{} is not served in this release", quoted(written.text)),
                String::new(),
                instead.into(),
            );
        }
    }
}

/// Whether a key stands under one of our prefixes.
fn ours(key: &str) -> bool {
    key.starts_with(KNATIVE_PREFIX) || key.starts_with(KPA_PREFIX)
}

/// Where an annotation stands in the manifest.
fn path(origin: Origin, name: &str) -> String {
    if origin == Origin::TemplateAnnotation {
        format!("spec.template.metadata.annotations[{}]", quoted(name))
    } else {
        format!("metadata.annotations[{}]", quoted(name))
    }
}
