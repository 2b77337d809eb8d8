//! The platform of an autoscaler: what runs on a cluster, and the scale subresource.
//!
//! Invariant: it decides nothing about counts; everything it tells comes from the picture, and everything it writes is
//! owed or was asked for.

use crate::keep::Keeper;
use crate::objects::{FIELD_MANAGER, ScaledWorkload, published};
use crate::peers::Peers;
use crate::picture::{Kind, News, Picture, Seen};
use crate::proxy::told;
use crate::right::Right;
use crate::scale;
use crate::settings::{Settings, apis};
use crate::trim::{Key, SERVICE_NAME, behind, hpa, is_annotated, key, pod, service, slice, workload};
use crate::victims::{COST, Victims};
use crate::watching::{Filter, Kept, follow};
use domain::defaults::CONFIG_MAP;
use domain::{Change, EndpointId, Replicas, ScaleTargetRef};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::FutureExt;
use futures_util::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, Resource};
use parking_lot::Mutex;
use platform::board::Board;
use platform::{Leadership, Platform, ScaleError};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often pods are looked for that stayed although they were marked.
const UNMARK_EVERY: Duration = Duration::from_secs(10);

/// A cluster, as an autoscaler sees and changes it.
pub struct ClusterPlatform {
    client: Client,
    picture: Arc<Mutex<Picture>>,
    board: Board,
    synced: watch::Receiver<bool>,
    right: Right,
    victims: Victims,
    behind: watch::Receiver<bool>,
}

impl Debug for ClusterPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterPlatform").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

impl ClusterPlatform {
    /// The platform, and the work that keeps it up to date: to be run as long as the program. `right` says whether this
    /// process may write.
    #[must_use]
    pub fn new(client: Client, settings: Settings, right: Right) -> (Arc<Self>, BoxFuture<'static, ()>) {
        let picture = if settings.namespace_selector.is_some() { Picture::selecting() } else { Picture::new() };
        let picture = if settings.take_over { picture.taking_over() } else { picture };
        let picture = Arc::new(Mutex::new(picture));
        let (told, synced) = watch::channel(false);
        let (changed, seen) = watch::channel(());
        let keeper = Keeper::new(client.clone(), picture.clone(), right.clone());
        let board = Board::new();
        let platform = Arc::new(Self {
            victims: Victims::new(client.clone(), picture.clone(), seen),
            client: client.clone(),
            picture: picture.clone(),
            board: board.clone(),
            synced,
            right,
            behind: keeper.behind(),
        });
        let state = Arc::new(State { picture, board, told, changed, keeper, lists: Mutex::new(lists(&settings)) });
        (platform.clone(), work(client, settings, state, platform).boxed())
    }

    /// What is known of the cluster, for whoever shows or publishes it.
    #[must_use]
    pub fn picture(&self) -> Arc<Mutex<Picture>> {
        self.picture.clone()
    }

    /// Whether more is owed to activators than is written at once: what can wait is not to be written now.
    #[must_use]
    pub fn behind(&self) -> watch::Receiver<bool> {
        self.behind.clone()
    }
}

/// Lists that have not been seen to their end: kind and number of the namespace.
fn lists(settings: &Settings) -> BTreeSet<(Kind, usize)> {
    let namespaces = settings.namespaces.len().max(1);
    let kinds = [Kind::Workload, Kind::Service, Kind::Pod, Kind::Rival, Kind::Published];
    let kinds = kinds.into_iter().chain(settings.take_over.then_some(Kind::Slice));
    let listed = kinds.flat_map(|kind| (0..namespaces).map(move |n| (kind, n)));
    let once = settings.namespace_selector.iter().map(|_| Kind::Namespace).chain([Kind::Config]);
    listed.chain(once.map(|kind| (kind, 0))).collect()
}

struct State {
    picture: Arc<Mutex<Picture>>,
    board: Board,
    told: watch::Sender<bool>,
    changed: watch::Sender<()>,
    keeper: Keeper,
    lists: Mutex<BTreeSet<(Kind, usize)>>,
}

