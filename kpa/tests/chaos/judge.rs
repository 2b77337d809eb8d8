//! Which failures a fault of ours explains, and what must never happen.
//!
//! Invariant: pure. A failure is excused only by what a ledger or the history of faults shows; an answer with wrong
//! content is never excused.

use crate::ledger::{Ledger, Start};
use std::collections::BTreeMap;
use std::fmt;

/// What was said to be written just before a KILL may not have been: the replica was put aside in between.
pub(crate) const WRITE_GRACE_MS: u64 = 1_000;
/// A replica that is gone is known to be so long ago at most, whatever the machine is busy with.
pub(crate) const NEWS_GRACE_MS: u64 = 1_000;
/// Most beginnings of a request that may be repeated: the rules allow one replay.
const STARTS_MAX: usize = 2;

/// How a request failed, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Option<u16>,
    /// kpa's word for it (`x-kpa-reason`), or ours.
    pub(crate) code: String,
    pub(crate) what: String,
}

/// The client could not reach kpa.
pub(crate) const NOT_CONNECTED: &str = "not_connected";
/// The connection or the answer ended too early.
pub(crate) const CUT: &str = "cut";
/// Something else was answered than what was asked for.
pub(crate) const CONTENT: &str = "content";

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) id: String,
    pub(crate) service: &'static str,
    /// Milliseconds of uptime.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) failure: Failure,
}

/// What was done, with the uptime in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Replicas that were killed.
    pub(crate) killed: BTreeMap<String, u64>,
    /// Replicas that were stopped for longer than they keep idle connections, and until when: their clocks ran on, and what
    /// came meanwhile they close before they look at it.
    pub(crate) overslept: Vec<(String, u64)>,
    /// The object of a service was gone, from when to when.
    pub(crate) away: Vec<(&'static str, u64, u64)>,
    /// kpa was killed: from when to when it died, and until when nobody listened.
    pub(crate) kpa_killed: Option<(u64, u64, u64)>,
}

/// Why a failure is none of kpa's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// It was running on a replica that was killed.
    Killed,
    /// It was running on a replica that was told to reset it.
    Reset,
    /// It was sent to a replica that was killed, closed its listener or overslept before it read it.
    Unread,
    /// Its service was not configured meanwhile.
    Away,
    /// It was in flight when kpa was killed.
    KpaKilled,
    /// It could not connect while kpa was down.
    KpaDown,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "on a killed replica",
            Self::Reset => "reset as told",
            Self::Unread => "unread by a killed, refusing or stopped replica",
            Self::Away => "while its object was away",
            Self::KpaKilled => "in flight when kpa was killed",
            Self::KpaDown => "no connection while kpa was down",
        })
    }
}

/// Why `failed` is none of kpa's, if it is not.
pub(crate) fn excuse(failed: &Failed, ledger: &Ledger, history: &History) -> Option<Excuse> {
    if failed.failure.code == CONTENT {
        return None;
    }
    if let Some((from, to, up)) = history.kpa_killed {
        if failed.began <= to && failed.ended >= from {
            return Some(Excuse::KpaKilled);
        }
        // Sent on a connection of the killed one, before its client had seen that it was closed.
        let unseen =
            failed.failure.status.is_none() && failed.failure.code == CUT && failed.began <= to + NEWS_GRACE_MS;
        if unseen && failed.began >= from && ledger.starts(&failed.id).is_empty() {
            return Some(Excuse::KpaKilled);
        }
        if failed.failure.code == NOT_CONNECTED && (from..=up).contains(&failed.began) {
            return Some(Excuse::KpaDown);
        }
    }
    match ledger.starts(&failed.id).last() {
        Some(last) => last_start(last, history),
        None => never_started(failed, ledger, history),
    }
}

fn last_start(last: &Start, history: &History) -> Option<Excuse> {
    if last.broke {
        return Some(Excuse::Reset);
    }
    let killed = *history.killed.get(&last.replica)?;
    last.ended.is_none_or(|ended| ended + WRITE_GRACE_MS >= killed).then_some(Excuse::Killed)
}

fn never_started(failed: &Failed, ledger: &Ledger, history: &History) -> Option<Excuse> {
    let overlaps = |from: u64, to: u64| from <= failed.ended && failed.began <= to;
    let of_service = |replica: &str| replica.split_once('.').is_some_and(|(service, _)| service == failed.service);
    let Failure { status, code, what } = &failed.failure;
    // A large body is refused before it has come; our clients stop at the first error of writing and do not read then.
    let unread_answer = status.is_none() && code == CUT;
    let away = history.away.iter().any(|(service, from, to)| *service == failed.service && overlaps(*from, *to));
    // Whoever is held when the object goes is told so.
    let told_away = *status == Some(404) || (code == "start_failed" && what.contains("removed"));
    if away && (told_away || unread_answer) {
        return Some(Excuse::Away);
    }
    // Bytes that lay in the socket of a process that never read them: nobody can know.
    let killed = history.killed.iter().map(|(replica, at)| (replica.as_str(), *at));
    let closed = ledger.refusals.iter().chain(&history.overslept).map(|(replica, at)| (replica.as_str(), *at));
    let unread = killed.chain(closed).any(|(replica, at)| of_service(replica) && overlaps(at, at + NEWS_GRACE_MS));
    (code == "broken" && unread).then_some(Excuse::Unread)
}

/// What must never happen, whoever fails.
pub(crate) fn violations(ledger: &Ledger) -> Vec<String> {
    let mut found = ledger.violations.clone();
    for (id, starts) in ledger.requests() {
        let most = if starts.iter().any(|start| start.post) { 1 } else { STARTS_MAX };
        if starts.len() > most {
            found.push(format!("{id} began {} times, at most {most} is allowed: {starts:?}", starts.len()));
        }
    }
    found
}
