//! What the cluster shows, put together: objects in, changes of revisions out.
//!
//! Invariant: pure and level-triggered. A revision's changes follow from the objects as they are now, in whatever order
//! they came; what was told already is not told again.

mod led;
mod pods;
mod read;
mod services;
mod users;

use crate::objects::{Published, Released};
use crate::peers::Door;
use crate::takeover::{Judged, judge};
use crate::trim::{Behind, Key, Rival, Workload, key};
use domain::defaults::Defaults;
use domain::{Change, Endpoint, Foreign, Problem, Replicas, ReporterId, Revision, RevisionId, Severity, Trouble};
use k8s_openapi::api::core::v1::Service;
use led::Claim;
use platform::manifest::{Adopted, NotAdopted, Surroundings, adopt};
use pods::Pods;
use services::Services;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use users::Users;

/// Something that a watch saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<T> {
    /// The object as it is now.
    Is(T),
    /// It is gone.
    Gone(Key),
    /// Everything there is has been seen.
    Listed,
}

/// What a watch of the autoscaler saw.
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Deployments that carry an annotation of ours; `Gone` for those that carry none any more.
    Workload(Seen<Workload>),
    /// Services.
    Service(Seen<Service>),
    /// Pods.
    Pod(Seen<crate::trim::Pod>),
    /// Other autoscalers.
    Rival(Seen<Rival>),
    /// Our own objects.
    Published(Seen<Published>),
    /// `config-autoscaler`.
    Config(Seen<BTreeMap<String, String>>),
    /// The activators, complete each time.
    Activators(Vec<ReporterId>),
    /// Where requests get in, complete each time.
    Doors(Vec<Door>),
    /// Slices behind Services; only told where these may be taken over.
    Slice(Seen<Behind>),
    /// A namespace that is selected; only told where some are.
    Namespace(Seen<Key>),
}

/// The kinds that are listed before anything is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Workload,
    Service,
    Pod,
    Rival,
    Published,
    Config,
    Activators,
    Namespace,
    Slice,
}

/// How many there are, without namespaces and slices, which are not always looked at.
const KINDS: usize = 7;

/// A workload that carries annotations of ours.
#[derive(Debug)]
struct Known {
    workload: Workload,
    adopted: Result<Adopted, NotAdopted>,
    judged: Judged,
    /// What it claimed when it was last read.
    claim: Option<Claim>,
    told: Told,
}

/// What was told of a revision.
#[derive(Debug, Default)]
struct Told {
    revision: Option<Arc<Revision>>,
    counts: Option<Counts>,
    endpoints: Option<Arc<[Endpoint]>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Counts {
    requested: Replicas,
    ready: Replicas,
    terminating: Replicas,
    trouble: Option<Trouble>,
    foreign: Option<Foreign>,
}

/// The cluster as the autoscaler sees it.
#[derive(Debug, Default)]
pub struct Picture {
    listed: BTreeSet<Kind>,
    told_synced: bool,
    defaults: Defaults,
    /// What is wrong with `config-autoscaler` while no good one is known.
    unknown: Vec<Problem>,
    config_known: bool,
    config_problems: Vec<Problem>,
    workloads: BTreeMap<Key, Known>,
    services: Services,
    users: Users,
    pods: Pods,
    rivals: BTreeMap<Key, Rival>,
    published: BTreeMap<Key, Published>,
    activators: Option<Vec<ReporterId>>,
    /// Where requests get in; the last ones while no activator is ready.
    doors: Vec<Door>,
    /// Whether Services may be taken over, and slices are looked at.
    takes_over: bool,
    /// Slices by namespace and Service, then by name.
    behind: BTreeMap<Key, BTreeMap<String, Behind>>,
    /// The Service of each slice.
    service_of: BTreeMap<Key, String>,
    /// Namespaces whose workloads are looked at; `None`: all.
    selected: Option<BTreeSet<String>>,
    dirty: BTreeSet<Key>,
    ahead: Vec<Change>,
    version: u64,
}

impl Picture {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the workloads of selected namespaces only, which are told as news.
    #[must_use]
    pub fn selecting() -> Self {
        Self { selected: Some(BTreeSet::new()), ..Self::default() }
    }

