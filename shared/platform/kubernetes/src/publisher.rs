//! What kubectl shows: the status of ScaledWorkloads, and Events on Deployments.
//!
//! Invariant: whoever decides never waits for this; both are bounded, and what cannot be written is said again while it is
//! true (a status) or counted and dropped (an event).

use crate::cluster::ClusterPlatform;
use crate::complaints::{Complaint, Told, complaints};
use crate::objects::{FIELD_MANAGER, ScaledWorkload, ScaledWorkloadStatus};
use crate::picture::Picture;
use crate::right::Right;
use crate::schedule::Schedule;
use crate::status::{AT_MOST_EVERY, due_in, status};
use crate::trim::Key;
use domain::RevisionId;
use futures_util::StreamExt;
use futures_util::future::join3;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use parking_lot::Mutex;
use platform::audience::{Audience, Occurrence, Shown};
use platform::leadership::CALL_TIMEOUT;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// Statuses that are written at once.
pub const WRITES_MAX: usize = 16;
/// Events that may wait; further ones are dropped.
pub const EVENTS_MAX: usize = 1000;
/// Between two events.
const EVENT_PAUSE: Duration = Duration::from_millis(100);
/// How long statuses wait for what activators need: a start with thousands of workloads takes some seconds.
pub const YIELDS_FOR: Duration = Duration::from_secs(10);
/// How long a status that could not be written rests.
const RETRY: Duration = Duration::from_secs(5);
/// Longest note of an event that the API server takes.
const NOTE_BYTES_MAX: usize = 1024;
/// Longest action of an event that the API server takes.
const ACTION_BYTES_MAX: usize = 128;
/// How often it is looked what is wrong with Deployments, and how many complaints are made of it at once.
const COMPLAIN_EVERY: Duration = Duration::from_secs(2);
const COMPLAINTS_AT_ONCE: usize = 10;

/// The newest of one workload, and what was written of it.
#[derive(Debug)]
struct Entry {
    shown: Shown,
    /// When and what; `None`: not by this process.
    written: Option<(Instant, ScaledWorkloadStatus)>,
    /// It is being written, and looked at again after that.
    busy: bool,
}

/// What a look at a workload has found.
enum Look {
    /// This is to be written now.
    Write(Box<ScaledWorkloadStatus>),
    /// Something may be to be written then.
    Later(Instant),
    /// It says what was written.
    Same,
}

