//! Takes part in the election of the autoscaler that acts: the rule of [`crate::lease`], carried out on a Lease.
//!
//! Invariant: one call at a time, each with its own timeout; what is published comes from the rule alone, and a lease is
//! released only when no call of ours that needed it is under way any more.

mod object;
mod standing;

pub use standing::{Standing, UnderWay};

use crate::lease::{Answer, Candidate, Gain, Loss, News, Purpose, Settings, Step, Ticket, WallMicros, spread};
use domain::{Timestamp, WallTime};
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use object::{read, written};
use platform::Leadership;
use platform::leadership::CALL_TIMEOUT;
use standing::Calls;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Between two tries to watch the Lease, at most. Meanwhile it is read every retry period.
const WATCH_PAUSE: Duration = Duration::from_secs(2);
/// Who wrote the fields, as the API server notes it.
const FIELD_MANAGER: &str = "kpa-autoscaler";

/// Where the election takes place: the name of a Lease object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace: that of the autoscalers.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The name of a candidate: its pod, and a number drawn at each start, so that a process that comes back is another one.
#[must_use]
pub fn identity(pod: &str, boot: u64) -> String {
    format!("{pod}_{boot:016x}")
}

/// What came back from a call.
type Called = (Ticket, Result<Option<Lease>, Failure>);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("somebody else wrote it first")]
    Conflict,
    #[error("it is gone")]
    Absent,
    #[error("no answer within {CALL_TIMEOUT:?}")]
    Silent,
    #[error("{0}")]
    Refused(String),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Refused(error.to_string()) };
        match status.code {
            409 => Self::Conflict,
            404 => Self::Absent,
            code => Self::Refused(format!("{} ({code})", status.message)),
        }
    }
}

/// Spread over the candidates, and never long: a watch that works again is what makes a release fast.
struct WatchPauses {
    identity: String,
    tries: u64,
}

impl Iterator for WatchPauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.tries += 1;
        Some(spread(&self.identity, self.tries, WATCH_PAUSE))
    }
}

impl Backoff for WatchPauses {
    fn reset(&mut self) {}
}

/// One candidate's part in the election.
pub struct Elector {
    api: Api<Lease>,
    place: Place,
    identity: String,
    candidate: Candidate,
    wall_clock: fn() -> WallTime,
    origin: Instant,
    leadership: watch::Sender<Leadership>,
    calls: Calls,
    resign: mpsc::Receiver<oneshot::Sender<()>>,
    /// Told when there is nothing left to release.
    resigned: Option<oneshot::Sender<()>>,
    /// The object as it was seen last: what others wrote into it is kept.
    stored: Option<Lease>,
    /// The last call failed, and that was said.
    failing: bool,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elector").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

impl Elector {
    /// A candidate named `identity`, and what the rest of the process needs of it. Nothing happens before [`Self::run`].
    #[must_use]
    pub fn new(
        client: Client,
        place: Place,
        identity: &str,
        settings: Settings,
        wall_clock: fn() -> WallTime,
    ) -> (Self, Standing) {
        let (resigner, resign) = mpsc::channel(1);
        let (leadership, standing) = watch::channel(Leadership::Follower);
        let calls = Calls::default();
        let elector = Self {
            api: Api::namespaced(client, &place.namespace),
            place,
            identity: identity.to_owned(),
            candidate: Candidate::new(identity, settings),
            wall_clock,
            origin: Instant::now(),
            leadership,
            calls: calls.clone(),
            resign,
            resigned: None,
            stored: None,
            failing: false,
        };
        (elector, Standing::new(standing, calls, resigner))
    }

    /// Takes part until `stop`. One that has resigned takes no part any more, and waits for it.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let pauses = WatchPauses { identity: self.identity.clone(), tries: 0 };
        let mut news = pin!(watch_object(self.api.clone(), &self.place.name).backoff(pauses));
        let mut stop = pin!(stop.fuse());
        let mut call: Option<BoxFuture<'static, Called>> = None;
        loop {
            let step = self.candidate.next(self.now(), self.wall_micros());
            self.publish();
            let until = match step {
                Step::Lost(loss) => {
                    self.tell(&News::Lost(loss));
                    continue;
                }
                Step::Read(ticket) => {
                    call = Some(self.read(ticket));
                    continue;
                }
                Step::Write { ticket, purpose, over, record } => {
                    let lease = written(self.stored.as_ref(), &self.place, over.as_ref(), &record);
                    call = Some(self.write(ticket, purpose, over.is_none(), lease));
                    continue;
                }
                Step::Done => {
                    if let Some(resigned) = self.resigned.take() {
                        // Whoever asked may have given up waiting.
                        let _ = resigned.send(());
                    }
                    None
                }
                Step::Wait(until) => until,
            };
            let due = self.origin + until.unwrap_or_default().since_start();
            tokio::select! {
                biased; // What the clock has ended is noticed before anything that was said meanwhile.
                () = &mut stop => return,
                () = sleep_until(due), if until.is_some() => {}
                (ticket, result) = answer(&mut call) => {
                    call = None;
                    self.answered(ticket, result);
                }
                Some(event) = news.next() => self.told(event),
                Some(resigned) = self.resign.recv() => self.leave(resigned).await,
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.origin.elapsed())
    }

    fn wall_micros(&self) -> WallMicros {
        WallMicros::try_from((self.wall_clock)().unix_millis()).unwrap_or(WallMicros::MAX).saturating_mul(1000)
    }

