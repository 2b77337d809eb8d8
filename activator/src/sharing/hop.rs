//! Asks other activators for slots while requests wait here and theirs are idle (kpa-behaviour 4.10).
//!
//! The question waits with the owner, as old as the oldest request that it asks for, until a slot falls to it among the
//! owner's own requests; so such a slot is taken up after one round trip, and nobody polls.
//!
//! Invariants: per revision and other activator at most one question is on its way; at most [`ASKS_MAX`] in all, and who had
//! no place is the next to be asked, so that nobody is passed over for ever.

use super::claims::{ClaimId, mark};
use super::lent::Lent;
use super::{Bound, SLOTS_PATH, WORD};
use crate::line::{Line, LineError};
use crate::local::Endpoint;
use crate::revisions::{Handle, Revisions};
use crate::steps::lend::LEND_WAIT;
use bytes::Bytes;
use domain::{EndpointId, Peer, ReporterId, RevisionId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::header::HeaderValue;
use http::{Method, Request};
use http_body_util::Full;
use runtime::net::Connect;
use runtime::{Clock, Tasks};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Questions on their way.
pub const ASKS_MAX: usize = 1024;
/// Slots that one question asks for at most.
pub const WANT_MAX: u32 = 64;
/// After a question that failed, or was answered with nothing at once.
const PAUSE: Duration = Duration::from_millis(50);
/// An answer is a list of numbers.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long an answer may take, beyond the time that the owner waits for a slot.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// What is known of a revision whose requests wait here.
struct Thirst {
    handle: Arc<Handle>,
    asked: BTreeSet<ReporterId>,
    /// Whom to ask there was no place.
    put_off: BTreeSet<ReporterId>,
    not_before: BTreeMap<ReporterId, Instant>,
}

/// What came of a question.
struct Asked {
    revision: RevisionId,
    peer: ReporterId,
    address: SocketAddr,
    line: Line,
    answer: Result<Vec<ClaimId>, LineError>,
    /// It was answered before anything can have been waited for.
    at_once: bool,
}

/// Asks for slots.
pub struct Hop<C> {
    connector: C,
    revisions: Arc<Revisions>,
    own: ReporterId,
    neighbours: watch::Receiver<Vec<Peer>>,
    clock: Clock,
    tasks: Tasks,
    thirsty: BTreeMap<RevisionId, Thirst>,
    /// The others, as requests are sent to them.
    endpoints: BTreeMap<ReporterId, Arc<Endpoint>>,
    lines: BTreeMap<SocketAddr, Vec<Line>>,
    asks: FuturesUnordered<BoxFuture<'static, Asked>>,
}

impl<C: Connect + Clone> Hop<C> {
    /// Asks those of `neighbours` that are not `own`.
    pub fn new(
        own: ReporterId,
        connector: C,
        revisions: Arc<Revisions>,
        neighbours: watch::Receiver<Vec<Peer>>,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        Self {
            connector,
            revisions,
            own,
            neighbours,
            clock,
            tasks,
            thirsty: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            lines: BTreeMap::new(),
            asks: FuturesUnordered::new(),
        }
    }

    /// Asks until the process ends.
    pub async fn run(mut self) {
        let waiting = Arc::clone(self.revisions.waiting());
        let unused = self.revisions.shares().unused.clone();
        self.follow_neighbours();
        loop {
            let next = self.thirsty.values().flat_map(|thirst| thirst.not_before.values()).min().copied();
            tokio::select! {
                biased;
                () = waiting.wait() => {
                    for id in waiting.take() {
                        self.thirst(id);
                    }
                }
                Some(asked) = self.asks.next(), if !self.asks.is_empty() => self.answered(asked),
                () = unused.wait() => self.give_back(),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                changed = self.neighbours.changed() => match changed {
                    Ok(()) => self.follow_neighbours(),
                    // Without the platform's work the program is about to end.
                    Err(_) => return std::future::pending().await,
                },
            }
            self.look();
        }
    }

    fn follow_neighbours(&mut self) {
        let peers = self.neighbours.borrow_and_update().clone();
        let addresses: BTreeMap<_, _> =
            peers.into_iter().filter(|peer| peer.id != self.own).map(|peer| (peer.id, peer.address)).collect();
        self.endpoints.retain(|id, endpoint| {
            let stays = addresses.get(id) == Some(&endpoint.address);
            endpoint.leaving.store(!stays, Relaxed);
            stays
        });
        for (id, address) in addresses {
            self.endpoints.entry(id).or_insert_with_key(|id| {
                let endpoint = Endpoint::new(EndpointId::new(id.as_str()), address);
                // It is no replica that could still be starting.
                endpoint.answered.store(true, Relaxed);
                Arc::new(endpoint)
            });
        }
        let endpoints = &self.endpoints;
        self.lines.retain(|address, _| endpoints.values().any(|endpoint| endpoint.address == *address));
    }

    fn thirst(&mut self, id: RevisionId) {
        let Some(handle) = self.revisions.get(&id) else { return };
        handle.lower_waiting();
        let new = || Thirst {
            handle: Arc::clone(&handle),
            asked: BTreeSet::new(),
            put_off: BTreeSet::new(),
            not_before: BTreeMap::new(),
        };
        self.thirsty.entry(id).or_insert_with(new).handle = Arc::clone(&handle);
    }

    /// Asks for whom nobody was asked yet; forgets those that wait no more.
    fn look(&mut self) {
        let now = Instant::now();
        let mut questions = Vec::new();
        self.thirsty.retain(|id, thirst| {
            thirst.not_before.retain(|_, at| *at > now);
            let waiting = thirst.handle.gate.waiting();
            let lenders = thirst.handle.gate.lenders();
            thirst.put_off.retain(|peer| lenders.contains(peer));
            let waited = thirst.handle.gate.waited(self.clock.now()).as_millis();
            let share = waiting.div_ceil(u32::try_from(lenders.len()).unwrap_or(1).max(1));
            for peer in lenders {
                if !thirst.asked.contains(&peer)
                    && !thirst.not_before.contains_key(&peer)
                    && let Some(endpoint) = self.endpoints.get(&peer)
                {
                    let first = thirst.put_off.contains(&peer);
                    questions.push((!first, id.clone(), peer, endpoint.address, (waited, share)));
                }
            }
            waiting > 0 || !thirst.asked.is_empty()
        });
        questions.sort_by_key(|(later, ..)| *later);
        for (_, revision, peer, address, (waited, share)) in questions {
            let Some(thirst) = self.thirsty.get_mut(&revision) else { continue };
            if self.asks.len() >= ASKS_MAX {
                // Once, however often it is looked at until there is a place.
                if thirst.put_off.insert(peer) {
                    self.revisions.shares().reach(Bound::Asks);
                }
                continue;
            }
            thirst.put_off.remove(&peer);
            thirst.asked.insert(peer.clone());
            if share > WANT_MAX {
                self.revisions.shares().reach(Bound::Want);
            }
            self.ask(revision, peer, address, (waited, share.min(WANT_MAX)));
        }
    }

    fn ask(&mut self, revision: RevisionId, peer: ReporterId, address: SocketAddr, (waited, want): (u128, u32)) {
        let target = format!("{SLOTS_PATH}?revision={revision}&waited={waited}&want={want}");
        let request = self.request(&target);
        let mut line = self.lines.entry(address).or_default().pop().unwrap_or_default();
        let (connector, tasks) = (self.connector.clone(), self.tasks.clone());
        self.asks.push(Box::pin(async move {
            let began = Instant::now();
            let bounds = (LEND_WAIT + ANSWER_SLACK, ANSWER_BYTES_MAX);
            let answer = match request {
                Some(request) => line.exchange(&connector, address, request, bounds, &tasks).await,
                None => Err(LineError::Answer("there is no word to show yet".into())),
            };
            let at_once = began.elapsed() < LEND_WAIT / 2;
            Asked { revision, peer, address, line, answer: answer.and_then(|body| numbers(&body)), at_once }
        }));
    }

    fn request(&self, target: &str) -> Option<Request<Full<Bytes>>> {
        let mut word = HeaderValue::from_str(self.revisions.shares().claims.word()?.reveal()).ok()?;
        word.set_sensitive(true);
        Request::builder().method(Method::POST).uri(target).header(WORD, word).body(Full::default()).ok()
    }

    fn answered(&mut self, Asked { revision, peer, address, line, answer, at_once }: Asked) {
        if let Some(lines) = self.lines.get_mut(&address) {
            lines.push(line);
        }
        let Some(thirst) = self.thirsty.get_mut(&revision) else { return };
        thirst.asked.remove(&peer);
        let claims = answer.unwrap_or_else(|error| {
            tracing::debug!(%revision, activator = %peer, %error, "no slot was lent");
            Vec::new()
        });
        if claims.is_empty() && at_once {
            thirst.not_before.insert(peer.clone(), Instant::now() + PAUSE);
        }
        let shares = self.revisions.shares();
        let (Some(endpoint), Some(word)) = (self.endpoints.get(&peer), shares.claims.word()) else { return };
        for claim in claims {
            let Some(mark) = mark(&word, claim) else { continue };
            // Nobody waits any more: it goes back through its drop, as do all that follow.
            drop(thirst.handle.gate.lend(Lent::new(Arc::clone(endpoint), mark, claim, shares.unused.clone())));
        }
    }

    /// Tells owners what is not wanted. One that cannot be told gives it up by itself.
    fn give_back(&mut self) {
        let mut by_owner: BTreeMap<SocketAddr, Vec<String>> = BTreeMap::new();
        for (address, claim) in self.revisions.shares().unused.take() {
            by_owner.entry(address).or_default().push(claim.to_string());
        }
        for (address, claims) in by_owner {
            for claims in claims.chunks(WANT_MAX as usize) {
                let Some(request) = self.request(&format!("{SLOTS_PATH}?returned={}", claims.join("."))) else {
                    return;
                };
                let (connector, tasks) = (self.connector.clone(), self.tasks.clone());
                let mut line = self.lines.entry(address).or_default().pop().unwrap_or_default();
                self.tasks.spawn("slots given back", async move {
                    let bounds = (ANSWER_SLACK, ANSWER_BYTES_MAX);
                    drop(line.exchange(&connector, address, request, bounds, &tasks).await);
                });
            }
        }
    }
}

fn numbers(body: &[u8]) -> Result<Vec<ClaimId>, LineError> {
    let text = std::str::from_utf8(body).map_err(|error| LineError::Answer(error.to_string()))?;
    let number = |word: &str| word.parse().map_err(|_| LineError::Answer(format!("{word:?} is no claim")));
    text.split_ascii_whitespace().take(WANT_MAX as usize).map(number).collect()
}

#[cfg(test)]
mod tests;
