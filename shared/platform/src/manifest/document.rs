//! Files into documents: where each begins, where each of its fields stands, and how it is decoded.
//!
//! Invariant: a document that cannot be read hides none beside it.

use super::fault::{Fault, ParseError};
use super::lines::{Lines, Step, path, steps};
use super::merge;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Largest file that is read, and the most that is taken from standard input.
pub const SOURCE_BYTES_MAX: usize = 8 << 20;
/// How deep a `List` may hold lists.
const LIST_DEPTH_MAX: usize = 4;

/// One document of a file, or one item of a `List`.
#[derive(Clone)]
pub(super) struct Document {
    /// The file.
    pub(super) path: PathBuf,
    /// The line where it begins, from 1.
    pub(super) line: usize,
    /// What it holds, untyped, with its patches.
    pub(super) value: Value,
    /// What is decoded.
    text: String,
    /// The text is not the file's own: lines in it mean nothing to anybody.
    made: bool,
    written: Arc<Written>,
    /// The way from the text that was written to this document: the items of lists.
    within: Vec<Step>,
    /// What it held before its patches, and these in their order.
    patched: Option<(Value, Vec<Arc<Self>>)>,
}

/// The part of a file in which a document stands.
struct Written {
    text: String,
    lines_before: usize,
    lines: OnceLock<Lines>,
}

impl Written {
    /// Read when something has to be found in it.
    fn lines(&self) -> &Lines {
        self.lines.get_or_init(|| Lines::of(&self.text))
    }
}

/// Where a field stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// The file: a patch, if the value is from there.
    pub(super) path: PathBuf,
    /// From 1.
    pub(super) line: usize,
    /// The field itself, not only what it is missing in.
    pub(super) found: bool,
}

/// By its place: it may be a Secret.
impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

/// The same text in the same place; where its fields stand follows from it.
impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.line == other.line && self.value == other.value
    }
}

impl Document {
    fn new(path: &Path, line: usize, value: Value, part: &Part<'_>) -> Self {
        let text = part.text.to_owned();
        let written = Written { text: text.clone(), lines_before: part.lines_before, lines: OnceLock::new() };
        Self {
            path: path.to_owned(),
            line,
            value,
            text,
            made: false,
            written: Arc::new(written),
            within: Vec::new(),
            patched: None,
        }
    }

    /// A field of the document, as text.
    pub(super) fn text_at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `app.yaml:12`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    /// `Deployment default/app`; `namespace` is that of objects which name none.
    pub(super) fn object(&self, namespace: &str) -> String {
        // As long as a name of Kubernetes can be.
        let or = |pointer, default: &str| match self.value.pointer(pointer) {
            Some(Value::String(text)) if !text.is_empty() => text.chars().take(253).collect(),
            Some(written @ (Value::Number(_) | Value::Bool(_))) => written.to_string(),
            _ => default.to_owned(),
        };
        format!("{} {}/{}", or("/kind", "?"), or("/metadata/namespace", namespace), or("/metadata/name", "?"))
    }

    /// The files that patch it.
    pub(super) fn patches(&self) -> impl Iterator<Item = &Path> {
        self.patched.iter().flat_map(|(_, patches)| patches).map(|patch| patch.path.as_path())
    }

    /// The document as a `T`. Numbers and booleans pass for text, as they are written. The fault's line is one of the
    /// file that is named with it.
    pub(super) fn decode<T: DeserializeOwned>(&self, namespace: &str) -> Result<T, Box<(PathBuf, Fault)>> {
        parse(&self.text).map_err(|error| {
            let own = self.made.then(|| Lines::of(&self.text));
            let at = own.as_ref().unwrap_or_else(|| self.written.lines()).path_at(error.line, error.column);
            let position = self.position(&at);
            let written = value_at(&self.value, &at);
            let secret = self.text_at("/kind") == "Secret";
            let in_data = at.len() == 2 && at.first() == Some(&Step::Field("data".into()));
            let fault = match written {
                Some(Value::String(_)) if secret && in_data => Fault::of_secret(&path(&at)),
                _ => Fault::of_type(error.what, &path(&at), written.filter(|_| !secret)),
            };
            Box::new((position.path, Fault { line: position.line, object: self.object(namespace), ..fault }))
        })
    }

