//! Label selectors as kubectl's `-l` takes them.
//!
//! Invariant: whatever is accepted here selects what Kubernetes would select; anything else is refused with what is wrong.

use std::collections::BTreeMap;
use std::str::FromStr;

/// All of these must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// `key`, `key=value`, `key in (a,b)`: it has the key, with one of the values if there are any.
    Has(String, Vec<String>),
    /// `!key`, `key!=value`, `key notin (a,b)`: it lacks the key, or its value is none of these.
    HasNot(String, Vec<String>),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no label selector; expected such as app=web, tier!=cache, env in (dev,test), !old")]
pub(crate) struct BadSelector(String);

impl Selector {
    /// Whether all of it holds for these labels.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Has(key, values) => {
                labels.get(key).is_some_and(|value| values.is_empty() || values.contains(value))
            }
            Requirement::HasNot(key, values) => {
                labels.get(key).is_none_or(|value| !values.is_empty() && !values.contains(value))
            }
        })
    }
}

impl FromStr for Selector {
    type Err = BadSelector;
    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector(text.chars().take(200).collect());
        let mut requirements = Vec::new();
        for part in parts(text) {
            requirements.push(requirement(part.trim()).ok_or_else(bad)?);
        }
        Ok(Self(requirements))
    }
}

/// Splits at commas outside of parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0_u32, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    if let Some(key) = text.strip_prefix('!') {
        return Some(Requirement::HasNot(self::key(key)?, Vec::new()));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Requirement::HasNot(self::key(key)?, vec![self::value(value)?]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Requirement::Has(self::key(key)?, vec![self::value(value)?]));
    }
    let Some((left, list)) = text.split_once('(') else { return Some(Requirement::Has(key(text)?, Vec::new())) };
    let values = list.trim().strip_suffix(')')?.split(',').map(value).collect::<Option<Vec<_>>>()?;
    let mut words = left.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(of), Some("in"), None) => Some(Requirement::Has(key(of)?, values)),
        (Some(of), Some("notin"), None) => Some(Requirement::HasNot(key(of)?, values)),
        _ => None,
    }
}

fn word(text: &str, also: &str) -> Option<String> {
    let text = text.trim();
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || also.contains(letter)).then(|| text.to_owned())
}

fn key(text: &str) -> Option<String> {
    word(text, "-_./").filter(|key| !key.is_empty())
}

/// A value may be empty, as a label's may.
fn value(text: &str) -> Option<String> {
    word(text, "-_.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.parse::<Selector>().unwrap().matches(&labels)
    }

    #[test]
    fn every_form_selects_what_kubernetes_would() {
        let labels = [("app", "web"), ("tier", "front"), ("k8s.io/part-of", "shop"), ("empty", "")];
        for (selector, expected) in [
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app=other", false),
            ("app!=web", false),
            ("app!=other", true),
            ("missing!=web", true),
            ("app", true),
            ("missing", false),
            ("!missing", true),
            ("!app", false),
            ("app in (web, api)", true),
            ("app in (api)", false),
            ("app notin (web)", false),
            ("missing notin (web)", true),
            ("app in (web,api),tier=front", true),
            ("app=web,tier=back", false),
            ("k8s.io/part-of=shop", true),
            ("empty=", true),
            ("app=", false),
        ] {
            assert_eq!(selects(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in
            ["", ",", "=web", "app=web,", "app in web", "app in (web", "app within (web)", "a b", "app=we b", "!"]
        {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
        let error = "a b".parse::<Selector>().unwrap_err().to_string();
        assert!(error.starts_with("\"a b\" is no label selector; expected such as app=web"), "{error}");
    }
}
