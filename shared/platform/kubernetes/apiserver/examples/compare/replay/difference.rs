//! How two records of the series differ, for people.
//!
//! Invariant: what only one record has is a difference, unless the real server says that it lacks what the step needs.

use super::calls::Step;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// Most differences that are told; a server that is something else altogether has more.
const DIFFERENCES_MAX: usize = 500;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// How many steps were compared.
    pub(crate) steps: usize,
    /// One line each.
    pub(crate) differences: Vec<String>,
    /// Steps that the real server cannot do, with the reason.
    pub(crate) left_out: Vec<String>,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.differences {
            writeln!(f, "{line}")?;
        }
        for line in &self.left_out {
            writeln!(f, "left out: {line}")?;
        }
        let (steps, differences, left_out) = (self.steps, self.differences.len(), self.left_out.len());
        let most = if differences >= DIFFERENCES_MAX { " or more" } else { "" };
        writeln!(f, "{steps} steps compared, {left_out} left out: {differences}{most} differences")
    }
}

/// Compares the record of the server in memory with that of a real one.
pub(crate) fn compared(memory: &[Step], real: &[Step]) -> Compared {
    let mut out = Compared::default();
    for index in 0..memory.len().max(real.len()) {
        match (memory.get(index), real.get(index)) {
            (Some(mine), Some(theirs)) => step(&mut out, mine, theirs),
            (mine, theirs) => {
                let name = mine.or(theirs).map_or("", |step| step.name.as_str());
                out.differences.push(format!("{name}: one record ends before it"));
            }
        }
    }
    out.differences.truncate(DIFFERENCES_MAX);
    out
}

fn step(out: &mut Compared, mine: &Step, theirs: &Step) {
    if mine.name != theirs.name {
        out.differences.push(format!("{:?} in memory is {:?} in reality: not the same series", mine.name, theirs.name));
        return;
    }
    if let (Some(needs), true) = (mine.needs, theirs.code >= 400) {
        out.left_out.push(format!("{}: the real server answers {}; it needs {needs}", mine.name, theirs.code));
        return;
    }
    out.steps += 1;
    if mine.code != theirs.code {
        out.differences.push(format!("{}: status: in memory {}, real {}", mine.name, mine.code, theirs.code));
    }
    values(&mut out.differences, &mine.name, "", Some(&mine.answer), Some(&theirs.answer));
}

fn values(out: &mut Vec<String>, name: &str, path: &str, mine: Option<&Value>, theirs: Option<&Value>) {
    if out.len() >= DIFFERENCES_MAX || mine == theirs {
        return;
    }
    match (mine, theirs) {
        (Some(Value::Object(mine)), Some(Value::Object(theirs))) => {
            for key in mine.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                values(out, name, &format!("{path}.{key}"), mine.get(key), theirs.get(key));
            }
        }
        (Some(Value::Array(mine)), Some(Value::Array(theirs))) => {
            for index in 0..mine.len().max(theirs.len()) {
                values(out, name, &format!("{path}[{index}]"), mine.get(index), theirs.get(index));
            }
        }
        _ => {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let path = if path.is_empty() { "." } else { path };
            out.push(format!("{name}: {path}: in memory {}, real {}", shown(mine), shown(theirs)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(code: u16, answer: Value, needs: Option<&'static str>) -> Vec<Step> {
        vec![Step { name: "a".to_owned(), code, answer, needs }]
    }

    #[test]
    fn each_difference_is_named_with_its_place() {
        let mine = one(200, json!({ "spec": { "ports": [1, 2], "same": 1 } }), None);
        let theirs = one(201, json!({ "spec": { "ports": [1], "same": 1, "more": true } }), None);
        assert_eq!(
            compared(&mine, &theirs).differences,
            [
                "a: status: in memory 200, real 201",
                "a: .spec.more: in memory nothing, real true",
                "a: .spec.ports[1]: in memory 2, real nothing",
            ]
        );
        assert_eq!(compared(&mine, &mine).to_string(), "1 steps compared, 0 left out: 0 differences\n");
        assert_eq!(compared(&mine, &[]).differences, ["a: one record ends before it"]);
    }

    #[test]
    fn only_a_real_server_may_lack_something() {
        let (can, cannot) = (one(200, json!(1), Some("1.34")), one(422, json!(2), Some("1.34")));
        let without = compared(&can, &cannot);
        assert_eq!((without.differences.len(), without.left_out.len(), without.steps), (0, 1, 0));
        assert_eq!(compared(&cannot, &can).differences.len(), 2);
    }
}
