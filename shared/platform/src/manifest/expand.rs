//! `$(VAR)` as Kubernetes expands it in command, args and env.

/// Replaces `$(VAR)` by what `lookup` knows; an unknown name is left as it stands, `$$` is a dollar sign and keeps the
/// reference behind it from being expanded.
#[must_use]
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|name| name.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The names that `text` refers to.
pub(super) fn references(text: &str) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let _ = expand(text, |name| {
        names.borrow_mut().push(name.to_owned());
        None
    });
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use super::{expand, references};

    /// The cases of Kubernetes' own expansion tests.
    #[test]
    fn expands_as_kubernetes() {
        let lookup = |name: &str| match name {
            "VAR_A" => Some("A"),
            "VAR_B" => Some("B"),
            "VAR_C" => Some("C"),
            "VAR_REF" => Some("$(VAR_A)"),
            "VAR_EMPTY" => Some(""),
            _ => None,
        };
        for (text, expanded) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)$(VAR_B)", "AB"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("$$$$(BAD_VAR)", "$$(BAD_VAR)"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$(VAR_EMPTY)", ""),
            ("$(BAD)", "$(BAD)"),
            ("$VAR_A", "$VAR_A"),
            ("foo$", "foo$"),
            ("$(VAR_A", "$(VAR_A"),
            ("$$$(VAR_A)", "$A"),
            ("\n$(VAR_A)", "\nA"),
            ("$()", "$()"),
            ("$(VAR_A)-1", "A-1"),
            ("µ$(VAR_A)µ", "µAµ"),
        ] {
            assert_eq!(expand(text, lookup), expanded, "{text}");
        }
    }

    #[test]
    fn references_are_found() {
        assert_eq!(references("$(A)$$(B)-$(C)"), ["A", "C"]);
    }
}