impl State {
    /// Takes in what the watch number `n` of a kind saw. A kind is listed once all of its watches are.
    fn take<T>(&self, kind: Kind, n: usize, seen: Seen<T>, news: fn(Seen<T>) -> News) {
        if matches!(seen, Seen::Listed) {
            let mut lists = self.lists.lock();
            lists.remove(&(kind, n));
            if lists.iter().any(|(of, _)| *of == kind) {
                return;
            }
        }
        self.tell(news(seen));
    }

    fn tell(&self, news: News) {
        let mut touched: Vec<Key> = Vec::new();
        let mut picture = self.picture.lock();
        picture.take(news);
        // Told under the lock, so that watchers hear changes in the order in which they became the picture.
        for change in picture.changes(&mut touched) {
            if change == Change::Synced {
                self.told.send_replace(true);
            } else {
                self.board.tell(change);
            }
        }
        drop(picture);
        self.changed.send_replace(());
        if !touched.is_empty() {
            self.keeper.touch(touched);
        }
    }
}

/// Every watch, as work to be done.
struct Watches {
    client: Client,
    settings: Settings,
    state: Arc<State>,
    work: Vec<BoxFuture<'static, ()>>,
}

impl Watches {
    /// Watches a kind in every namespace that is looked at.
    fn add<K, T>(
        &mut self,
        what: &'static str,
        kind: Kind,
        filter: &Filter,
        keep: fn(K) -> Kept<T>,
        news: fn(Seen<T>) -> News,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        T: Send + 'static,
    {
        let client = &self.client;
        let one = |namespace: &str| Api::namespaced(client.clone(), namespace);
        let apis = apis(&self.settings, || Api::all(client.clone()), one);
        self.add_apis(what, kind, filter, apis, keep, news);
    }

    fn add_apis<K, T>(
        &mut self,
        what: &'static str,
        kind: Kind,
        filter: &Filter,
        apis: Vec<Api<K>>,
        keep: fn(K) -> Kept<T>,
        news: fn(Seen<T>) -> News,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Clone + Send + Sync,
        T: Send + 'static,
    {
        for (n, api) in apis.into_iter().enumerate() {
            let state = self.state.clone();
            let tell = move |seen| state.take(kind, n, seen, news);
            self.work.push(follow(what, api, filter.clone(), keep, tell).boxed());
        }
    }
}

async fn work(client: Client, settings: Settings, state: Arc<State>, platform: Arc<ClusterPlatform>) {
    let (all, object_kind) = (Filter::default(), ApiResource::erase::<ScaledWorkload>(&()));
    let ours = Filter { labels: settings.object_selector.clone(), fields: None };
    let mut watches = Watches { client: client.clone(), settings, state: state.clone(), work: Vec::new() };
    let keep = |object: Deployment| if is_annotated(&object) { Kept::Is(workload(object)) } else { Kept::Not };
    watches.add("Deployments", Kind::Workload, &ours, keep, News::Workload);
    watches.add("Services", Kind::Service, &all, |object: Service| Kept::Is(service(object)), News::Service);
    watches.add("Pods", Kind::Pod, &all, |object: Pod| Kept::Is(pod(object)), News::Pod);
    let keep = |object: HorizontalPodAutoscaler| Kept::Is(hpa(object));
    watches.add("HorizontalPodAutoscalers", Kind::Rival, &all, keep, News::Rival);
    if watches.settings.take_over {
        let filter = Filter::labels(SERVICE_NAME);
        let keep = |object: EndpointSlice| Kept::Is(behind(object));
        watches.add("EndpointSlices", Kind::Slice, &filter, keep, News::Slice);
    }
    let objects = apis(
        &watches.settings,
        || Api::all_with(client.clone(), &object_kind),
        |namespace| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &object_kind),
    );
    let keep = |object| Kept::Is(published(object));
    watches.add_apis("ScaledWorkloads", Kind::Published, &all, objects, keep, News::Published);
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), &watches.settings.namespace);
    let keep = |map: ConfigMap| Kept::Is(map.data.unwrap_or_default());
    watches.add_apis("config-autoscaler", Kind::Config, &Filter::named(CONFIG_MAP), vec![own], keep, News::Config);
    if let Some(selector) = watches.settings.namespace_selector.clone() {
        let keep = |namespace: Namespace| Kept::Is(key(&namespace.metadata));
        let (all, filter) = (vec![Api::all(client.clone())], Filter::labels(selector));
        watches.add_apis("Namespaces", Kind::Namespace, &filter, all, keep, News::Namespace);
    }
    let mut work = watches.work;
    let settings = watches.settings;

    let own: Api<EndpointSlice> = Api::namespaced(client, &settings.namespace);
    let filter = Filter::labels(format!("{SERVICE_NAME}={}", settings.activator_service));
    let (mut activators, told) = (Peers::default(), state.clone());
    let tell = move |seen| {
        if let Some(peers) = activators.take(seen) {
            told.tell(News::Doors(activators.doors()));
            told.tell(News::Activators(peers.into_iter().map(|peer| peer.id).collect()));
        }
    };
    work.push(follow("the activators", own, filter, |object| Kept::Is(slice(object)), tell).boxed());
    work.push(async move { state.keeper.run().await }.boxed());
    work.push(async move { platform.unmark_stale().await }.boxed());
    join_all(work).await;
}

