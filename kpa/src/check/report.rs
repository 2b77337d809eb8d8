//! The findings of a check, by file, as text and as JSON.

use crate::output::{count, relative};
use autoscaler_core::Setting;
use autoscaler_core::status::settings;
use domain::host::Domains;
use domain::{Mode, Problem, Refusal, Severity};
use platform::manifest::{Entry, Manifests, Source};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// What a check found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    services: Vec<Service>,
    /// Every finding, sorted by file and line.
    problems: Vec<Finding>,
    /// Objects that are recognised and not used.
    ignored: Vec<Ignored>,
    #[serde(skip)]
    files: usize,
}

/// One service as it would run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    id: String,
    file: String,
    /// The files that patch it, in their order.
    patches: Vec<String>,
    hosts: Vec<String>,
    mode: String,
    command: Vec<String>,
    working_dir: String,
    port: Option<u16>,
    settings: Vec<Setting>,
}

/// One problem, its place taken apart.
#[derive(Debug, Serialize)]
struct Finding {
    #[serde(flatten)]
    place: Place,
    severity: Severity,
    key: String,
    what: String,
    expected: String,
    consequence: String,
}

#[derive(Debug, Serialize)]
struct Ignored {
    #[serde(flatten)]
    place: Place,
    reason: String,
}

/// Where something stands. The order is that of a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Place {
    file: String,
    /// `None`: of the object as a whole.
    line: Option<usize>,
    object: String,
}

impl Report {
    /// `folder` is what file names are shown relative to, where they lie in it.
    pub(super) fn new(sources: &[Source], manifests: &Manifests, problems: &[Problem], folder: &Path) -> Self {
        let places = Places { sources, entries: &manifests.entries, folder };
        let mut problems: Vec<Finding> = problems.iter().map(|problem| Finding::new(problem, &places)).collect();
        problems.sort_by(|a, b| a.place.cmp(&b.place).then(b.severity.cmp(&a.severity)));
        let ignored = manifests.ignored.iter().map(|ignored| {
            let place = places.find(&format!("{} {} {}", ignored.place, ignored.kind, ignored.name));
            Ignored { place, reason: ignored.reason.clone() }
        });
        let domains = manifests.activator.domains();
        Self {
            services: manifests.entries.iter().map(|entry| Service::new(entry, &domains, folder)).collect(),
            problems,
            ignored: ignored.collect(),
            files: sources.len(),
        }
    }

    /// How many errors there are.
    pub(super) fn errors(&self) -> usize {
        self.of(Severity::Error)
    }

    fn of(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The report for people: by file, then by object, then a line of sums.
    pub(super) fn text(&self, verbose: bool) -> String {
        let mut out = String::new();
        if verbose {
            for service in &self.services {
                service.text(&mut out);
            }
        }
        let mut lines: Vec<(&Place, String)> =
            self.problems.iter().map(|finding| (&finding.place, finding.text())).collect();
        lines.extend(self.ignored.iter().map(|found| (&found.place, format!("    not used: {}\n", found.reason))));
        // Stable, so the findings of one place stay in their order.
        lines.sort_by_key(|(place, _)| *place);
        let mut last: Option<&Place> = None;
        for (place, text) in lines {
            if last.is_none_or(|last| last.file != place.file) {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{}", place.file);
            }
            if last != Some(place) {
                let line = place.line.map(|line| line.to_string());
                let words =
                    line.as_deref().into_iter().chain(Some(place.object.as_str()).filter(|text| !text.is_empty()));
                let _ = writeln!(out, "  {}", words.collect::<Vec<_>>().join(" "));
            }
            out.push_str(&text);
            last = Some(place);
        }
        let _ = writeln!(
            out,
            "{} in {}: {}, {}, {}",
            count(self.services.len(), "service"),
            count(self.files, "file"),
            count(self.errors(), "error"),
            count(self.of(Severity::Warning), "warning"),
            count(self.of(Severity::Notice), "notice"),
        );
        out
    }
}

impl Finding {
    fn new(problem: &Problem, places: &Places<'_>) -> Self {
        Self {
            place: places.find(&problem.place),
            severity: problem.severity,
            key: problem.key.clone(),
            what: problem.what.clone(),
            expected: problem.expected.clone(),
            consequence: problem.consequence.clone(),
        }
    }