    /// Takes in what a watch saw.
    pub fn take(&mut self, news: News) {
        match news {
            News::Workload(Seen::Is(workload)) => self.workload(workload),
            News::Workload(Seen::Gone(key)) => {
                if let Some(known) = self.workloads.remove(&key) {
                    if self.takes_over && known.claim.is_some() {
                        self.dirty_namespace(&key.0);
                    }
                    self.pods.forget(&key);
                    self.users.remove(&key, known.labels());
                    self.users.forget(&key);
                    if known.told.revision.is_some() {
                        self.ahead.push(Change::Deleted(RevisionId::new(&key.0, &key.1)));
                    }
                    self.dirty.insert(key);
                }
            }
            News::Service(Seen::Is(service)) => {
                let namespace = service.metadata.namespace.clone().unwrap_or_default();
                self.dirty_users(&namespace, &service);
                let before = self.services.set(service);
                before.iter().for_each(|before| self.dirty_users(&namespace, before));
            }
            News::Service(Seen::Gone((namespace, name))) => {
                let before = self.services.remove(&namespace, &name);
                before.iter().for_each(|before| self.dirty_users(&namespace, before));
            }
            News::Pod(Seen::Is(pod)) => self.dirty.extend(self.pods.set(pod)),
            News::Pod(Seen::Gone(key)) => self.dirty.extend(self.pods.remove(&key)),
            News::Rival(Seen::Is(rival)) => {
                let before = self.rivals.insert(rival.key.clone(), rival.clone());
                for rival in before.iter().chain([&rival]) {
                    self.dirty.insert((rival.key.0.clone(), rival.target.1.clone()));
                }
            }
            News::Rival(Seen::Gone(key)) => {
                if let Some(rival) = self.rivals.remove(&key) {
                    self.dirty.insert((key.0, rival.target.1));
                }
            }
            News::Published(Seen::Is(object)) => {
                self.dirty.insert(object.key.clone());
                self.published.insert(object.key.clone(), object);
            }
            News::Published(Seen::Gone(key)) => {
                self.published.remove(&key);
                self.dirty.insert(key);
            }
            News::Doors(doors) => self.set_doors(doors),
            News::Slice(Seen::Is(slice)) => self.list(slice),
            News::Slice(Seen::Gone(key)) => self.unlist(&key),
            News::Slice(Seen::Listed) => drop(self.listed.insert(Kind::Slice)),
            News::Namespace(Seen::Is((_, name))) => self.select(name, true),
            News::Namespace(Seen::Gone((_, name))) => self.select(name, false),
            News::Namespace(Seen::Listed) => drop(self.listed.insert(Kind::Namespace)),
            News::Config(Seen::Is(data)) => self.config(&data),
            News::Config(Seen::Gone(_)) => self.config(&BTreeMap::new()),
            News::Activators(activators) => {
                if self.activators.as_ref() != Some(&activators) {
                    self.ahead.push(Change::Activators(activators.clone()));
                    self.activators = Some(activators);
                }
                self.listed.insert(Kind::Activators);
            }
            News::Workload(Seen::Listed) => drop(self.listed.insert(Kind::Workload)),
            News::Service(Seen::Listed) => drop(self.listed.insert(Kind::Service)),
            News::Pod(Seen::Listed) => drop(self.listed.insert(Kind::Pod)),
            News::Rival(Seen::Listed) => drop(self.listed.insert(Kind::Rival)),
            News::Published(Seen::Listed) => drop(self.listed.insert(Kind::Published)),
            News::Config(Seen::Listed) => {
                // There is none, or a good one.
                self.config_known |= self.unknown.is_empty();
                self.listed.insert(Kind::Config);
            }
        }
    }

    /// Everything of every kind has been seen once.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.listed.len() == KINDS + usize::from(self.selected.is_some()) + usize::from(self.takes_over)
    }

    /// What has changed since the last call; nothing before everything was seen once. The keys of the workloads that were
    /// looked at are appended to `touched`.
    pub fn changes(&mut self, touched: &mut Vec<Key>) -> Vec<Change> {
        if !self.synced() {
            return Vec::new();
        }
        let mut changes = std::mem::take(&mut self.ahead);
        let mut dirty = std::mem::take(&mut self.dirty);
        let claims: Vec<&Key> = dirty.iter().filter(|key| self.adopt(key)).collect();
        // Who has a Service is settled among all workloads of a namespace.
        let namespaces: BTreeSet<String> = claims.into_iter().map(|key| key.0.clone()).collect();
        if self.takes_over {
            namespaces.iter().for_each(|namespace| self.dirty_namespace(namespace));
        }
        for key in std::mem::take(&mut self.dirty) {
            if !dirty.contains(&key) {
                self.adopt(&key);
                dirty.insert(key);
            }
        }
        let judged: Vec<Judged> = dirty.iter().map(|key| judge(self, key)).collect();
        for (key, judged) in dirty.into_iter().zip(judged) {
            self.settle(&key, judged, &mut changes);
            touched.push(key);
        }
        if !self.told_synced {
            self.told_synced = true;
            changes.push(Change::Synced);
        }
        changes
    }

