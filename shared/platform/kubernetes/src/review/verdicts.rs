//! What the API server said about tokens, for as long as that may be believed.
//!
//! Invariant: nothing is believed beyond the token's own end, and both tables are bounded: the oldest entry makes room, and
//! no refusal ever pushes out a success.

use domain::Timestamp;
use platform::trust::Caller;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a success is believed without asking again.
pub const ACCEPTED_FOR: Duration = Duration::from_secs(60);
/// From this age on it is asked about again, while it is still believed.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long a success is believed while the API server cannot be asked.
pub const ACCEPTED_WHILE_AWAY_FOR: Duration = Duration::from_secs(600);
/// How long a refusal is believed.
pub const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Tokens that were accepted: four for every reporter there can be.
pub const ACCEPTED_MAX: usize = 4 * domain::report::REPORTERS_MAX;
/// Tokens that were refused.
pub const REFUSED_MAX: usize = 1024;

/// What a token is remembered by: two hashes of it, under keys drawn at the start.
pub(super) type Key = [u64; 2];

/// What is known about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Whose it is.
    Fresh(Caller),
    /// Whose it is; time to ask again.
    Ageing(Caller),
    /// Whose it was; to be believed only if nobody can be asked.
    Stale(Caller),
    Refused(String),
    Nothing,
}

#[derive(Debug)]
struct Accepted {
    caller: Caller,
    at: Timestamp,
    /// When the token ends by itself.
    ends: Option<Timestamp>,
}

#[derive(Debug)]
struct Refused {
    why: String,
    at: Timestamp,
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    accepted: BTreeMap<Key, Accepted>,
    refused: BTreeMap<Key, Refused>,
}

impl Verdicts {
    pub(super) fn look(&self, now: Timestamp, key: Key) -> Known {
        if let Some(Accepted { caller, at, ends }) = self.accepted.get(&key)
            && ends.is_none_or(|ends| now < ends)
        {
            let age = now.since(*at);
            if age < ASK_AGAIN_AFTER {
                return Known::Fresh(caller.clone());
            } else if age < ACCEPTED_FOR {
                return Known::Ageing(caller.clone());
            } else if age < ACCEPTED_WHILE_AWAY_FOR {
                return Known::Stale(caller.clone());
            }
        }
        match self.refused.get(&key) {
            Some(refused) if now.since(refused.at) < REFUSED_FOR => Known::Refused(refused.why.clone()),
            Some(_) | None => Known::Nothing,
        }
    }

    pub(super) fn accept(&mut self, now: Timestamp, key: Key, caller: Caller, ends: Option<Timestamp>) {
        self.refused.remove(&key);
        self.accepted.retain(|_, old| now.since(old.at) < ACCEPTED_WHILE_AWAY_FOR);
        if !self.accepted.contains_key(&key) && self.accepted.len() >= ACCEPTED_MAX {
            drop_oldest(&mut self.accepted, |old| old.at);
        }
        self.accepted.insert(key, Accepted { caller, at: now, ends });
    }

    pub(super) fn refuse(&mut self, now: Timestamp, key: Key, why: String) {
        self.accepted.remove(&key);
        if !self.refused.contains_key(&key) && self.refused.len() >= REFUSED_MAX {
            drop_oldest(&mut self.refused, |old| old.at);
        }
        self.refused.insert(key, Refused { why, at: now });
    }
}

fn drop_oldest<T>(table: &mut BTreeMap<Key, T>, at: impl Fn(&T) -> Timestamp) {
    let oldest = table.iter().min_by_key(|(_, entry)| at(entry)).map(|(key, _)| *key);
    if let Some(oldest) = oldest {
        table.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::trust::ServiceAccount;

    fn caller(pod: &str) -> Caller {
        let account = ServiceAccount { namespace: "kpa".into(), name: "activator".into() };
        Caller { account, pod: Some(pod.into()) }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_success_ages_and_ends() {
        let mut verdicts = Verdicts::default();
        verdicts.accept(at(100), [1, 1], caller("a"), None);
        for (secs, known) in [
            (100, Known::Fresh(caller("a"))),
            (129, Known::Fresh(caller("a"))),
            (130, Known::Ageing(caller("a"))),
            (159, Known::Ageing(caller("a"))),
            (160, Known::Stale(caller("a"))),
            (699, Known::Stale(caller("a"))),
            (700, Known::Nothing),
        ] {
            assert_eq!(verdicts.look(at(secs), [1, 1]), known, "{secs}");
        }
        assert_eq!(verdicts.look(at(100), [1, 2]), Known::Nothing);
    }

    #[test]
    fn nothing_is_believed_beyond_the_tokens_own_end() {
        let mut verdicts = Verdicts::default();
        verdicts.accept(at(100), [1, 1], caller("a"), Some(at(110)));
        assert_eq!(verdicts.look(at(109), [1, 1]), Known::Fresh(caller("a")));
        assert_eq!(verdicts.look(at(110), [1, 1]), Known::Nothing);
        verdicts.accept(at(100), [2, 2], caller("b"), Some(at(500)));
        assert_eq!(verdicts.look(at(499), [2, 2]), Known::Stale(caller("b")));
        assert_eq!(verdicts.look(at(500), [2, 2]), Known::Nothing);
    }

    #[test]
    fn a_refusal_ends_soon_and_the_newest_word_counts() {
        let mut verdicts = Verdicts::default();
        verdicts.accept(at(0), [1, 1], caller("a"), None);
        verdicts.refuse(at(10), [1, 1], "deleted".into());
        assert_eq!(verdicts.look(at(14), [1, 1]), Known::Refused("deleted".into()));
        assert_eq!(verdicts.look(at(15), [1, 1]), Known::Nothing, "what was accepted before is over");
        verdicts.accept(at(12), [1, 1], caller("a"), None);
        assert_eq!(verdicts.look(at(13), [1, 1]), Known::Fresh(caller("a")));
    }

    #[test]
    fn the_tables_are_bounded_and_refusals_push_out_no_success() {
        let mut verdicts = Verdicts::default();
        for n in 0..ACCEPTED_MAX as u64 + 3 {
            verdicts.accept(at(n), [n, 0], caller("a"), None);
        }
        assert_eq!(verdicts.accepted.len(), ACCEPTED_MAX);
        assert!(!verdicts.accepted.contains_key(&[2, 0]) && verdicts.accepted.contains_key(&[3, 0]));
        for n in 0..REFUSED_MAX as u64 + 3 {
            verdicts.refuse(at(300 + n), [n, 1], "wrong".into());
        }
        assert_eq!((verdicts.refused.len(), verdicts.accepted.len()), (REFUSED_MAX, ACCEPTED_MAX));
        verdicts.accept(at(10_000), [9, 9], caller("a"), None);
        assert_eq!(verdicts.accepted.len(), 1, "what is over makes room by itself");
    }
}
