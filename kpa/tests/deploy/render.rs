//! Helm's templates, as far as our chart uses them: values, `if`, `range`, and four functions. Anything else is an error, so that
//! the chart stays as simple as this.

use serde_json::Value;

/// Where a `range` stands, and what is the same everywhere.
#[derive(Clone, Copy)]
struct Scope<'a> {
    root: &'a Value,
    dot: &'a Value,
    /// Of a `range $key, $value := MAP`; outside of one there is none.
    key: Option<&'a str>,
}

enum Node {
    Text(String),
    Output(String),
    /// Each condition with what it guards; `else` has none.
    If(Vec<(Option<String>, Vec<Self>)>),
    Range(String, Vec<Self>),
}

/// The text of a template for `root`, which holds `Values`, `Chart` and `Release`.
pub(crate) fn render(template: &str, root: &Value) -> Result<String, String> {
    let mut tokens = tokens(template)?.into_iter().peekable();
    let nodes = block(&mut tokens)?;
    if let Some(Token::Action(action)) = tokens.next() {
        return Err(format!("{{{{ {action} }}}}: nothing to end"));
    }
    let mut out = String::new();
    print(&nodes, Scope { root, dot: root, key: None }, &mut out)?;
    Ok(out)
}

enum Token {
    Text(String),
    Action(String),
}

/// Splits at `{{` and `}}`; a dash inside eats the white space beside it.
fn tokens(template: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest, mut eat) = (Vec::new(), template, false);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, next) = after.split_once("}}").ok_or_else(|| format!("no end: {{{{{after}"))?;
        let (action, eat_before) = action.strip_prefix('-').map_or((action, false), |action| (action, true));
        let (action, eat_after) = action.strip_suffix('-').map_or((action, false), |action| (action, true));
        let before = if eat { before.trim_start() } else { before };
        tokens.push(Token::Text(if eat_before { before.trim_end() } else { before }.to_owned()));
        tokens.push(Token::Action(action.trim().to_owned()));
        (rest, eat) = (next, eat_after);
    }
    tokens.push(Token::Text(if eat { rest.trim_start() } else { rest }.to_owned()));
    Ok(tokens)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// Up to the `else` or `end` that is not its own, which stays.
fn block(tokens: &mut Tokens) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.peek() {
        let action = match token {
            Token::Action(action) if action == "end" || action.starts_with("else") => break,
            Token::Action(action) => action.clone(),
            Token::Text(text) => {
                nodes.push(Node::Text(text.clone()));
                tokens.next();
                continue;
            }
        };
        tokens.next();
        nodes.push(match action.split_once(' ') {
            Some(("if", condition)) => conditional(condition, tokens)?,
            Some(("range", list)) => {
                let inner = block(tokens)?;
                end(tokens)?;
                Node::Range(list.to_owned(), inner)
            }
            _ => Node::Output(action),
        });
    }
    Ok(nodes)
}

fn conditional(condition: &str, tokens: &mut Tokens) -> Result<Node, String> {
    let mut branches = vec![(Some(condition.to_owned()), block(tokens)?)];
    while let Some(Token::Action(action)) = tokens.peek() {
        let branch = match action.strip_prefix("else") {
            Some("") => None,
            Some(more) => {
                Some(more.trim().strip_prefix("if ").ok_or_else(|| format!("{action}: not understood"))?.to_owned())
            }
            None => break,
        };
        tokens.next();
        branches.push((branch, block(tokens)?));
    }
    end(tokens)?;
    Ok(Node::If(branches))
}

fn end(tokens: &mut Tokens) -> Result<(), String> {
    match tokens.next() {
        Some(Token::Action(action)) if action == "end" => Ok(()),
        _ => Err("an `if` or `range` without `end`".to_owned()),
    }
}

fn print(nodes: &[Node], scope: Scope<'_>, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Output(action) => out.push_str(&evaluate(action, scope)?),
            Node::If(branches) => {
                for (condition, inner) in branches {
                    if condition.as_ref().map_or(Ok(true), |condition| holds(condition, scope))? {
                        print(inner, scope, out)?;
                        break;
                    }
                }
            }
            Node::Range(list, inner) => {
                if let Some(map) = list.strip_prefix("$key, $value := ") {
                    for (key, dot) in path(map, scope)?.as_object().ok_or_else(|| format!("{map}: not a map"))? {
                        print(inner, Scope { root: scope.root, dot, key: Some(key) }, out)?;
                    }
                    continue;
                }
                for dot in path(list, scope)?.as_array().ok_or_else(|| format!("{list}: not a list"))? {
                    print(inner, Scope { root: scope.root, dot, key: None }, out)?;
                }
            }
        }
    }
    Ok(())
}

