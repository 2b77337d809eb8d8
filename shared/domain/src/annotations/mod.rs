//! Annotations to settings: the one place where their strings are read (kpa-behaviour 1.3 to 1.6 and 2,
//! knative-behaviour 2).
//!
//! Invariant: a wrong value never makes anything smaller. The last good value stays in force; where none is known the
//! object is [`Mode::Invalid`] and may grow only.

pub mod docs;
pub mod keys;
pub mod kind;
mod limits;
mod read;
mod scaling;
pub(crate) mod shown;
#[cfg(test)]
mod tests;

pub use keys::{KEYS, KeyDoc, Served};
pub use kind::{Kind, Range, Refused};

use crate::defaults::{Defaults, KPA_CLASS};
use crate::limits::{Limits, words};
use crate::origin::Resolved;
use crate::problem::{Problem, Severity};
use crate::revision::{Mode, Refusal, Revision, Route, UnknownWord};
use crate::scaling::ScalingSpec;
use keys::{CLASS, MANAGE, MODE};
use read::{Reader, Reading};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The annotations of one object.
#[derive(Debug, Clone, Copy)]
pub struct Annotated<'a> {
    /// Where it stands: `app.yaml:12 Deployment default/app`.
    pub place: &'a str,
    /// On its own metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// On its pod template.
    pub template: &'a BTreeMap<String, String>,
}

/// The settings of an object the last time all of them were right.
#[derive(Debug, Clone, PartialEq)]
pub struct LastGood {
    /// What the activator enforced.
    pub limits: Limits,
    /// What the autoscaler aimed for.
    pub scaling: ScalingSpec,
    /// Which requests were its own.
    pub route: Route,
    /// How far we went.
    pub mode: Mode,
    /// The port that served.
    pub port: Option<u16>,
}

impl LastGood {
    /// The settings of a revision that was resolved before, unless it was invalid or carried no annotation of ours.
    /// `port` is the one that served.
    #[must_use]
    pub fn of(revision: &Revision, port: Option<u16>) -> Option<Self> {
        match revision.mode {
            Mode::Invalid(_) | Mode::Refused(Refusal::NotAnnotated) => None,
            Mode::Act | Mode::Shadow | Mode::Paused | Mode::Refused(_) | Mode::Removed => Some(Self {
                limits: revision.limits.clone(),
                scaling: revision.scaling.clone(),
                route: revision.route.clone(),
                mode: revision.mode.clone(),
                port,
            }),
        }
    }
}

/// Everything the annotations of an object say, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// What the activator enforces.
    pub limits: Limits,
    /// What the autoscaler aims for.
    pub scaling: ScalingSpec,
    /// Which requests are its own; the rank among claimants is the caller's to set.
    pub route: Route,
    /// How far we may go.
    pub mode: Mode,
    /// `kpa.dev/local-command`.
    pub local_command: Option<Resolved<String>>,
    /// `kpa.dev/manage`: adopt although another controller owns it.
    pub manage: bool,
    /// `kpa.dev/service`.
    pub service: Option<Resolved<String>>,
    /// `kpa.dev/take-over`: that Service is to lead to the activators.
    pub take_over: bool,
    /// `kpa.dev/upstream`.
    pub upstream: Resolved<Upstream>,
    /// `kpa.dev/port`.
    pub port: Option<Resolved<u16>>,
    /// Everything wrong or noteworthy.
    pub problems: Vec<Problem>,
    /// It carries a key of ours, known or not.
    pub annotated: bool,
}

words! {
    /// `kpa.dev/mode`.
    Wish {
        /// Decide and write.
        #[default]
        Act = "act",
        /// Decide and report.
        Shadow = "shadow",
        /// Leave the count alone.
        Paused = "paused",
    }
    "act, shadow, paused"
}

words! {
    /// `kpa.dev/upstream`: where requests are sent on a cluster.
    Upstream {
        /// To the pods.
        #[default]
        Pods = "pods",
        /// To the cluster IP of the Service, as one endpoint.
        Service = "service",
    }
    "pods, service"
}

