//! Whose a token is: the API server is asked, and its word is kept for a while (kpa-behaviour 7.3).
//!
//! Invariant: at most [`REVIEWS_AT_ONCE`] questions are under way, one for each token, and nobody waits behind another one's;
//! a word of the API server outlives whoever asked for it.

mod verdicts;

pub use verdicts::{ACCEPTED_FOR, ACCEPTED_MAX, ACCEPTED_WHILE_AWAY_FOR, ASK_AGAIN_AFTER, REFUSED_FOR, REFUSED_MAX};

use crate::token::TOKEN_BYTES_MAX;
use domain::{Timestamp, WallTime};
use futures_core::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use platform::trust::{Caller, Doubt, Identifies, ServiceAccount};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use verdicts::{Key, Known, Verdicts};

/// Questions to the API server under way at once. Beyond, a token that is not known yet is refused for the moment.
pub const REVIEWS_AT_ONCE: usize = 32;
/// How long the API server may take.
pub const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller that was accepted more than [`ACCEPTED_FOR`] ago waits for a newer word before the old one counts.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// After a question that could not be put, for how long no other one is tried.
pub const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Where a token says for which pod it was made.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// How tasks are run: by name, so that their deaths are noticed.
pub type Spawn = Arc<dyn Fn(&'static str, BoxFuture<'static, ()>) + Send + Sync>;

/// What the API server said, or that it said nothing.
type Word = Result<Caller, Doubt>;

/// Asks the API server about tokens. Clones share what it said.
#[derive(Clone)]
pub struct Reviewer(Arc<Inner>);

struct Inner {
    api: Api<TokenReview>,
    audience: String,
    spawn: Spawn,
    wall_clock: fn() -> WallTime,
    origin: Instant,
    hashes: [RandomState; 2],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    verdicts: Verdicts,
    /// At most [`REVIEWS_AT_ONCE`].
    asked: BTreeMap<Key, watch::Receiver<Option<Word>>>,
    /// Until when it is taken for granted that the API server cannot be asked.
    away_until: Timestamp,
    failing: bool,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").field("audience", &self.0.audience).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// Accepts tokens that are meant for `audience`.
    #[must_use]
    pub fn new(client: Client, audience: &str, spawn: Spawn, wall_clock: fn() -> WallTime) -> Self {
        Self(Arc::new(Inner {
            api: Api::all(client),
            audience: audience.to_owned(),
            spawn,
            wall_clock,
            origin: Instant::now(),
            hashes: [RandomState::new(), RandomState::new()],
            state: Mutex::default(),
        }))
    }

    async fn identify(&self, token: &str) -> Word {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Doubt::Refused(format!("a token has at most {TOKEN_BYTES_MAX} bytes")));
        }
        let key = self.0.hashes.each_ref().map(|hash| hash.hash_one(token));
        let known = self.0.state.lock().verdicts.look(self.0.now(), key);
        match known {
            Known::Fresh(caller) => Ok(caller),
            Known::Refused(why) => Err(Doubt::Refused(why)),
            Known::Ageing(caller) => {
                // Nobody waits for it: the next frame finds what it brings.
                drop(self.ask(key, token));
                Ok(caller)
            }
            Known::Stale(caller) => match self.ask(key, token) {
                Ok(word) => match timeout(PATIENCE, heard(word)).await {
                    Ok(Err(Doubt::Unknown(_))) | Err(_) => Ok(caller),
                    Ok(word) => word,
                },
                Err(_) => Ok(caller),
            },
            Known::Nothing => heard(self.ask(key, token)?).await,
        }
    }

    /// Puts the question, or joins the one that is under way.
    fn ask(&self, key: Key, token: &str) -> Result<watch::Receiver<Option<Word>>, Doubt> {
        let mut state = self.0.state.lock();
        if let Some(asked) = state.asked.get(&key) {
            return Ok(asked.clone());
        }
        if self.0.now() < state.away_until {
            return Err(Doubt::Unknown("the API server cannot be asked at the moment".into()));
        }
        if state.asked.len() >= REVIEWS_AT_ONCE {
            return Err(Doubt::Unknown(format!("{REVIEWS_AT_ONCE} tokens are being asked about already")));
        }
        let (word, asked) = watch::channel(None);
        state.asked.insert(key, asked.clone());
        drop(state);
        let question = Question { inner: Arc::clone(&self.0), key, word };
        (self.0.spawn)("token review", Box::pin(question.put(token.to_owned())));
        Ok(asked)
    }
}

