//! What a person may look at and do by hand: the replicas, a floor for some time, a restart, letting go.
//!
//! Invariant: whatever cannot be done says why and changes nothing; what is done is remembered across restarts.

use crate::local::LocalPlatform;
use crate::overrides::{FLOOR_SPAN_MAX, Floor, OVERRIDES_MAX};
use crate::runner::Request;
use domain::{EndpointId, Mode, Origin, Refusal, Replicas, RevisionId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;

/// Where one replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Nothing runs yet: it waits for a port or a GPU.
    Pending,
    /// It runs and does not answer its probe.
    Starting,
    /// It answers.
    Ready,
    /// It gets nothing new and finishes what it has.
    Draining,
    /// It was told to end.
    Stopping,
    /// It crashed, and is started again later.
    Backoff,
}

/// One replica as a person sees it. Serialised in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its service's name and its slot: `app-0`.
    pub name: String,
    /// `namespace/name` of its service.
    pub service: RevisionId,
    /// Its slot among the replicas of its service.
    pub slot: u32,
    /// Names the process; a restart gets another.
    pub id: EndpointId,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// Where it listens; `None` while it has no process.
    pub address: Option<SocketAddr>,
    /// The leader of its process group; `None` while it has none.
    pub pid: Option<i32>,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// Seconds since the slot was filled.
    pub age_seconds: u64,
    /// It was started from an earlier version or before a restart, and is being replaced.
    pub outdated: bool,
    /// Seconds until it is started again.
    pub retry_after_seconds: Option<f64>,
    /// How it last ended by itself, or why nothing runs.
    pub reason: Option<String>,
    /// The labels of its service's pods.
    pub labels: BTreeMap<String, String>,
}

/// A floor as it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorSet {
    /// The floor; `None`: there is none now.
    pub floor: Option<Floor>,
    /// min-scale as it is in force now.
    pub min_scale: Replicas,
}

/// A restart that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartBegun {
    /// The replicas that will be replaced; none where nothing runs.
    pub replaces: Vec<EndpointId>,
}

/// A service that was let go or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseDone {
    /// It is let go now.
    pub released: bool,
    /// It was otherwise before.
    pub changed: bool,
    /// The count it has.
    pub replicas: Replicas,
}

/// Why something asked for by hand is not done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OperateError {
    /// There is no such service.
    #[error("there is no service {0}")]
    NotFound(RevisionId),
    /// The floor would be above max-scale.
    #[error(
        "{service} has a max-scale of {max} ({origin}); ask for at most {max}, or raise autoscaling.knative.dev/max-scale"
    )]
    AboveMax {
        /// The service.
        service: RevisionId,
        /// What was asked for.
        min: Replicas,
        /// What is allowed.
        max: Replicas,
        /// Who says so.
        origin: Origin,
    },
    /// Nobody scales it, so there is nothing to set or to let go of.
    #[error("{service} {}", left_alone(mode))]
    LeftAlone {
        /// The service.
        service: RevisionId,
        /// How far we may go with it.
        mode: Mode,
    },
    /// It was let go.
    #[error("{0} is released and not scaled; `kpa release {0} --undo` takes it back")]
    Released(RevisionId),
    /// A time that is none or too long.
    #[error("a floor lasts longer than 0s and at most {} h; what should stay longer belongs into the manifest as min-scale", FLOOR_SPAN_MAX.as_secs() / 3600)]
    Span,
    /// The table is full.
    #[error("{OVERRIDES_MAX} services have something set by hand already; take something back first")]
    TooMany,
    /// kpa is stopping.
    #[error("kpa is stopping")]
    Stopping,
}

fn left_alone(mode: &Mode) -> &'static str {
    match mode {
        Mode::Act => "is scaled",
        Mode::Shadow => "is in mode shadow (kpa.dev/mode): its replicas are left alone",
        Mode::Paused => "is paused (kpa.dev/mode): its replicas are left alone",
        Mode::Refused(Refusal::NotAnnotated) => {
            "carries none of our annotations: it runs at spec.replicas and is not scaled"
        }
        Mode::Refused(Refusal::Released) => "is released: its replicas are left alone",
        Mode::Refused(Refusal::AnotherAutoscaler(_) | Refusal::ForeignClass(_)) => {
            "belongs to another autoscaler: its replicas are left alone"
        }
        Mode::Invalid(_) => "has wrong settings, and no good ones are known: correct its manifest first",
        Mode::Removed => "is being removed",
    }
}

/// Where the answer to something asked for goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, OperateError>>;

/// Something asked for by hand.
#[derive(Debug)]
pub(crate) enum Operate {
    /// Every replica there is.
    Replicas(oneshot::Sender<Vec<ReplicaStatus>>),
    /// A floor for some time, or none.
    Floor { service: RevisionId, floor: Option<(Replicas, Duration)>, reply: Reply<FloorSet> },
    /// Replace every process by another of the same version.
    Restart { service: RevisionId, reply: Reply<RestartBegun> },
    /// Let go, or take back.
    Release { service: RevisionId, let_go: bool, reply: Reply<ReleaseDone> },
}

impl LocalPlatform {
    /// Every replica, by service and slot.
    ///
    /// # Errors
    /// The supervisor has ended.
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, OperateError> {
        let (reply, answer) = oneshot::channel();
        self.operate(Operate::Replicas(reply)).await?;
        answer.await.map_err(|_| OperateError::Stopping)
    }

    /// Raises the min-scale of `service` to `floor` for so long, or, with `None`, ends an earlier floor.
    ///
    /// # Errors
    /// There is no such service, nobody scales it, or the floor is above its max-scale or lasts too long.
    pub async fn set_floor(
        &self,
        service: RevisionId,
        floor: Option<(Replicas, Duration)>,
    ) -> Result<FloorSet, OperateError> {
        self.ask(|reply| Operate::Floor { service, floor, reply }).await
    }

    /// Replaces every process of `service` by another of the same version: new ones first, then the old ones drain.
    ///
    /// # Errors
    /// There is no such service.
    pub async fn restart(&self, service: RevisionId) -> Result<RestartBegun, OperateError> {
        self.ask(|reply| Operate::Restart { service, reply }).await
    }

    /// Lets go of `service`: it gets max(1, min-scale, last count other than zero) and is left alone from then on
    /// (kpa-behaviour 1.8); or takes it back.
    ///
    /// # Errors
    /// There is no such service, or nobody scales it anyway.
    pub async fn release(&self, service: RevisionId, let_go: bool) -> Result<ReleaseDone, OperateError> {
        self.ask(|reply| Operate::Release { service, let_go, reply }).await
    }

    async fn ask<T>(&self, operate: impl FnOnce(Reply<T>) -> Operate) -> Result<T, OperateError> {
        let (reply, answer) = oneshot::channel();
        self.operate(operate(reply)).await?;
        answer.await.map_err(|_| OperateError::Stopping)?
    }

    async fn operate(&self, operate: Operate) -> Result<(), OperateError> {
        self.request(Request::Operate(operate)).await.map_err(|_| OperateError::Stopping)
    }
}
