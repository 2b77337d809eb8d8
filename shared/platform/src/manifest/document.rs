//! Files into documents: where each begins, what kind it says it is, and how it is decoded.
//!
//! Invariant: a document that cannot be read hides none beside it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Largest file that is read.
pub(super) const SOURCE_BYTES_MAX: usize = 8 << 20;

/// One document of a file, or one item of a `List`.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The file.
    pub(super) path: PathBuf,
    /// The line where it begins, from 1.
    pub(super) line: usize,
    /// Its place in a `List`, from 0.
    pub(super) item: Option<usize>,
    /// What it holds, untyped.
    pub(super) value: Value,
    /// The lines before `text` in the file; `None` when the text is not the file's own.
    lines_before: Option<usize>,
    text: String,
}

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) what: String,
}

impl Document {
    /// A field of the document, as text.
    pub(super) fn text_at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `app.yaml:12`.
    pub(super) fn place(&self) -> String {
        match self.item {
            None => format!("{}:{}", self.path.display(), self.line),
            Some(item) => format!("{}:{} item {}", self.path.display(), self.line, item + 1),
        }
    }

    /// The document as a `T`. Numbers and booleans pass for text, as they are written.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        parse(&self.text).map_err(|fault| Fault {
            line: self.lines_before.map_or(self.line, |before| before + fault.line),
            what: fault.what,
        })
    }

    /// The items of a `List`.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.get("items")?.as_array()?;
        let item = |(index, value): (usize, &Value)| Self {
            path: self.path.clone(),
            line: self.line,
            item: Some(index),
            value: value.clone(),
            lines_before: None,
            text: value.to_string(),
        };
        Some(items.iter().enumerate().map(item).collect())
    }
}

/// The documents of a file, each read or faulty. Documents without content are left out.
pub(super) fn documents(path: &Path, text: &str) -> Vec<Result<Document, Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > SOURCE_BYTES_MAX {
        return vec![Err(Fault { line: 1, what: format!("the file is larger than {} MiB", SOURCE_BYTES_MAX >> 20) })];
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return json(path, text);
    }
    split(text).into_iter().filter_map(|part| yaml(path, &part)).collect()
}

/// A part of a YAML stream.
struct Part<'a> {
    lines_before: usize,
    text: &'a str,
}

/// Cuts a YAML stream at its document markers. `---` or `...` in the first column, followed by white space or nothing,
/// is a marker wherever it stands: no scalar can hold it (YAML 1.2, 9.1.2).
fn split(text: &str) -> Vec<Part<'_>> {
    let marker = |line: &str, mark: &str| {
        line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut parts = Vec::new();
    let (mut start, mut lines_before, mut at, mut lines) = (0, 0, 0, 0);
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if marker(line, "---") {
            parts.push(Part { lines_before, text: &text[start..at] });
            (start, lines_before) = (at, lines);
        } else if marker(line, "...") {
            parts.push(Part { lines_before, text: &text[start..at] });
            (start, lines_before) = (end, lines + 1);
        }
        at = end;
        lines += 1;
    }
    parts.push(Part { lines_before, text: &text[start..] });
    parts
}

/// One part as a document; `None` when it holds only comments, directives and its own marker.
fn yaml(path: &Path, part: &Part<'_>) -> Option<Result<Document, Fault>> {
    let content = |line: &str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line.starts_with("--- #"))
    };
    let first = part.text.lines().position(content)?;
    let document = parse::<Value>(part.text).map(|value| Document {
        path: path.to_owned(),
        line: part.lines_before + first + 1,
        item: None,
        value,
        lines_before: Some(part.lines_before),
        text: part.text.to_owned(),
    });
    match document {
        Ok(document) if document.value.is_null() => None,
        Ok(document) => Some(Ok(document)),
        Err(fault) => Some(Err(Fault { line: part.lines_before + fault.line, what: fault.what })),
    }
}

fn json(path: &Path, text: &str) -> Vec<Result<Document, Fault>> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let rest = text.get(stream.byte_offset()..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        let line = 1 + text[..stream.byte_offset() + blank].bytes().filter(|b| *b == b'\n').count();
        match stream.next() {
            None => return documents,
            Some(Ok(value)) => documents.push(Ok(Document {
                path: path.to_owned(),
                line,
                item: None,
                text: value.to_string(),
                lines_before: None,
                value,
            })),
            Some(Err(error)) => {
                documents.push(Err(Fault { line: error.line().max(1), what: error.to_string() }));
                return documents;
            }
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Fault {
        line: error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1)).max(1),
        what: one_line(&error.to_string()),
    })
}

/// A parser's message on one line, bounded.
fn one_line(message: &str) -> String {
    const CHARS_MAX: usize = 300;
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARS_MAX).collect()
}
