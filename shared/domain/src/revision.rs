//! What is routed (a revision), what is scaled (its target), and how far we may go with it (its mode).
//!
//! Invariant: a [`Revision`] is fully resolved; nothing downstream of it sees an annotation string or an `Option` that
//! means "use the default".

use crate::limits::Limits;
use crate::problem::Problem;
use crate::scaling::ScalingSpec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `namespace/name` of what is routed and scaled as one. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionId(Arc<str>);

impl RevisionId {
    /// Longest identity accepted: two DNS labels of 253 bytes and the slash.
    pub const MAX_BYTES: usize = 507;

    /// The revision `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// The part before the slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`RevisionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no revision: expected namespace/name, each 1 to 253 bytes, with one slash")]
pub struct BadRevisionId(pub String);

impl FromStr for RevisionId {
    type Err = BadRevisionId;
    fn from_str(text: &str) -> Result<Self, BadRevisionId> {
        let label = |part: &str| !part.is_empty() && part.len() <= 253 && !part.contains('/');
        match text.split_once('/') {
            Some((namespace, name)) if label(namespace) && label(name) => Ok(Self(text.into())),
            _ => Err(BadRevisionId(text.chars().take(100).collect())),
        }
    }
}

impl Serialize for RevisionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RevisionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The object whose replica count is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ScaleTargetRef {
    /// The Deployment `namespace/name`.
    #[must_use]
    pub fn deployment(namespace: &str, name: &str) -> Self {
        Self {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ScaleTargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// How far the autoscaler may go with a revision.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Decide and write.
    #[default]
    Act,
    /// Decide and report, never write.
    Shadow,
    /// Routed and counted; replicas are left alone.
    Paused,
    /// Somebody else scales it, or it cannot be scaled: route, count, report, do not write.
    Refused(Refusal),
    /// Its settings are wrong and no good ones are known: it may be woken and grown, never shrunk, until corrected
    /// (kpa-behaviour 1.6).
    Invalid(Vec<Problem>),
    /// The object is gone: nothing new is routed to it, and its replicas finish what they have.
    Removed,
}

impl Mode {
    /// Whether replicas may be raised.
    #[must_use]
    pub const fn may_grow(&self) -> bool {
        matches!(self, Self::Act | Self::Invalid(_))
    }

    /// Whether replicas may be lowered.
    #[must_use]
    pub const fn may_shrink(&self) -> bool {
        matches!(self, Self::Act)
    }
}

/// Why a target is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// Another autoscaler (kind and name) writes the same target.
    AnotherAutoscaler(String),
    /// The class annotation names a controller that is not ours.
    ForeignClass(String),
    /// Carries none of our annotations: runs at `spec.replicas`, routed and unscaled (local platform).
    NotAnnotated,
    /// Somebody let go of it by hand (`kpa release`, kpa-behaviour 1.8).
    Released,
}

/// Which requests belong to a revision besides its own names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Further hosts (`kpa.dev/hosts`), lower case, without port; `*.` may stand for the first label.
    pub hosts: Vec<String>,
    /// Requests below this path only (`kpa.dev/path-prefix`).
    pub path_prefix: Option<String>,
    /// Takes requests whose Host is localhost or an IP literal (`kpa.dev/default-route`).
    pub default_route: bool,
    /// A Service of the same namespace that leads to the activators (`kpa.dev/take-over`): its names mean this too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<String>,
    /// Rank among claimants of the same host: the smallest is the oldest object and wins.
    pub age_rank: u64,
}

/// One independently routed and scaled workload, with every setting resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// What is routed.
    pub id: RevisionId,
    /// What is scaled.
    pub target: ScaleTargetRef,
    /// How far we may go.
    pub mode: Mode,
    /// Which requests are its own.
    pub route: Route,
    /// What the activator enforces.
    pub limits: Limits,
    /// What the autoscaler aims for.
    pub scaling: ScalingSpec,
    /// Everything wrong or noteworthy about its settings; with [`Mode::Act`] the last good values are in force.
    pub problems: Vec<Problem>,
}

/// Why a text is none of the words of a closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {expected}")]
pub struct UnknownWord {
    /// The words that would be right, comma separated.
    pub expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_checked_where_they_enter() {
        let id: RevisionId = "default/model".parse().unwrap();
        assert_eq!((id.namespace(), id.name()), ("default", "model"));
        for bad in ["", "/", "a/", "/b", "a/b/c", "nothing"] {
            assert!(bad.parse::<RevisionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn invalid_grows_and_never_shrinks() {
        let invalid = Mode::Invalid(Vec::new());
        assert!(invalid.may_grow() && !invalid.may_shrink());
        assert!(!Mode::Shadow.may_grow() && !Mode::Paused.may_grow());
    }
}
