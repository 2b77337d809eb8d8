//! A parser's message in the words of a manifest: what is wrong with which field, and what would be right.
//!
//! Invariant: no value of a Secret is in it.

use super::lines::{Lines, Step, path};
use domain::{Problem, Severity};
use serde_json::Value;
use std::path::Path;

/// Longest text of an input that is shown.
const SHOWN_CHARS_MAX: usize = 60;

/// What a parser says and where, both counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) column: usize,
    /// On one line, bounded, without the place.
    pub(super) what: String,
}

impl ParseError {
    pub(super) fn of(error: &serde_saphyr::Error) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(1).max(1);
        let (line, column) = error.location().map_or((1, 1), |at| (number(at.line()), number(at.column())));
        // The place is told with the line of the file, not of the part that was parsed.
        let message = one_line(&error.to_string());
        let place = format!(" at line {line}, column {column}");
        let message = message.strip_suffix(&place).unwrap_or(&message);
        // Advice to whoever calls the parser.
        let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
        Self { line, column, what: message.to_owned() }
    }
}

/// A message on one line, bounded.
fn one_line(message: &str) -> String {
    const CHARS_MAX: usize = 300;
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARS_MAX).collect()
}

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fault {
    /// The line, from 1.
    pub(super) line: usize,
    /// `Deployment default/app`, as far as it could be read.
    pub(super) object: String,
    /// The path inside of it, `document` for the whole.
    pub(super) key: String,
    /// What is wrong.
    pub(super) what: String,
    /// What would be right.
    pub(super) expected: String,
}

impl Fault {
    /// As a problem of `file`.
    pub(super) fn into_problem(self, file: &Path, consequence: &str) -> Problem {
        let place = format!("{}:{} {}", file.display(), self.line, self.object);
        Problem {
            severity: Severity::Error,
            place: place.trim_end().to_owned(),
            key: self.key,
            what: self.what,
            expected: self.expected,
            consequence: consequence.into(),
        }
    }

    /// About a document as a whole.
    pub(super) fn whole(line: usize, what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { line, key: "document".into(), what: what.into(), expected: expected.into(), ..Self::default() }
    }

    /// A text that is no YAML. What stands before the fault tells which object it is; `namespace` is that of objects
    /// which name none.
    pub(super) fn of_syntax(error: ParseError, text: &str, lines_before: usize, namespace: &str) -> Self {
        let lines = Lines::of(text);
        let at = lines.broken_at.as_deref().map_or_else(|| lines.path_at(error.line, error.column), <[Step]>::to_vec);
        let key = if at.is_empty() { "document".to_owned() } else { path(&at) };
        let object = match (lines.text(&["kind"]), lines.text(&["metadata", "name"])) {
            (Some(kind), Some(name)) => {
                let namespace = lines.text(&["metadata", "namespace"]).unwrap_or(namespace);
                format!("{} {}/{}", shortened(kind), shortened(namespace), shortened(name))
            }
            (Some(kind), None) => shortened(kind),
            (None, _) => String::new(),
        };
        let expected = right_syntax(&error.what).to_owned();
        Self { line: lines_before + error.line, object, key, what: error.what, expected }
    }

    /// A field of the wrong type. `written` is what stands there, `None` where it must not be shown.
    pub(super) fn of_type(message: String, key: &str, written: Option<&Value>) -> Self {
        let wanted = right_type(&message);
        let what = match (written, wanted) {
            (Some(written), Some(wanted)) => format!("{} is not {wanted}", brief(written)),
            (None, Some(wanted)) => format!("is not {wanted}"),
            (Some(_), None) => message,
            (None, None) => "has the wrong type".to_owned(),
        };
        let expected = match wanted {
            Some("a whole number") => "a whole number without quotes, such as 2".to_owned(),
            Some(wanted) => wanted.to_owned(),
            None => "a value as Kubernetes' API reference describes the field".to_owned(),
        };
        let key = if key.is_empty() { "document" } else { key };
        Self { key: key.into(), what, expected, ..Self::default() }
    }

    /// A value among a Secret's data, which is not shown.
    pub(super) fn of_secret(key: &str) -> Self {
        let expected = "text in base64; plain text stands under stringData".to_owned();
        Self { key: key.into(), what: "is not base64".into(), expected, ..Self::default() }
    }
}

/// What would be right where the parser says `what`.
fn right_syntax(what: &str) -> &'static str {
    let rules = [
        ("tab", "spaces for indentation"),
        ("duplicate", "each key once"),
        ("mapping values are not allowed", "one `key: value` a line, and quotes around a value that holds `: `"),
        ("expected key", "the fields of one level in one column"),
        ("'-' indicator", "the fields of one level in one column, and a - before each item of a list"),
        ("invalid indentation", "the quotes closed on the line where they open, or the text indented"),
        ("unclosed", "a bracket for every bracket that opens"),
        ("illegal placement", "a bracket for every bracket that opens"),
        ("anchor", "an &anchor before every *alias"),
        ("unexpected character", "quotes around a value that begins with such a character"),
        ("only valid inside a block", "a list item on a line of its own"),
    ];
    rules.iter().find(|(part, _)| what.contains(part)).map_or("a YAML document", |(_, right)| right)
}

/// What a field wants to be, by the parser's message.
fn right_type(message: &str) -> Option<&'static str> {
    let rules = [
        ("invalid i32", "a whole number"),
        ("invalid i64", "a whole number"),
        ("invalid boolean", "true or false"),
        ("expected mapping", "a mapping of fields"),
        ("expected sequence", "a list"),
        ("expected string", "a single value"),
        ("Quantity", "a quantity such as 500m or 2Gi"),
        ("base64", "base64"),
        ("ByteString", "base64"),
    ];
    rules.iter().find(|(part, _)| message.contains(part)).map(|(_, wanted)| *wanted)
}

/// A value as it is shown.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "nothing".into(),
        Value::String(text) => format!("{:?}", shortened(text)),
        Value::Bool(_) | Value::Number(_) => shortened(&value.to_string()),
    }
}

fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
