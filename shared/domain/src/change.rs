//! What a platform tells its watchers.

use crate::activator_config::ActivatorConfig;
use crate::endpoint::Endpoint;
use crate::report::ReporterId;
use crate::revision::{Revision, RevisionId};
use crate::units::Replicas;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// The condition that no request of a revision ever came through an activator. False once one has, and then it tells so to
/// autoscalers that start later.
pub const TRAFFIC_NOT_SEEN: &str = "TrafficNotSeen";

/// One change on the platform. A watch gives everything known, then [`Change::Synced`], then every change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Everything known has been told.
    Synced,
    /// A revision appeared or its settings changed.
    Applied(Arc<Revision>),
    /// A revision is gone.
    Deleted(RevisionId),
    /// The whole list of a revision's replicas. Versions grow.
    Endpoints {
        /// Whose.
        revision: RevisionId,
        /// Grows with every change of this revision's list.
        version: u64,
        /// All of them; one that is missing is never used again.
        endpoints: Arc<[Endpoint]>,
    },
    /// Replica counts as the platform has them.
    Replicas {
        /// Whose.
        revision: RevisionId,
        /// What was last asked for (`spec.replicas`).
        requested: Replicas,
        /// How many are ready.
        ready: Replicas,
        /// Told to end and not gone yet, so that what they hold of the machine is not free: on a cluster pods with a
        /// deletionTimestamp. A platform counts one here no later than it takes it from the endpoints.
        terminating: Replicas,
        /// Why replicas do not become ready, when the platform knows.
        trouble: Option<Trouble>,
        /// Who wrote `requested`, where that was somebody else than us and the platform knows.
        foreign: Option<Foreign>,
    },
    /// Requests of a revision have come through an activator before now, as an earlier autoscaler has left word
    /// (kpa-behaviour 1.7). It is never taken back.
    TrafficSeen(RevisionId),
    /// The activators that should be reporting. One that is listed and silent blocks shrinking (kpa-behaviour 5.6).
    Activators(Vec<ReporterId>),
    /// The autoscalers that frames are sent to.
    Autoscalers(Vec<Peer>),
    /// `config-activator` as it is now. A platform that has none tells nothing, and activators keep what they were given.
    ActivatorConfig(Arc<ActivatorConfig>),
}

/// Another process of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub id: ReporterId,
    /// Where it listens for frames.
    pub address: SocketAddr,
}

/// Somebody else who wrote a count (kpa-behaviour 1.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Who: on a cluster a field manager, such as `kubectl`.
    pub by: Arc<str>,
    /// An earlier autoscaler saw this count written and left it alone; told with the first counts only.
    pub stands: bool,
}

impl Foreign {
    /// The condition that a count is not ours.
    pub const CONDITION: &str = "WrittenByHand";
    /// Its reason while the count is left alone.
    pub const LEFT_ALONE: &str = "LeftAlone";
}

/// Why replicas do not become ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// One word, such as `CrashLoopBackOff`.
    pub reason: String,
    /// A sentence: what, and what would help.
    pub message: String,
    /// It will not pass by waiting.
    pub permanent: bool,
}
