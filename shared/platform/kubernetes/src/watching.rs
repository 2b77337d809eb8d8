//! One watch of one kind: everything there is, then every change, for ever.
//!
//! Invariant: whatever was told of is told to be gone once it is, also when that happened while nobody watched; an API
//! server that is away costs nothing but news (kpa-behaviour 11.3).

use crate::picture::Seen;
use crate::trim::{Key, key};
use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long one watch call lasts; a silent connection is given up 5 s later.
pub const WATCH_SECONDS: u32 = 290;
/// How often everything is listed anew, so that no error of a watch lasts.
pub const RELIST_EVERY: Duration = Duration::from_secs(30 * 60);
/// The first and the longest wait after a failure; in between it doubles. Short, because it is part of how soon routes are
/// right again once the API server is back.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Which objects are watched.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
}

impl Filter {
    /// By labels.
    #[must_use]
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { labels: Some(selector.into()), fields: None }
    }

    /// The one object called `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { labels: None, fields: Some(format!("metadata.name={name}")) }
    }

    fn config(self) -> Config {
        Config { label_selector: self.labels, field_selector: self.fields, ..Config::default().timeout(WATCH_SECONDS) }
    }
}

/// Watches for ever. `keep` makes of an object what is kept of it. `what` is the plural, for the log.
pub async fn follow<K, T>(
    what: &'static str,
    api: Api<K>,
    filter: Filter,
    keep: impl Fn(K) -> Kept<T>,
    mut tell: impl FnMut(Seen<T>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Clone,
{
    let config = filter.config();
    let mut follower = Follower { known: BTreeSet::new(), listing: None };
    let mut outage = Outage { what, failures: 0 };
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        let relist = Instant::now() + RELIST_EVERY;
        loop {
            let due = async {
                // A list that is under way ends first.
                if follower.listing.is_none() { sleep_until(relist).await } else { pending().await }
            };
            let event = tokio::select! {
                event = events.next() => event,
                () = due => break,
            };
            match event {
                Some(Ok(event)) => {
                    outage.over();
                    follower.take(event, &keep).into_iter().for_each(&mut tell);
                }
                Some(Err(error)) => sleep(outage.pause(&error)).await,
                None => break,
            }
        }
    }
}

/// What becomes of an object that was seen.
#[derive(Debug)]
pub enum Kept<T> {
    /// This is kept of it.
    Is(T),
    /// It is of no interest now.
    Not,
    /// It cannot be read, which has been said: what was known of it stays.
    Unreadable,
}

/// What was told of.
struct Follower {
    known: BTreeSet<Key>,
    /// What the list under way has shown.
    listing: Option<BTreeSet<Key>>,
}

impl Follower {
    fn take<K: Resource, T>(&mut self, event: Event<K>, keep: impl Fn(K) -> Kept<T>) -> Vec<Seen<T>> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key_of(object.meta());
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                match keep(object) {
                    Kept::Is(kept) => {
                        self.known.insert(key);
                        vec![Seen::Is(kept)]
                    }
                    Kept::Not => self.gone(&key),
                    Kept::Unreadable => Vec::new(),
                }
            }
            Event::Delete(object) => self.gone(&key_of(object.meta())),
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let vanished: Vec<Key> = self.known.difference(&listed).cloned().collect();
                let mut seen: Vec<Seen<T>> = vanished.iter().flat_map(|key| self.gone(key)).collect();
                seen.push(Seen::Listed);
                seen
            }
        }
    }

    fn gone<T>(&mut self, key: &Key) -> Vec<Seen<T>> {
        if self.known.remove(key) { vec![Seen::Gone(key.clone())] } else { Vec::new() }
    }
}

fn key_of(metadata: &ObjectMeta) -> Key {
    key(metadata)
}

/// Failures in a row, told once.
struct Outage {
    what: &'static str,
    failures: u32,
}

impl Outage {
    fn pause(&mut self, error: &watcher::Error) -> Duration {
        let (first, longest) = PAUSE;
        let pause = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(longest);
        if self.failures == 1 {
            let what = self.what;
            tracing::warn!("the API server does not tell of {what}: {error}; what was last known stays in force");
        } else {
            tracing::debug!(what = self.what, %error, "a watch failed");
        }
        self.failures = self.failures.saturating_add(1);
        pause
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.failures) > 1 {
            tracing::info!("the API server tells of {} again", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(name: &str) -> ConfigMap {
        let metadata = ObjectMeta { name: Some(name.into()), namespace: Some("n".into()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn seen(follower: &mut Follower, events: Vec<Event<ConfigMap>>) -> Vec<String> {
        let keep = |map: ConfigMap| match map.metadata.name.unwrap() {
            name if name.starts_with("not") => Kept::Not,
            name if map.immutable == Some(true) => {
                assert_eq!(name, "c");
                Kept::Unreadable
            }
            name => Kept::Is(name),
        };
        let seen = events.into_iter().flat_map(|event| follower.take(event, keep));
        seen.map(|seen| match seen {
            Seen::Is(name) => format!("+{name}"),
            Seen::Gone((_, name)) => format!("-{name}"),
            Seen::Listed => "listed".into(),
        })
        .collect()
    }

    #[test]
    fn what_vanished_while_nobody_watched_is_told_to_be_gone() {
        let mut follower = Follower { known: BTreeSet::new(), listing: None };
        let first = vec![
            Event::Init,
            Event::InitApply(map("a")),
            Event::InitApply(map("not-ours")),
            Event::InitApply(map("b")),
            Event::InitDone,
            Event::Apply(map("c")),
            Event::Delete(map("a")),
            Event::Delete(map("not-ours")),
        ];
        assert_eq!(seen(&mut follower, first), ["+a", "+b", "listed", "+c", "-a"]);
        let again = vec![Event::Init, Event::InitApply(map("c")), Event::InitApply(map("d")), Event::InitDone];
        assert_eq!(seen(&mut follower, again), ["+c", "+d", "-b", "listed"]);
        let unreadable = ConfigMap { immutable: Some(true), ..map("c") };
        assert_eq!(seen(&mut follower, vec![Event::Apply(unreadable)]), [""; 0], "what was known stays");
        // A list that breaks off and begins anew.
        let broken =
            vec![Event::Init, Event::InitApply(map("c")), Event::Init, Event::InitApply(map("d")), Event::InitDone];
        assert_eq!(seen(&mut follower, broken), ["+c", "+d", "-c", "listed"]);
    }

    #[test]
    fn pauses_grow_and_are_short_enough_to_be_right_soon_after_an_outage() {
        let mut outage = Outage { what: "pods", failures: 0 };
        let pauses: Vec<u128> = (0..8).map(|_| outage.pause(&watcher::Error::NoResourceVersion).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 4000, 4000, 4000]);
        outage.over();
        assert_eq!(outage.pause(&watcher::Error::NoResourceVersion).as_millis(), 250);
    }
}
