//! The platform of an activator: routes and endpoints, and nothing that could be written.
//!
//! Invariant: synced once our own objects, EndpointSlices, configuration and autoscalers were listed; until then nothing
//! is said to be unknown (kpa-behaviour 3.1).

use crate::objects::{ScaledWorkload, published};
use crate::peers::Peers;
use crate::picture::Seen;
use crate::routes::Routes;
use crate::settings::{Settings, apis};
use crate::trim::{SERVICE_NAME, is_our_slice, slice};
use crate::watching::{Filter, Kept, follow};
use domain::activator_config::CONFIG_MAP;
use domain::{ActivatorConfig, Change, EndpointId, Origin, Peer, Problem, Replicas, Resolved, ScaleTargetRef};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::future::{join, join_all, join3};
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use parking_lot::Mutex;
use platform::board::Board;
use platform::{Leadership, Platform, ScaleError};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// What an activator sees of a cluster.
#[derive(Debug)]
pub struct ProxyPlatform {
    board: Board,
    activators: watch::Receiver<Vec<Peer>>,
    synced: watch::Receiver<bool>,
    leadership: watch::Sender<Leadership>,
}

impl ProxyPlatform {
    /// The platform, and the work that keeps it up to date: to be run as long as the program.
    pub fn new(client: Client, settings: Settings) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let board = Board::new();
        let (told, synced) = watch::channel(false);
        let (found, activators) = watch::channel(Vec::new());
        let state = Arc::new(State {
            board: board.clone(),
            told,
            inner: Mutex::new(Inner::new(&settings)),
            going: Notify::new(),
        });
        let leadership = watch::Sender::new(Leadership::Follower);
        let work = work(client.clone(), settings.clone(), state);
        let activators_work = activators_behind(client, settings, found);
        let both = join(work, activators_work).map(|_| ());
        (Arc::new(Self { board, activators, synced, leadership }), both)
    }

    /// The activators that serve, this one included, and where they take requests.
    #[must_use]
    pub fn activators(&self) -> watch::Receiver<Vec<Peer>> {
        self.activators.clone()
    }
}

/// Follows the activators behind their Service. Nothing waits for them: whoever is not known yet is not asked.
async fn activators_behind(client: Client, settings: Settings, found: watch::Sender<Vec<Peer>>) {
    let own: Api<EndpointSlice> = Api::namespaced(client, &settings.namespace);
    let filter = Filter::labels(format!("{SERVICE_NAME}={}", settings.activator_service));
    let mut activators = Peers::default();
    let keep = |object| Kept::Is(slice(object));
    follow("the activators", own, filter, keep, |seen| {
        if let Some(peers) = activators.take(seen) {
            found.send_if_modified(|known| std::mem::replace(known, peers.clone()) != peers);
        }
    })
    .await;
}

async fn work(client: Client, settings: Settings, state: Arc<State>) {
    let kind = ApiResource::erase::<ScaledWorkload>(&());
    let objects = apis(
        &settings,
        || Api::all_with(client.clone(), &kind),
        |namespace| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind),
    );
    let objects = objects.into_iter().enumerate().map(|(n, api)| {
        let (keep, state) = (|object| Kept::Is(published(object)), &state);
        follow("ScaledWorkloads", api, Filter::default(), keep, move |seen| {
            state.take(List::Objects(n), &seen, |inner| inner.routes.workload(seen.clone(), Instant::now()));
        })
    });
    let slices = apis(&settings, || Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    let slices = slices.into_iter().enumerate().map(|(n, api): (usize, Api<EndpointSlice>)| {
        let keep = |object| if is_our_slice(&object) { Kept::Not } else { Kept::Is(slice(object)) };
        let state = &state;
        follow("EndpointSlices", api, Filter::labels(SERVICE_NAME), keep, move |seen| {
            state.take(List::Slices(n), &seen, |inner| {
                inner.routes.slice(seen.clone());
                None
            });
        })
    });
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    let keep = |map: ConfigMap| Kept::Is(map.data.unwrap_or_default());
    let config = follow("config-activator", own, Filter::named(CONFIG_MAP), keep, |seen| {
        state.take(List::Config, &seen, |inner| inner.config(&seen));
    });
    let own: Api<EndpointSlice> = Api::namespaced(client.clone(), &settings.namespace);
    let filter = Filter::labels(format!("{SERVICE_NAME}={}", settings.autoscaler_service));
    let mut autoscalers = Peers::default();
    let peers = follow(
        "the autoscalers",
        own,
        filter,
        |object| Kept::Is(slice(object)),
        |seen| {
            state.take(List::Autoscalers, &seen, |inner| {
                if let Some(peers) = autoscalers.take(seen.clone()) {
                    inner.tell(Change::Autoscalers(peers));
                }
                None
            });
        },
    );
    let others = join3(config, peers, state.forget());
    // Boxed: each of them holds a whole watch.
    join3(join_all(objects), join_all(slices), others).boxed().await;
}

