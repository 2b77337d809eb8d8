//! Files from which other tools make manifests: named once a folder, with what to do instead.
//!
//! Invariant: what can be read as a manifest is read as one.

use domain::{Problem, Severity};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What kustomize calls its objects' group.
const KUSTOMIZE_GROUP: &str = "kustomize.config.k8s.io/";

/// Files of other tools that were found.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// Folders with Helm templates: the place of the first, and how many there are.
    templates: BTreeMap<PathBuf, (String, usize)>,
    notices: Vec<Problem>,
}

impl Foreign {
    /// Whether `path` belongs to another tool, `chart` being true where a Helm chart lies beside it.
    pub(super) fn takes(&mut self, path: &Path, chart: bool) -> bool {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match name.as_str() {
            "kustomization.yaml" | "kustomization.yml" => self.kustomization(path),
            "Chart.yaml" => {
                let expected = format!("helm template NAME {} | kpa run -", folder(path).display());
                let what = "is a Helm chart, which is not rendered here";
                self.notices.push(notice(&format!("{}:1", path.display()), what, expected, "nothing of it is run"));
            }
            // Told with the chart.
            values if chart && values.starts_with("values") => {}
            _ => return false,
        }
        true
    }

    /// Whether an object is one of another tool.
    pub(super) fn takes_object(&mut self, path: &Path, api_version: &str) -> bool {
        let taken = api_version.starts_with(KUSTOMIZE_GROUP);
        if taken {
            self.kustomization(path);
        }
        taken
    }

    fn kustomization(&mut self, path: &Path) {
        let expected = format!(
            "kustomize build {} | kpa run -, or a manifest and --patch PATCH.yaml for each of its patches",
            folder(path).display()
        );
        let what = "is a kustomization, which is not built here";
        let consequence = "other files of its folder are read as they stand";
        self.notices.push(notice(&format!("{}:1", path.display()), what, expected, consequence));
    }

    /// Remembers a Helm template that cannot be read.
    pub(super) fn template(&mut self, path: &Path) {
        let first = || (format!("{}:1", path.display()), 0);
        self.templates.entry(folder(path).to_owned()).or_insert_with(first).1 += 1;
    }

    /// One notice for each tool and folder.
    pub(super) fn into_notices(self) -> Vec<Problem> {
        let mut notices = self.notices;
        for (folder, (place, count)) in self.templates {
            let what = match count {
                1 => "is a Helm template ({{ … }}), which is not rendered here".to_owned(),
                more => {
                    format!("is one of {more} Helm templates ({{{{ … }}}}) in this folder, which are not rendered here")
                }
            };
            // Templates stand in a folder of their own inside of the chart.
            let chart = match folder.file_name() {
                Some(name) if name == "templates" => folder.parent().unwrap_or(&folder),
                _ => &folder,
            };
            let expected = format!("helm template NAME {} | kpa run -", chart.display());
            notices.push(notice(&place, &what, expected, "nothing of it is run; what was declared before stays"));
        }
        notices
    }
}

/// Whether what cannot be read at a line of `text`, from 1, is an instruction of a template.
pub(super) fn is_template(text: &str, line: usize) -> bool {
    let instructs = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        line.starts_with("{{") || line.split_once(": ").is_some_and(|(_, value)| value.trim_start().starts_with("{{"))
    };
    // A parser may notice on the next line.
    text.lines().skip(line.saturating_sub(2)).take(2).any(instructs)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn notice(place: &str, what: &str, expected: String, consequence: &str) -> Problem {
    Problem {
        severity: Severity::Notice,
        place: place.into(),
        key: "document".into(),
        what: what.into(),
        expected,
        consequence: consequence.into(),
    }
}
