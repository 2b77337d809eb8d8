//! The forms of names, label keys and label values, with the real server's words for what is wrong.
//!
//! Invariant: `None` means valid.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Most bytes of a label and of most names' parts.
pub(crate) const LABEL_BYTES_MAX: usize = 63;
/// Most bytes of a name.
pub(crate) const SUBDOMAIN_BYTES_MAX: usize = 253;

fn too_long(bytes_max: usize) -> String {
    format!("must be no more than {bytes_max} bytes")
}

fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_qualified_part(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Names of most objects.
pub(crate) fn subdomain(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_BYTES_MAX {
        return Some(too_long(SUBDOMAIN_BYTES_MAX));
    }
    (!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
}

/// Names of namespaces and containers.
pub(crate) fn label(text: &str) -> Option<String> {
    if text.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    (!is_label(text)).then(|| LABEL.to_owned())
}

/// Names of Services.
pub(crate) fn label_1035(text: &str) -> Option<String> {
    if text.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    (!is_label(text) || !text.starts_with(|first: char| first.is_ascii_lowercase())).then(|| LABEL_1035.to_owned())
}

/// Names of roles and bindings.
pub(crate) fn path_segment(text: &str) -> Option<String> {
    if matches!(text, "." | "..") {
        return Some(format!("may not be '{text}'"));
    }
    ['/', '%'].into_iter().find(|&letter| text.contains(letter)).map(|letter| format!("may not contain '{letter}'"))
}

/// Values of labels.
pub(crate) fn label_value(text: &str) -> Option<String> {
    if text.len() > LABEL_BYTES_MAX {
        return Some(too_long(LABEL_BYTES_MAX));
    }
    (!text.is_empty() && !is_qualified_part(text)).then(|| LABEL_VALUE.to_owned())
}

/// Keys of labels and annotations: `name` or `prefix/name`.
pub(crate) fn label_key(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".to_owned());
        }
        if let Some(why) = subdomain(prefix) {
            return Some(format!("prefix part {why}"));
        }
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_BYTES_MAX {
        return Some(format!("name part {}", too_long(LABEL_BYTES_MAX)));
    }
    (!is_qualified_part(name)).then(|| NAME_PART.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let long = "a".repeat(64);
        for (check, good, bad) in [
            (subdomain as fn(&str) -> Option<String>, vec!["a", "a-b.c", "1.2"], vec!["", "A", "-a", "a.", "a_b"]),
            (label, vec!["a", "1a"], vec!["", "a.b", "a-", long.as_str()]),
            (label_1035, vec!["a", "a-1"], vec!["1a", "a.b", "A"]),
            (path_segment, vec!["system:x", "A"], vec![".", "a/b", "a%"]),
            (label_value, vec!["", "A.b_c-1"], vec!["a b", "-a", long.as_str()]),
            (label_key, vec!["a", "kpa.dev/x_y"], vec!["", "/a", "a/", "A.b/-", "x.y/z/w"]),
        ] {
            for text in good {
                assert_eq!(check(text), None, "{text:?}");
            }
            for text in bad {
                assert!(check(text).is_some(), "{text:?} is taken");
            }
        }
    }
}