/// What Go's templates take as true.
fn holds(condition: &str, scope: Scope<'_>) -> Result<bool, String> {
    if let Some(negated) = condition.strip_prefix("not ") {
        return Ok(!holds(negated, scope)?);
    }
    Ok(match path(condition, scope)? {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
    })
}

fn evaluate(action: &str, scope: Scope<'_>) -> Result<String, String> {
    let words: Vec<&str> = action.split(' ').collect();
    match words.as_slice() {
        ["toJson", value] => Ok(path(value, scope)?.to_string()),
        ["join", "\",\"", list] => join(",", list, scope),
        ["join", "\",", "\"", list] => join(", ", list, scope),
        ["add", numbers @ ..] => {
            let sum: Result<Vec<i64>, String> = numbers
                .iter()
                .map(|number| match number.parse() {
                    Ok(number) => Ok(number),
                    Err(_) => path(number, scope)?.as_i64().ok_or_else(|| format!("{number}: not a whole number")),
                })
                .collect();
            Ok(sum?.iter().sum::<i64>().to_string())
        }
        ["$key"] => Ok(scope.key.ok_or("$key outside of its range")?.to_owned()),
        [value] => match path(value, scope)? {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            value @ (Value::Null | Value::Array(_) | Value::Object(_)) => Err(format!("{action}: {value} is no text")),
        },
        _ => Err(format!("{{{{ {action} }}}}: the chart keeps to values, if, range, toJson, join and add")),
    }
}

fn join(separator: &str, list: &str, scope: Scope<'_>) -> Result<String, String> {
    let items = path(list, scope)?.as_array().ok_or_else(|| format!("{list}: not a list"))?;
    Ok(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator))
}

/// `.`, `.A.B`, `$.A.B` or `$value`. Stricter than Helm: what is not there is an error.
fn path<'a>(path: &str, scope: Scope<'a>) -> Result<&'a Value, String> {
    if path == "$value" {
        return scope.key.map(|_| scope.dot).ok_or_else(|| "$value outside of its range".to_owned());
    }
    let (from, names) = path.strip_prefix('$').map_or((scope.dot, path), |names| (scope.root, names));
    let names = names.strip_prefix('.').ok_or_else(|| format!("{path}: not a path"))?;
    names
        .split('.')
        .filter(|name| !name.is_empty())
        .try_fold(from, |value, name| value.get(name).ok_or_else(|| format!("{path}: there is no {name}")))
}

#[test]
fn the_subset_is_rendered_as_helm_does() {
    let root = serde_json::json!({"Values": {"a": "x", "n": 3, "off": "", "list": ["p", "q"], "map": {"k": [1]}}});
    for (template, expected) in [
        ("{{ .Values.a }}-{{.Values.n}}", "x-3"),
        ("a: {{ toJson .Values.map }}", "a: {\"k\":[1]}"),
        ("{{ add .Values.n .Values.n 50 }}", "56"),
        ("b:\n  {{- if .Values.a }}\n  c\n  {{- end }}\nd", "b:\n  c\nd"),
        ("{{ if .Values.off }}1{{ else if not .Values.a }}2{{ else }}3{{ end }}", "3"),
        ("[{{ range .Values.list }}{{ . }}{{ $.Values.a }} {{ end }}]", "[px qx ]"),
        ("{{- range .Values.list }}\n- {{ . }}\n{{- end }}\n", "\n- p\n- q\n"),
        ("{{ range $key, $value := .Values.map }}{{ $key }}={{ toJson $value }}{{ end }}", "k=[1]"),
        ("{{ join \",\" .Values.list }} {{ join \", \" .Values.list }}", "p,q p, q"),
        ("x {{- .Values.a -}} y", "xxy"),
    ] {
        assert_eq!(render(template, &root).as_deref(), Ok(expected), "{template}");
    }
    for wrong in [
        "{{ .Values.none }}",
        "{{ include \"a\" . }}",
        "{{ if .Values.a }}",
        "{{ end }}",
        "{{ .Values.a | quote }}",
        "{{ x",
        "{{ $key }}",
        "{{ $value }}",
    ] {
        assert!(render(wrong, &root).is_err(), "{wrong}");
    }
}
