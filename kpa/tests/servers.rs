//! A server that nobody here wrote, by the manifest that the documents show.

#![expect(clippy::unwrap_used, reason = "a helper of tests that fails is a test that fails")]

mod support;

use std::fs;
use std::path::Path;
use support::{Kpa, http_get};

/// The folder of the examples, seen from this crate.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/python-servers");
const HOST: &str = "file-server.default.example.com";

#[test]
fn pythons_own_file_server_sends_its_files_from_zero() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(Path::new(EXAMPLES).join("file-server.yaml"), folder.path().join("file-server.yaml")).unwrap();
    // Longer than every buffer on the way.
    let content: String = (0..300_000).map(|line| format!("line {line}\n")).collect();
    fs::write(folder.path().join("long.txt"), &content).unwrap();
    let kpa = Kpa::start(folder.path(), &["file-server.yaml"], "");
    assert_eq!(kpa.shown("file-server")["replicas"], 0, "nothing runs before somebody asks");

    let (head, body) = http_get(kpa.proxy, HOST, "/long.txt").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-kpa-cold: true"), "{head}\n{}", kpa.log());
    assert!(head.contains("server: SimpleHTTP/"), "{head}");
    assert!(body == content, "{} of {} bytes, or others", body.len(), content.len());
    let (head, _) = http_get(kpa.proxy, HOST, "/nothing.txt").unwrap();
    assert!(head.starts_with("HTTP/1.1 404") && head.contains("server: SimpleHTTP/"), "its own answer: {head}");
}
