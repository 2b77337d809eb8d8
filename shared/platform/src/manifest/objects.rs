//! Everything that files declare, sorted by kind.
//!
//! Invariant: every object ends in one of the lists, in `ignored` with a reason, or in `problems`.

use super::deployment::identity;
use super::document::{Document, Fault, documents};
use super::env::{References, env_file};
use super::{Entry, Ignored, Manifests, Options, Source};
use domain::activator_config::{CONFIG_MAP as ACTIVATOR_MAP, Wrong};
use domain::defaults::{CONFIG_MAP, Defaults};
use domain::{ActivatorConfig, Problem, Severity};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How deep a `List` may hold lists.
const LIST_DEPTH_MAX: usize = 4;

/// What a ConfigMap holds.
type Data = BTreeMap<String, String>;

/// What was found of a ConfigMap of ours.
#[derive(Debug)]
struct Config {
    name: &'static str,
    /// Where the first one stands, and its data or what is wrong with it.
    first: Option<(String, Result<Data, Problem>)>,
    /// A document that cannot be read, in a file that speaks of it: it may be the one.
    suspect: Option<Problem>,
}

impl Config {
    const fn new(name: &'static str) -> Self {
        Self { name, first: None, suspect: None }
    }

    /// Where it stands.
    fn place(&self) -> Option<String> {
        self.first.as_ref().map(|(place, _)| place.clone())
    }

    /// Place and data; nothing when there is none. A document that cannot be read has been reported with its file.
    fn data(&self) -> Result<Option<(&str, &Data)>, &Problem> {
        match (&self.first, &self.suspect) {
            (None, None) => Ok(None),
            (Some((_, Err(problem))), _) | (None, Some(problem)) => Err(problem),
            (Some((place, Ok(data))), _) => Ok(Some((place, data))),
        }
    }
}

/// Objects by kind.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) deployments: Vec<(Document, Deployment)>,
    /// With their namespaces.
    pub(super) services: Vec<(String, Service)>,
    pub(super) refs: References,
    pub(super) problems: Vec<Problem>,
    pub(super) ignored: Vec<Ignored>,
    /// `config-autoscaler`.
    autoscaler: Config,
    /// `config-activator`.
    activator: Config,
    /// Files that hold a document that could not be read, with the problem.
    broken: BTreeMap<PathBuf, Problem>,
    /// Where each named object was first seen.
    seen: BTreeMap<(String, String, String), String>,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            deployments: Vec::new(),
            services: Vec::new(),
            refs: References::default(),
            problems: Vec::new(),
            ignored: Vec::new(),
            autoscaler: Config::new(CONFIG_MAP),
            activator: Config::new(ACTIVATOR_MAP),
            broken: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }
}

impl Objects {
    /// Sorts the documents of all files.
    pub(super) fn collect(sources: &[Source], options: &Options) -> Self {
        let mut objects = Self::default();
        for source in sources {
            if source.path.extension().is_some_and(|extension| extension == "env") {
                let stem = source.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                objects.refs.env_files.insert(stem.unwrap_or_default(), env_file(&source.text));
                continue;
            }
            for document in documents(&source.path, &source.text) {
                match document {
                    Ok(document) => objects.sort(document, options, 0),
                    Err(fault) => {
                        let problem = objects.break_file(&source.path, fault);
                        for config in [&mut objects.autoscaler, &mut objects.activator] {
                            if source.text.contains(config.name) {
                                config.suspect.get_or_insert_with(|| problem.clone());
                            }
                        }
                    }
                }
            }
        }
        objects
    }

