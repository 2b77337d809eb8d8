//! What people and `kpa get` read: `GET /v1/revisions…` and `GET /v1/wakes`.
//!
//! Invariant: reads only, and never holds up the loop: questions wait in a bounded queue behind everything else.

use crate::event_loop::{Inbox, Query};
use autoscaler_core::{Kept, RevisionStatus};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::{RevisionId, Timestamp};
use runtime::WakeLog;
use runtime::wakes::Wake;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// An answer that takes longer is not waited for.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Names listed when an unknown one was asked for.
const NAMES_MAX: usize = 10;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) inbox: Inbox,
    pub(crate) wakes: Option<Arc<WakeLog>>,
}

/// One cold start as it is shown: milliseconds on the process's clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeTimings {
    /// Whose.
    pub revision: RevisionId,
    /// A request waited where none waited.
    pub first_waiting: f64,
    /// The scale call left.
    pub scale_called: Option<f64>,
    /// The first replica answered its probe.
    pub probe_succeeded: Option<f64>,
    /// The first byte of the first answer left.
    pub first_byte: Option<f64>,
}

impl From<Wake> for WakeTimings {
    fn from(wake: Wake) -> Self {
        let millis = |at: Timestamp| at.since_start().as_secs_f64() * 1000.0;
        Self {
            revision: wake.revision,
            first_waiting: millis(wake.first_waiting),
            scale_called: wake.scale_called.map(millis),
            probe_succeeded: wake.probe_succeeded.map(millis),
            first_byte: wake.first_byte.map(millis),
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The name cannot be one.
    #[error("{0}")]
    BadName(String),
    /// There is no such revision.
    #[error("there is no revision {asked}; there {}", known_names(.known))]
    NotFound { asked: RevisionId, known: Vec<RevisionId> },
    /// No answer within [`ANSWER_TIMEOUT`], or the program is stopping.
    #[error("the autoscaler does not answer; it is busy or stopping")]
    Busy,
}

fn known_names(known: &[RevisionId]) -> String {
    let names: Vec<&str> = known.iter().take(NAMES_MAX).map(RevisionId::as_str).collect();
    match known.len() {
        0 => "is none yet".into(),
        1 => format!("is only {}", names.join("")),
        more if more > NAMES_MAX => format!("are {} and {} more", names.join(", "), more - NAMES_MAX),
        _ => format!("are {}", names.join(", ")),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::BadName(_) => (StatusCode::BAD_REQUEST, "bad_name"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        let body = serde_json::json!({ "code": code, "message": self.to_string() }).to_string();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl Api {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/revisions", get(all))
            .route("/v1/revisions/{namespace}/{name}", get(one))
            .route("/v1/revisions/{namespace}/{name}/decisions", get(decisions))
            .route("/v1/wakes", get(wakes))
            .with_state(self)
    }

    async fn statuses(&self) -> Result<Vec<RevisionStatus>, ApiError> {
        self.ask(Query::Statuses).await
    }

    async fn status(&self, namespace: &str, name: &str) -> Result<RevisionStatus, ApiError> {
        let asked: RevisionId = format!("{namespace}/{name}")
            .parse()
            .map_err(|error: domain::revision::BadRevisionId| ApiError::BadName(error.to_string()))?;
        let mut all = self.statuses().await?;
        match all.iter().position(|status| status.id == asked) {
            Some(index) => Ok(all.swap_remove(index)),
            None => Err(ApiError::NotFound { asked, known: all.into_iter().map(|status| status.id).collect() }),
        }
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.inbox.ask(query(reply)).await.map_err(|_| ApiError::Busy)?;
            answer.await.map_err(|_| ApiError::Busy)
        };
        timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| ApiError::Busy)?
    }
}

async fn all(State(api): State<Api>) -> Result<Json<Vec<RevisionStatus>>, ApiError> {
    api.statuses().await.map(Json)
}

async fn one(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<RevisionStatus>, ApiError> {
    api.status(&namespace, &name).await.map(Json)
}

async fn decisions(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Vec<Kept>>, ApiError> {
    let revision = api.status(&namespace, &name).await?.id;
    api.ask(|reply| Query::History(revision, reply)).await.map(Json)
}

async fn wakes(State(api): State<Api>) -> Json<Vec<WakeTimings>> {
    let wakes = api.wakes.map_or_else(Vec::new, |log| log.all());
    Json(wakes.into_iter().map(WakeTimings::from).collect())
}