struct State {
    board: Board,
    told: watch::Sender<bool>,
    inner: Mutex<Inner>,
    /// A revision is to be forgotten after a while.
    going: Notify,
}

/// What is listed, with the number of the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Objects(usize),
    Slices(usize),
    Config,
    Autoscalers,
}

struct Inner {
    routes: Routes,
    /// Those that have not been seen to their end.
    lists: BTreeSet<List>,
    /// `config-activator` was right once.
    config_known: bool,
    problems: Vec<Problem>,
    news: Vec<Change>,
    /// `drain-delay` and `drain-grace` unless they are configured.
    drain: (Duration, Duration),
}

impl State {
    /// Takes in what a watch saw, and tells what follows from it once everything was listed.
    fn take<T>(&self, list: List, seen: &Seen<T>, step: impl FnOnce(&mut Inner) -> Option<String>) {
        let mut inner = self.inner.lock();
        if let Some(problem) = step(&mut inner) {
            tracing::warn!("{problem}");
        }
        if matches!(seen, Seen::Listed) {
            inner.lists.remove(&list);
        }
        if !inner.lists.is_empty() {
            return;
        }
        self.tell(&mut inner);
        if inner.routes.next_forgotten().is_some() {
            self.going.notify_one();
        }
    }

    fn tell(&self, inner: &mut Inner) {
        let news = std::mem::take(&mut inner.news);
        let changes = inner.routes.changes(Instant::now());
        news.into_iter().chain(changes).for_each(|change| self.board.tell(change));
        self.told.send_if_modified(|told| !std::mem::replace(told, true));
    }

    /// Tells what is forgotten when its time is over, for ever.
    async fn forget(&self) {
        loop {
            // Before everything was listed nothing has been told, and nothing can be taken back.
            let next = {
                let inner = self.inner.lock();
                inner.routes.next_forgotten().filter(|_| inner.lists.is_empty())
            };
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.going.notified() => {}
                () = due => self.tell(&mut self.inner.lock()),
            }
        }
    }
}

impl Inner {
    fn new(settings: &Settings) -> Self {
        let namespaces = settings.namespaces.len().max(1);
        let lists = (0..namespaces).flat_map(|n| [List::Objects(n), List::Slices(n)]);
        let lists = lists.chain([List::Config, List::Autoscalers]).collect();
        Self {
            routes: Routes::default(),
            lists,
            config_known: false,
            problems: Vec::new(),
            news: Vec::new(),
            drain: (settings.drain_delay, settings.drain_grace),
        }
    }

    fn tell(&mut self, change: Change) {
        if self.news.last() != Some(&change) {
            self.news.push(change);
        }
    }

    /// What the map leaves open of how an activator leaves.
    fn drain(&self, config: &mut ActivatorConfig) {
        let (delay, grace) = self.drain;
        for (setting, default) in [(&mut config.drain_delay, delay), (&mut config.drain_grace, grace)] {
            if setting.origin == Origin::Default {
                *setting = Resolved::default_value(default);
            }
        }
    }

    /// A map with an error changes nothing; without a good one ever, what is right of it counts (kpa-behaviour 1.6).
    fn config(&mut self, seen: &Seen<BTreeMap<String, String>>) -> Option<String> {
        let empty = BTreeMap::new();
        let data = match seen {
            Seen::Is(data) => data,
            Seen::Gone(_) => &empty,
            // There is none.
            Seen::Listed if !self.config_known && self.problems.is_empty() => &empty,
            Seen::Listed => return None,
        };
        let (config, problems) = match ActivatorConfig::from_map(&format!("ConfigMap {CONFIG_MAP}"), data) {
            Ok(mut config) => {
                self.config_known = true;
                self.drain(&mut config);
                let warnings = config.warnings.clone();
                (Some(config), warnings)
            }
            Err(mut wrong) => {
                self.drain(&mut wrong.meanwhile);
                ((!self.config_known).then_some(wrong.meanwhile), wrong.problems)
            }
        };
        if let Some(config) = config {
            self.tell(Change::ActivatorConfig(Arc::new(config)));
        }
        let fresh: Vec<String> =
            problems.iter().filter(|problem| !self.problems.contains(problem)).map(ToString::to_string).collect();
        self.problems = problems;
        (!fresh.is_empty()).then(|| fresh.join("\n"))
    }
}

impl Platform for ProxyPlatform {
    fn watch(&self) -> BoxStream<'static, Change> {
        told(self.synced.clone(), self.board.clone())
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        _from: Replicas,
        _to: Replicas,
        _remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move { Err(ScaleError::Refused(format!("an activator does not scale {target}"))) })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}

/// What `board` knows once everything was listed, then every change.
pub(crate) fn told(mut synced: watch::Receiver<bool>, board: Board) -> BoxStream<'static, Change> {
    let first = async move {
        // The sender lives as long as the program's work does; without it nothing more is told.
        if synced.wait_for(|synced| *synced).await.is_err() {
            pending::<()>().await;
        }
        board.watch()
    };
    first.into_stream().flatten().boxed()
}
