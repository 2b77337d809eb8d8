//! House rules as tests: who may depend on whom, what a file must look like, and that the documents agree with the tree.
//!
//! Invariant: reads files and `cargo metadata`, needs no network, and names every violation at once with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most lines of a source file, tests not counted. A file that needs more says why in its header ("400 lines").
const LINES_MAX: usize = 400;
/// Most lines of ARCHITECTURE.md: a newcomer reads it in one sitting.
const ARCHITECTURE_LINES_MAX: usize = 250;

// ---------------------------------------------------------------------------------------------------------------------
// Dependencies

/// What one crate may depend on.
struct Rule {
    name: &'static str,
    folder: &'static str,
    /// Crates of this workspace that it may use; everything else of ours is forbidden.
    ours: &'static [&'static str],
    third_party: ThirdParty,
    reason: &'static str,
}

/// Crates from the registry, in normal and build dependencies. Tests may use what they like.
enum ThirdParty {
    /// Nothing but these.
    Only(&'static [&'static str]),
    /// Anything but these.
    Not(&'static [&'static str]),
}

use ThirdParty::{Not, Only};

const CLUSTER: &[&str] = &["kube", "kube-client", "kube-runtime", "k8s-openapi"];

const RULES: &[Rule] = &[
    Rule {
        name: "domain",
        folder: "shared/domain",
        ours: &[],
        third_party: Only(&["serde", "thiserror", "strsim", "jiff"]),
        reason: "the words of the field: no runtime, no network, no clock, and nothing of ours below it; jiff, without its \
                 clock, to write a moment as RFC 3339",
    },
    Rule {
        name: "activator-core",
        folder: "activator/core",
        ours: &["domain"],
        third_party: Only(&["rand"]),
        reason: "a pure core: time and randomness are arguments, so tests, simulation and replay run the same code",
    },
    Rule {
        name: "autoscaler-core",
        folder: "autoscaler/core",
        ours: &["domain"],
        third_party: Only(&["rand", "serde", "serde_json", "thiserror"]),
        reason: "a pure core; serde because a decision's record and the samples of a replay are read and written",
    },
    Rule {
        name: "runtime",
        folder: "shared/runtime",
        ours: &["domain"],
        third_party: Not(CLUSTER),
        reason: "what every program needs around its core; it knows of no platform and of no core",
    },
    Rule {
        name: "platform",
        folder: "shared/platform",
        ours: &["domain"],
        third_party: Not(&["kube", "kube-client", "kube-runtime", "hyper", "hyper-util", "axum", "metrics"]),
        reason: "the port and the manifests; k8s-openapi only for the types of the YAML",
    },
    Rule {
        name: "platform-local",
        folder: "shared/platform/local",
        ours: &["domain", "platform"],
        third_party: Not(&["kube", "kube-client", "kube-runtime", "k8s-openapi", "hyper", "axum", "metrics"]),
        reason: "child processes; it knows neither program, so that both platforms stay exchangeable",
    },
    Rule {
        name: "platform-kubernetes",
        folder: "shared/platform/kubernetes",
        ours: &["domain", "platform", "apiserver"],
        third_party: Not(&["axum", "metrics"]),
        reason: "the only crate that talks to a cluster; it knows neither program, so that both platforms stay exchangeable; \
                 the API server in memory is for its tests",
    },
    Rule {
        name: "apiserver",
        folder: "shared/platform/kubernetes/apiserver",
        ours: &[],
        third_party: Not(&["kube", "kube-client", "kube-runtime"]),
        reason: "an API server for tests: one that shared code with its client would share its mistakes",
    },
    Rule {
        name: "activator",
        folder: "activator",
        ours: &["domain", "activator-core", "platform", "platform-kubernetes", "runtime"],
        third_party: Not(&["kube", "kube-client", "kube-runtime", "k8s-openapi", "axum", "metrics"]),
        reason: "meets the autoscaler in the wire format only, the cluster through the port only; nothing on the request \
                 path calls a metrics library",
    },
    Rule {
        name: "autoscaler",
        folder: "autoscaler",
        ours: &["domain", "autoscaler-core", "platform", "platform-kubernetes", "runtime"],
        third_party: Not(CLUSTER),
        reason: "meets the activator in the wire format only, and the cluster through the platform port only",
    },
    Rule {
        name: "kpa",
        folder: "kpa",
        ours: &[
            "domain",
            "activator",
            "activator-core",
            "autoscaler",
            "autoscaler-core",
            "platform",
            "platform-kubernetes",
            "platform-local",
            "runtime",
            "apiserver",
        ],
        third_party: Not(CLUSTER),
        reason: "puts the programs together; load is not part of the product",
    },
    Rule {
        name: "loadtest",
        folder: "loadtest",
        ours: &["domain"],
        third_party: Not(CLUSTER),
        reason: "measures from outside: a benchmark that shares code with what it measures shares its mistakes",
    },
    Rule {
        name: "measure",
        folder: "measure",
        ours: &["domain", "activator", "activator-core", "autoscaler", "autoscaler-core", "platform", "runtime"],
        third_party: Not(CLUSTER),
        reason: "measures from inside, what both programs do; nothing depends on it",
    },
];

