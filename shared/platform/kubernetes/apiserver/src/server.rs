//! The server as a service: one request in, one answer out, without a socket.
//!
//! Invariant: the state is locked while a request is carried out and at no await.

use crate::accounts::User;
use crate::faults::{FaultBook, Faults};
use crate::rbac::Permission;
use crate::refusal::Refusal;
use crate::state::State;
use crate::store::HISTORY_EVENTS_MAX;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

mod direct;
mod handle;

/// Most bytes of a request's body, as on the real server.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most accounts whose use of permissions is remembered.
const USERS_MAX: usize = 1024;

/// What becomes of a request that brings no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutToken {
    /// It is an administrator's.
    #[default]
    Administrator,
    /// It is nobody's: 403 for nearly everything.
    Anonymous,
    /// It is refused: 401.
    Refused,
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where uids and generated names come from. Default 0.
    pub seed: u64,
    /// The wall clock at the start; from then on it follows tokio's clock. Default 2026-01-01T00:00:00Z.
    pub started: Timestamp,
    /// Most changes that are kept for watches that come back. Default 4096, at least 1.
    pub history_events_max: usize,
    /// What becomes of a request that brings no token. Default: it is an administrator's.
    pub without_token: WithoutToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            started: Timestamp::constant(1_767_225_600, 0),
            history_events_max: HISTORY_EVENTS_MAX,
            without_token: WithoutToken::default(),
        }
    }
}

impl Options {
    /// The defaults, with the machine's own wall clock: for people, whose tools compare times with theirs.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the only reader of the wall clock in this crate")]
    pub fn real_time() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Self { started: Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH), ..Self::default() }
    }
}

/// A connection that broke, or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API server's connection is broken")]
pub struct Broken;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Broken>;

/// What all clones of a server share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: Mutex<State>,
    pub(crate) faults: FaultBook,
    /// Counts whatever a watch must look at.
    pub(crate) pulse: tokio::sync::watch::Sender<u64>,
    used: Mutex<BTreeMap<String, BTreeSet<Permission>>>,
    without_token: WithoutToken,
    started: Timestamp,
    origin: Instant,
}

impl Inner {
    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.origin.elapsed()).unwrap_or(SignedDuration::MAX);
        self.started.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn wake(&self) {
        self.pulse.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn note_use(&self, user: &str, permission: Permission) {
        let mut used = self.used.lock();
        if used.len() < USERS_MAX || used.contains_key(user) {
            used.entry(user.to_owned()).or_default().insert(permission);
        }
    }

    fn user_of(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let Some(credentials) = headers.get(header::AUTHORIZATION) else {
            return match self.without_token {
                WithoutToken::Administrator => impersonated(User::administrator(), headers),
                WithoutToken::Anonymous => Ok(User::anonymous()),
                WithoutToken::Refused => Err(Refusal::unauthorized()),
            };
        };
        let text = credentials.to_str().unwrap_or_default();
        let token = text.strip_prefix("Bearer ").map(str::trim).unwrap_or_default();
        let state = self.state.lock();
        let (user, _) =
            state.accounts.review(&state.store, token, &[], self.now()).map_err(|_| Refusal::unauthorized())?;
        drop(state);
        impersonated(user, headers)
    }
}

/// Speaking for somebody else is the administrator's right only.
fn impersonated(user: User, headers: &HeaderMap) -> Result<User, Refusal> {
    let Some(name) = headers.get("impersonate-user") else { return Ok(user) };
    let name = name.to_str().unwrap_or_default();
    if !user.groups.contains("system:masters") {
        let message = format!(
            "users {name:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the \
             cluster scope",
            user.name
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|group| group.to_str().ok().map(str::to_owned))
        .collect();
    Ok(User::impersonated(name, &groups))
}

/// A Kubernetes API server in memory. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
    /// Sent with every request that brings none.
    token: Option<String>,
}

impl Server {
    /// A new cluster, with the namespaces and roles that every cluster has.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let state = State::new(options.seed, options.history_events_max, options.started);
        let inner = Inner {
            state: Mutex::new(state),
            faults: FaultBook::default(),
            pulse: tokio::sync::watch::Sender::new(0),
            used: Mutex::default(),
            without_token: options.without_token,
            started: options.started,
            origin: Instant::now(),
        };
        Self { inner: Arc::new(inner), token: None }
    }

    /// The same server, asked with this token by whoever brings none.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { inner: self.inner.clone(), token: Some(token.to_owned()) }
    }

    /// The handle for faults and the log.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults(self.inner.clone())
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}
