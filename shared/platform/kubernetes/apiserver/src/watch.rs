//! A watch: the changes of the objects in a scope, as they happen, read from the store's own history.
//!
//! Invariant: a watch keeps a position and no queue; one that falls behind the history is ended and must list again.

use crate::form::Form;
use crate::object;
use crate::refusal::Refusal;
use crate::server::{Broken, Inner};
use crate::store::{Change, with_version};
use crate::verbs::read::Scope;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a watch lasts at least when it names no timeout; it is up to twice as long.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_secs(1800);
/// Between two bookmarks of a watch that wants them.
pub(crate) const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Most events that are written in one piece.
const EVENTS_PER_CHUNK_MAX: usize = 64;

/// A timeout for a watch that names none: spread, so that not all end at once.
pub(crate) fn default_timeout(random: &mut StdRng) -> Duration {
    TIMEOUT_MIN.mul_f64(1.0 + random.random::<f64>())
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With an ADDED for each object that is there.
    Everything {
        /// And then a bookmark that says that these were all.
        then_bookmark: bool,
    },
    /// With the first change after this state.
    After(u64),
}

/// What a watch was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) scope: Scope,
    pub(crate) start: Start,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

struct Watch {
    server: Arc<Inner>,
    plan: Plan,
    form: Form,
    number: u64,
    revision: u64,
    /// Nothing once the initial objects have been sent.
    start: Option<Start>,
    ends: Instant,
    bookmark_due: Instant,
    pulse: tokio::sync::watch::Receiver<u64>,
    with_columns: bool,
    is_over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.server.faults.watch_ended(self.number);
    }
}

/// The body of a watch's answer. Called while the state is locked: `revision` is the newest one.
pub(crate) fn stream(
    server: &Arc<Inner>,
    plan: Plan,
    form: Form,
    number: u64,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + use<> {
    let now = Instant::now();
    let watch = Watch {
        ends: now + plan.timeout,
        bookmark_due: now + BOOKMARK_PERIOD,
        pulse: server.pulse.subscribe(),
        server: server.clone(),
        start: Some(plan.start),
        plan,
        form,
        number,
        revision: 0,
        with_columns: true,
        is_over: false,
    };
    unfold(watch, |mut watch| async move { watch.next().await.map(|chunk| (chunk, watch)) })
}

impl Watch {
    /// The next piece; nothing when the watch is over.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            if self.is_over {
                return None;
            }
            self.pulse.mark_unchanged();
            if let Some(broken) = self.server.faults.fate_of(self.number) {
                self.is_over = true;
                return broken.then_some(Err(Broken));
            }
            if !self.server.faults.is_frozen() {
                let now = Instant::now();
                let mut events = self.collect();
                if self.plan.bookmarks && now >= self.bookmark_due && !self.is_over {
                    events.push(self.bookmark(false));
                    self.bookmark_due = now + BOOKMARK_PERIOD;
                }
                if now >= self.ends {
                    self.is_over = true;
                }
                if !events.is_empty() {
                    return Some(Ok(lines(&events)));
                }
                if self.is_over {
                    return None;
                }
            }
            let due = if self.plan.bookmarks { self.ends.min(self.bookmark_due) } else { self.ends };
            // A frozen server lets no timer end a watch: nothing of it moves.
            let is_frozen = self.server.faults.is_frozen();
            tokio::select! {
                biased;
                changed = self.pulse.changed() => if changed.is_err() { return None },
                () = sleep_until(due), if !is_frozen => {}
            }
        }
    }

    /// What has happened since the last piece.
    fn collect(&mut self) -> Vec<Value> {
        let server = self.server.clone();
        let state = server.state.lock();
        let store = &state.store;
        let mut events = Vec::new();
        match self.start.take() {
            Some(Start::Everything { then_bookmark }) => {
                self.revision = store.revision();
                let all = store.all(&self.plan.scope.kind.bucket).filter(|object| self.plan.scope.holds(object));
                for object in all.cloned().collect::<Vec<_>>() {
                    events.push(self.event("ADDED", &object));
                }
                if then_bookmark {
                    events.push(self.bookmark(true));
                }
                return events;
            }
            Some(Start::After(revision)) => {
                self.revision = revision;
                if revision < store.compacted() {
                    self.is_over = true;
                    let message = format!("too old resource version: {revision} ({})", store.compacted());
                    return vec![json!({ "type": "ERROR", "object": Refusal::expired(message).status() })];
                }
            }
            None => {}
        }
        let Some(changes) = store.since(self.revision) else {
            self.is_over = true;
            return events;
        };
        for change in changes {
            self.revision = change.revision;
            if let Some(event) = self.event_of(change) {
                events.push(event);
                if events.len() >= EVENTS_PER_CHUNK_MAX {
                    break;
                }
            }
        }
        events
    }

    /// A change as this watch sees it: coming into a selector is ADDED, falling out of it DELETED.
    fn event_of(&mut self, change: &Change) -> Option<Value> {
        let scope = &self.plan.scope;
        if change.bucket != scope.kind.bucket {
            return None;
        }
        let old = change.old.as_ref().filter(|object| scope.holds(object));
        let new = change.new.as_ref().filter(|object| scope.holds(object));
        match (old, new) {
            (None, Some(new)) => Some(self.event("ADDED", new)),
            (Some(_), Some(new)) => Some(self.event("MODIFIED", new)),
            (Some(old), None) => Some(self.event("DELETED", &with_version(old, change.revision))),
            (None, None) => None,
        }
    }

    fn event(&mut self, word: &str, object: &Value) -> Value {
        let shown = self.form.one(&self.plan.scope.kind, object, self.server.now(), self.with_columns);
        self.with_columns = false;
        json!({ "type": word, "object": shown })
    }

    fn bookmark(&mut self, ends_initial_events: bool) -> Value {
        let mut shown = json!({ "metadata": { "resourceVersion": self.revision.to_string() } });
        self.plan.scope.kind.mark(&mut shown);
        if ends_initial_events {
            object::metadata(&mut shown)
                .insert("annotations".to_owned(), json!({ "k8s.io/initial-events-end": "true" }));
        }
        let shown = self.form.bookmark(shown);
        json!({ "type": "BOOKMARK", "object": shown })
    }
}

fn lines(events: &[Value]) -> Bytes {
    let mut text = String::new();
    for event in events {
        text.push_str(&event.to_string());
        text.push('\n');
    }
    Bytes::from(text)
}