struct Dependency {
    name: String,
    /// `normal`, `build` or `dev`.
    kind: String,
    ours: bool,
    default_features: bool,
    features: Vec<String>,
}

/// Every member of the workspace with its folder and dependencies, as cargo sees them.
fn members() -> BTreeMap<String, (PathBuf, Vec<Dependency>)> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let folder = PathBuf::from(text(&package["manifest_path"]))
                .parent()
                .expect("a manifest lies in a folder")
                .to_path_buf();
            let dependencies = list(&package["dependencies"])
                .iter()
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    kind: dependency["kind"].as_str().unwrap_or("normal").to_owned(),
                    ours: dependency["path"].is_string(),
                    default_features: dependency["uses_default_features"] == true,
                    features: list(&dependency["features"]).iter().map(text).collect(),
                })
                .collect();
            (text(&package["name"]), (folder, dependencies))
        })
        .collect()
}

#[test]
fn every_crate_depends_only_on_what_its_place_allows() {
    let mut report = Report::new("forbidden dependencies (a rule may be changed here, with its reason)");
    let members = members();
    for rule in RULES {
        let Some((folder, dependencies)) = members.get(rule.name) else {
            report.add(rule.name, "has a rule and is no member of the workspace");
            continue;
        };
        if *folder != root().join(rule.folder) {
            report.add(rule.name, format!("is in {}, expected in {}", folder.display(), rule.folder));
        }
        for dependency in dependencies {
            let name = dependency.name.as_str();
            let allowed = match (&rule.third_party, dependency.ours) {
                (_, true) => rule.ours.contains(&name) || name == rule.name,
                (Only(names), false) => dependency.kind == "dev" || names.contains(&name),
                (Not(names), false) => dependency.kind == "dev" || !names.contains(&name),
            };
            if !allowed {
                report.add(rule.name, format!("uses {name} ({}): {}", dependency.kind, rule.reason));
            }
        }
    }
    for name in members.keys().filter(|name| RULES.iter().all(|rule| rule.name != *name)) {
        report.add(name, "is a member of the workspace without a rule");
    }
    report.end();
}