impl Entry {
    fn look(&self, picture: &Picture, key: &Key, now: Instant) -> Look {
        let Some(published) = picture.published(key) else {
            // The keeper has not made it yet.
            return Look::Later(now + AT_MOST_EVERY);
        };
        let written = self.written.as_ref().map_or(&published.status, |(_, status)| status);
        // What the keeper says of it is not ours to take back.
        let before = ScaledWorkloadStatus { restored: published.status.restored, ..written.clone() };
        let wanted = status(&self.shown, &before, &bypassing(picture, key), Timestamp::now());
        let ago = self.written.as_ref().map(|(at, _)| now.saturating_duration_since(*at));
        match due_in(&wanted, written, ago) {
            None => Look::Same,
            Some(Duration::ZERO) => Look::Write(Box::new(wanted)),
            Some(wait) => Look::Later(now + wait),
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    by_key: BTreeMap<Key, Entry>,
    /// When each is to be looked at; none that is being written.
    due: Schedule<Key>,
}

/// Whether people would see no difference. The arithmetic is written with the rest, and is no reason to write.
fn looks_the_same(one: &Shown, other: &Shown) -> bool {
    one == &Shown { why: one.why, ..other.clone() }
}

/// One Event to be written. `action` tells series of the same reason apart.
#[derive(Debug)]
struct Heard {
    key: Key,
    occurrence: Occurrence,
    action: String,
}

/// Events that wait to be written.
struct Events {
    sender: mpsc::Sender<Heard>,
    dropped: AtomicU64,
}

impl Events {
    /// Takes one more, or drops it: what an autoscaler does must not wait for what is told of it.
    fn send(&self, heard: Heard) {
        if let Err(mpsc::error::TrySendError::Full(heard)) = self.sender.try_send(heard) {
            self.dropped.fetch_add(1, Relaxed);
            tracing::debug!(key = ?heard.key, "an event is dropped: {EVENTS_MAX} wait already");
        }
    }
}

/// The publisher.
pub struct Publisher {
    client: Client,
    picture: Arc<Mutex<Picture>>,
    right: Right,
    entries: Mutex<Entries>,
    changed: Notify,
    /// More is owed to activators than is written at once.
    behind: watch::Receiver<bool>,
    events: Events,
    heard: tokio::sync::Mutex<mpsc::Receiver<Heard>>,
    recorder: Recorder,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// Publishes nothing yet. `instance` is the name of this pod.
    #[must_use]
    pub fn new(client: Client, platform: &ClusterPlatform, right: Right, instance: &str) -> Self {
        let (sender, heard) = mpsc::channel(EVENTS_MAX);
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            picture: platform.picture(),
            behind: platform.behind(),
            right,
            entries: Mutex::default(),
            changed: Notify::new(),
            events: Events { sender, dropped: AtomicU64::new(0) },
            heard: tokio::sync::Mutex::new(heard),
        }
    }

    /// Writes for ever.
    pub async fn run(&self) {
        join3(self.write_statuses(), self.write_events(), self.complain()).await;
    }

    /// Has Events written of what is wrong with Deployments, as long as this process leads.
    async fn complain(&self) {
        let mut told = Told::default();
        let mut every = interval(COMPLAIN_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if !self.right.leadership().borrow().may_call(Instant::now()) {
                // Who led meanwhile has told its own.
                told = Told::default();
                continue;
            }
            // What the autoscaler does is told first.
            let room = if self.events.sender.capacity() < EVENTS_MAX / 2 { 0 } else { COMPLAINTS_AT_ONCE };
            let due = {
                let picture = self.picture.lock();
                if !picture.synced() {
                    continue;
                }
                let all = picture.annotated_keys().flat_map(|key| complaints(&picture, key));
                told.due(all, Instant::now(), room)
            };
            for Complaint { key, reason, about, note } in due {
                self.events.send(Heard { key, occurrence: Occurrence { warning: true, reason, note }, action: about });
            }
        }
    }

    async fn write_statuses(&self) {
        let (mut writes, mut behind, mut since) = (FuturesUnordered::new(), self.behind.clone(), None);
        loop {
            let now = Instant::now();
            // Requests come before words: what activators need is written first, on a server that others need too.
            since = behind.borrow_and_update().then(|| since.unwrap_or(now));
            let yields_until = since.map(|since| since + YIELDS_FOR).filter(|until| *until > now);
            let mut next = yields_until;
            if yields_until.is_none() && self.right.leadership().borrow().may_call(now) {
                let (due, later) = self.due(WRITES_MAX - writes.len());
                next = later;
                for (key, status) in due {
                    writes.push(self.write(key, status));
                }
            }
            tokio::select! {
                biased;
                Some(()) = writes.next() => {}
                // Without a sender there is no keeper any more, and the program is about to end.
                Ok(()) = behind.changed() => {}
                () = self.changed.notified() => {}
                () = until(next) => {}
            }
        }
    }

    /// What is to be written now, at most `room`, and when to look again.
    fn due(&self, room: usize) -> (Vec<(Key, ScaledWorkloadStatus)>, Option<Instant>) {
        let now = Instant::now();
        let (picture, mut entries) = (self.picture.lock(), self.entries.lock());
        let Entries { by_key, due } = &mut *entries;
        let mut writes = Vec::new();
        for key in due.take(now, room) {
            let Some(entry) = by_key.get_mut(&key) else { continue };
            if picture.adopted(&key).is_none() {
                by_key.remove(&key);
                continue;
            }
            match entry.look(&picture, &key, now) {
                Look::Write(status) => {
                    entry.busy = true;
                    writes.push((key, *status));
                }
                Look::Later(at) => due.set(key, at),
                Look::Same => {}
            }
        }
        (writes, due.next().filter(|_| room > 0))
    }

    async fn write(&self, key: Key, status: ScaledWorkloadStatus) {
        let Some(held) = self.right.call() else {
            // Whoever leads next looks at everything anew.
            self.entries.lock().by_key.remove(&key);
            return;
        };
        let kind = ApiResource::erase::<ScaledWorkload>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.0, &kind);
        let patch = Patch::Merge(json!({"status": with_absences(&status)}));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let answer = timeout(CALL_TIMEOUT, api.patch_status(&key.1, &parameters, &patch)).await;
        drop(held);
        let mut entries = self.entries.lock();
        let Some(entry) = entries.by_key.get_mut(&key) else { return };
        entry.busy = false;
        let now = Instant::now();
        let mut rest = RETRY;
        match answer {
            Ok(Ok(_)) => {
                entry.written = Some((now, status));
                // Something may have changed meanwhile.
                rest = Duration::ZERO;
            }
            Ok(Err(error)) => tracing::debug!(?key, %error, "a status is not written"),
            Err(_) => tracing::debug!(?key, "no answer to a status in time"),
        }
        entries.due.set(key, now + rest);
    }

