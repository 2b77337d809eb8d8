//! Label and field selectors, as they stand in a query and in objects.
//!
//! Invariant: a selector that cannot be understood is an error, never one that selects everything.

use crate::resources::Type;
use serde_json::Value;
use std::collections::BTreeSet;

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Missing(String),
}

/// All terms must hold; none selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Term>);

impl Labels {
    /// The form of a query: `a=b,c!=d,e in (f,g),h,!i`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|term| !term.is_empty())
            .map(parse_term)
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|why| format!("unable to parse requirement: {why}"))
    }

    /// The form of objects: `matchLabels` and `matchExpressions`. An absent selector selects nothing: `None`.
    pub(crate) fn of_object(selector: &Value) -> Option<Self> {
        let selector = selector.as_object()?;
        let mut terms: Vec<Term> = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            terms.push(Term::In(key.clone(), [value.as_str()?.to_owned()].into()));
        }
        for term in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = term["key"].as_str()?.to_owned();
            let values: BTreeSet<String> = crate::object::texts(&term["values"]).into_iter().collect();
            terms.push(match term["operator"].as_str()? {
                "In" => Term::In(key, values),
                "NotIn" => Term::NotIn(key, values),
                "Exists" => Term::Exists(key),
                "DoesNotExist" => Term::Missing(key),
                _ => return None,
            });
        }
        Some(Self(terms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels (a JSON map, or nothing) fulfil every term.
    pub(crate) fn matches(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        self.0.iter().all(|term| match term {
            Term::In(key, values) => value(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => value(key).is_none_or(|value| !values.contains(value)),
            Term::Exists(key) => value(key).is_some(),
            Term::Missing(key) => value(key).is_none(),
        })
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        for (index, term) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::In(key, values) if values.len() == 1 => write!(f, "{key}={}", list(values))?,
                Term::In(key, values) => write!(f, "{key} in ({})", list(values))?,
                Term::NotIn(key, values) => write!(f, "{key} notin ({})", list(values))?,
                Term::Exists(key) => write!(f, "{key}")?,
                Term::Missing(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_term(term: &str) -> Result<Term, String> {
    let key = |text: &str| {
        let text = text.trim();
        match crate::validate::names::label_key(text) {
            None => Ok(text.to_owned()),
            Some(why) => Err(format!("<nil>: Invalid value: {text:?}: {why}")),
        }
    };
    let value = |text: &str| {
        let text = text.trim();
        match crate::validate::names::label_value(text) {
            None => Ok(text.to_owned()),
            Some(why) => Err(format!("values[0][]: Invalid value: {text:?}: {why}")),
        }
    };
    if let Some(missing) = term.strip_prefix('!')
        && !term.contains('=')
    {
        return Ok(Term::Missing(key(missing)?));
    }
    if let Some((name, wrong)) = term.split_once("!=") {
        return Ok(Term::NotIn(key(name)?, [value(wrong)?].into()));
    }
    if let Some((name, right)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Term::In(key(name)?, [value(right)?].into()));
    }
    if let Some((head, values)) = term.split_once('(') {
        let values = values.trim_end().strip_suffix(')').ok_or_else(|| "found '', expected: ',' or ')'".to_owned())?;
        let values = values.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
        let (name, operator) = head.trim().rsplit_once(char::is_whitespace).unwrap_or_else(|| (head.trim(), ""));
        return match operator {
            "in" => Ok(Term::In(key(name)?, values)),
            "notin" => Ok(Term::NotIn(key(name)?, values)),
            _ => Err(format!("found {operator:?}, expected: in, notin, =, ==, !=, gt, lt")),
        };
    }
    Ok(Term::Exists(key(term)?))
}

/// A field selector: every field must be (or must not be) the given text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Reads a query's `fieldSelector`; a field that this kind cannot be selected by is an error.
    pub(crate) fn parse(text: &str, kind: &Type) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (field, true, value)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            if !kind.selectable(field) {
                return Err(if matches!(kind.form, crate::resources::Form::Custom(_)) {
                    format!("field label not supported: {field}")
                } else {
                    format!("field label not supported for {}: {field}", kind.kind)
                });
            }
            terms.push((field.to_owned(), equal, value.to_owned()));
        }
        Ok(Self(terms))
    }

    /// Exactly one object, by its name.
    pub(crate) fn by_name(name: &str) -> Self {
        Self(vec![("metadata.name".to_owned(), true, name.to_owned())])
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name that a selected object must have, where the selector says so: authorization asks for it.
    pub(crate) fn name(&self) -> Option<&str> {
        let by_name = |(field, equal, _): &&(String, bool, String)| *equal && field == "metadata.name";
        self.0.iter().find(by_name).map(|(_, _, value)| value.as_str())
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, equal, wanted)| {
            let found = match crate::object::at(object, field) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (found == *wanted) == *equal
        })
    }
}
