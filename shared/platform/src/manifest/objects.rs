//! Everything that files declare, sorted by kind.
//!
//! Invariant: every object ends in one of the lists, in `ignored` with a reason, or in `problems`.

use super::configs::Configs;
use super::deployment::identity;
use super::document::{Document, documents};
use super::env::{References, env_file};
use super::fault::Fault;
use super::foreign::{Foreign, is_template};
use super::patch;
use super::{Entry, Ignored, Manifests, Options, Role, Source};
use domain::{Problem, RevisionId, Severity};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What becomes of a document that cannot be read.
const UNREADABLE: &str = "it is left out; what it declared before stays as it was";

/// Objects by kind.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) deployments: Vec<(Document, Deployment)>,
    /// With their namespaces.
    pub(super) services: Vec<(String, Service)>,
    pub(super) refs: References,
    pub(super) problems: Vec<Problem>,
    pub(super) ignored: Vec<Ignored>,
    /// `config-autoscaler` and `config-activator`.
    pub(super) configs: Configs,
    /// What patches are in force, and what is wrong with those that could never be read.
    pub(super) patches: patch::Known,
    pub(super) patches_lost: Vec<Problem>,
    /// The namespace of objects that name none.
    namespace: String,
    /// Files that hold a document that could not be read, with the problem.
    broken: BTreeMap<PathBuf, Problem>,
    /// Where each named object was first seen.
    seen: BTreeMap<(String, String, String), String>,
}

impl Objects {
    /// Sorts the documents of all files, patched.
    pub(super) fn collect(sources: &[Source], options: &Options, previous: Option<&Manifests>) -> Self {
        let mut objects = Self { namespace: options.namespace.clone(), ..Self::default() };
        let mut read = objects.read(sources);
        let is_kept = |patch: &Document| {
            let named = |pointer, default| match patch.text_at(pointer) {
                "" => default,
                text => text,
            };
            let id = RevisionId::new(named("/metadata/namespace", &options.namespace), named("/metadata/name", "?"));
            let entry = previous.and_then(|previous| previous.entry(&id));
            patch.text_at("/kind") == "Deployment" && entry.is_some_and(|entry| objects.keeps(entry).is_some())
        };
        let before = previous.map(|previous| &previous.patches);
        let patched = patch::apply(sources, &mut read, &options.namespace, before, is_kept);
        objects.problems.extend(patched.problems);
        (objects.patches, objects.patches_lost) = (patched.known, patched.lost);
        // A patch that lies beside what it patches is no second declaration of it.
        let whole: BTreeSet<String> = read
            .iter()
            .filter(|document| !document.is_part())
            .map(|document| document.object(&options.namespace))
            .collect();
        for document in read {
            if document.is_part() && whole.contains(&document.object(&options.namespace)) {
                objects.not_used(&document, "it is a part of a Deployment: give it with --patch to have it applied");
            } else {
                objects.sort(document, options);
            }
        }
        objects
    }

    /// The documents of all files that are no patches.
    fn read(&mut self, sources: &[Source]) -> Vec<Document> {
        let manifests = || sources.iter().filter(|source| source.role == Role::Manifest);
        let charts: BTreeSet<Option<&Path>> =
            manifests().filter(|s| s.path.ends_with("Chart.yaml")).map(|s| s.path.parent()).collect();
        let mut foreign = Foreign::default();
        let mut read = Vec::new();
        for source in manifests() {
            if source.path.extension().is_some_and(|extension| extension == "env") {
                self.env_file(source);
                continue;
            }
            if foreign.takes(&source.path, charts.contains(&source.path.parent())) {
                continue;
            }
            let mut faults = Vec::new();
            for document in documents(&source.path, &source.text, &self.namespace) {
                match document {
                    Ok(document) if foreign.takes_object(&source.path, document.text_at("/apiVersion")) => {}
                    Ok(document) => read.push(document),
                    Err(fault) => faults.push(fault),
                }
            }
            if faults.iter().any(|fault| is_template(&source.text, fault.line)) {
                foreign.template(&source.path);
                let fault = Fault::whole(1, "is a Helm template", "what helm template makes of it");
                self.broken.insert(source.path.clone(), fault.into_problem(&source.path, UNREADABLE));
                continue;
            }
            for fault in faults {
                let problem = self.break_file(&source.path, &source.path, fault);
                self.configs.suspect(&source.text, &problem);
            }
        }
        self.problems.extend(foreign.into_notices());
        read
    }

