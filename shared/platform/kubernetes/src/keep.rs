//! Carries out what workloads are owed: our Services and ScaledWorkloads, and replicas given back.
//!
//! Invariant: only while this process leads with enough of its lease left; whatever fails is tried again, and whatever
//! was written is seen by the watch, not remembered.

mod pace;

use crate::objects::{FIELD_MANAGER, ScaledWorkload};
use crate::picture::Picture;
use crate::right::Right;
use crate::scale;
use crate::takeover::{KEPT_SELECTOR, given};
use crate::trim::Key;
use crate::wanted::{Write, owed};
use domain::{Replicas, ScaleTargetRef};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Error};
use pace::{Applied, Due, TAKE_AGAIN, Taken, Went};
use parking_lot::Mutex;
use platform::ScaleError;
use platform::leadership::CALL_TIMEOUT;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Workloads that are written at once.
pub(crate) const WRITES_MAX: usize = 32;
/// The keeper.
pub(crate) struct Keeper {
    client: Client,
    picture: Arc<Mutex<Picture>>,
    right: Right,
    due: Mutex<Due>,
    taken: Mutex<Taken>,
    applied: Mutex<Applied>,
    touched: Notify,
    /// Whether more workloads are due than are written at once.
    behind: watch::Sender<bool>,
    recorder: Recorder,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Owes nothing yet.
    pub(crate) fn new(client: Client, picture: Arc<Mutex<Picture>>, right: Right) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            picture,
            right,
            due: Mutex::default(),
            taken: Mutex::default(),
            applied: Mutex::default(),
            touched: Notify::new(),
            behind: watch::Sender::default(),
        }
    }

    /// Whether more workloads are due than are written at once.
    pub(crate) fn behind(&self) -> watch::Receiver<bool> {
        self.behind.subscribe()
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
            let (mut next, mut is_behind) = (None, false);
            if leads {
                let (mut due, now) = (self.due.lock(), Instant::now());
                for key in due.take(now, WRITES_MAX - writes.len()) {
                    writes.push(self.write(key));
                }
                is_behind = due.next().is_some_and(|at| at <= now);
                next = due.next().filter(|_| writes.len() < WRITES_MAX);
            }
            self.behind.send_if_modified(|before| std::mem::replace(before, is_behind) != is_behind);
            tokio::select! {
                biased;
                Some((key, went)) = writes.next() => self.due.lock().done(&key, went, Instant::now()),
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
            let known = picture.adopted_keys().chain(picture.published_keys()).cloned();
            known.chain(picture.marked_keys()).collect()
        };
        self.touch(keys);
    }

    /// Writes what `key` is owed.
    async fn write(&self, key: Key) -> (Key, Went) {
        let writes = {
            let picture = self.picture.lock();
            if !picture.synced() {
                return (key, Went::Well);
            }
            owed(&picture, &key)
        };
        self.applied.lock().owed(&key, &writes);
        let mut went = Went::Well;
        for write in writes {
            let is_applied = matches!(write, Write::Service(_) | Write::Workload(_) | Write::Slice(_));
            if let Some(wait) = self.applied.lock().wait(&key, &write, Instant::now()).filter(|_| is_applied) {
                went = Went::Wait(wait);
                continue;
            }
            let Some(_held) = self.right.call() else { return (key, Went::Wrong) };
            if let Write::TakeSelector { service, again, .. } = &write {
                if let Err(wait) = self.taken.lock().take((key.0.clone(), service.clone()), Instant::now()) {
                    return (key, Went::Wait(wait));
                }
                if *again {
                    self.tell_of_another_writer(&key, service).await;
                }
            }
            let what = write.called();
            match timeout(CALL_TIMEOUT, self.carry_out(&key, write.clone())).await {
                Ok(Ok(())) if is_applied => self.applied.lock().note(&key, &write, Instant::now()),
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!("{}/{}: {what} is not written: {error}; it is tried again", key.0, key.1);
                    return (key, Went::Wrong);
                }
                Err(_) => {
                    tracing::debug!(?key, what, "no answer in time");
                    return (key, Went::Wrong);
                }
            }
        }
        (key, went)
    }

    /// Says that a selector was put back which is taken off again.
    async fn tell_of_another_writer(&self, key: &Key, service: &str) {
        let note = format!(
            "somebody has put the selector of Service {service} back, so that requests pass kpa by; kpa.dev/take-over takes it \
             off again, at most once in {} s",
            TAKE_AGAIN.as_secs()
        );
        tracing::warn!("{}/{}: {note}", key.0, key.1);
        let uid = self.picture.lock().uid(key).map(ToOwned::to_owned);
        let reference = ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            name: Some(key.1.clone()),
            namespace: Some(key.0.clone()),
            uid,
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: "SelectorPutBack".into(),
            action: "TakeOver".into(),
            note: Some(note),
            secondary: None,
        };
        match timeout(CALL_TIMEOUT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(?key, %error, "an event is not written"),
            Err(_) => tracing::debug!(?key, "no answer to an event in time"),
        }
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
            Write::Slice(object) => {
                let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                api.patch(&name, &apply(), &Patch::Apply(object)).await.map(drop).map_err(said)
            }
            Write::DeleteSlice(slice) => {
                let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
                gone(api.delete(&slice, &DeleteParams::default()).await.map(drop))
            }
            Write::DeleteEndpoints(endpoints) => {
                let api: Api<Endpoints> = Api::namespaced(client, namespace);
                gone(api.delete(&endpoints, &DeleteParams::default()).await.map(drop))
            }
            Write::TakeSelector { service, version, kept, again: _ } => {
                let patch = json!({
                    "metadata": {"resourceVersion": version, "annotations": {KEPT_SELECTOR: kept}},
                    "spec": {"selector": null},
                });
                self.merge(namespace, &service, patch).await?;
                tracing::info!("{namespace}/{name}: Service {service} leads to the activators");
                Ok(())
            }
            Write::GiveSelector { service, version, selector } => {
                self.merge(namespace, &service, given(version.as_deref(), selector.as_ref())).await?;
                tracing::info!("{namespace}/{name}: Service {service} has its selector back");
                Ok(())
            }
        }
    }

    /// A merge patch of a Service. Of one that somebody else has changed since it was seen, nothing is changed.
    async fn merge(&self, namespace: &str, service: &str, patch: Value) -> Result<(), String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        gone(api.patch(service, &parameters, &Patch::Merge(patch)).await.map(drop))
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
            Self::Slice(_) | Self::DeleteSlice(_) | Self::DeleteEndpoints(_) => "what stands behind its Service",
            Self::TakeSelector { .. } | Self::GiveSelector { .. } => "the selector of its Service",
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
