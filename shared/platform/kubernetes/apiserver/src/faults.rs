//! Faults that a test asks for, and the log of what was asked of the server.
//!
//! Invariant: a fault strikes only requests that match it, as often as it was asked to, and can be taken back.

use crate::request::Verb;
use crate::server::Inner;
use http::StatusCode;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Most requests that the log remembers; the oldest are forgotten first.
pub const LOG_MAX: usize = 4096;

/// What a request asks for, as the log and faults see it. Empty where it does not apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The verb; nothing for paths that are no resource.
    pub verb: Option<Verb>,
    /// The API group, empty for the core group.
    pub group: String,
    /// The resource, with its subresource (`deployments/scale`), or the path.
    pub resource: String,
    /// The namespace of the URL.
    pub namespace: String,
    /// The name of the URL.
    pub name: String,
    /// Who asked: `system:serviceaccount:NAMESPACE:NAME`, `kubernetes-admin`, ...
    pub user: String,
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What it asked.
    pub asked: Asked,
    /// The status of the answer.
    pub status: StatusCode,
    /// The field manager of a write.
    pub manager: String,
    /// The body, as text.
    pub body: String,
}

/// Which requests are meant. Everything that is not narrowed down is meant.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    verb: Option<Verb>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    user: Option<String>,
}

impl Matching {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only with this verb.
    #[must_use]
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only of this resource, with its subresource: `deployments/scale`.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only in this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only of the object with this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only from this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Whether a request is meant.
    #[must_use]
    pub fn matches(&self, asked: &Asked) -> bool {
        let fits = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        self.verb.is_none_or(|verb| asked.verb == Some(verb))
            && fits(&self.resource, &asked.resource)
            && fits(&self.namespace, &asked.namespace)
            && fits(&self.name, &asked.name)
            && fits(&self.user, &asked.user)
    }
}

/// What is answered in place of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// 409 Conflict.
    Conflict,
    /// 410 Gone, as for a resourceVersion that is too old.
    Gone,
    /// 429 Too Many Requests.
    TooMany {
        /// Seconds in `Retry-After`.
        retry_after_seconds: u32,
    },
    /// 500 Internal Server Error.
    Internal,
    /// 503 Service Unavailable.
    Unavailable,
    /// 504 Gateway Timeout.
    Timeout,
}

/// When a canned answer replaces the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The request is not carried out.
    Before,
    /// The request is carried out, and its answer lost.
    After,
}

#[derive(Debug)]
struct Canned {
    matching: Matching,
    left: u32,
    reply: Reply,
    when: When,
}

#[derive(Debug, Default)]
struct Book {
    frozen: bool,
    refused: bool,
    delays: Vec<(Matching, Duration)>,
    canned: Vec<Canned>,
    log: VecDeque<Logged>,
    watches: BTreeMap<u64, (Asked, Option<bool>)>,
    last_watch: u64,
}

/// The state of all faults.
#[derive(Debug, Default)]
pub(crate) struct FaultBook(Mutex<Book>);

impl FaultBook {
    pub(crate) fn is_frozen(&self) -> bool {
        self.0.lock().frozen
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.0.lock().refused
    }

    pub(crate) fn delay_of(&self, asked: &Asked) -> Option<Duration> {
        let book = self.0.lock();
        book.delays.iter().find(|(matching, _)| matching.matches(asked)).map(|(_, delay)| *delay)
    }

    /// The canned answer for a request, used up by one.
    pub(crate) fn reply_to(&self, asked: &Asked) -> Option<(Reply, When)> {
        let mut book = self.0.lock();
        let canned = book.canned.iter_mut().find(|canned| canned.left > 0 && canned.matching.matches(asked))?;
        canned.left -= 1;
        let answer = (canned.reply, canned.when);
        book.canned.retain(|canned| canned.left > 0);
        Some(answer)
    }

