//! A command line as a person writes it, into a program and its arguments.
//!
//! Invariant: `$(NAME)` survives, for it is Kubernetes' reference and is expanded when a replica starts.

/// Splits `text` into words. When it holds shell syntax (a pipe, a variable, a glob, an assignment in front) the whole
/// is handed to `/bin/sh -c`.
///
/// # Errors
/// A quotation mark that is not closed, or no word at all.
pub(super) fn argv(text: &str) -> Result<Vec<String>, &'static str> {
    if text.trim().is_empty() {
        return Err("is empty");
    }
    match words(text)? {
        Some(words) => Ok(words),
        None => Ok(vec!["/bin/sh".into(), "-c".into(), text.trim().to_owned()]),
    }
}

/// The words, or `None` when a shell is needed.
fn words(text: &str) -> Result<Option<Vec<String>>, &'static str> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut shell = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = reference(rest) {
            word.get_or_insert_default().push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('"'), '$' | '`' | '\\') => shell = true,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => {
                words.extend(word.take());
                // A second line is a second command.
                shell |= c == '\n' && !words.is_empty() && !rest.trim().is_empty();
            }
            (None, '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '\\' | '*' | '?' | '[' | ']' | '{' | '}') => {
                shell = true;
            }
            (None, '#' | '~') if word.is_none() => shell = true,
            // An assignment in front of the command.
            (None, '=') if words.is_empty() => shell = true,
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("has a quotation mark that is not closed");
    }
    words.extend(word);
    Ok((!shell).then_some(words))
}

/// The length of `$(NAME)` at the start of `text`.
fn reference(text: &str) -> Option<usize> {
    let name = text.strip_prefix("$(")?;
    let end = name.find(')')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (end > 0 && name[..end].chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::argv;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(argv(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn plain_words_need_no_shell() {
        check("python server.py --port 80", &["python", "server.py", "--port", "80"]);
        check("  a   b ", &["a", "b"]);
        check("say 'two words' \"and more\"", &["say", "two words", "and more"]);
        check("x '' --a='b c'", &["x", "", "--a=b c"]);
        check("serve --port $(PORT)", &["serve", "--port", "$(PORT)"]);
        check("serve --port=\"$(PORT)\"", &["serve", "--port=$(PORT)"]);
        check("a '$HOME | b'", &["a", "$HOME | b"]);
    }

    #[test]
    fn shell_syntax_gets_a_shell() {
        for text in [
            "a | b",
            "serve --port $PORT",
            "A=1 b",
            "a && b",
            "ls *.py",
            "a \"$B\"",
            "a $(date +%s)",
            "~/bin/x",
            "a\nb",
            "cd x; y",
        ] {
            check(text, &["/bin/sh", "-c", text]);
        }
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        assert!(argv("a 'b").is_err());
        assert!(argv("a \"b").is_err());
        assert!(argv("  ").is_err());
    }
}
