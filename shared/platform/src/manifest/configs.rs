//! The two ConfigMaps that configure us, among the objects of the manifests.
//!
//! Invariant: a map that cannot be read, or that may hide in a file that cannot be, changes nothing; while no good one was
//! ever known, the safest is in force.

use super::Manifests;
use super::document::Document;
use domain::activator_config::{CONFIG_MAP as ACTIVATOR_MAP, Wrong};
use domain::defaults::{CONFIG_MAP, Defaults};
use domain::{ActivatorConfig, Problem, Severity};
use std::collections::BTreeMap;

/// What a ConfigMap holds.
pub(super) type Data = BTreeMap<String, String>;

/// What was found of a ConfigMap of ours.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: &'static str,
    /// The first one, and its data or what is wrong with it.
    pub(super) first: Option<(Document, Result<Data, Problem>)>,
    /// A document that cannot be read, in a file that speaks of it: it may be the one.
    suspect: Option<Problem>,
}

impl Config {
    const fn new(name: &'static str) -> Self {
        Self { name, first: None, suspect: None }
    }

    /// Where it stands.
    fn place(&self, namespace: &str) -> Option<String> {
        self.first.as_ref().map(|(document, _)| format!("{} {}", document.place(), document.object(namespace)))
    }

    /// The document and its data; nothing when there is none. One that cannot be read has been reported with its file.
    fn data(&self) -> Result<Option<(&Document, &Data)>, &Problem> {
        match (&self.first, &self.suspect) {
            (None, None) => Ok(None),
            (Some((_, Err(problem))), _) | (None, Some(problem)) => Err(problem),
            (Some((document, Ok(data))), _) => Ok(Some((document, data))),
        }
    }
}

/// Gives each problem the line of its key.
fn locate(document: &Document, object: &str, problems: &mut [Problem]) {
    for problem in problems {
        problem.place = document.place_of(&problem.key, object);
    }
}

/// The defaults of a `config-autoscaler`; otherwise its problems, which are not reported yet.
fn config_defaults(namespace: &str, document: &Document, data: &Data) -> Result<Defaults, (Vec<Problem>, bool)> {
    let object = document.object(namespace);
    match Defaults::from_map(&object, data) {
        Ok(mut defaults) => {
            locate(document, &object, &mut defaults.warnings);
            Ok(defaults)
        }
        Err(mut problems) => {
            locate(document, &object, &mut problems);
            Err((problems, true))
        }
    }
}

/// Both of them.
#[derive(Debug)]
pub(super) struct Configs {
    autoscaler: Config,
    activator: Config,
}

impl Default for Configs {
    fn default() -> Self {
        Self { autoscaler: Config::new(CONFIG_MAP), activator: Config::new(ACTIVATOR_MAP) }
    }
}

impl Configs {
    /// The one that is called `name`.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut Config> {
        [&mut self.autoscaler, &mut self.activator].into_iter().find(|config| config.name == name)
    }

    /// A document of a file that holds `text` cannot be read: it may be one of them.
    pub(super) fn suspect(&mut self, text: &str, problem: &Problem) {
        for config in [&mut self.autoscaler, &mut self.activator] {
            if text.contains(config.name) {
                config.suspect.get_or_insert_with(|| problem.clone());
            }
        }
    }

    /// Sets the defaults in force, those of `config-autoscaler` or the last good ones.
    pub(super) fn defaults(&self, namespace: &str, previous: Option<&Manifests>, out: &mut Manifests) {
        let read = match self.autoscaler.data() {
            Ok(None) => Ok(Defaults::default()),
            Ok(Some((document, data))) => config_defaults(namespace, document, data),
            // Reported with its file.
            Err(problem) => Err((vec![problem.clone()], false)),
        };
        match read {
            Ok(defaults) => {
                out.problems.extend(defaults.warnings.iter().cloned());
                out.defaults = defaults;
                out.config = self.autoscaler.place(namespace);
            }
            Err((problems, report)) => {
                match previous.filter(|previous| previous.config_lost.is_empty()) {
                    Some(previous) => {
                        out.defaults = previous.defaults.clone();
                        out.config.clone_from(&previous.config);
                    }
                    None => {
                        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
                        out.config_lost = errors.cloned().collect();
                    }
                }
                if report {
                    out.problems.extend(problems);
                }
            }
        }
    }

    /// Sets the activator's configuration in force, that of `config-activator` or the last good one.
    pub(super) fn activator(&self, namespace: &str, previous: Option<&Manifests>, out: &mut Manifests) {
        let wrong = match self.activator.data() {
            Ok(None) => return,
            Ok(Some((document, data))) => {
                let object = document.object(namespace);
                match ActivatorConfig::from_map(&object, data) {
                    Ok(mut config) => {
                        locate(document, &object, &mut config.warnings);
                        out.problems.extend(config.warnings.iter().cloned());
                        (out.activator, out.activator_place) = (config, self.activator.place(namespace));
                        return;
                    }
                    Err(mut wrong) => {
                        locate(document, &object, &mut wrong.problems);
                        out.problems.extend(wrong.problems.iter().cloned());
                        *wrong
                    }
                }
            }
            Err(problem) => Wrong { problems: vec![problem.clone()], meanwhile: ActivatorConfig::cautious() },
        };
        if let Some(previous) = previous.filter(|previous| previous.activator_lost.is_empty()) {
            out.activator = previous.activator.clone();
            out.activator_place.clone_from(&previous.activator_place);
        } else {
            (out.activator, out.activator_place) = (wrong.meanwhile, self.activator.place(namespace));
            out.activator_lost = wrong.problems;
            out.activator_lost.retain(|problem| problem.severity == Severity::Error);
        }
    }
}