    fn workload(&mut self, workload: Workload) {
        let key = key(&workload.deployment.metadata);
        let known = self.workloads.remove(&key);
        let known = if let Some(known) = known {
            self.users.remove(&key, known.labels());
            Known { workload, ..known }
        } else {
            let unread = NotAdopted { reason: "not read yet".into(), asked: true, problems: Vec::new() };
            Known { workload, adopted: Err(unread), judged: Judged::default(), claim: None, told: Told::default() }
        };
        self.users.add(&key, known.labels());
        self.users.read(&key, &known);
        self.workloads.insert(key.clone(), known);
        self.dirty.insert(key);
    }

    fn select(&mut self, namespace: String, selected: bool) {
        self.dirty_namespace(&namespace);
        let all = self.selected.get_or_insert_default();
        if selected {
            all.insert(namespace);
        } else {
            all.remove(&namespace);
        }
    }

    /// A bad map changes nothing; while no good one was ever known, nothing shrinks (kpa-behaviour 1.6).
    fn config(&mut self, data: &BTreeMap<String, String>) {
        match Defaults::from_map(&format!("ConfigMap {}", domain::defaults::CONFIG_MAP), data) {
            Ok(defaults) => {
                self.config_problems = defaults.warnings.clone();
                (self.defaults, self.unknown, self.config_known) = (defaults, Vec::new(), true);
            }
            Err(problems) => {
                if !self.config_known {
                    self.unknown = problems.iter().filter(|p| p.severity == Severity::Error).cloned().collect();
                }
                self.config_problems = problems;
            }
        }
        self.dirty.extend(self.workloads.keys().cloned());
    }

    /// Reads a workload anew; whether its neighbours have to look at it.
    fn adopt(&mut self, key: &Key) -> bool {
        let Some(known) = self.workloads.get_mut(key) else { return false };
        let services = known.labels().map(|labels| self.services.selecting(&key.0, labels)).unwrap_or_default();
        let target = ("Deployment", key.1.as_str());
        let neighbours = self.rivals.range((key.0.clone(), String::new())..).map(|(_, rival)| rival);
        let rival = neighbours
            .take_while(|rival| rival.key.0 == key.0)
            .find(|rival| (rival.target.0.as_str(), rival.target.1.as_str()) == target);
        let around = Surroundings {
            defaults: &self.defaults,
            unknown: &self.unknown,
            services: &services,
            rival: rival.map(|rival| rival.called.as_str()),
            released: self.published.get(key).is_some_and(|published| published.released != Released::No),
        };
        known.adopted = if self.selected.as_ref().is_none_or(|selected| selected.contains(&key.0)) {
            adopt(&known.workload.deployment, around, known.adopted.as_ref().ok())
        } else {
            Err(NotAdopted { reason: "its namespace is not selected".into(), asked: false, problems: Vec::new() })
        };
        self.users.read(key, known);
        let claim = known.claim();
        let before = std::mem::replace(&mut known.claim, claim);
        known.claim != before
    }

    fn settle(&mut self, key: &Key, judged: Judged, changes: &mut Vec<Change>) {
        let Some(known) = self.workloads.get_mut(key) else { return };
        let id = RevisionId::new(&key.0, &key.1);
        if let Ok(adopted) = &mut known.adopted {
            let revision = Arc::make_mut(&mut adopted.revision);
            revision.route.taken_over.clone_from(&judged.named);
            revision.problems.extend(judged.problems.iter().cloned());
        }
        known.judged = judged;
        let Ok(adopted) = &known.adopted else {
            self.pods.forget(key);
            if std::mem::take(&mut known.told).revision.is_some() {
                changes.push(Change::Deleted(id));
            }
            return;
        };
        self.pods.select(key, &adopted.selector);
        let told = &mut known.told;
        if told.revision.as_ref() != Some(&adopted.revision) {
            changes.push(Change::Applied(adopted.revision.clone()));
            told.revision = Some(adopted.revision.clone());
        }
        let before = self.published.get(key).filter(|_| told.counts.is_none());
        if before.is_some_and(read::traffic_seen) {
            changes.push(Change::TrafficSeen(id.clone()));
        }
        let counts = Counts {
            requested: Replicas::new(known.workload.requested),
            ready: self.pods.ready(key),
            terminating: self.pods.terminating(key),
            trouble: self.pods.trouble(key, known.workload.failure.as_ref()),
            foreign: read::foreign(&known.workload, before),
        };
        if told.counts.as_ref() != Some(&counts) {
            let Counts { requested, ready, terminating, trouble, foreign } = counts.clone();
            changes.push(Change::Replicas { revision: id.clone(), requested, ready, terminating, trouble, foreign });
            told.counts = Some(counts);
        }
        let endpoints = self.pods.endpoints(key, adopted);
        if told.endpoints.as_deref() != Some(&*endpoints) {
            self.version += 1;
            let endpoints: Arc<[Endpoint]> = endpoints.into();
            changes.push(Change::Endpoints { revision: id, version: self.version, endpoints: endpoints.clone() });
            told.endpoints = Some(endpoints);
        }
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one change among all")]
mod tests;