    fn publish(&self) {
        let until = self.candidate.leads_until().map(|until| self.origin + until.since_start());
        let now = until.map_or(Leadership::Follower, |until| Leadership::Leader { until: Some(until) });
        self.leadership.send_if_modified(|published| std::mem::replace(published, now) != now);
    }

    fn read(&self, ticket: Ticket) -> BoxFuture<'static, Called> {
        let (api, name) = (self.api.clone(), self.place.name.clone());
        Box::pin(async move { (ticket, bounded(api.get_opt(&name)).await) })
    }

    fn write(&self, ticket: Ticket, purpose: Purpose, new: bool, lease: Lease) -> BoxFuture<'static, Called> {
        tracing::trace!(?purpose, new, "the lease is written");
        let (api, Place { namespace, name }) = (self.api.clone(), self.place.clone());
        Box::pin(async move {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            let stored = if new {
                bounded(api.create(&params, &lease)).await.map_err(|failure| match failure {
                    Failure::Absent => Failure::Refused(format!("there is no namespace {namespace}")),
                    Failure::Conflict | Failure::Silent | Failure::Refused(_) => failure,
                })
            } else {
                bounded(api.replace(&name, &params, &lease)).await
            };
            (ticket, stored.map(Some))
        })
    }

    fn answered(&mut self, ticket: Ticket, result: Result<Option<Lease>, Failure>) {
        let (lease, answer) = match result {
            Ok(lease) => {
                self.works();
                let answer = lease.as_ref().map(read).map(|(version, record)| Answer::Stored(version, record));
                (lease, answer.unwrap_or(Answer::Absent))
            }
            Err(Failure::Conflict) => (None, Answer::Conflict),
            Err(Failure::Absent) => (None, Answer::Absent),
            Err(failure @ (Failure::Silent | Failure::Refused(_))) => {
                self.fails(&failure);
                (None, Answer::Unknown)
            }
        };
        let news = self.candidate.answered(self.now(), ticket, answer);
        self.keep(lease);
        self.said(news);
    }

    fn told(&mut self, event: Result<Option<Lease>, kube::runtime::watcher::Error>) {
        match event {
            Ok(lease) => {
                let news = self.candidate.told(self.now(), lease.as_ref().map(read));
                self.keep(lease);
                self.said(news);
            }
            // It is read every retry period too; whether that works is said there.
            Err(error) => tracing::debug!(%error, "the lease cannot be watched; it is read instead"),
        }
    }

    /// Keeps the object if it is the one that the next write replaces.
    fn keep(&mut self, lease: Option<Lease>) {
        if let Some(lease) = lease.filter(|lease| self.candidate.knows(&read(lease).0)) {
            self.stored = Some(lease);
        }
    }

    /// Stops leading first, so that no call is begun any more, waits for those under way, and then releases the lease.
    async fn leave(&mut self, resigned: oneshot::Sender<()>) {
        self.leadership.send_replace(Leadership::Follower);
        let quiet = timeout(CALL_TIMEOUT, self.calls.ended()).await.is_ok();
        if !quiet {
            tracing::warn!("calls are still under way: the lease is not released, it will run out");
        }
        let news = self.candidate.resign(quiet);
        self.resigned = Some(resigned);
        self.said(news);
    }

    fn said(&mut self, news: Option<News>) {
        // Before anybody reads about it, it is so.
        self.publish();
        if let Some(news) = news {
            self.tell(&news);
        }
    }

    fn tell(&self, news: &News) {
        let Place { namespace, name } = &self.place;
        let lease = format!("{namespace}/{name}");
        match news {
            News::Leads(gain) => {
                let why = match gain {
                    Gain::First => "there was no leader yet".to_owned(),
                    Gain::Free => "the lease was free".to_owned(),
                    Gain::Expired(before) => format!("{before} did not renew the lease in time"),
                };
                tracing::info!(identity = self.identity, lease, "this autoscaler leads: {why}");
            }
            News::Follows(leader) => tracing::info!(leader, lease, "another autoscaler leads; this one follows"),
            News::Lost(Loss::Resigned) => tracing::info!(lease, "this autoscaler leads no more: it goes"),
            News::Lost(loss) => {
                let why = match loss {
                    Loss::NotRenewed { since } => {
                        format!("no renewal of the lease has succeeded for {:.1?}", self.now().since(*since))
                    }
                    Loss::Conflict => "somebody else has written the lease".to_owned(),
                    Loss::Taken(leader) if leader.is_empty() => "the lease was emptied".to_owned(),
                    Loss::Taken(leader) => format!("{leader} has the lease"),
                    Loss::Deleted => "the lease was deleted".to_owned(),
                    Loss::Resigned => "it goes".to_owned(),
                };
                tracing::warn!(identity = self.identity, lease, "this autoscaler leads no more: {why}");
            }
        }
    }

    fn fails(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.failing, true) {
            let Place { namespace, name } = &self.place;
            tracing::warn!("the lease {namespace}/{name} cannot be read or written: {failure}; trying again and again");
        }
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the lease can be read and written again");
        }
    }
}

/// A call that takes no longer than [`CALL_TIMEOUT`]: the client has no limit of its own.
async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::Silent),
    }
}

/// The answer to the call under way; never without one.
async fn answer(call: &mut Option<BoxFuture<'static, Called>>) -> Called {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
