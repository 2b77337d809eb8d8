//! Where each field of a text stands, by its path.
//!
//! Invariant: never fails. What cannot be followed gives the line of the nearest field around it, and a text that breaks
//! off is known up to there.

use serde_saphyr::granit_parser::{Event, Parser, Span};

/// Fields that are kept of one text; what follows is known by the line of what stands around it.
const FIELDS_MAX: usize = 100_000;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A field of a mapping.
    Field(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// The fields of a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    root: Node,
    /// The path that was being read where the text broke off; `None` when it was read to its end.
    pub(super) broken_at: Option<Vec<Step>>,
}

/// A field or an item: where its key (or it itself) begins, and what is in it.
#[derive(Debug, Clone, Default)]
struct Node {
    line: usize,
    column: usize,
    /// A scalar's text.
    text: Option<Box<str>>,
    children: Children,
}

#[derive(Debug, Clone, Default)]
enum Children {
    #[default]
    None,
    Fields(Vec<(Box<str>, Node)>),
    Items(Vec<Node>),
}

/// A mapping or a list that is being read.
struct Open {
    node: Node,
    /// In a mapping: the key whose value comes next.
    key: Option<(Box<str>, usize, usize)>,
}

impl Lines {
    /// The fields of the first document of `text`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum of another crate, which may grow")]
    pub(super) fn of(text: &str) -> Self {
        let mut open: Vec<Open> = Vec::new();
        let mut root = Node::default();
        let mut fields = 0;
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else {
                let broken_at = Some(path_of(&open));
                close_all(&mut open, &mut root);
                return Self { root, broken_at };
            };
            fields += 1;
            if fields > FIELDS_MAX {
                break;
            }
            match event {
                Event::MappingStart(..) => {
                    open.push(Open { node: node(span, None, Children::Fields(Vec::new())), key: None });
                }
                Event::SequenceStart(..) => {
                    open.push(Open { node: node(span, None, Children::Items(Vec::new())), key: None });
                }
                Event::Scalar(text, ..) => place(&mut open, &mut root, node(span, Some(&text), Children::None)),
                Event::Alias(_) => place(&mut open, &mut root, node(span, None, Children::None)),
                Event::MappingEnd | Event::SequenceEnd => {
                    if let Some(closed) = open.pop() {
                        place(&mut open, &mut root, closed.node);
                    }
                }
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        close_all(&mut open, &mut root);
        Self { root, broken_at: None }
    }

    /// The line of the field at `path`, from 1, and how many steps of the path were found. A field's line is its key's.
    pub(super) fn find(&self, path: &[Step]) -> (usize, usize) {
        let mut node = &self.root;
        for (depth, step) in path.iter().enumerate() {
            match node.child(step) {
                Some(child) => node = child,
                None => return (node.line, depth),
            }
        }
        (node.line, path.len())
    }

    /// The text of the scalar at a path of fields.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        let mut node = &self.root;
        for field in path {
            node = node.child(&Step::Field((*field).to_owned()))?;
        }
        node.text.as_deref()
    }

    /// The path of the last field that begins at or before a place, both counted from 1.
    pub(super) fn path_at(&self, line: usize, column: usize) -> Vec<Step> {
        let mut path = Vec::new();
        let mut node = &self.root;
        loop {
            let before = |child: &Node| (child.line, child.column) <= (line, column);
            let next = match &node.children {
                Children::None => None,
                Children::Fields(fields) => fields
                    .iter()
                    .rev()
                    .find(|(_, child)| before(child))
                    .map(|(name, child)| (Step::Field(name.to_string()), child)),
                Children::Items(items) => items
                    .iter()
                    .enumerate()
                    .rev()
                    .find(|(_, child)| before(child))
                    .map(|(index, child)| (Step::Item(index), child)),
            };
            let Some((step, child)) = next else { return path };
            path.push(step);
            node = child;
        }
    }
}

impl Node {
    fn child(&self, step: &Step) -> Option<&Self> {
        match (step, &self.children) {
            (Step::Field(name), Children::Fields(fields)) => {
                fields.iter().find(|(field, _)| **field == **name).map(|(_, child)| child)
            }
            (Step::Item(index), Children::Items(items)) => items.get(*index),
            (Step::Field(_) | Step::Item(_), _) => None,
        }
    }
}

fn node(span: Span, text: Option<&str>, children: Children) -> Node {
    Node { line: span.start.line(), column: span.start.col() + 1, text: text.map(Into::into), children }
}

/// Puts a finished value where it belongs: as a key, as the value of the last key, as an item, or as the whole.
fn place(open: &mut [Open], root: &mut Node, mut finished: Node) {
    let Some(parent) = open.last_mut() else {
        *root = finished;
        return;
    };
    match &mut parent.node.children {
        Children::Items(items) => items.push(finished),
        Children::Fields(fields) => match parent.key.take() {
            // A key that is no scalar has no name to be found by.
            None => parent.key = Some((finished.text.unwrap_or_default(), finished.line, finished.column)),
            Some((name, line, column)) => {
                (finished.line, finished.column) = (line, column);
                fields.push((name, finished));
            }
        },
        Children::None => {}
    }
}

/// Ends everything that is still being read.
fn close_all(open: &mut Vec<Open>, root: &mut Node) {
    while let Some(mut closed) = open.pop() {
        if closed.key.is_some() {
            let nothing = Node { line: closed.node.line, column: closed.node.column, ..Node::default() };
            place(std::slice::from_mut(&mut closed), root, nothing);
        }
        place(open, root, closed.node);
    }
}