    fn env_file(&mut self, source: &Source) {
        let (data, wrong) = env_file(&source.text);
        let stem = source.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        self.refs.env_files.insert(stem.unwrap_or_default(), data);
        // Their text may be secret.
        self.problems.extend(wrong.into_iter().map(|line| Problem {
            severity: Severity::Warning,
            place: format!("{}:{line}", source.path.display()),
            key: "line".into(),
            what: "is no variable".into(),
            expected: "NAME=VALUE, or # and a remark".into(),
            consequence: "it is left out".into(),
        }));
    }

    fn sort(&mut self, document: Document, options: &Options) {
        let (version, kind) = (document.text_at("/apiVersion").to_owned(), document.text_at("/kind").to_owned());
        match (version.as_str(), kind.as_str()) {
            (_, "") => {
                let what = "is no Kubernetes object: it has no kind";
                let fault = Fault::whole(document.line, what, "apiVersion, kind and metadata.name");
                self.break_file(&document.path, &document.path, Fault { key: "kind".into(), ..fault });
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
            ("v1", "ConfigMap") => self.config_map(document, options),
            ("v1", "Secret") => {
                if let Some(secret) = self.decode::<Secret>(&document) {
                    let id = identity(&secret.metadata, options);
                    if self.first(&document, &kind, &id) {
                        let data = self.secret_data(&document, secret);
                        self.refs.secrets.insert(id, data);
                    }
                }
            }
            _ => self.ignore(&document, &version, &kind),
        }
    }

    fn config_map(&mut self, document: Document, options: &Options) {
        let name = document.text_at("/metadata/name").to_owned();
        match document.decode::<ConfigMap>(&self.namespace) {
            Ok(map) => {
                let id = identity(&map.metadata, options);
                if !self.first(&document, "ConfigMap", &id) {
                    return;
                }
                let data = map.data.unwrap_or_default();
                match self.configs.named(&name) {
                    None => {
                        self.refs.config_maps.insert(id, data);
                    }
                    Some(config) if config.first.is_none() => config.first = Some((document, Ok(data))),
                    Some(config) => {
                        let reason = format!("there is another {} before it", config.name);
                        self.not_used(&document, &reason);
                    }
                }
            }
            Err(fault) => {
                let (path, fault) = *fault;
                let problem = self.break_file(&document.path, &path, fault);
                if let Some(config) = self.configs.named(&name)
                    && config.first.is_none()
                {
                    config.first = Some((document, Err(problem)));
                }
            }
        }
    }

    /// `data` in base64 and `stringData`, which wins.
    fn secret_data(&mut self, document: &Document, secret: Secret) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        for (key, value) in secret.data.into_iter().flatten() {
            match String::from_utf8(value.0) {
                Ok(text) => {
                    data.insert(key, text);
                }
                Err(_) => {
                    let key = format!("data[{key:?}]");
                    self.problems.push(Problem {
                        severity: Severity::Warning,
                        place: document.place_of(&key, &document.object(&self.namespace)),
                        key,
                        what: "is not text, and an environment holds only text".into(),
                        expected: "text in base64".into(),
                        consequence: "variables that refer to it are not set".into(),
                    });
                }
            }
        }
        data.extend(secret.string_data.into_iter().flatten());
        data
    }

    /// The typed object, or a broken file.
    fn decode<T: DeserializeOwned>(&mut self, document: &Document) -> Option<T> {
        match document.decode(&self.namespace) {
            Ok(object) => Some(object),
            Err(fault) => {
                let (path, fault) = *fault;
                self.break_file(&document.path, &path, fault);
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
                place: document.place_of("metadata.name", &document.object(&self.namespace)),
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

    /// Remembers that `path` declares something that cannot be read, which is said of `file`: the same, or a patch.
    fn break_file(&mut self, path: &Path, file: &Path, fault: Fault) -> Problem {
        let problem = fault.into_problem(file, UNREADABLE);
        self.broken.entry(path.to_owned()).or_insert_with(|| problem.clone());
        self.problems.push(problem.clone());
        problem
    }

    /// Why `entry` stays although nothing declares it now: its file holds something that cannot be read.
    pub(super) fn keeps(&self, entry: &Entry) -> Option<&Problem> {
        self.broken.get(&entry.path)
    }

    fn ignore(&mut self, document: &Document, version: &str, kind: &str) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let reason = match (group, kind) {
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
        self.not_used(document, reason);
    }

    fn not_used(&mut self, document: &Document, reason: &str) {
        let object = document.object(&self.namespace);
        let (kind, name) = object.split_once(' ').unwrap_or(("?", &object));
        self.ignored.push(Ignored {
            place: document.place(),
            kind: kind.into(),
            name: name.into(),
            reason: reason.into(),
        });
    }
}