    /// Merges a patch into it.
    pub(super) fn apply(&mut self, patch: Arc<Self>) {
        let (_, patches) = self.patched.get_or_insert_with(|| (self.value.clone(), Vec::new()));
        merge::merge(&mut self.value, &patch.value);
        patches.push(patch);
        self.text = pretty(&self.value);
        self.made = true;
    }

    /// `place Deployment default/app` for a problem with `key`, where `object` is the latter.
    pub(super) fn place_of(&self, key: &str, object: &str) -> String {
        let position = self.position(&steps(key));
        let mut place = format!("{}:{} {object}", position.path.display(), position.line);
        let patches: Vec<String> = self.patches().map(|path| path.display().to_string()).collect();
        if !position.found && !patches.is_empty() {
            place.push_str(&format!(" (patched by {})", patches.join(", ")));
        }
        place
    }

    /// The line of a field of what was written, or of what it is missing in.
    pub(super) fn line_of(&self, at: &[Step]) -> usize {
        self.own_position(at).line
    }

    /// Whether it is a Deployment in part only: without containers or the selector that Kubernetes demands, but something
    /// to patch one with.
    pub(super) fn is_part(&self) -> bool {
        let containers = self.value.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let selects = self.value.pointer("/spec/selector").is_some();
        self.text_at("/kind") == "Deployment" && (containers.is_none_or(Vec::is_empty) || !selects)
    }

    /// Where the field at a path stands: in the last patch that has it, else in the file, else where it is missing.
    fn position(&self, at: &[Step]) -> Position {
        let Some((base, patches)) = &self.patched else { return self.own_position(at) };
        let mut nearest: Option<(usize, Position)> = None;
        let sources = std::iter::once((base, self)).chain(patches.iter().map(|patch| (&patch.value, &**patch)));
        for (value, document) in sources {
            let own = merged_path(at, &self.value, value);
            let mut position = document.own_position(&own);
            position.found &= own.len() == at.len();
            // The last one that has it; where none has, the one that has most of the way, the file before its patches.
            let better = |(depth, known): &(usize, Position)| position.found || (!known.found && own.len() > *depth);
            if nearest.as_ref().is_none_or(better) {
                nearest = Some((own.len(), position));
            }
        }
        nearest.map_or_else(|| self.own_position(at), |(_, position)| position)
    }

    /// As [`Self::position`] in what was written, without patches.
    fn own_position(&self, at: &[Step]) -> Position {
        let whole: Vec<Step> = self.within.iter().chain(at).cloned().collect();
        let (line, depth) = self.written.lines().find(&whole);
        let line = if depth <= self.within.len() { self.line } else { self.written.lines_before + line };
        Position { path: self.path.clone(), line, found: depth == whole.len() }
    }

    /// The documents that this one holds: itself, or the items of a `List`.
    pub(super) fn flatten(self, depth: usize, out: &mut Vec<Result<Self, Fault>>) {
        let is_list = self.text_at("/kind").ends_with("List") && self.value.get("items").is_some();
        if !is_list {
            out.push(Ok(self));
            return;
        }
        let Some(items) = self.value.get("items").and_then(Value::as_array).filter(|_| depth < LIST_DEPTH_MAX) else {
            let what = if depth < LIST_DEPTH_MAX { "is not a list" } else { "lists stand too deep in each other" };
            let line = self.own_position(&steps("items")).line;
            out.push(Err(Fault { key: "items".into(), ..Fault::whole(line, what, "a list of objects") }));
            return;
        };
        for (index, value) in items.iter().enumerate() {
            let mut within = self.within.clone();
            within.extend([Step::Field("items".into()), Step::Item(index)]);
            let (line, found) = self.written.lines().find(&within);
            let line = if found == within.len() { self.written.lines_before + line } else { self.line };
            let item = Self {
                path: self.path.clone(),
                line,
                value: value.clone(),
                text: pretty(value),
                made: true,
                written: Arc::clone(&self.written),
                within,
                patched: None,
            };
            item.flatten(depth + 1, out);
        }
    }
}