impl Identifies for Reviewer {
    fn who<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Word> {
        Box::pin(self.identify(token))
    }
}

/// Waits for the word.
async fn heard(mut asked: watch::Receiver<Option<Word>>) -> Word {
    let word = asked.wait_for(Option::is_some).await.ok().and_then(|word| word.clone());
    word.unwrap_or_else(|| Err(Doubt::Unknown("the question was given up".into())))
}

impl Inner {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.origin.elapsed())
    }

    /// When a token that was just accepted ends, on our own clock.
    fn ends(&self, now: Timestamp, token: &str) -> Option<Timestamp> {
        let ends = Duration::from_secs(expiry(token)?);
        Some(now + ends.saturating_sub(Duration::from_millis((self.wall_clock)().unix_millis())))
    }
}

/// One question under way. However it ends, its place is free again.
struct Question {
    inner: Arc<Inner>,
    key: Key,
    word: watch::Sender<Option<Word>>,
}

impl Question {
    async fn put(self, token: String) {
        let spec = TokenReviewSpec { token: Some(token.clone()), audiences: Some(vec![self.inner.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let answer = timeout(REVIEW_TIMEOUT, self.inner.api.create(&params, &review)).await;
        let status = match answer {
            Ok(Ok(review)) => Ok(review.status.unwrap_or_default()),
            Ok(Err(kube::Error::Api(status))) => Err(format!("{} ({})", status.message, status.code)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {REVIEW_TIMEOUT:?}")),
        };
        let now = self.inner.now();
        let mut state = self.inner.state.lock();
        let word = match status.map(|status| verdict(status, &self.inner.audience)) {
            Ok(Ok(caller)) => {
                state.verdicts.accept(now, self.key, caller.clone(), self.inner.ends(now, &token));
                Ok(caller)
            }
            Ok(Err(why)) => {
                state.verdicts.refuse(now, self.key, why.clone());
                Err(Doubt::Refused(why))
            }
            Err(why) => {
                state.away_until = now + AWAY_PAUSE;
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::warn!(
                        "the API server does not say whose tokens are: {why}; activators that were known are heard for \
                         {ACCEPTED_WHILE_AWAY_FOR:?} more, others are not"
                    );
                }
                Err(Doubt::Unknown(why))
            }
        };
        if !matches!(word, Err(Doubt::Unknown(_))) && std::mem::take(&mut state.failing) {
            tracing::info!("the API server says again whose tokens are");
        }
        drop(state);
        self.word.send_replace(Some(word));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.inner.state.lock().asked.remove(&self.key);
    }
}

/// Whose token it is by what the API server says.
fn verdict(status: TokenReviewStatus, audience: &str) -> Result<Caller, String> {
    if status.authenticated != Some(true) {
        let why = status.error.filter(|error| !error.is_empty());
        return Err(why.unwrap_or_else(|| "the API server does not know the token".into()));
    }
    // A server that knows nothing of audiences accepts tokens that were made for itself.
    if !status.audiences.unwrap_or_default().iter().any(|meant| meant == audience) {
        return Err(format!("the token is not meant for {audience}"));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let account = name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
    let (namespace, name) = account.ok_or_else(|| format!("{name:?} is no service account"))?;
    let account = ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    let pods = user.extra.and_then(|mut extra| extra.remove(POD_NAME)).unwrap_or_default();
    Ok(Caller { account, pod: pods.into_iter().next() })
}

/// When a JSON web token ends, in seconds since the Unix epoch. Only for one that the API server has accepted: nothing is
/// checked here.
fn expiry(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = token.split('.').nth(1)?;
    let standard: String = claims
        .chars()
        .map(|digit| match digit {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    let padding = "=".repeat((4 - standard.len() % 4) % 4);
    let ByteString(bytes) = serde_json::from_value((standard + &padding).into()).ok()?;
    serde_json::from_slice(&bytes).ok().map(|Claims { exp }| exp)
}

#[cfg(test)]
mod tests;
