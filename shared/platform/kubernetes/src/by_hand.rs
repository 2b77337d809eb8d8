//! What a person asks of a cluster with the `kpa` command, with the rights of the person's own kubeconfig.
//!
//! Invariant: letting go marks first, so that no autoscaler takes back what is given, and works also when none is left.

use crate::objects::{FIELD_MANAGER, Published, RELEASED, Released, ScaledWorkload, published};
use crate::scale;
use crate::takeover::{given, kept_selector};
use crate::trim::{Behind, Key, SERVICE_NAME, behind};
use crate::wanted::{given_back, service_name};
use domain::{Replicas, ScaleTargetRef, WallTime};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, Error};
use platform::ScaleError;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a Service that somebody else changes at the same time is written in all.
const CONFLICTS_MAX: u32 = 5;
/// Between two looks at whether pods stand behind a Service again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long clients may still be led to the activators after our slices are gone: a cluster's network follows in its own time.
const LINGER: Duration = Duration::from_secs(5);

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// Our kind is not there.
    #[error(
        "this cluster does not know ScaledWorkloads: kpa is not installed, or its CustomResourceDefinition is gone"
    )]
    NotInstalled,
    /// There is no such workload of ours.
    #[error("there is no ScaledWorkload {0}/{1}")]
    NotFound(String, String),
    /// The API server cannot be reached or refuses.
    #[error("the API server: {0}")]
    Api(#[from] Error),
    /// The count could not be written.
    #[error("the count of {0}/{1}: {2}")]
    Scale(String, String, ScaleError),
}

/// One workload as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What is known of it.
    pub published: Published,
    /// Seconds since it was adopted.
    pub age_seconds: u64,
}

/// Letting go, or taking back, of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Whether it was otherwise before.
    pub changed: bool,
    /// Replicas it has now.
    pub replicas: Replicas,
}

/// A person's hand on a cluster.
#[derive(Clone)]
pub struct Hand {
    client: Client,
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hand").finish_non_exhaustive()
    }
}

impl Hand {
    /// With the rights of `client`.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The workloads of a namespace, or of all, sorted by name.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub async fn list(&self, namespace: Option<&str>, now: WallTime) -> Result<Vec<Listed>, HandError> {
        let kind = ApiResource::erase::<ScaledWorkload>(&());
        let api = match namespace {
            Some(namespace) => Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let objects = api
            .list(&ListParams::default())
            .await
            .map_err(|error| if is_absent(&error) { HandError::NotInstalled } else { HandError::Api(error) })?;
        let listed = |object: DynamicObject| {
            let created = object.metadata.creation_timestamp.as_ref();
            let created = created.and_then(|created| u64::try_from(created.0.as_millisecond()).ok());
            let age_seconds = now.unix_millis().saturating_sub(created.unwrap_or(u64::MAX)) / 1000;
            Listed { published: published(object), age_seconds }
        };
        let mut all: Vec<Listed> = objects.into_iter().map(listed).collect();
        all.sort_by(|a, b| a.published.key.cmp(&b.published.key));
        Ok(all)
    }

    /// Lets go of a workload, which gets its replicas back, or takes it back.
    ///
    /// # Errors
    ///
    /// What could not be done; what was done before stays, and doing it again is harmless.
    pub async fn release(&self, workload: &Published, released: Released) -> Result<Done, HandError> {
        let (namespace, name) = &workload.key;
        let kind = ApiResource::erase::<ScaledWorkload>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let mark = json!({"metadata": {"annotations": {RELEASED: released.annotation()}}});
        api.patch(name, &manager(), &Patch::Merge(mark)).await.map_err(|error| {
            let gone = HandError::NotFound(namespace.clone(), name.clone());
            if is_absent(&error) { gone } else { HandError::Api(error) }
        })?;
        let target = ScaleTargetRef::deployment(namespace, name);
        let failed = |error| HandError::Scale(namespace.clone(), name.clone(), error);
        let replicas = match scale::read(&self.client, &target).await {
            Ok(now) if released == Released::No || !now.is_zero() => now,
            Ok(_) => {
                let back = given_back(workload);
                scale::write(&self.client, &target, None, back, FIELD_MANAGER).await.map_err(failed)?;
                back
            }
            // Its object goes with it.
            Err(ScaleError::NotFound(_)) => Replicas::ZERO,
            Err(error) => return Err(failed(error)),
        };
        if released != Released::No {
            self.give_selector_back(workload).await?;
        }
        // The activators need it for as long as clients are led to them.
        if released == Released::ForGood && led(workload).is_none() {
            self.delete_service(&workload.key).await?;
        }
        Ok(Done { changed: workload.released != released, replicas })
    }

