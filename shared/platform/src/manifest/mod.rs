//! Kubernetes YAML to domain types, shared by both platforms.
//!
//! Invariant: pure, and nothing is lost in silence. A document that cannot be read hides none beside it and takes away
//! nothing that was good before (kpa-behaviour 1.6); what is not used is named with its reason.

mod adopt;
mod command;
mod configs;
mod deployment;
mod document;
mod env;
mod expand;
mod fault;
mod foreign;
mod lines;
mod merge;
mod objects;
mod patch;
mod ports;
mod probe;
mod report;
mod schema;
#[cfg(test)]
mod tests;
mod unhonoured;
pub mod workload;

pub use adopt::{Adopted, NotAdopted, Surroundings, adopt};
pub use document::SOURCE_BYTES_MAX;
pub use expand::expand;
pub use workload::{EnvVar, PreStop, Workload};

use domain::defaults::Defaults;
use domain::{ActivatorConfig, Mode, Problem, Revision, RevisionId, Severity};
use objects::Objects;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The resource by which a container asks for GPUs.
const GPU: &str = "nvidia.com/gpu";

/// One file. YAML streams, JSON (`.json`), and `NAME.env`, which stands in for a ConfigMap or Secret called NAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is; its folder is the working directory of what it declares.
    pub path: PathBuf,
    /// What it holds, at most [`SOURCE_BYTES_MAX`] bytes.
    pub text: String,
    /// What it is for.
    pub role: Role,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It declares objects.
    #[default]
    Manifest,
    /// It holds parts of objects, which are merged into those of the manifests as kustomize does it: mappings merge,
    /// `null` removes, the rest replaces, and lists merge by the keys that Kubernetes names for them.
    Patch,
}

/// How manifests are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What to run instead of an image: image, with or without tag, to command line.
    pub images: BTreeMap<String, String>,
    /// What to run instead of any other image; `None` leaves it to the manifest. For readers that run nothing.
    pub any_image: Option<String>,
    /// The namespace of objects that name none. Default `default`.
    pub namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { images: BTreeMap::new(), any_image: None, namespace: "default".into() }
    }
}

impl Options {
    /// The command for an image: by its full name, else without digest, else without tag.
    fn command_for(&self, image: &str) -> Option<&str> {
        let without_digest = image.split_once('@').map_or(image, |(name, _)| name);
        // A colon before the last slash belongs to the registry's port.
        let without_tag = match without_digest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => without_digest,
        };
        let given = [image, without_digest, without_tag].iter().find_map(|name| self.images.get(*name));
        given.or(self.any_image.as_ref()).map(String::as_str)
    }
}

/// One Deployment that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What is routed and scaled.
    pub revision: Arc<Revision>,
    /// How a replica is run.
    pub workload: Workload,
    /// The labels of its pods, `app` with its name among them if the template has none. They need no restart.
    pub labels: BTreeMap<String, String>,
    /// The file that declares it.
    pub path: PathBuf,
    /// The files that patch it, in their order.
    pub patches: Vec<PathBuf>,
}

impl Entry {
    /// The same settings with other problems: what is kept while its new state cannot be read.
    fn with_problems(&self, problems: Vec<Problem>) -> Self {
        let revision = Revision { problems, ..(*self.revision).clone() };
        Self { revision: Arc::new(revision), ..self.clone() }
    }
}

/// An object that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Where it stands: `app.yaml:12`.
    pub place: String,
    /// Its kind.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// Why it is not used.
    pub reason: String,
}

/// What a set of files declares.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Manifests {
    /// What can be run, sorted by identity.
    pub entries: Vec<Entry>,
    /// Problems of files, of our two ConfigMaps, and of objects that are no entries. Those of an entry are in its
    /// revision; [`Self::all_problems`] has both.
    pub problems: Vec<Problem>,
    /// The defaults in force.
    pub defaults: Defaults,
    /// Where the `config-autoscaler` stands that gave the defaults; `None`: they are built in.
    pub config: Option<String>,
    /// The activator's configuration in force.
    pub activator: ActivatorConfig,
    /// Where the `config-activator` stands that gave it; `None`: it is built in.
    pub activator_place: Option<String>,
    /// What was recognised and is not used.
    pub ignored: Vec<Ignored>,
    /// What is wrong with `config-autoscaler` while no good one is known: every entry is invalid meanwhile.
    config_lost: Vec<Problem>,
    /// The patches in force.
    patches: patch::Known,
    /// What is wrong with `config-activator` while no good one is known.
    activator_lost: Vec<Problem>,
    /// The next rank among claimants of a host.
    next_rank: u64,
}

