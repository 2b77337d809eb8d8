//! The built program's commands, as a person or a script calls them.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod broken;
mod check;
mod config;
mod get;
mod inputs;
mod replay;
mod start;
#[path = "../support/mod.rs"]
mod support;

use std::io::Read;
use std::process::Stdio;
use support::{kpa, run};

const COMMANDS: [&str; 11] =
    ["run", "get", "logs", "scale", "restart", "release", "explain", "check", "config", "replay", "completions"];

#[test]
fn completions_name_what_the_help_names() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(folder.path(), &["completions", shell]);
        assert_eq!(code, 0);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(!script.contains("__exec"), "{shell}: what is hidden is not completed");
    }
    assert_eq!(run(folder.path(), &["completions", "cobol"]).0, 2, "wrong use");
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let (code, help, _) = run(folder.path(), &[command, "--help"]);
        assert_eq!(code, 0);
        assert!(help.contains(&format!("Usage: kpa {command}")), "{help}");
    }
}

/// As `kpa completions zsh | head -c 10`: more than a pipe holds, and nobody reads it.
#[test]
fn a_reader_that_goes_ends_a_command_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for t in 0..2_000 {
        lines.push_str(&format!("{{\"t\":{t},\"concurrency\":5,\"ready\":1}}\n"));
    }
    std::fs::write(folder.path().join("samples"), lines).unwrap();
    let mut child = kpa(folder.path(), &["replay", "--samples", "samples"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}