    pub(crate) fn record(&self, logged: Logged) {
        let mut book = self.0.lock();
        if book.log.len() >= LOG_MAX {
            book.log.pop_front();
        }
        book.log.push_back(logged);
    }

    pub(crate) fn watch_began(&self, asked: &Asked) -> u64 {
        let mut book = self.0.lock();
        book.last_watch += 1;
        let number = book.last_watch;
        book.watches.insert(number, (asked.clone(), None));
        number
    }

    pub(crate) fn watch_ended(&self, number: u64) {
        self.0.lock().watches.remove(&number);
    }

    /// Whether a watch is to end now, and if so whether by a broken connection.
    pub(crate) fn fate_of(&self, number: u64) -> Option<bool> {
        let book = self.0.lock();
        if book.refused {
            return Some(true);
        }
        book.watches.get(&number).and_then(|(_, fate)| *fate)
    }
}

/// Asks the server to misbehave. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct Faults(pub(crate) Arc<Inner>);

impl Faults {
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let result = change(&mut self.0.faults.0.lock());
        self.0.wake();
        result
    }

    /// Ends the watches that match, as the server does it when their time is over. Returns how many.
    pub fn end_watches(&self, matching: &Matching) -> usize {
        self.seal(matching, false)
    }

    /// Breaks the connections of the watches that match. Returns how many.
    pub fn break_watches(&self, matching: &Matching) -> usize {
        self.seal(matching, true)
    }

    fn seal(&self, matching: &Matching, broken: bool) -> usize {
        self.change(|book| {
            let meant = book.watches.values_mut().filter(|(asked, _)| matching.matches(asked));
            meant.map(|(_, fate)| *fate = Some(broken)).count()
        })
    }

    /// How many watches are open that match.
    #[must_use]
    pub fn watches(&self, matching: &Matching) -> usize {
        self.0.faults.0.lock().watches.values().filter(|(asked, _)| matching.matches(asked)).count()
    }

    /// From now on nothing is answered: requests hang, watches are silent, no connection is closed.
    pub fn freeze(&self) {
        self.change(|book| book.frozen = true);
    }

    /// Ends [`Faults::freeze`]: whatever waits is answered.
    pub fn thaw(&self) {
        self.change(|book| book.frozen = false);
    }

    /// From now on every connection is refused and every open one broken.
    pub fn refuse(&self) {
        self.change(|book| book.refused = true);
    }

    /// Ends [`Faults::refuse`].
    pub fn accept(&self) {
        self.change(|book| book.refused = false);
    }

    /// Every request that matches waits before it is carried out.
    pub fn delay(&self, matching: Matching, delay: Duration) {
        self.change(|book| book.delays.push((matching, delay)));
    }

    /// The next `count` requests that match are answered like this and not carried out.
    pub fn answer_next(&self, count: u32, matching: Matching, reply: Reply) {
        self.change(|book| book.canned.push(Canned { matching, left: count, reply, when: When::Before }));
    }

    /// The next `count` requests that match are carried out, and answered like this all the same.
    pub fn lose_answers(&self, count: u32, matching: Matching, reply: Reply) {
        self.change(|book| book.canned.push(Canned { matching, left: count, reply, when: When::After }));
    }

    /// Takes back delays and canned answers.
    pub fn clear(&self) {
        self.change(|book| {
            book.delays.clear();
            book.canned.clear();
        });
    }

    /// Forgets all history: a watch or a page from an older state gets 410 Gone.
    pub fn compact(&self) {
        self.0.state.lock().store.compact();
        self.0.wake();
    }

    /// The requests so far, oldest first, at most [`LOG_MAX`].
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        self.0.faults.0.lock().log.iter().cloned().collect()
    }

    /// The requests so far that match.
    #[must_use]
    pub fn logged(&self, matching: &Matching) -> Vec<Logged> {
        self.0.faults.0.lock().log.iter().filter(|logged| matching.matches(&logged.asked)).cloned().collect()
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.change(|book| book.log.clear());
    }
}