    fn sort(&mut self, document: Document, options: &Options, depth: usize) {
        let (version, kind) = (document.text_at("/apiVersion").to_owned(), document.text_at("/kind").to_owned());
        match (version.as_str(), kind.as_str()) {
            (_, "") => {
                let fault = Fault { line: document.line, what: "is no Kubernetes object: it has no kind".into() };
                self.break_file(&document.path, fault);
            }
            (_, list) if list.ends_with("List") && document.value.get("items").is_some() => {
                let items = document.items().filter(|_| depth < LIST_DEPTH_MAX);
                match items {
                    Some(items) => items.into_iter().for_each(|item| self.sort(item, options, depth + 1)),
                    None => {
                        let fault = Fault { line: document.line, what: "has items that are no list".into() };
                        self.break_file(&document.path, fault);
                    }
                }
            }
            ("apps/v1", "Deployment") => {
                if let Some(deployment) = self.decode::<Deployment>(&document)
                    && self.first(&document, &kind, &identity(&deployment.metadata, options))
                {
                    self.deployments.push((document, deployment));
                }
            }
            ("v1", "Service") => {
                if let Some(service) = self.decode::<Service>(&document) {
                    let id = identity(&service.metadata, options);
                    if self.first(&document, &kind, &id) {
                        self.services.push((id.0, service));
                    }
                }
            }
            ("v1", "ConfigMap") => self.config_map(&document, options),
            ("v1", "Secret") => {
                if let Some(secret) = self.decode::<Secret>(&document) {
                    let id = identity(&secret.metadata, options);
                    if self.first(&document, &kind, &id) {
                        let data = self.secret_data(&document, secret);
                        self.refs.secrets.insert(id, data);
                    }
                }
            }
            _ => self.ignore(&document, &version, kind, options),
        }
    }

    fn config_map(&mut self, document: &Document, options: &Options) {
        let decoded = document.decode::<ConfigMap>();
        let name = document.text_at("/metadata/name").to_owned();
        match decoded {
            Ok(map) => {
                let id = identity(&map.metadata, options);
                if !self.first(document, "ConfigMap", &id) {
                    return;
                }
                let data = map.data.unwrap_or_default();
                let place = format!("{} ConfigMap {}/{}", document.place(), id.0, id.1);
                match self.config(&name) {
                    None => {
                        self.refs.config_maps.insert(id, data);
                    }
                    Some(config) if config.first.is_none() => config.first = Some((place, Ok(data))),
                    Some(config) => {
                        let reason = format!("there is another {} before it", config.name);
                        let (place, name) = (document.place(), format!("{}/{}", id.0, id.1));
                        self.ignored.push(Ignored { place, kind: "ConfigMap".into(), name, reason });
                    }
                }
            }
            Err(fault) => {
                let problem = self.break_file(&document.path, fault);
                if let Some(config) = self.config(&name)
                    && config.first.is_none()
                {
                    config.first = Some((document.place(), Err(problem)));
                }
            }
        }
    }

    /// The ConfigMap of ours that is called `name`.
    fn config(&mut self, name: &str) -> Option<&mut Config> {
        [&mut self.autoscaler, &mut self.activator].into_iter().find(|config| config.name == name)
    }