#[test]
fn every_dependency_is_used() {
    let mut report = Report::new("dependencies that no source of their crate names");
    for (name, (folder, dependencies)) in &members() {
        let folder = folder.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let nested: Vec<&str> =
            RULES.iter().map(|rule| rule.folder).filter(|inner| inner.starts_with(&format!("{folder}/"))).collect();
        let source: String = files(&["rs"])
            .filter(|(path, _)| path.starts_with(&format!("{folder}/")))
            .filter(|(path, _)| nested.iter().all(|inner| !path.starts_with(&format!("{inner}/"))))
            .map(|(_, text)| text)
            .collect();
        for dependency in dependencies {
            let word = dependency.name.replace('-', "_");
            let used = source.match_indices(&word).any(|(at, _)| {
                // At the root of a path: `x::`, `::x::`, `use x;`, but neither `a::x::` nor `ax::` nor `mod x;`.
                let (before, after) = (&source[..at], &source[at + word.len()..]);
                let root = before.strip_suffix("::").unwrap_or(before);
                (after.starts_with("::") && !root.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
                    || (before.ends_with("use ") && [";", " as "].iter().any(|next| after.starts_with(next)))
            });
            if !used {
                report.add(name, format!("{} ({})", dependency.name, dependency.kind));
            }
        }
    }
    report.end();
}

#[test]
fn every_dependency_of_the_workspace_has_a_user() {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, section) = manifest.split_once("[workspace.dependencies]\n").expect("the root declares dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    let declared = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let used: BTreeSet<String> =
        members().into_values().flat_map(|(_, dependencies)| dependencies).map(|dependency| dependency.name).collect();
    let mut report = Report::new("dependencies that the root declares and no crate uses");
    for name in declared.filter(|name| !used.contains(*name)) {
        report.add("Cargo.toml", name);
    }
    report.end();
}

#[test]
fn randomness_in_a_core_comes_from_a_seed() {
    let mut report = Report::new("with rand's default features `rand::rng()` would compile in a core");
    for (name, (_, dependencies)) in members().iter().filter(|(name, _)| name.ends_with("-core")) {
        for rand in dependencies.iter().filter(|dependency| dependency.name == "rand") {
            if rand.default_features || !rand.features.is_empty() {
                report.add(name, format!("default features {}, features {:?}", rand.default_features, rand.features));
            }
        }
    }
    report.end();
}

#[test]
fn versions_and_lints_are_declared_once_in_the_root() {
    let mut report = Report::new("manifests that go their own way");
    for (name, (folder, _)) in &members() {
        let manifest = read(&folder.join("Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true") {
            report.add(name, "does not take the workspace's lints");
        }
        for (number, line) in numbered(&manifest) {
            if line.contains("version = \"") || (line.contains(" = \"") && line.starts_with(|c: char| c.is_lowercase()))
            {
                let own = ["name", "description", "path"].iter().any(|key| line.starts_with(key));
                if !own {
                    report.add(name, format!("line {number}: {line}: declare it in the root's Cargo.toml"));
                }
            }
        }
    }
    report.end();
}

#[test]
fn a_pure_crate_repeats_the_roots_bans() {
    // Clippy reads the nearest clippy.toml only. What needs a dependency that a pure crate cannot have is left out.
    let banned = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("{ path = \"")?.split_once('"'))
            .map(|(path, _)| path.to_owned())
            .collect()
    };
    let wanted: BTreeSet<String> =
        banned(&read(&root().join("clippy.toml"))).into_iter().filter(|path| path.starts_with("std::")).collect();
    assert!(wanted.len() >= 4, "the root's clippy.toml is not understood: {wanted:?}");
    let mut report = Report::new("bans of the root's clippy.toml that a pure crate's own file lacks");
    for rule in RULES.iter().filter(|rule| matches!(rule.third_party, Only(_))) {
        let path = root().join(rule.folder).join("clippy.toml");
        let found = banned(&fs::read_to_string(&path).unwrap_or_default());
        for missing in wanted.difference(&found) {
            report.add(format!("{}/clippy.toml", rule.folder), format!("does not ban {missing}"));
        }
        for clock in ["std::time::Instant", "std::time::SystemTime"].iter().filter(|clock| !found.contains(**clock)) {
            report.add(format!("{}/clippy.toml", rule.folder), format!("does not ban {clock}: time is an argument"));
        }
    }
    report.end();
}

// ---------------------------------------------------------------------------------------------------------------------
// Source files