impl ClusterPlatform {
    /// Takes back the marks of pods that stayed, for ever.
    async fn unmark_stale(&self) {
        let mut every = tokio::time::interval(UNMARK_EVERY);
        loop {
            every.tick().await;
            {
                let picture = self.picture.lock();
                self.victims.forget_gone(|pod| picture.has_pod(pod));
            }
            let Some(_held) = self.right.call() else { continue };
            let marked: Vec<Key> = {
                let picture = self.picture.lock();
                let is_marked = |key: &&Key| picture.pods(key).any(|pod| pod.cost.as_deref() == Some(COST));
                picture.adopted_keys().filter(is_marked).cloned().collect()
            };
            for workload in &marked {
                self.victims.unmark(workload).await;
            }
        }
    }

    async fn write(
        &self,
        target: &ScaleTargetRef,
        (from, to): (Replicas, Replicas),
        remove_first: &[EndpointId],
    ) -> Result<(), ScaleError> {
        let key = (target.namespace.clone(), target.name.clone());
        let (known, now) = {
            let picture = self.picture.lock();
            (picture.adopted(&key).is_some(), picture.requested(&key).map(|(now, _)| Replicas::new(now)))
        };
        let Some(now) = now.filter(|_| known) else { return Err(ScaleError::NotFound(target.clone())) };
        let Some(_held) = self.right.call() else {
            return Err(ScaleError::Unreachable("this autoscaler may not act now".into()));
        };
        if to < from {
            // Where none stays, none has to be told from another.
            let unmarked = if to.is_zero() { 0 } else { self.victims.mark(&key, remove_first).await };
            let to = Replicas::new(to.get().saturating_add(u32::try_from(unmarked).unwrap_or(u32::MAX)));
            if to >= from {
                // Other workloads had the turns. It is asked for again.
                return Ok(());
            }
            scale::write(&self.client, target, Some(from), to, FIELD_MANAGER).await
        } else if to > from {
            // A decision to raise must not lower what somebody else has raised further meanwhile.
            if now > to {
                return Err(ScaleError::Changed { now });
            }
            scale::write(&self.client, target, None, to, FIELD_MANAGER).await
        } else if remove_first.is_empty() && now != to || now < to {
            // A lowering that was under way is taken back, if it has landed.
            match scale::read(&self.client, target).await? {
                found if found < to => scale::write(&self.client, target, None, to, FIELD_MANAGER).await,
                _ => Ok(()),
            }
        } else {
            // The count stays. What leaves by itself is the kubelet's to end.
            Ok(())
        }
    }
}

impl Platform for ClusterPlatform {
    fn watch(&self) -> BoxStream<'static, Change> {
        told(self.synced.clone(), self.board.clone())
    }

    fn scale<'a>(
        &'a self,
        target: &'a ScaleTargetRef,
        from: Replicas,
        to: Replicas,
        remove_first: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<(), ScaleError>> {
        self.write(target, (from, to), remove_first).boxed()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.right.leadership()
    }
}
