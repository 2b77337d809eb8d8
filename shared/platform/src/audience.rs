//! Where an autoscaler shows what it sees and does, on platforms that have a place for it.
//!
//! Invariant: showing decides nothing and holds nobody up: an audience takes what it is given at once, and may drop it.

use domain::{Replicas, RevisionId, Trouble, Why};

/// A place where people look.
pub trait Audience: Send + Sync + 'static {
    /// Takes how a revision stands now. It is told again and again; the newest counts.
    fn show(&self, shown: Shown);
    /// Takes something that happened to a revision.
    fn hear(&self, revision: &RevisionId, occurrence: Occurrence);
    /// How much of what it heard it has dropped, because too much of it waited.
    fn dropped(&self) -> u64 {
        0
    }
}

/// How a revision stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Which one.
    pub revision: RevisionId,
    /// What is scaled, such as `Deployment/model`.
    pub reference: String,
    /// Per signal the average of a ready replica over its target.
    pub targets: String,
    /// `min-scale`.
    pub min: Replicas,
    /// `max-scale`; `None` is unlimited.
    pub max: Option<Replicas>,
    /// What was last asked for.
    pub requested: Replicas,
    /// How many are ready.
    pub ready: Replicas,
    /// What is wanted.
    pub wanted: Replicas,
    /// What it is doing, in a word.
    pub mode: &'static str,
    /// Requests running on a replica.
    pub in_flight: u32,
    /// Requests waiting.
    pub queued: u32,
    /// The last decision as a sentence.
    pub reason: String,
    /// Its arithmetic.
    pub why: Option<Why>,
    /// Why replicas do not become ready.
    pub trouble: Option<Trouble>,
    /// What is wrong with its settings, a sentence each.
    pub problems: Vec<String>,
    /// What is true of it and matters.
    pub conditions: Vec<ShownCondition>,
}

/// One condition, in the manner of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCondition {
    /// One word.
    pub kind: &'static str,
    /// Whether it is so.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Somebody may have to do something about it.
    pub warning: bool,
    /// One word: `Scaled`, `Woken`, …
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}