    fn text(&self) -> String {
        lines(self.severity, [&self.key, &self.what, &self.expected, &self.consequence])
    }
}

/// One problem: key and what is wrong, what would be right, what happens now.
pub(super) fn lines(severity: Severity, [key, what, expected, consequence]: [&str; 4]) -> String {
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    };
    let mut out = format!("    {severity}: {key}: {what}\n");
    if !expected.is_empty() {
        let _ = writeln!(out, "      expected {expected}");
    }
    if !consequence.is_empty() {
        let _ = writeln!(out, "      {consequence}");
    }
    out
}

impl Service {
    fn new(entry: &Entry, domains: &Domains, folder: &Path) -> Self {
        let revision = &entry.revision;
        let own = domains.public_host(&revision.id);
        let prefix = revision.route.path_prefix.as_deref().unwrap_or_default();
        let claimed = revision.route.hosts.iter().map(|host| format!("{host}{prefix}"));
        Self {
            id: revision.id.to_string(),
            file: relative(&entry.path, folder),
            patches: entry.patches.iter().map(|path| relative(path, folder)).collect(),
            hosts: std::iter::once(own).chain(claimed).collect(),
            mode: mode(&revision.mode),
            command: entry.workload.command.clone(),
            working_dir: relative(&entry.workload.working_dir, folder),
            port: entry.workload.port,
            settings: settings(&revision.scaling, &revision.limits),
        }
    }

    fn text(&self, out: &mut String) {
        let port = self.port.map_or_else(|| "told through PORT".to_owned(), |port| port.to_string());
        let mut rows = vec![
            ["hosts", &self.hosts.join(", "), ""],
            ["mode", &self.mode, ""],
            ["command", &self.command.join(" "), ""],
            ["folder", &self.working_dir, ""],
            ["port", &port, ""],
        ]
        .into_iter()
        .map(|row| row.map(ToOwned::to_owned))
        .collect::<Vec<_>>();
        rows.extend(
            self.settings
                .iter()
                .map(|setting| [setting.key.to_owned(), setting.value.clone(), format!("({})", setting.origin)]),
        );
        let patches =
            if self.patches.is_empty() { String::new() } else { format!(", patched by {}", self.patches.join(", ")) };
        let _ = writeln!(out, "{} ({}{patches})", self.id, self.file);
        for [name, value, origin] in rows {
            let line = format!("  {name:38} {value} {origin}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
    }
}

/// How far we may go, in words.
fn mode(mode: &Mode) -> String {
    match mode {
        Mode::Act => "act".into(),
        Mode::Shadow => "shadow: decides and writes nothing".into(),
        Mode::Paused => "paused: routed, not scaled".into(),
        Mode::Refused(Refusal::AnotherAutoscaler(who)) => format!("refused: controlled by {who}"),
        Mode::Refused(Refusal::ForeignClass(class)) => format!("refused: its class is {class}"),
        Mode::Refused(Refusal::NotAnnotated) => "not scaled: it has none of our annotations".into(),
        Mode::Refused(Refusal::Released) => "released: routed, not scaled".into(),
        Mode::Invalid(_) => "invalid: woken and grown, never scaled down until corrected".into(),
        Mode::Removed => "removed: its replicas finish what they have".into(),
    }
}

/// What places are made from.
struct Places<'a> {
    sources: &'a [Source],
    entries: &'a [Entry],
    folder: &'a Path,
}

impl Places<'_> {
    /// A place is `file:line`, `file:line Kind namespace/name`, or only the object where several clash.
    fn find(&self, place: &str) -> Place {
        let of_file = self.sources.iter().find_map(|source| {
            let rest = place.strip_prefix(source.path.to_str()?)?.strip_prefix(':')?;
            Some((source, rest))
        });
        if let Some((source, rest)) = of_file {
            let (line, object) = rest.split_once(' ').unwrap_or((rest, ""));
            let file = relative(&source.path, self.folder);
            return Place { file, line: line.parse().ok(), object: object.to_owned() };
        }
        let of_entry = self.entries.iter().find(|entry| place.ends_with(&format!(" {}", entry.revision.id)));
        let file = of_entry.map_or_else(String::new, |entry| relative(&entry.path, self.folder));
        Place { file, line: None, object: place.to_owned() }
    }
}
