//! What is known, told to any number of watchers: everything now, then every change.
//!
//! Invariant: a watcher that lags holds at most one pending change per fact, the newest; nothing queues without bound
//! and nobody waits for a slow watcher.

use domain::{Change, RevisionId};
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// What a change is about; a later change about the same replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    ActivatorConfig,
    Autoscalers,
    Activators,
    Revision(RevisionId),
    Endpoints(RevisionId),
    Replicas(RevisionId),
    TrafficSeen(RevisionId),
    Synced,
}

fn fact(change: &Change) -> Fact {
    match change {
        Change::Synced => Fact::Synced,
        Change::Applied(revision) => Fact::Revision(revision.id.clone()),
        Change::Deleted(revision) => Fact::Revision(revision.clone()),
        Change::Endpoints { revision, .. } => Fact::Endpoints(revision.clone()),
        Change::Replicas { revision, .. } => Fact::Replicas(revision.clone()),
        Change::TrafficSeen(revision) => Fact::TrafficSeen(revision.clone()),
        Change::Activators(_) => Fact::Activators,
        Change::Autoscalers(_) => Fact::Autoscalers,
        Change::ActivatorConfig(_) => Fact::ActivatorConfig,
    }
}

/// What one watcher has not been told yet, in the order in which the facts first changed.
#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<Fact>,
    changes: BTreeMap<Fact, Change>,
}

impl Pending {
    fn push(&mut self, change: Change) {
        if let Change::Deleted(revision) = &change {
            self.changes.remove(&Fact::Endpoints(revision.clone()));
            self.changes.remove(&Fact::Replicas(revision.clone()));
            self.changes.remove(&Fact::TrafficSeen(revision.clone()));
            let Self { order, changes } = self;
            order.retain(|fact| changes.contains_key(fact));
        }
        let fact = fact(&change);
        if self.changes.insert(fact.clone(), change).is_none() {
            self.order.push_back(fact);
        }
    }

    fn pop(&mut self) -> Option<Change> {
        self.changes.remove(&self.order.pop_front()?)
    }
}

#[derive(Debug, Default)]
struct Watcher {
    pending: Mutex<Pending>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Known {
    facts: BTreeMap<Fact, Change>,
    watchers: Vec<Weak<Watcher>>,
}

/// The facts and who watches them.
#[derive(Debug, Default)]
pub(crate) struct Feed(Mutex<Known>);

impl Feed {
    /// Notes a change and tells it to every watcher.
    pub(crate) fn publish(&self, change: Change) {
        let mut known = self.0.lock();
        if let Change::Deleted(revision) = &change {
            known.facts.remove(&Fact::Endpoints(revision.clone()));
            known.facts.remove(&Fact::Replicas(revision.clone()));
            known.facts.remove(&Fact::Revision(revision.clone()));
        } else {
            known.facts.insert(fact(&change), change.clone());
        }
        known.watchers.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else { return false };
            watcher.pending.lock().push(change.clone());
            watcher.news.notify_one();
            true
        });
    }

    /// Everything known, then [`Change::Synced`], then every change.
    pub(crate) fn watch(&self) -> BoxStream<'static, Change> {
        let watcher = Arc::new(Watcher::default());
        {
            let mut known = self.0.lock();
            let mut pending = watcher.pending.lock();
            for change in known.facts.values() {
                pending.push(change.clone());
            }
            pending.push(Change::Synced);
            drop(pending);
            known.watchers.push(Arc::downgrade(&watcher));
        }
        unfold(watcher, |watcher| async move {
            loop {
                let next = watcher.pending.lock().pop();
                if let Some(change) = next {
                    return Some((change, watcher));
                }
                watcher.news.notified().await;
            }
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Endpoint, EndpointId, EndpointState, Replicas};

    fn id(name: &str) -> RevisionId {
        RevisionId::new("default", name)
    }

    fn requested(name: &str, count: u32) -> Change {
        let (requested, ready) = (Replicas::new(count), Replicas::ZERO);
        Change::Replicas {
            revision: id(name),
            requested,
            ready,
            terminating: Replicas::ZERO,
            trouble: None,
            foreign: None,
        }
    }

    fn endpoints(name: &str, version: u64) -> Change {
        let endpoint = Endpoint {
            id: EndpointId::new("r-1"),
            address: ([127, 0, 0, 1], 20_000).into(),
            state: EndpointState::Ready,
            early_probe: None,
        };
        Change::Endpoints { revision: id(name), version, endpoints: [endpoint].into() }
    }

    async fn take(stream: &mut BoxStream<'static, Change>, count: usize) -> Vec<Change> {
        stream.by_ref().take(count).collect().await
    }

    #[tokio::test]
    async fn everything_known_then_synced_then_changes() {
        let feed = Feed::default();
        feed.publish(requested("a", 1));
        feed.publish(requested("a", 2));
        feed.publish(requested("gone", 1));
        feed.publish(Change::Deleted(id("gone")));
        let mut stream = feed.watch();
        assert_eq!(take(&mut stream, 2).await, [requested("a", 2), Change::Synced]);
        feed.publish(requested("b", 1));
        assert_eq!(take(&mut stream, 1).await, [requested("b", 1)]);
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_the_newest_of_each_fact() {
        let feed = Feed::default();
        let mut stream = feed.watch();
        for count in 0..1000 {
            feed.publish(requested("a", count));
            feed.publish(endpoints("a", u64::from(count)));
        }
        assert_eq!(take(&mut stream, 3).await, [Change::Synced, requested("a", 999), endpoints("a", 999)]);
    }

    #[tokio::test]
    async fn nothing_of_a_deleted_revision_follows_its_deletion() {
        let feed = Feed::default();
        let mut stream = feed.watch();
        feed.publish(requested("a", 1));
        feed.publish(endpoints("a", 1));
        feed.publish(Change::Deleted(id("a")));
        feed.publish(requested("b", 1));
        let told = take(&mut stream, 3).await;
        assert_eq!(told, [Change::Synced, Change::Deleted(id("a")), requested("b", 1)]);
    }

    #[tokio::test]
    async fn a_watcher_that_left_is_forgotten() {
        let feed = Feed::default();
        drop(feed.watch());
        feed.publish(requested("a", 1));
        assert!(feed.0.lock().watchers.is_empty());
    }
}