    /// A Service that leads to the activators gets its selector back. Nothing is done where somebody has done it before.
    async fn give_selector_back(&self, workload: &Published) -> Result<(), HandError> {
        let Some(name) = led(workload) else { return Ok(()) };
        let api: Api<Service> = Api::namespaced(self.client.clone(), &workload.key.0);
        let mut tries = 0;
        loop {
            let service = match api.get(name).await {
                Err(error) if is_absent(&error) => return Ok(()),
                service => service?,
            };
            let Some(kept) = kept_selector(&service) else { return Ok(()) };
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let has_one = selector.is_some_and(|selector| !selector.is_empty());
            let version = service.metadata.resource_version.as_deref();
            let patch = Patch::Merge(given(version, (!has_one).then_some(&kept)));
            tries += 1;
            match api.patch(name, &manager(), &patch).await {
                // Somebody else has changed it since, perhaps an autoscaler that does the same.
                Err(Error::Api(status)) if status.code == 409 && tries < CONFLICTS_MAX => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }

    /// Takes away what made the Services of released workloads lead to the activators: of each as soon as pods stand behind it
    /// again, of all that are left when `patience` is over. Then, where they are released for good, the Services of our own by
    /// which activators find the pods. Workloads that never had a Service cost nothing.
    ///
    /// # Errors
    ///
    /// What could not be done; doing it again is harmless.
    pub async fn leave_services(
        &self,
        workloads: &[&Published],
        released: Released,
        patience: Duration,
    ) -> Result<(), HandError> {
        let (end, mut failed) = (Instant::now() + patience, None);
        let mut left: Vec<(&Key, &str)> =
            workloads.iter().filter_map(|workload| Some((&workload.key, led(workload)?))).collect();
        let all: Vec<&Key> = left.iter().map(|(key, _)| *key).collect();
        while !left.is_empty() {
            let over = Instant::now() >= end;
            let mut waiting = Vec::new();
            for (key, service) in left {
                match self.leave_service(key, service, over).await {
                    Ok(true) => {}
                    Ok(false) => waiting.push((key, service)),
                    // One that cannot be left keeps no other from it.
                    Err(error) => failed = Some(error),
                }
            }
            left = waiting;
            if !left.is_empty() {
                sleep(LOOK_EVERY).await;
            }
        }
        if released == Released::ForGood && !all.is_empty() {
            sleep(LINGER).await;
            for key in all {
                failed = self.delete_service(key).await.err().or(failed);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether our slices of a Service are gone; `now`: whatever stands behind it.
    async fn leave_service(&self, key: &Key, service: &str, now: bool) -> Result<bool, HandError> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.0);
        let of_it = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
        let slices: Vec<Behind> = api.list(&of_it).await?.into_iter().map(behind).collect();
        let (ours, others): (Vec<_>, Vec<_>) =
            slices.into_iter().partition(|slice| slice.workload.as_deref() == Some(&key.1));
        if !now && !ours.is_empty() && !others.iter().any(|slice| slice.ready) {
            return Ok(false);
        }
        for slice in ours {
            match api.delete(&slice.key.1, &DeleteParams::default()).await {
                Err(error) if is_absent(&error) => {}
                result => drop(result?),
            }
        }
        Ok(true)
    }

    async fn delete_service(&self, key: &Key) -> Result<(), HandError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.0);
        match api.delete(&service_name(key), &DeleteParams::default()).await {
            Err(error) if is_absent(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }
}

/// The Service that leads to the activators for a workload, as our object says.
fn led(workload: &Published) -> Option<&str> {
    workload.spec.as_ref().ok()?.resolved.route.taken_over.as_deref()
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some("kpa".to_owned()), ..PatchParams::default() }
}
