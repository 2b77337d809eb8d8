//! Where a value came from (kpa-behaviour 1.4).

use crate::time::WallTime;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;

/// The source of a resolved value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Built in.
    #[default]
    Default,
    /// A key of `config-autoscaler` or `config-activator`.
    ClusterConfig,
    /// An annotation on the object's own metadata.
    Annotation,
    /// An annotation on its pod template.
    TemplateAnnotation,
    /// A field of the pod template (a container port, say).
    Template,
    /// A HorizontalPodAutoscaler for the same target.
    Hpa,
    /// A KServe InferenceService.
    InferenceService,
    /// The annotation is wrong now; this is the value of the last time it was right.
    LastGood,
    /// A floor that somebody set for some time (`kpa scale`).
    Floor {
        /// When what is declared counts again.
        until: WallTime,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor { until } => return write!(f, "kpa scale, until {until:.0}"),
            Self::Default => "default",
            Self::ClusterConfig => "cluster config",
            Self::Annotation => "annotation",
            Self::TemplateAnnotation => "pod template annotation",
            Self::Template => "pod template",
            Self::Hpa => "HorizontalPodAutoscaler",
            Self::InferenceService => "InferenceService",
            Self::LastGood => "last good value",
        })
    }
}

/// A value and where it came from. Reads as the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resolved<T> {
    /// The value in force.
    pub value: T,
    /// Its source.
    pub origin: Origin,
}

impl<T> Resolved<T> {
    /// A built-in default.
    pub const fn default_value(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    /// A value from `origin`.
    pub const fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

impl<T> Deref for Resolved<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