#[test]
fn nothing_is_left_half_done() {
    // Spelled in two pieces, so that this file does not contain what it looks for.
    let words = [
        (concat!("to", "do!("), "write it, or answer with an error that says what is missing"),
        (concat!("unimple", "mented!("), "write it, or answer with an error that says what is missing"),
        (concat!("db", "g!("), "log, or remove it"),
        (concat!("FIX", "ME"), "mend it, or open an issue"),
        (concat!("TO", "DO"), "do it, or open an issue"),
        (concat!("#[igno", "re"), "a test that does not run tests nothing"),
        (concat!("#[al", "low("), "#[expect(lint, reason = \"...\")], which tells when it is no longer needed"),
        (concat!("#![al", "low("), "#![expect(lint, reason = \"...\")], which tells when it is no longer needed"),
        (concat!("deny(warn", "ings)"), "CI says it: a newer compiler's warning must not break a checkout"),
    ];
    let mut report = Report::new("words that mark unfinished or hidden work");
    for (path, text) in files(&["rs", "md", "toml", "sh", "yaml"]) {
        for (number, line) in numbered(&text) {
            // What several test binaries share is not all used by each of them: there an expectation cannot hold.
            if is_test(&path) && line.contains(concat!("al", "low(dead_code, reason = ")) {
                continue;
            }
            for (word, instead) in words.iter().filter(|(word, _)| line.contains(word)) {
                report.at(&path, number, format!("{word}: {instead}"));
            }
        }
    }
    report.end();
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut report = Report::new("absolute paths of somebody's machine");
    for (path, text) in files(&["rs", "md", "toml", "sh", "yaml", "py", "json", "run", "example"]) {
        for (number, line) in numbered(&text) {
            for folder in folders.iter().filter(|folder| line.contains(**folder)) {
                report.at(&path, number, format!("{folder}: {}", line.trim()));
            }
        }
    }
    report.end();
}

#[test]
fn files_are_short_enough_to_be_read_whole() {
    let mut report = Report::new("files over 400 lines without tests: split them, or say in the header why not");
    for (path, text) in files(&["rs"]).filter(|(path, _)| !is_test(path)) {
        let lines = lines_without_tests(&text);
        let reasoned = text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("400 lines"));
        if lines > LINES_MAX && !reasoned {
            report.at(&path, lines, "lines");
        }
    }
    report.end();
}

/// Lines outside of `#[cfg(test)] mod … { … }` at the outermost level.
fn lines_without_tests(text: &str) -> usize {
    let (mut count, mut in_tests) = (0, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let starts =
            line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{') && next.contains("mod "));
        in_tests |= starts;
        if !in_tests {
            count += 1;
        } else if line == "}" {
            in_tests = false;
        }
    }
    count
}

#[test]
fn lines_of_tests_are_not_counted() {
    let text =
        "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn t() {\n    }\n}\nfn b() {}\n#[cfg(test)]\nmod tests;\n";
    assert_eq!(lines_without_tests(text), 5);
}

#[test]
fn every_module_begins_with_its_purpose() {
    let mut report = Report::new("modules whose first line is not `//! What it is for.`");
    for (path, text) in files(&["rs"]).filter(|(path, _)| path.contains("/src/") && !is_test(path)) {
        if !text.starts_with("//! ") {
            report.at(&path, 1, text.lines().next().unwrap_or_default());
        }
    }
    report.end();
}

// ---------------------------------------------------------------------------------------------------------------------
// Documents

#[test]
fn every_metric_is_documented_and_no_other() {
    let prefixes = ["activator_", "autoscaler_", "kpa_"];
    let is_metric = |word: &str| {
        prefixes.iter().any(|prefix| word.starts_with(prefix))
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let quoted = |text: &str, quote: char| -> BTreeSet<String> {
        text.split(quote).skip(1).step_by(2).filter(|word| is_metric(word)).map(str::to_owned).collect()
    };
    let mut defined = BTreeSet::new();
    for file in ["activator/src/metrics.rs", "autoscaler/src/metrics.rs"] {
        // Names end where the table does: below it they are used, in tests with labels.
        let text = read(&root().join(file));
        let (table, _) = text.split_once("\n];\n").expect("the table of metrics");
        let found = quoted(table, '"');
        assert!(found.len() >= 5, "{file}: the table of metrics is not understood: {found:?}");
        defined.extend(found);
    }
    let documented = quoted(&read(&root().join("docs/metrics.md")), '`');
    let mut report = Report::new("docs/metrics.md and the tables `ALL` do not agree");
    for name in defined.difference(&documented) {
        report.add(name, "is not documented");
    }
    for name in documented.difference(&defined) {
        report.add(name, "is documented and does not exist");
    }
    report.end();
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut report = Report::new("dead links");
    for (path, text) in files(&["md"]) {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for (number, line) in numbered(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
                if !target.exists() {
                    report.at(&path, number, format!("{link}: no such file"));
                } else if !anchor.is_empty() && !headings(&read(&target)).contains(anchor) {
                    report.at(&path, number, format!("{link}: no such heading"));
                }
            }
        }
    }
    report.end();
}

/// The anchors of a document's headings, as they are made from their words.
fn headings(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn paths_in_documents_exist() {
    let endings = [".rs", ".md", ".toml", ".yaml", ".sh", ".py", ".json"];
    let mut report = Report::new("paths that do not exist");
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/performance.md"] {
        for (number, line) in numbered(&read(&root().join(document))) {
            for word in line.split('`').skip(1).step_by(2) {
                let is_path = (endings.iter().any(|ending| word.ends_with(ending)) || word.ends_with('/'))
                    && !word.contains([' ', '*', '<', '{', '$', '@', ':'])
                    && !word.starts_with(['/', '.']);
                if is_path && !root().join(word).exists() {
                    report.at(document, number, word);
                }
            }
        }
    }
    report.end();
}

#[test]
fn architecture_is_short_and_names_every_crate() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let mut report = Report::new("ARCHITECTURE.md");
    let lines = text.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        report.add("ARCHITECTURE.md", format!("{lines} lines; at most {ARCHITECTURE_LINES_MAX}"));
    }
    for rule in RULES.iter().filter(|rule| !text.contains(&format!("### `{}/`", rule.folder))) {
        report.add("ARCHITECTURE.md", format!("has no heading \"### `{}/` …\" for crate {}", rule.folder, rule.name));
    }
    report.end();
}

