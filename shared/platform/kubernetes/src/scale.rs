//! The scale subresource: the one way to a count.
//!
//! Invariant: lowering is a compare-and-set on the number itself, which no fencing of ours could replace; raising never
//! lowers what is known to be higher (engineering 30).

use domain::{Replicas, ScaleTargetRef};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use platform::ScaleError;
use serde_json::json;
use std::time::Duration;

/// How long a conflict is waited out.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);
/// How long is waited where the API server asks for patience and does not say how much.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Writes `to`. With `from`, only over exactly this count.
///
/// # Errors
///
/// Why it was not written; [`ScaleError::Changed`] with the count that was found.
pub async fn write(
    client: &Client,
    target: &ScaleTargetRef,
    from: Option<Replicas>,
    to: Replicas,
    manager: &str,
) -> Result<(), ScaleError> {
    let api = deployments(client, target)?;
    let add = json!({"op": "add", "path": "/spec/replicas", "value": to.get()});
    let operations = match from {
        // At 0 the field is absent, and its test fails: right, since nothing can be lowered from there.
        Some(from) => json!([{"op": "test", "path": "/spec/replicas", "value": from.get()}, add]),
        None => json!([add]),
    };
    let operations = serde_json::from_value(operations).map_err(|error| ScaleError::Refused(error.to_string()))?;
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    match api.patch_scale(&target.name, &parameters, &Patch::<()>::Json(operations)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 422 => {
            let now = read(client, target).await?;
            match from {
                Some(from) if from != now => Err(ScaleError::Changed { now }),
                _ => Err(ScaleError::Refused(status.message)),
            }
        }
        Err(error) => Err(refused(error, target)),
    }
}

/// The count last asked for.
///
/// # Errors
///
/// Why it cannot be read.
pub async fn read(client: &Client, target: &ScaleTargetRef) -> Result<Replicas, ScaleError> {
    let scale = deployments(client, target)?.get_scale(&target.name).await.map_err(|error| refused(error, target))?;
    let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
    Ok(Replicas::new(u32::try_from(replicas).unwrap_or(0)))
}

fn deployments(client: &Client, target: &ScaleTargetRef) -> Result<Api<Deployment>, ScaleError> {
    match (target.api_version.as_str(), target.kind.as_str()) {
        ("apps/v1", "Deployment") => Ok(Api::namespaced(client.clone(), &target.namespace)),
        (version, kind) => Err(ScaleError::Refused(format!("{version} {kind} is not scaled in this release"))),
    }
}

/// What an error of the API server means to whoever asked.
fn refused(error: Error, target: &ScaleTargetRef) -> ScaleError {
    let Error::Api(status) = error else { return ScaleError::Unreachable(error.to_string()) };
    match status.code {
        404 => ScaleError::NotFound(target.clone()),
        409 => ScaleError::Busy(CONFLICT_PAUSE),
        429 => {
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            ScaleError::Busy(if seconds == 0 { BUSY_PAUSE } else { Duration::from_secs(u64::from(seconds)) })
        }
        500.. => ScaleError::Unreachable(status.message),
        _ => ScaleError::Refused(status.message),
    }
}
