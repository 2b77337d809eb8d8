//! Patches: what a request's body makes of an object.
//!
//! Invariant: a patch works on a copy; one that fails has changed nothing.

use crate::refusal::Refusal;
use crate::resources::Type;
use serde_json::Value;

mod strategic;

/// A JSON patch (RFC 6902).
pub(crate) const JSON: &str = "application/json-patch+json";
/// A merge patch (RFC 7386).
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// A strategic merge patch: lists merge by their keys.
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Server-side apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// Most operations of a JSON patch.
const OPERATIONS_MAX: usize = 10_000;

/// The language of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Language {
    /// Reads `Content-Type`. Custom kinds have no strategic merge.
    pub(crate) fn read(content_type: &str, kind: &Type) -> Result<Self, Refusal> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            JSON => Ok(Self::Json),
            MERGE => Ok(Self::Merge),
            STRATEGIC if !kind.is_custom() => Ok(Self::Strategic),
            APPLY => Ok(Self::Apply),
            _ if kind.is_custom() => Err(Refusal::unsupported_media(&[JSON, MERGE, APPLY])),
            _ => Err(Refusal::unsupported_media(&[JSON, MERGE, STRATEGIC, APPLY])),
        }
    }
}

/// The patched object. [`Language::Apply`] is not a patch of this sort and is refused.
pub(crate) fn patch(language: Language, kind: &Type, old: &Value, body: &[u8]) -> Result<Value, Refusal> {
    let mut new = old.clone();
    match language {
        Language::Json => {
            let operations: json_patch::Patch =
                serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))?;
            if operations.0.len() > OPERATIONS_MAX {
                let message = format!(
                    "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                    operations.0.len()
                );
                let code = http::StatusCode::PAYLOAD_TOO_LARGE;
                return Err(Refusal::new(code, "RequestEntityTooLarge", message));
            }
            json_patch::patch(&mut new, &operations).map_err(|_| Refusal::unprocessable())?;
        }
        Language::Merge => json_patch::merge(&mut new, &read(body)?),
        Language::Strategic => strategic::merge(kind, &mut new, &read(body)?)?,
        Language::Apply => return Err(Refusal::unsupported_media(&[JSON, MERGE, STRATEGIC])),
    }
    if new.is_object() { Ok(new) } else { Err(Refusal::bad_request("the patch leaves no object")) }
}

/// A body that must be a JSON object.
pub(crate) fn read(body: &[u8]) -> Result<Value, Refusal> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(Refusal::bad_request("error decoding patch: no JSON object")) }
}
