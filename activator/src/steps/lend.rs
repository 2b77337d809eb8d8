//! What other activators ask of us: slots of replicas that are ours (kpa-behaviour 4.10).
//!
//! Invariant: only who shows the word is answered; for anybody else the path is as good as any other.

use super::Response;
use crate::body::ResponseBody;
use crate::gate::{Entry, HeldSlot};
use crate::revisions::Handle;
use crate::sharing::hop::WANT_MAX;
use crate::sharing::{Bound, SLOTS_PATH, WORD};
use crate::worker::Worker;
use bytes::Bytes;
use domain::RevisionId;
use http::Uri;
use http::request::Parts;
use runtime::net::Connect;
use std::sync::Arc;
use std::time::Duration;

/// How long a question waits for a slot. Then it is answered with none, and asked again.
pub const LEND_WAIT: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    revision: Option<RevisionId>,
    want: usize,
    /// For how long the oldest request has that it asks for.
    waited: Duration,
    returned: Vec<u64>,
}

impl Asked {
    fn of(uri: &Uri) -> Self {
        let mut asked = Self::default();
        for (key, value) in uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "revision" => asked.revision = value.parse().ok(),
                "want" => asked.want = value.parse().unwrap_or(0).min(WANT_MAX as usize),
                "waited" => asked.waited = Duration::from_millis(value.parse().unwrap_or(0)),
                "returned" => asked.returned = value.split('.').filter_map(|id| id.parse().ok()).collect(),
                _ => {}
            }
        }
        asked
    }
}

/// Whether a request comes from another activator that asks for slots.
pub fn is_asked<C: Connect>(worker: &Worker<C>, head: &Parts) -> bool {
    head.uri.path() == SLOTS_PATH
        && head.headers.get(WORD).is_some_and(|word| worker.revisions.shares().claims.knows(word.as_bytes()))
}

/// Answers with the numbers of the claims.
pub async fn lend<C: Connect>(worker: &Worker<C>, uri: Uri) -> Response<C> {
    let Asked { revision, want, waited, returned } = Asked::of(&uri);
    worker.revisions.shares().claims.give_back(returned);
    let handle = revision.and_then(|id| worker.revisions.get(&id));
    let text = match handle.filter(|_| want > 0) {
        Some(handle) => claims(worker, &handle, want, waited).await,
        None => String::new(),
    };
    http::Response::new(ResponseBody::full(Bytes::from(text)))
}

/// One claim as soon as there is room for one, and as many more as there are at that moment.
async fn claims<C: Connect>(worker: &Worker<C>, handle: &Arc<Handle>, want: usize, waited: Duration) -> String {
    let first = match handle.gate.borrow(worker.base.clock.now(), waited) {
        Some(Entry::Go(slot)) => Some(slot),
        Some(Entry::Wait(mut waiting)) => {
            tokio::time::timeout(LEND_WAIT, waiting.granted()).await.ok().and_then(Result::ok)
        }
        Some(Entry::Full(_) | Entry::StartFailed(_)) | None => None,
    };
    // What was lent to us is not ours to lend: it goes back through its drop.
    let first = first.filter(|slot| slot.lent().is_none());
    let slots = first.into_iter().chain(std::iter::from_fn(|| handle.gate.spare())).take(want);
    let shares = worker.revisions.shares();
    let keep = |slot: HeldSlot| {
        let id = shares.claims.keep(worker.base.clock.now(), handle, slot);
        if id.is_none() {
            shares.reach(Bound::Claims);
        }
        id
    };
    slots.map_while(keep).map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_far_as_they_make_sense() {
        for (target, expected) in [
            (
                "/.kpa/slots?revision=default/model&want=3",
                Asked { revision: Some(RevisionId::new("default", "model")), want: 3, ..Asked::default() },
            ),
            (
                "/.kpa/slots?waited=1500&want=1",
                Asked { want: 1, waited: Duration::from_millis(1500), ..Asked::default() },
            ),
            ("/.kpa/slots?waited=-1&want=1", Asked { want: 1, ..Asked::default() }),
            ("/.kpa/slots?returned=1.22.x", Asked { returned: vec![1, 22], ..Asked::default() }),
            ("/.kpa/slots?want=999999&revision=model", Asked { want: WANT_MAX as usize, ..Asked::default() }),
            ("/.kpa/slots?want=-1&&x=&=y", Asked::default()),
            ("/.kpa/slots", Asked::default()),
        ] {
            assert_eq!(Asked::of(&target.parse().unwrap()), expected, "{target}");
        }
    }
}