#[test]
fn the_code_map_and_the_tree_agree() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let mut report =
        Report::new("ARCHITECTURE.md: in a section \"### `crate/`\", backticks name its modules, all and only");
    for rule in RULES {
        let Some((_, rest)) = text.split_once(&format!("### `{}/`", rule.folder)) else { continue };
        let section = rest.split("\n#").next().unwrap_or_default();
        let named: BTreeSet<&str> =
            section.lines().skip(1).flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
        let source = format!("{}/src/", rule.folder);
        let exists: BTreeSet<String> = files(&["rs"])
            .filter(|(path, _)| path.starts_with(&source) && !is_test(path))
            .map(|(path, _)| {
                path.trim_start_matches(&source).trim_end_matches(".rs").trim_end_matches("/mod").to_owned()
            })
            .filter(|module| module != "lib")
            .collect();
        assert!(!exists.is_empty(), "{source} holds no source");
        for module in exists.iter().filter(|module| !named.contains(module.as_str())) {
            report.add(&source, format!("{module} is not in the map"));
        }
        for module in named.iter().filter(|module| !exists.contains(**module)) {
            report.add(&source, format!("{module} is in the map and does not exist"));
        }
    }
    report.end();
}

// ---------------------------------------------------------------------------------------------------------------------
// What the checks share

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("kpa/ lies in the workspace").to_path_buf()
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Tests, and what only tests use: long where tables are long, and without a purpose to state.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.contains("/tests/") || matches!(name, "tests.rs" | "testing.rs" | "naive.rs")
}

/// Every file with one of these endings: its path from the root, and its text. Build output and hidden folders are left
/// out, .ci is not.
fn files(endings: &[&str]) -> impl Iterator<Item = (String, String)> {
    let (root, mut found, mut folders) = (root(), Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder that was just listed").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if name == ".ci" || !(name.starts_with('.') || name == "target" || name.starts_with("__")) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name == *ending || name.ends_with(&format!(".{ending}"))) {
                let relative = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                // A file that another process is just replacing is not part of the tree.
                if let Ok(text) = fs::read_to_string(&path) {
                    found.push((relative, text));
                }
            }
        }
    }
    assert!(!found.is_empty(), "no file ends with one of {endings:?}");
    found.sort();
    found.into_iter()
}

/// Collects violations and fails with all of them.
struct Report {
    what: &'static str,
    found: String,
}

impl Report {
    fn new(what: &'static str) -> Self {
        Self { what, found: String::new() }
    }

    fn add(&mut self, place: impl std::fmt::Display, problem: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.found, "  {place}: {problem}");
    }

    fn at(&mut self, path: &str, line: usize, problem: impl std::fmt::Display) {
        self.add(format_args!("{path}:{line}"), problem);
    }

    #[track_caller]
    fn end(self) {
        assert!(self.found.is_empty(), "{}:\n{}", self.what, self.found);
    }
}