impl Manifests {
    /// Every problem, of entries too.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.entries.iter().flat_map(|entry| &entry.revision.problems))
    }

    /// What is wrong with `config-autoscaler` while no good one is known; every entry is invalid meanwhile.
    #[must_use]
    pub fn config_problems(&self) -> &[Problem] {
        &self.config_lost
    }

    /// What is wrong with `config-activator` while no good one is known; [`Self::activator`] is what of it is right, and
    /// trusts nobody further than that.
    #[must_use]
    pub fn activator_problems(&self) -> &[Problem] {
        &self.activator_lost
    }

    /// The entry of a revision.
    #[must_use]
    pub fn entry(&self, id: &RevisionId) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.revision.id.cmp(id)).ok().map(|at| &self.entries[at])
    }
}

/// Reads files. `previous` is what they, or their last versions, declared: an object that was good keeps its last good
/// settings for whatever is wrong now, and stays when its document cannot be read; one that was never good is
/// `Mode::Invalid`.
#[must_use]
pub fn load(sources: &[Source], options: &Options, previous: Option<&Manifests>) -> Manifests {
    let mut objects = Objects::collect(sources, options, previous);
    let mut out = Manifests { next_rank: previous.map_or(0, |previous| previous.next_rank), ..Manifests::default() };
    objects.configs.defaults(&options.namespace, previous, &mut out);
    out.patches = std::mem::take(&mut objects.patches);
    let unknown: Vec<Problem> = out.config_lost.iter().chain(&objects.patches_lost).cloned().collect();
    objects.configs.activator(&options.namespace, previous, &mut out);
    let context = deployment::Context {
        defaults: &out.defaults.clone(),
        unknown: &unknown,
        refs: &objects.refs,
        services: &objects.services,
        options,
    };
    let mut entries: BTreeMap<RevisionId, Entry> = BTreeMap::new();
    for (document, deployment) in &objects.deployments {
        let (namespace, name) = deployment::identity(&deployment.metadata, options);
        let id = RevisionId::new(&namespace, &name);
        let before = previous.and_then(|previous| previous.entry(&id));
        let rank = before.map_or(out.next_rank, |before| before.revision.route.age_rank);
        match deployment::entry(document, deployment, context, before, rank) {
            Ok(mut entry) => {
                locate_all(document, Arc::make_mut(&mut entry.revision), options);
                out.next_rank = out.next_rank.max(rank + 1);
                entries.insert(id, entry);
            }
            Err(mut unusable) => {
                locate(document, &mut unusable.problems, options);
                objects.problems.extend(unusable.problems);
                objects.ignored.push(Ignored {
                    place: document.place(),
                    kind: "Deployment".into(),
                    name: id.to_string(),
                    reason: unusable.reason,
                });
            }
        }
    }
    for entry in previous.iter().flat_map(|previous| &previous.entries) {
        let id = &entry.revision.id;
        if let Some(problem) = objects.keeps(entry)
            && !entries.contains_key(id)
        {
            let mut problems = entry.revision.problems.clone();
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
            entries.insert(id.clone(), entry.with_problems(problems));
        }
    }
    out.entries = entries.into_values().collect();
    out.problems.extend(objects.problems);
    out.problems.extend(disagreeing_slots(&out.entries));
    out.ignored = objects.ignored;
    out
}

/// Says of every problem of a Deployment in which file and line its key stands.
fn locate(document: &document::Document, problems: &mut [Problem], options: &Options) {
    let object = document.object(&options.namespace);
    for problem in problems.iter_mut().filter(|problem| problem.place == object) {
        problem.place = document.place_of(&problem.key, &object);
    }
}

fn locate_all(document: &document::Document, revision: &mut Revision, options: &Options) {
    locate(document, &mut revision.problems, options);
    if let Mode::Invalid(problems) = &mut revision.mode {
        locate(document, problems, options);
    }
}

/// What is said of members of an exclusive group that name more slots than another one does.
fn disagreeing_slots(entries: &[Entry]) -> Vec<Problem> {
    let members = || {
        entries.iter().filter_map(|Entry { revision, .. }| {
            let group = revision.scaling.exclusive_group.as_deref()?;
            Some(((revision.id.namespace(), group), &**revision))
        })
    };
    let slots = |revision: &Revision| *revision.scaling.exclusive_slots;
    let mut fewest: BTreeMap<(&str, &str), &Revision> = BTreeMap::new();
    for (group, revision) in members() {
        let least = fewest.entry(group).or_insert(revision);
        if slots(revision) < slots(least) {
            *least = revision;
        }
    }
    let disagrees = |(group, revision): ((&str, &str), &Revision)| {
        let least = fewest.get(&group).filter(|least| slots(least) < slots(revision))?;
        Some(Problem {
            severity: Severity::Warning,
            place: format!("{} {}", revision.target.kind, revision.id),
            key: "kpa.dev/exclusive-slots".into(),
            what: format!("{} disagrees with {}, which says {}", slots(revision), least.id, slots(least)),
            expected: format!("the same number in every member of group {}", group.1),
            consequence: format!("the smallest one, {}, counts", slots(least)),
        })
    };
    members().filter_map(disagrees).collect()
}
