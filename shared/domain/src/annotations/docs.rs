//! The tables as text: `docs/annotations.md`, `docs/config.md`, `docs/config-activator.md` and the files of `config/`.
//!
//! Invariant: the files of the repository equal what is printed here, by a test.

use super::keys::{KEYS, KPA_PREFIX, KeyDoc, Served};
use crate::activator_config::{ACTIVATOR_KEYS, ActivatorConfig, CONFIG_MAP as ACTIVATOR_MAP};
use crate::defaults::{CONFIG_KEYS, CONFIG_MAP, Defaults};
use crate::origin::Origin;
use std::fmt::Write as _;

/// `docs/annotations.md`.
#[must_use]
pub fn annotations() -> String {
    let mut out = String::from(
        "# Annotations\n\n\
         <!-- Printed from the table in shared/domain/src/annotations/keys.rs: cargo run -p domain --example docs -- annotations -->\n\n\
         Each is read from the Deployment's `metadata.annotations`, then from its pod template's; within a level the \
         first existing\nspelling counts, even when its value is wrong. A wrong value is reported and the last good one \
         stays in force; where none is\nknown the service may be woken and grow and is never scaled down until the value \
         is corrected.\n\n\
         Values are texts: write `\"10\"`, not `10`. Durations are Go's: `30s`, `1m30s`, `1.5h`; there is no `d`. Numbers \
         must be finite.\n`cluster KEY` stands for a key of `config-autoscaler` ([config.md](config.md)).\n",
    );
    let (ours, knatives): (Vec<&KeyDoc>, Vec<&KeyDoc>) = KEYS.iter().partition(|row| row.key.starts_with(KPA_PREFIX));
    for (title, rows) in [("Knative's keys", knatives), ("Our own keys", ours)] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n## {title}\n");
        table(&mut out, &rows);
    }
    out
}

/// `docs/config.md`.
#[must_use]
pub fn config() -> String {
    let mut out = String::from(
        "# config-autoscaler\n\n\
         <!-- Printed from the table in shared/domain/src/defaults.rs: cargo run -p domain --example docs -- config -->\n\n\
         A ConfigMap named `config-autoscaler` beside the manifests sets the defaults of every service. It is read \
         again when it\nchanges. A wrong map is reported whole and the last good one stays in force; when the first one is \
         wrong, nothing is scaled\ndown until it is corrected. Unknown keys are reported. The built-in defaults as a file: \
         [config/config-autoscaler.yaml](../config/config-autoscaler.yaml).\n\n",
    );
    table(&mut out, &CONFIG_KEYS.iter().collect::<Vec<_>>());
    out
}

/// `docs/config-activator.md`.
#[must_use]
pub fn activator() -> String {
    let mut out = String::from(
        "# config-activator\n\n\
         <!-- Printed from the table in shared/domain/src/activator_config.rs: cargo run -p domain --example docs -- activator -->\n\n\
         A ConfigMap named `config-activator` beside the manifests sets what holds for the whole request path. It is read \
         again when it\nchanges, and nothing of it needs a restart; where a change counts only for connections that are opened \
         after it, the table\nsays so. A wrong map is reported whole and the last good one stays in force. While none is known, \
         the keys that are right count;\nof the others the built-in values, but nobody is believed when `trusted-proxies` is wrong, \
         and no host is claimed when\n`allowed-hosts` is. Unknown keys are reported. The built-in values as a file:\n\
         [config/config-activator.yaml](../config/config-activator.yaml).\n\n",
    );
    table(&mut out, &ACTIVATOR_KEYS.iter().collect::<Vec<_>>());
    out
}

/// `config/config-autoscaler.yaml`: every key with its default.
#[must_use]
pub fn config_map() -> String {
    let about =
        "The defaults of every service, as they are built in. Printed from the table in shared/domain/src/defaults.rs:";
    map(about, "config-map", CONFIG_MAP, CONFIG_KEYS, Defaults::default().with_origins())
}

/// `config/config-activator.yaml`: every key with its default.
#[must_use]
pub fn activator_map() -> String {
    let about = "The request path's settings, as they are built in. Printed from the table in \
                 shared/domain/src/activator_config.rs:";
    map(about, "activator-map", ACTIVATOR_MAP, ACTIVATOR_KEYS, ActivatorConfig::default().with_origins())
}

fn map(about: &str, part: &str, name: &str, keys: &[KeyDoc], values: Vec<(&str, String, Origin)>) -> String {
    let mut out = format!(
        "# {about}\n# cargo run -p domain --example docs -- {part}\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n"
    );
    for ((key, value, _), row) in values.into_iter().zip(keys) {
        for line in wrapped(row.doc, 112) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  # {line}");
        }
        let _ = writeln!(out, "  # Value: {}.", row.kind);
        let _ = writeln!(out, "  {key}: \"{value}\"");
    }
    out
}

fn table(out: &mut String, rows: &[&KeyDoc]) {
    out.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
    for row in rows {
        let names: Vec<String> = row.names().map(|name| format!("`{name}`")).collect();
        let note = match row.served {
            Served::Now => String::new(),
            Served::Later(instead) => format!(" *Not served in this release: {instead}.*"),
        };
        let _ = writeln!(out, "| {} | {} | {} | {}{note} |", names.join("<br>"), row.kind, row.default, row.doc);
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[track_caller]
    fn check(file: &str, part: &str, printed: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some((line, (old, new))) =
            written.lines().zip(printed.lines()).enumerate().find(|(_, (old, new))| old != new)
        {
            println!("{file}:{}\n- {old}\n+ {new}", line + 1);
        }
        assert!(written == printed, "{file} is out of date: cargo run -p domain --example docs -- {part} > {file}");
    }

    #[test]
    fn the_files_are_what_the_tables_say() {
        check("docs/annotations.md", "annotations", &super::annotations());
        check("docs/config.md", "config", &super::config());
        check("config/config-autoscaler.yaml", "config-map", &super::config_map());
        check("docs/config-activator.md", "activator", &super::activator());
        check("config/config-activator.yaml", "activator-map", &super::activator_map());
    }
}