/// One field a line, so that a parser's line tells the field.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The value at a path.
fn value_at<'v>(value: &'v Value, at: &[Step]) -> Option<&'v Value> {
    at.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(index) => value.get(index),
    })
}

/// The path in `other` of what stands at a path in `merged`, as far as it is there: items of lists that are merged may
/// stand elsewhere.
fn merged_path(at: &[Step], merged: &Value, other: &Value) -> Vec<Step> {
    let mut own = Vec::new();
    let mut field = "";
    let (mut merged, mut other) = (Some(merged), other);
    for step in at {
        let next = match step {
            Step::Field(name) => {
                field = name;
                other.get(name).map(|value| (step.clone(), value))
            }
            Step::Item(index) => {
                let list = other.as_array().map(Vec::as_slice).unwrap_or_default();
                let same = match merged.and_then(|list| list.get(index)) {
                    Some(item) if merge::is_merged(field) => merge::same_item(field, list, item),
                    _ => Some(*index),
                };
                field = "";
                same.and_then(|index| Some((Step::Item(index), list.get(index)?)))
            }
        };
        let Some((step_in_other, value)) = next else { break };
        merged = merged.and_then(|value| value_at(value, std::slice::from_ref(step)));
        own.push(step_in_other);
        other = value;
    }
    own
}

/// The documents of a file, each read or faulty. Documents without content are left out. `namespace` is that of objects
/// which name none.
pub(super) fn documents(path: &Path, text: &str, namespace: &str) -> Vec<Result<Document, Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > SOURCE_BYTES_MAX {
        let bound = format!("at most {} MiB", SOURCE_BYTES_MAX >> 20);
        return vec![Err(Fault::whole(1, format!("is larger than {} MiB", SOURCE_BYTES_MAX >> 20), bound))];
    }
    let read = if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        json(path, text)
    } else {
        split(text).into_iter().filter_map(|part| yaml(path, &part, namespace)).collect()
    };
    let mut out = Vec::new();
    for document in read {
        match document {
            Ok(document) => document.flatten(0, &mut out),
            Err(fault) => out.push(Err(fault)),
        }
    }
    out
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
fn yaml(path: &Path, part: &Part<'_>, namespace: &str) -> Option<Result<Document, Fault>> {
    let content = |line: &str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with(['#', '%']) || line == "---" || line.starts_with("--- #"))
    };
    let first = part.text.lines().position(content)?;
    match parse::<Value>(part.text) {
        Ok(Value::Null) => None,
        Ok(value) => Some(Ok(Document::new(path, part.lines_before + first + 1, value, part))),
        Err(error) => Some(Err(Fault::of_syntax(error, part.text, part.lines_before, namespace))),
    }
}

fn json(path: &Path, text: &str) -> Vec<Result<Document, Fault>> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let rest = text.get(stream.byte_offset()..).unwrap_or_default();
        let start = stream.byte_offset() + rest.len() - rest.trim_start().len();
        let lines_before = text[..start].bytes().filter(|b| *b == b'\n').count();
        match stream.next() {
            None => return documents,
            Some(Ok(value)) => {
                let part = Part { lines_before, text: text.get(start..stream.byte_offset()).unwrap_or_default() };
                let mut document = Document::new(path, lines_before + 1, value, &part);
                // What JSON takes for a key twice, YAML refuses.
                document.text = pretty(&document.value);
                document.made = true;
                documents.push(Ok(document));
            }
            Some(Err(error)) => {
                let line = error.line().max(1);
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default();
                documents.push(Err(Fault::whole(line, what, "a JSON document")));
                return documents;
            }
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ParseError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| ParseError::of(&error))
}