impl shown::Shown for Upstream {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl shown::Shown for Wish {
    fn shown(&self) -> String {
        self.to_string()
    }
}

/// Reads the annotations of an object. Never fails: what is wrong is in `problems`, and the mode says what it costs.
#[must_use]
pub fn resolve(input: &Annotated<'_>, defaults: &Defaults, last_good: Option<&LastGood>) -> Resolution {
    let mut reader = Reader::new(input, last_good.is_some());
    let annotated = reader.annotated();
    let limits = limits::limits(&mut reader, last_good.map(|last| &last.limits));
    let scaling = scaling::scaling(&mut reader, defaults, &limits, last_good.map(|last| &last.scaling));
    let route = limits::route(&mut reader, last_good.map(|last| &last.route));
    let port = limits::port(&mut reader, last_good.and_then(|last| last.port));
    let local_command = reader.read(&keys::LOCAL_COMMAND, Kind::text, None).good();
    let service = reader.read(&keys::SERVICE, Kind::text, None).good();
    let upstream = reader.value(&keys::UPSTREAM, Kind::word, None, Resolved::default_value(Upstream::Pods));
    let take_over = *reader.value(&keys::TAKE_OVER, Kind::flag, None, Resolved::default_value(false));
    let manage = *reader.value(&MANAGE, Kind::flag, None, Resolved::default_value(false));
    let wished = mode(&mut reader, defaults, last_good.map(|last| &last.mode));
    unserved(&mut reader);
    reader.conflicts();
    reader.unknown_keys();

    let mode = if annotated {
        if reader.lost && wished == Mode::Act { Mode::Invalid(errors(&reader.problems)) } else { wished }
    } else {
        reader.problems.push(not_annotated(input.place));
        Mode::Refused(Refusal::NotAnnotated)
    };
    Resolution {
        limits,
        scaling,
        route,
        mode,
        local_command,
        manage,
        service,
        take_over,
        upstream,
        port,
        problems: reader.problems,
        annotated,
    }
}

/// How far the object lets us go, its settings apart. Shadow, pause and refusal write nothing, so they stand even when
/// other keys are wrong.
fn mode(reader: &mut Reader<'_>, defaults: &Defaults, last_good: Option<&Mode>) -> Mode {
    let class = reader.read(&CLASS, class, None);
    let wish = reader.read(&MODE, Kind::word::<Wish>, None);
    if class.is_refused() || wish.is_refused() {
        return last_good.cloned().unwrap_or_default();
    }
    let class = class.good().unwrap_or_else(|| defaults.class.clone());
    if class.value != KPA_CLASS {
        let ours_later = class.value.ends_with("hpa.autoscaling.knative.dev");
        let what = if ours_later {
            "the HPA class is not served in this release".to_owned()
        } else {
            format!("{} is the class of another autoscaler", kind::quoted(&class.value))
        };
        let consequence = "it is routed and counted; its replicas are left alone".into();
        reader.report(Severity::Notice, &CLASS, what, String::new(), consequence);
        return Mode::Refused(Refusal::ForeignClass(class.value));
    }
    match wish.good().unwrap_or_default().value {
        Wish::Act => Mode::Act,
        Wish::Shadow => Mode::Shadow,
        Wish::Paused => Mode::Paused,
    }
}

/// A class: another's name passes, a misspelt one of Knative's does not.
fn class(_: &Kind, text: &str) -> Result<String, Refused> {
    let knative = ["kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"];
    if text.ends_with(".knative.dev") && !knative.contains(&text) {
        return Err(Refused(format!("{} is no class of Knative", kind::quoted(text))));
    }
    Ok(text.to_owned())
}

/// Checks the keys that nothing reads yet, and says of each that is written what happens instead. A value that asks
/// for the default is silent.
fn unserved(reader: &mut Reader<'_>) {
    let _: Reading<String> = reader.read(&keys::PLACEHOLDER, Kind::listed, None);
    let _: Reading<Option<Duration>> = reader.read(&keys::HEARTBEAT, Kind::span_or_off, None);
    for row in KEYS {
        reader.not_served(row);
    }
}

fn errors(problems: &[Problem]) -> Vec<Problem> {
    problems.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect()
}

fn not_annotated(place: &str) -> Problem {
    Problem {
        severity: Severity::Notice,
        place: place.into(),
        key: "metadata.annotations".into(),
        what: "carries no autoscaling.knative.dev/* or kpa.dev/* annotation".into(),
        expected: "autoscaling.knative.dev/min-scale: \"0\", say, to let it be scaled".into(),
        consequence: "it runs at spec.replicas, routed and not scaled".into(),
    }
}

/// The known name nearest to `key`, as a question; `None` when none is near. What stands before a slash is not compared.
#[must_use]
pub fn did_you_mean<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    const LEN_MAX: usize = 200;
    const LIKENESS_MIN: f64 = 0.7;
    if key.len() > LEN_MAX {
        return None;
    }
    let stem = |key: &str| key.rsplit_once('/').map_or(key, |(_, name)| name).to_ascii_lowercase();
    let wanted = stem(key);
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, &stem(name)), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.len().cmp(&a.1.len())))
        .map(|(_, name)| format!("{name} (did you mean that?)"))
}
