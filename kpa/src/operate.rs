//! What `kpa run` serves for whoever operates it by hand: `/v1/local/…` on the admin address.
//!
//! Invariant: whoever looks needs nothing; whoever changes something shows the token of the state folder, which only the
//! same user can read, and is no web page: a foreign Host or any Origin but our own is refused before anything is read.

use activator::revisions::Revisions;
use autoscaler::Token;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::{EndpointId, Replicas, RevisionId, duration};
use platform_local::{FloorSet, LocalPlatform, OperateError, ReleaseDone, ReplicaStatus, RestartBegun};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// An answer of the supervisor that takes longer is not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Operate {
    platform: LocalPlatform,
    revisions: Arc<Revisions>,
    token: Token,
}

/// A replica with what the activator knows of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    #[serde(flatten)]
    status: ReplicaStatus,
    /// Requests running on it.
    in_flight: u32,
}

/// One object that is not used.
#[derive(Serialize)]
struct Ignored {
    place: String,
    kind: String,
    name: String,
    reason: String,
}

/// A floor as it is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FloorWish {
    /// At least so many replicas.
    pub(crate) min: u32,
    /// For so long, in Go's grammar.
    #[serde(rename = "for")]
    pub(crate) span: String,
}

/// Why something is not answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "this address is for programs of this machine: Host {0:?} is none of its names (localhost or an IP address)"
    )]
    Host(String),
    #[error("this address is no place for web pages: Origin {0:?} is refused")]
    Origin(String),
    #[error("the token is not that of this kpa: it is in the file token of its state folder (--state-dir)")]
    Token,
    #[error("{0}")]
    BadName(String),
    #[error("the request cannot be read: {0}; expected such as {{\"min\": 2, \"for\": \"2h\"}}")]
    BadBody(String),
    #[error(transparent)]
    Operate(#[from] OperateError),
    #[error("the supervisor does not answer; it is busy or stopping")]
    Busy,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Host(_) => (StatusCode::FORBIDDEN, "foreign_host"),
            Self::Origin(_) => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::Token => (StatusCode::UNAUTHORIZED, "token"),
            Self::BadName(_) => (StatusCode::BAD_REQUEST, "bad_name"),
            Self::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Self::Operate(error) => match error {
                OperateError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
                OperateError::AboveMax { .. } => (StatusCode::CONFLICT, "above_max_scale"),
                OperateError::LeftAlone { .. } => (StatusCode::CONFLICT, "left_alone"),
                OperateError::Released(_) => (StatusCode::CONFLICT, "released"),
                OperateError::Span => (StatusCode::BAD_REQUEST, "bad_span"),
                OperateError::TooMany => (StatusCode::CONFLICT, "too_many"),
                OperateError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            },
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        let body = serde_json::json!({ "code": code, "message": self.to_string() }).to_string();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl Operate {
    pub(crate) fn new(platform: LocalPlatform, revisions: Arc<Revisions>) -> Self {
        let token = Token::new(platform.secret());
        Self { platform, revisions, token }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/local/replicas", get(replicas))
            .route("/v1/local/ignored", get(ignored))
            .route("/v1/local/services/{namespace}/{name}/floor", post(set_floor).delete(clear_floor))
            .route("/v1/local/services/{namespace}/{name}/restart", post(restart))
            .route("/v1/local/services/{namespace}/{name}/release", post(release).delete(take_back))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

/// Shown to be a program of the same user, and which service it means.
struct Allowed(RevisionId);

impl FromRequestParts<Operate> for Allowed {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, state: &Operate) -> Result<Self, Refusal> {
        allow(&parts.headers, &state.token)?;
        let Path((namespace, name)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refusal::BadName(rejection.body_text()))?;
        let service = format!("{namespace}/{name}").parse();
        service.map(Self).map_err(|error: domain::revision::BadRevisionId| Refusal::BadName(error.to_string()))
    }
}

/// A page that was opened under a name of its own, which it then lets point here, has that name as Host; a page of another
/// address has an Origin that is not ours; neither can read the token.
fn allow(headers: &HeaderMap, token: &Token) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let host = text(header::HOST).unwrap_or_default();
    if !is_of_this_machine(&host) {
        return Err(Refusal::Host(host.chars().take(100).collect()));
    }
    if let Some(origin) = text(header::ORIGIN)
        && origin != format!("http://{host}")
    {
        return Err(Refusal::Origin(origin.chars().take(100).collect()));
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if shown.is_some_and(|shown| token.is(shown)) { Ok(()) } else { Err(Refusal::Token) }
}

/// An IP address or localhost, with or without a port: no name that somebody else can point here.
fn is_of_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

async fn answer<T>(asked: impl Future<Output = Result<T, OperateError>>) -> Result<Json<T>, Refusal> {
    Ok(Json(timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| Refusal::Busy)??))
}

async fn replicas(State(state): State<Operate>) -> Result<Json<Vec<Replica>>, Refusal> {
    let Json(statuses) = answer(state.platform.replicas()).await?;
    let mut loads: BTreeMap<RevisionId, BTreeMap<EndpointId, u32>> = BTreeMap::new();
    for status in &statuses {
        loads.entry(status.service.clone()).or_insert_with(|| {
            let handle = state.revisions.get(&status.service);
            let endpoints = handle.map_or_else(Vec::new, |handle| handle.gate.endpoints());
            endpoints.into_iter().map(|(endpoint, _)| (endpoint.id.clone(), endpoint.load())).collect()
        });
    }
    let in_flight = |status: &ReplicaStatus| loads.get(&status.service)?.get(&status.id).copied();
    let replicas = statuses.into_iter();
    Ok(Json(replicas.map(|status| Replica { in_flight: in_flight(&status).unwrap_or_default(), status }).collect()))
}

async fn ignored(State(state): State<Operate>) -> Json<Vec<Ignored>> {
    let all = state.platform.ignored().into_iter();
    Json(all.map(|one| Ignored { place: one.place, kind: one.kind, name: one.name, reason: one.reason }).collect())
}

async fn set_floor(
    State(state): State<Operate>,
    Allowed(service): Allowed,
    wish: Result<Json<FloorWish>, JsonRejection>,
) -> Result<Json<FloorSet>, Refusal> {
    let Json(wish) = wish.map_err(|rejection| Refusal::BadBody(rejection.body_text()))?;
    let span = duration::parse(&wish.span).map_err(|error| Refusal::BadBody(format!("{:?} {error}", wish.span)))?;
    answer(state.platform.set_floor(service, Some((Replicas::new(wish.min), span)))).await
}

async fn clear_floor(State(state): State<Operate>, Allowed(service): Allowed) -> Result<Json<FloorSet>, Refusal> {
    answer(state.platform.set_floor(service, None)).await
}

async fn restart(State(state): State<Operate>, Allowed(service): Allowed) -> Result<Json<RestartBegun>, Refusal> {
    answer(state.platform.restart(service)).await
}

async fn release(State(state): State<Operate>, Allowed(service): Allowed) -> Result<Json<ReleaseDone>, Refusal> {
    answer(state.platform.release(service, true)).await
}

async fn take_back(State(state): State<Operate>, Allowed(service): Allowed) -> Result<Json<ReleaseDone>, Refusal> {
    answer(state.platform.release(service, false)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        for host in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "[::1]:8081", "192.168.1.5", "[fe80::1]"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com:8081", "127.0.0.1.example.com", "a b", "1.2.3"] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_change_needs_the_token_and_comes_from_no_page() {
        let token = Token::new("secret");
        let code = |fields: &[(&str, &str)]| {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect();
            allow(&headers, &token).err().map(|refusal| refusal.into_response().status().as_u16())
        };
        let (host, shown) = (("host", "127.0.0.1:8081"), ("authorization", "Bearer secret"));
        assert_eq!(code(&[host, shown]), None);
        assert_eq!(code(&[host, shown, ("origin", "http://127.0.0.1:8081")]), None);
        assert_eq!(code(&[host]), Some(401));
        assert_eq!(code(&[host, ("authorization", "Bearer secre")]), Some(401));
        assert_eq!(code(&[host, ("authorization", "secret")]), Some(401));
        assert_eq!(code(&[shown]), Some(403));
        assert_eq!(code(&[("host", "rebound.example.com"), shown]), Some(403));
        for origin in ["http://example.com", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8081"] {
            assert_eq!(code(&[host, shown, ("origin", origin)]), Some(403), "{origin}");
        }
    }
}