    /// `data` in base64 and `stringData`, which wins.
    fn secret_data(&mut self, document: &Document, secret: Secret) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        for (key, value) in secret.data.into_iter().flatten() {
            match String::from_utf8(value.0) {
                Ok(text) => {
                    data.insert(key, text);
                }
                Err(_) => self.problems.push(Problem {
                    severity: Severity::Warning,
                    place: document.place(),
                    key: format!("data[{key:?}]"),
                    what: "is not text, and an environment holds only text".into(),
                    expected: String::new(),
                    consequence: "variables that refer to it are not set".into(),
                }),
            }
        }
        data.extend(secret.string_data.into_iter().flatten());
        data
    }

    /// The typed object, or a broken file.
    fn decode<T: DeserializeOwned>(&mut self, document: &Document) -> Option<T> {
        match document.decode() {
            Ok(object) => Some(object),
            Err(fault) => {
                self.break_file(&document.path, fault);
                None
            }
        }
    }

    /// Whether this is the first object of its kind and name; reports it otherwise.
    fn first(&mut self, document: &Document, kind: &str, (namespace, name): &(String, String)) -> bool {
        let key = (kind.to_owned(), namespace.clone(), name.clone());
        if let Some(first) = self.seen.get(&key) {
            self.problems.push(Problem {
                severity: Severity::Error,
                place: document.place(),
                key: "metadata.name".into(),
                what: format!("{kind} {namespace}/{name} is declared twice"),
                expected: "one declaration".into(),
                consequence: format!("the one at {first} counts"),
            });
            return false;
        }
        self.seen.insert(key, document.place());
        true
    }

    fn break_file(&mut self, path: &Path, fault: Fault) -> Problem {
        let problem = Problem {
            severity: Severity::Error,
            place: format!("{}:{}", path.display(), fault.line),
            key: "document".into(),
            what: fault.what,
            expected: String::new(),
            consequence: "it is left out; what it declared before stays as it was".into(),
        };
        self.broken.entry(path.to_owned()).or_insert_with(|| problem.clone());
        self.problems.push(problem.clone());
        problem
    }

    /// Why `entry` stays although nothing declares it now: its file holds something that cannot be read.
    pub(super) fn keeps(&self, entry: &Entry) -> Option<&Problem> {
        self.broken.get(&entry.path)
    }

    /// Sets the defaults in force, those of `config-autoscaler` or the last good ones.
    pub(super) fn defaults(&self, previous: Option<&Manifests>, out: &mut Manifests) {
        let read = match self.autoscaler.data() {
            Ok(None) => Ok(Defaults::default()),
            Ok(Some((place, data))) => Defaults::from_map(place, data).map_err(|problems| (problems, true)),
            Err(problem) => Err((vec![problem.clone()], false)),
        };
        match read {
            Ok(defaults) => {
                out.problems.extend(defaults.warnings.iter().cloned());
                out.defaults = defaults;
                out.config = self.autoscaler.place();
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
    pub(super) fn activator(&self, previous: Option<&Manifests>, out: &mut Manifests) {
        let wrong = match self.activator.data() {
            Ok(None) => return,
            Ok(Some((place, data))) => match ActivatorConfig::from_map(place, data) {
                Ok(config) => {
                    out.problems.extend(config.warnings.iter().cloned());
                    (out.activator, out.activator_place) = (config, self.activator.place());
                    return;
                }
                Err(wrong) => {
                    out.problems.extend(wrong.problems.iter().cloned());
                    *wrong
                }
            },
            Err(problem) => Wrong { problems: vec![problem.clone()], meanwhile: ActivatorConfig::cautious() },
        };
        if let Some(previous) = previous.filter(|previous| previous.activator_lost.is_empty()) {
            out.activator = previous.activator.clone();
            out.activator_place.clone_from(&previous.activator_place);
        } else {
            (out.activator, out.activator_place) = (wrong.meanwhile, self.activator.place());
            out.activator_lost = wrong.problems;
            out.activator_lost.retain(|problem| problem.severity == Severity::Error);
        }
    }

    fn ignore(&mut self, document: &Document, version: &str, kind: String, options: &Options) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let reason = match (group, kind.as_str()) {
            ("autoscaling", "HorizontalPodAutoscaler") => {
                "HorizontalPodAutoscalers are served in a later release; its target is not scaled by it"
            }
            ("serving.kserve.io", _) => "InferenceServices are served in a later release; write a Deployment",
            ("serving.knative.dev", _) => "Knative's own objects are not run; write a Deployment",
            ("keda.sh" | "http.keda.sh", _) => "KEDA's objects are not read; its target is not scaled by it",
            (_, "Deployment") => "only apiVersion apps/v1 is read",
            (_, "StatefulSet" | "ReplicaSet" | "DaemonSet" | "Pod" | "Job" | "CronJob") => {
                "only Deployments are run in this release"
            }
            _ => "it has no meaning on one machine",
        };
        let named = |pointer, default: &str| match document.text_at(pointer) {
            "" => default.to_owned(),
            text => text.chars().take(253).collect(),
        };
        let name = format!("{}/{}", named("/metadata/namespace", &options.namespace), named("/metadata/name", "?"));
        self.ignored.push(Ignored { place: document.place(), kind, name, reason: reason.into() });
    }
}