/// Where reading stands.
fn path_of(open: &[Open]) -> Vec<Step> {
    let mut path = Vec::new();
    for (depth, frame) in open.iter().enumerate() {
        let innermost = depth + 1 == open.len();
        match (&frame.node.children, &frame.key) {
            (Children::Fields(_), Some((name, ..))) => path.push(Step::Field(name.to_string())),
            (Children::Items(items), _) if !innermost => path.push(Step::Item(items.len())),
            (Children::Fields(_) | Children::Items(_) | Children::None, _) => {}
        }
    }
    path
}

/// `spec.containers[0]["a/b"]` as steps. What is no path is one field of that name.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((name, after)) = rest.strip_prefix('[').and_then(bracketed) {
            steps.push(name);
            rest = after;
        } else {
            let bare = rest.strip_prefix('.').unwrap_or(rest);
            let end = bare.find(['.', '[']).unwrap_or(bare.len());
            if end == 0 {
                return vec![Step::Field(path.to_owned())];
            }
            steps.push(Step::Field(bare[..end].to_owned()));
            rest = &bare[end..];
        }
    }
    steps
}

/// What stands in brackets, without the opening one, and what follows them.
fn bracketed(text: &str) -> Option<(Step, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (index, after) = text.split_once(']')?;
        return Some((Step::Item(index.parse().ok()?), after));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Step::Field(name), quoted[at + 1..].strip_prefix(']')?)),
            '\\' => name.push(chars.next()?.1),
            c => name.push(c),
        }
    }
    None
}

/// Steps as a path; the inverse of [`steps`].
pub(super) fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Item(index) => path.push_str(&format!("[{index}]")),
            Step::Field(name) if name.is_empty() || name.contains(['.', '[', '/', '"', ' ']) => {
                path.push_str(&format!("[{name:?}]"));
            }
            Step::Field(name) if path.is_empty() => path.push_str(name),
            Step::Field(name) => {
                path.push('.');
                path.push_str(name);
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# first
kind: Deployment
metadata:
  name: app
  annotations:
    a.b/c: \"1\"
    'd e': x
spec:
  containers:
    - name: one
      env: [{name: A}, {name: B,
        value: 2}]
    -
      name: two
  anchored: &x {deep: 1}
  alias: *x
";

    #[track_caller]
    fn check(path: &str, expected: (usize, usize)) {
        assert_eq!(Lines::of(TEXT).find(&steps(path)), expected, "{path}");
    }

    #[test]
    fn a_path_leads_to_the_line_of_its_key() {
        check("kind", (2, 1));
        check("metadata", (3, 1));
        check("metadata.annotations[\"a.b/c\"]", (6, 3));
        check("metadata.annotations[\"d e\"]", (7, 3));
        check("spec.containers[0].env[1].name", (11, 6));
        check("spec.containers[0].env[1].value", (12, 6));
        check("spec.containers[1].name", (14, 4));
    }

    #[test]
    fn what_is_not_there_is_where_it_is_missing() {
        check("spec.containers[1].command", (14, 3));
        check("metadata.namespace", (3, 1));
        check("spec.alias.deep", (16, 2));
        check("no path [at all", (2, 0));
    }

    #[test]
    fn a_place_leads_to_its_path() {
        let lines = Lines::of(TEXT);
        for (line, column, expected) in [
            (2, 7, "kind"),
            (6, 12, "metadata.annotations[\"a.b/c\"]"),
            (12, 16, "spec.containers[0].env[1].value"),
            (14, 13, "spec.containers[1].name"),
        ] {
            assert_eq!(path(&lines.path_at(line, column)), expected);
        }
    }

    #[test]
    fn a_text_that_breaks_off_is_known_up_to_there() {
        let text = "kind: Deployment\nmetadata:\n  name: app\nspec:\n  template:\n    replicas: 1\n   bad: x\n";
        let lines = Lines::of(text);
        assert_eq!(lines.text(&["kind"]), Some("Deployment"));
        assert_eq!(lines.text(&["metadata", "name"]), Some("app"));
        assert_eq!(path(lines.broken_at.as_deref().unwrap()), "spec");
        assert_eq!(lines.find(&steps("spec.template.replicas")), (6, 3));
        assert_eq!(Lines::of("kind: [a, {b: 1").broken_at.map(|at| path(&at)).as_deref(), Some("kind"));
        assert!(Lines::of("").broken_at.is_none());
    }

    #[test]
    fn paths_survive_being_written() {
        for text in ["a", "a.b[0].c", "a[\"b.c/d\"].e", "[3]", "a[\"\"]", "a[\"x \\\" y\"]"] {
            assert_eq!(path(&steps(text)), text);
        }
    }

    #[test]
    fn a_large_text_is_known_in_part() {
        let text = format!("kind: List\nitems:\n{}", "- x\n".repeat(FIELDS_MAX));
        let lines = Lines::of(&text);
        assert_eq!(lines.text(&["kind"]), Some("List"));
        assert_eq!(lines.find(&steps("items[9]")), (12, 2));
        assert_eq!(lines.find(&[Step::Field("items".into()), Step::Item(FIELDS_MAX - 1)]), (2, 1));
    }
}
