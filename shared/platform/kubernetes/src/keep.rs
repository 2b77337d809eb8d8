//! Carries out what workloads are owed: our Services and ScaledWorkloads, and replicas given back.
//!
//! Invariant: only while this process leads with enough of its lease left; whatever fails is tried again, and whatever
//! was written is seen by the watch, not remembered.

use crate::objects::{FIELD_MANAGER, ScaledWorkload};
use crate::picture::Picture;
use crate::right::Right;
use crate::scale;
use crate::trim::Key;
use crate::wanted::{Write, owed};
use domain::{Replicas, ScaleTargetRef};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Client, Error};
use parking_lot::Mutex;
use platform::ScaleError;
use platform::leadership::CALL_TIMEOUT;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// Workloads that are written at once.
pub(crate) const WRITES_MAX: usize = 32;
/// The first and the longest wait before a failed write is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Workloads to be looked at, and those of which a write has failed.
#[derive(Debug, Default)]
struct Due {
    /// When each may be looked at.
    at: BTreeMap<Key, Instant>,
    /// Failures in a row.
    failures: BTreeMap<Key, u32>,
}

impl Due {
    /// Looks at `key` as soon as its pause is over.
    fn touch(&mut self, key: Key, now: Instant) {
        if !self.failures.contains_key(&key) {
            self.at.insert(key, now);
        }
    }

    fn take(&mut self, now: Instant, room: usize) -> Vec<Key> {
        let ready: Vec<Key> =
            self.at.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).take(room).collect();
        for key in &ready {
            self.at.remove(key);
        }
        ready
    }

    fn done(&mut self, key: &Key, failed: bool, now: Instant) {
        if !failed {
            self.failures.remove(key);
            return;
        }
        let failures = self.failures.entry(key.clone()).or_default();
        let (first, longest) = PAUSE;
        let pause = first.saturating_mul(2_u32.saturating_pow(*failures)).min(longest);
        *failures = failures.saturating_add(1);
        self.at.insert(key.clone(), now + pause);
    }

    fn next(&self) -> Option<Instant> {
        self.at.values().min().copied()
    }
}

/// The keeper.
pub(crate) struct Keeper {
    client: Client,
    picture: Arc<Mutex<Picture>>,
    right: Right,
    due: Mutex<Due>,
    touched: Notify,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Owes nothing yet.
    pub(crate) fn new(client: Client, picture: Arc<Mutex<Picture>>, right: Right) -> Self {
        Self { client, picture, right, due: Mutex::default(), touched: Notify::new() }
    }

    /// Has workloads looked at.
    pub(crate) fn touch(&self, keys: impl IntoIterator<Item = Key>) {
        let now = Instant::now();
        let mut due = self.due.lock();
        keys.into_iter().for_each(|key| due.touch(key, now));
        drop(due);
        self.touched.notify_one();
    }

    /// Works for ever.
    pub(crate) async fn run(&self) {
        let mut leadership = self.right.leadership();
        let mut writes = FuturesUnordered::new();
        let mut led = false;
        loop {
            let leads = leadership.borrow_and_update().may_call(Instant::now());
            if leads && !led {
                self.touch_all();
            }
            led = leads;
            let mut next = None;
            if leads {
                let mut due = self.due.lock();
                for key in due.take(Instant::now(), WRITES_MAX - writes.len()) {
                    writes.push(self.write(key));
                }
                next = due.next().filter(|_| writes.len() < WRITES_MAX);
            }
            tokio::select! {
                biased;
                Some((key, failed)) = writes.next() => self.due.lock().done(&key, failed, Instant::now()),
                // Without a sender there is no elector any more, and the program is about to end.
                Ok(()) = leadership.changed() => {}
                () = self.touched.notified() => {}
                () = until(next) => {}
            }
        }
    }

    /// A new leader looks at everything once.
    fn touch_all(&self) {
        let keys: Vec<Key> = {
            let picture = self.picture.lock();
            picture.adopted_keys().chain(picture.published_keys()).cloned().collect()
        };
        self.touch(keys);
    }

    /// Writes what `key` is owed; whether that failed.
    async fn write(&self, key: Key) -> (Key, bool) {
        let writes = {
            let picture = self.picture.lock();
            if picture.synced() { owed(&picture, &key) } else { Vec::new() }
        };
        for write in writes {
            let Some(_held) = self.right.call() else { return (key, true) };
            let what = write.called();
            match timeout(CALL_TIMEOUT, self.carry_out(&key, write)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!("{}/{}: {what} is not written: {error}; it is tried again", key.0, key.1);
                    return (key, true);
                }
                Err(_) => {
                    tracing::debug!(?key, what, "no answer in time");
                    return (key, true);
                }
            }
        }
        (key, false)
    }

    async fn carry_out(&self, key: &Key, write: Write) -> Result<(), String> {
        let (namespace, name) = key;
        let client = self.client.clone();
        match write {
            Write::Service(object) => {
                let api: Api<Service> = Api::namespaced(client, namespace);
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                api.patch(&name, &apply(), &Patch::Apply(object)).await.map(drop).map_err(said)
            }
            Write::Workload(object) => {
                self.workloads(namespace).patch(name, &apply(), &Patch::Apply(object)).await.map(drop).map_err(said)
            }
            Write::Restore(target, to) => self.restore(key, &target, to).await,
            Write::DeleteService(service) => {
                let ours = self.picture.lock().service(namespace, &service).is_some();
                let api: Api<Service> = Api::namespaced(client, namespace);
                if ours { gone(api.delete(&service, &DeleteParams::default()).await.map(drop)) } else { Ok(()) }
            }
            Write::DeleteWorkload => {
                gone(self.workloads(namespace).delete(name, &DeleteParams::default()).await.map(drop))
            }
        }
    }

    /// Gives replicas back, and says in the object that this was done.
    async fn restore(&self, key: &Key, target: &ScaleTargetRef, to: Replicas) -> Result<(), String> {
        match scale::read(&self.client, target).await {
            Ok(now) if now >= to => {}
            Ok(now) => {
                scale::write(&self.client, target, None, to, FIELD_MANAGER).await.map_err(|error| error.to_string())?;
                tracing::info!("{}/{}: let go, {now} -> {to} replicas", key.0, key.1);
            }
            Err(ScaleError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        let patch: Patch<Value> = Patch::Merge(json!({"status": {"restored": true}}));
        gone(self.workloads(&key.0).patch_status(&key.1, &PatchParams::default(), &patch).await.map(drop))
    }

    fn workloads(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<ScaledWorkload>(&()))
    }
}

impl Write {
    /// For people.
    const fn called(&self) -> &'static str {
        match self {
            Self::Service(_) | Self::DeleteService(_) => "its Service",
            Self::Workload(_) | Self::DeleteWorkload => "its ScaledWorkload",
            Self::Restore(..) => "the count that it gets back",
        }
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn said(error: Error) -> String {
    error.to_string()
}

/// What is gone already need not be deleted.
fn gone(result: Result<(), Error>) -> Result<(), String> {
    match result {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map_err(said),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