    async fn write_events(&self) {
        let mut heard = self.heard.lock().await;
        let mut pace = interval(EVENT_PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(Heard { key, occurrence, action }) = heard.recv().await {
            pace.tick().await;
            let uid = self.picture.lock().uid(&key).map(ToOwned::to_owned);
            let reference = ObjectReference {
                api_version: Some("apps/v1".into()),
                kind: Some("Deployment".into()),
                name: Some(key.1.clone()),
                namespace: Some(key.0.clone()),
                uid,
                ..ObjectReference::default()
            };
            let event = Event {
                type_: if occurrence.warning { EventType::Warning } else { EventType::Normal },
                reason: occurrence.reason.to_owned(),
                action: shortened(&action, ACTION_BYTES_MAX),
                note: Some(shortened(&occurrence.note, NOTE_BYTES_MAX)),
                secondary: None,
            };
            match timeout(CALL_TIMEOUT, self.recorder.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(?key, %error, "an event is not written"),
                Err(_) => tracing::debug!(?key, "no answer to an event in time"),
            }
        }
    }
}

impl Audience for Publisher {
    fn show(&self, shown: Shown) {
        let key = key_of(&shown.revision);
        let mut entries = self.entries.lock();
        match entries.by_key.get_mut(&key) {
            Some(entry) => {
                let is_same = looks_the_same(&entry.shown, &shown);
                entry.shown = shown;
                if is_same || entry.busy {
                    return;
                }
            }
            None => drop(entries.by_key.insert(key.clone(), Entry { shown, written: None, busy: false })),
        }
        entries.due.set(key, Instant::now());
        drop(entries);
        self.changed.notify_one();
    }

    fn hear(&self, revision: &RevisionId, occurrence: Occurrence) {
        let action = action(&occurrence);
        self.events.send(Heard { key: key_of(revision), occurrence, action });
    }

    fn dropped(&self) -> u64 {
        self.events.dropped.load(Relaxed)
    }
}

fn key_of(revision: &RevisionId) -> Key {
    (revision.namespace().to_owned(), revision.name().to_owned())
}

/// A merge patch takes away only what it names: the fields that this status does not have.
fn with_absences(status: &ScaledWorkloadStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        for field in ["lastReplicas", "restored", "lastDecision", "trouble", "problems", "conditions"] {
            map.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    value
}

/// Services that send to the pods of a workload without us.
fn bypassing(picture: &Picture, key: &Key) -> Vec<String> {
    let own = crate::wanted::service_name(key);
    let Some(adopted) = picture.adopted(key) else { return Vec::new() };
    let Some(labels) = &adopted.selector.match_labels else { return Vec::new() };
    let services = picture.services_selecting(&key.0, labels).into_iter();
    let names = services.filter_map(|service| service.metadata.name.clone());
    names.filter(|name| *name != own && adopted.service.as_ref() != Some(name)).take(10).collect()
}

/// A series is told apart by what was done, so that two sizes are two events.
fn action(occurrence: &Occurrence) -> String {
    // "scaled 1 -> 3 because …"
    let what = occurrence.note.split(" because ").next().unwrap_or_default();
    if occurrence.reason == "Scaled" { what.to_owned() } else { occurrence.reason.to_owned() }
}

fn shortened(note: &str, bytes_max: usize) -> String {
    let mut end = note.len().min(bytes_max);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_bound_are_dropped_and_counted() {
        let (sender, mut heard) = mpsc::channel(EVENTS_MAX);
        let events = Events { sender, dropped: AtomicU64::new(0) };
        let event = || Heard {
            key: ("prod".into(), "a".into()),
            occurrence: Occurrence { warning: false, reason: "Scaled", note: "scaled 1 -> 2".into() },
            action: "scaled 1 -> 2".into(),
        };
        (0..EVENTS_MAX).for_each(|_| events.send(event()));
        assert_eq!(events.dropped.load(Relaxed), 0);
        (0..3).for_each(|_| events.send(event()));
        assert_eq!((events.dropped.load(Relaxed), heard.len()), (3, EVENTS_MAX));
        heard.try_recv().unwrap();
        events.send(event());
        assert_eq!((events.dropped.load(Relaxed), heard.len()), (3, EVENTS_MAX), "there is room again");
    }
}
