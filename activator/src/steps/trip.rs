//! The tries of one admitted request, until some replica answers (kpa-behaviour 4.4 to 4.6).
//!
//! Invariant: a request is sent again only as [`retry_class`] says; a permit is held by exactly one attempt; what another
//! activator has sent on goes to a replica of ours or back, and never on to a third.

use super::await_capacity::{Held, acquire};
use super::respond::REASON;
use super::spare::{Spare, is_repeatable, may_go_back, read_whole};
use crate::body::RequestBody;
use crate::error::{RequestError, RetryClass, retry_class};
use crate::gate::Entry;
use crate::headers::{Next, set_scheme};
use crate::local::watchdog::Parked;
use crate::local::{Counters, Local, Permit};
use crate::request::Wait;
use crate::sharing::CLAIM;
use crate::sharing::lent::Lent;
use crate::tls::stream::ToReplica;
use crate::upstream::connection::Connection;
use crate::upstream::exchange::{Detached, Exchange, SendError};
use crate::upstream::pool::TRUSTED_IDLE;
use crate::worker::Worker;
use activator_core::admission::{Ask, Class};
use crossbeam_utils::CachePadded;
use domain::{Limits, OnDisconnect, Timestamp};
use http::{HeaderMap, Request};
use runtime::Tasks;
use runtime::net::{Connect, Socket};
use runtime::watched::Watch;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;

/// Replicas tried without a pause.
pub const TRIES_MAX: u32 = 3;
/// Pause after a round of tries that no replica took; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The request of a dispatch while it waits to be sent; one place for all tries, because it is large.
pub(super) type Outgoing = Option<Request<RequestBody>>;
type Answer = Option<http::Response<()>>;
type Sent = Result<(), SendError>;

/// A request on its way to some replica.
#[derive(Debug)]
pub struct Trip<'a, C: Connect> {
    worker: &'a Arc<Worker<C>>,
    local: &'a Arc<Local<C::Stream>>,
    limits: &'a Limits,
    watch: &'a Watch,
    next: Next,
    arrived: Timestamp,
    /// What it asks for when it needs another try: the line it stands in, whose replica it prefers.
    ask: Ask,
    wait: Wait,
    /// When the latest permit came.
    permitted: Timestamp,
    /// The latest try, and what was answered. They stay in their places, because they are large.
    exchange: Option<Exchange<C::Stream>>,
    answer: Answer,
}

/// The tries of one dispatch.
#[derive(Debug)]
pub struct Tries {
    count: u32,
    pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self { count: 0, pause: PAUSE }
    }
}

/// What became of a try without an answer.
enum Setback<S: Socket> {
    /// Not sent, or safe to send again: the request is back in its place.
    Again(Permit<S>),
    /// Over.
    Final(RequestError),
}

impl<'a, C: Connect> Trip<'a, C> {
    /// The way of a request of `local` that was admitted after it had waited as `wait` says.
    pub fn new(
        worker: &'a Arc<Worker<C>>,
        local: &'a Arc<Local<C::Stream>>,
        limits: &'a Limits,
        watch: &'a Watch,
        next: Next,
        (arrived, ask): (Timestamp, Ask),
        wait: Wait,
    ) -> Self {
        let permitted = arrived + wait.queued;
        Self { worker, local, limits, watch, next, arrived, ask, wait, permitted, exchange: None, answer: None }
    }

    /// The same for a request that another activator has sent on, if it was `claimed`: one hop is all it may make.
    #[must_use]
    pub const fn of_neighbour(mut self, claimed: bool) -> Self {
        if claimed {
            self.ask.class = Class::Neighbour;
        }
        self
    }

    /// How the request has waited so far.
    #[must_use]
    pub const fn wait(&self) -> Wait {
        self.wait
    }

    /// The answer, and the exchange it came on.
    #[must_use]
    pub fn into_answer(self) -> Option<(http::Response<()>, Exchange<C::Stream>)> {
        self.answer.zip(self.exchange)
    }

    /// Tries until a replica answers.
    ///
    /// # Errors
    /// Tried as often as is safe, or refused while waiting again.
    pub async fn until_answered(
        &mut self,
        outgoing: &mut Outgoing,
        mut permit: Permit<C::Stream>,
    ) -> Result<(), RequestError> {
        let (mut tries, mut replayed) = (Tries::default(), false);
        loop {
            let failed = match self.once(outgoing, permit, &mut replayed).await {
                Ok(()) => {
                    if let Some(exchange) = &mut self.exchange {
                        exchange.answered();
                    }
                    return Ok(());
                }
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::Again(failed)) => failed,
            };
            if self.ask.class == Class::Neighbour && !replayed && may_go_back(outgoing) {
                drop(failed);
                let _parked = Parked::new(&self.local.counters);
                Box::pin(read_whole(outgoing)).await?;
                return Err(RequestError::ClaimUnknown);
            }
            let body = outgoing.as_mut().map(Request::body_mut);
            permit = Box::pin(self.another(&mut tries, failed, body)).await?;
        }
    }

    /// A permit for another try, after the replica of `failed` did not take the request, whose `body` nobody reads meanwhile.
    ///
    /// # Errors
    /// Tried often enough, refused while waiting again, or more is held than may be.
    pub async fn another(
        &mut self,
        tries: &mut Tries,
        failed: Permit<C::Stream>,
        body: Option<&mut RequestBody>,
    ) -> Result<Permit<C::Stream>, RequestError> {
        let clock = self.worker.base.clock;
        tries.count += 1;
        if tries.count < TRIES_MAX {
            // The place at the head of the queue is taken before the slot is given up.
            let entry = self.local.handle.gate.reenter(clock.now(), self.ask);
            drop(failed);
            return self.reacquire(entry).await;
        }
        // One that has never answered is still starting, whatever its platform says; of one that has, the platform may not
        // have heard yet that it is gone.
        let started = failed.seat.endpoint.answered.load(Relaxed);
        let handle = &self.local.handle;
        let start = self.arrived + *self.limits.start_deadline;
        let due = if started { handle.gate.patience(self.arrived).0 } else { start };
        if clock.now() >= due {
            return Err(handle.none_reached(started, self.limits));
        }
        drop(failed);
        if let Some(body) = body {
            body.hold(&self.worker.base.bounds, self.worker.settings.load().held_bytes_max)?;
        }
        let held = Held::returning(self.worker, self.watch, &self.local.counters);
        tokio::time::sleep(tries.pause).await;
        drop(held);
        *tries = Tries { count: 0, pause: (tries.pause * 2).min(PAUSE_MAX) };
        let entry = self.local.handle.gate.reenter(clock.now(), self.ask);
        self.reacquire(entry).await
    }

    async fn reacquire(&mut self, entry: Entry) -> Result<Permit<C::Stream>, RequestError> {
        let (permit, wait) = acquire(self.worker, self.local, (self.arrived, self.ask), self.watch, entry).await?;
        self.wait = Wait { queued: self.wait.queued.max(wait.queued), cold: self.wait.cold || wait.cold };
        self.permitted = self.worker.base.clock.now();
        Ok(permit)
    }

    async fn once(
        &mut self,
        outgoing: &mut Outgoing,
        permit: Permit<C::Stream>,
        replayed: &mut bool,
    ) -> Result<(), Setback<C::Stream>> {
        let trusted = match self.line(permit).await {
            Ok(trusted) => trusted,
            Err(permit) => {
                // Another activator is no replica: whoever asks it for slots sees that it is gone.
                if permit.lent().is_none() {
                    self.worker.suspect(&self.local.handle, &permit.seat.endpoint);
                }
                return Err(Setback::Again(permit));
            }
        };
        let lent = self.exchange.as_ref().and_then(Exchange::permit).and_then(Permit::lent);
        let trusted = trusted && lent.is_none();
        if lent.is_some() {
            self.local.counters.hops.fetch_add(1, Relaxed);
        }
        if let Some(request) = outgoing {
            announce(request.headers_mut(), lent);
            if self.next == Next::Http2 && *self.limits.backend_tls {
                set_scheme(request.uri_mut(), lent.is_none());
            }
        }
        let used = self.exchange.as_ref().is_some_and(Exchange::is_reused);
        let reused = used || self.next == Next::Http2;
        let spare =
            outgoing.as_mut().filter(|_| !*replayed).and_then(|request| Spare::of(request, trusted)).map(Box::new);
        let sent = match *self.limits.response_start_timeout {
            None => self.send(outgoing).await,
            Some(limit) => match Box::pin(tokio::time::timeout(limit, self.send(outgoing))).await {
                Ok(sent) => sent,
                Err(_) => return Err(Setback::Final(RequestError::ResponseStartTimeout(limit))),
            },
        };
        let failed = match sent {
            Some(Ok(())) if self.is_unclaimed() => SendError::Refused,
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => error,
            None => return Err(Setback::Final(RequestError::Internal)),
        };
        let (returned, refused, answer_begun, whole) = match failed {
            SendError::NotSent(request) => (Some(*request), false, false, None),
            SendError::Refused => (None, true, false, None),
            SendError::Broken { answer_begun, request } => (None, false, answer_begun, request),
            SendError::Client(error) => return Err(Setback::Final(error)),
        };
        let permit = self.exchange.take().and_then(Exchange::failed);
        if let Some(permit) = permit.as_ref().filter(|permit| !used && !answer_begun && permit.lent().is_none())
            && returned.is_none()
            && !refused
        {
            self.worker.broke(&self.local.handle, &permit.seat.endpoint);
        }
        let whole = whole.filter(|request| !*replayed && is_repeatable(request)).map(|request| *request);
        let again = spare.and_then(|spare| spare.again(refused)).or(whole);
        match retry_class(returned.is_some() || refused, reused, answer_begun, again.is_some()) {
            RetryClass::NotSent => *outgoing = returned.or(again),
            RetryClass::Replay if self.local.counters.may_replay() => {
                *replayed = true;
                *outgoing = again;
            }
            RetryClass::Replay | RetryClass::Never => {}
        }
        match permit {
            Some(permit) if outgoing.is_some() => Err(Setback::Again(permit)),
            Some(_) | None => Err(Setback::Final(RequestError::Broken)),
        }
    }

    /// Whether it is another activator that answers, and says that it keeps no slot for us any more.
    fn is_unclaimed(&self) -> bool {
        let reason = self.answer.as_ref().and_then(|answer| answer.headers().get(REASON));
        self.exchange.as_ref().and_then(Exchange::permit).is_some_and(|permit| permit.lent().is_some())
            && reason.is_some_and(|reason| reason == RequestError::CLAIM_UNKNOWN)
    }

    /// Begins a try on a line to the permit's replica: an idle one or a new one. False when it may have been closed
    /// meanwhile, so that the request has to be kept for a replay.
    ///
    /// What few requests do is boxed here and elsewhere on this path: hyper moves a request's future more than once, so
    /// room for it costs every request.
    async fn line(&mut self, permit: Permit<C::Stream>) -> Result<bool, Permit<C::Stream>> {
        let (pool, on_disconnect) = (&permit.seat.pool, *self.limits.on_disconnect);
        let secured = self.secured(&permit);
        match self.next {
            Next::Http1 => {
                if let Some(connection) = pool.take(self.permitted, *self.limits.upstream_idle_timeout, secured) {
                    let trusted = self.permitted.since(connection.idle_since) < TRUSTED_IDLE;
                    self.exchange = Some(Exchange::http1(connection, permit, on_disconnect));
                    return Ok(trusted);
                }
            }
            Next::Http2 => {
                if let Some(stream) = pool.h2.stream(secured) {
                    self.exchange = Some(Exchange::http2(stream, permit, on_disconnect));
                    return Ok(false);
                }
            }
        }
        Box::pin(self.new_line(permit)).await
    }

    async fn new_line(&mut self, permit: Permit<C::Stream>) -> Result<bool, Permit<C::Stream>> {
        let on_disconnect = *self.limits.on_disconnect;
        let connect = self.connect(&permit);
        let reach = &permit.seat.endpoint.reach;
        let connect = async { connect.await.inspect(|_| reach.connected()) };
        let exchange = match self.next {
            Next::Http1 => match connect.await {
                Some(socket) => Exchange::http1(Connection::new(socket), permit, on_disconnect),
                None => return Err(permit),
            },
            Next::Http2 => {
                let opened = permit.seat.pool.h2.open(self.secured(&permit), connect, &self.worker.base);
                match opened.await {
                    Some(stream) => Exchange::http2(stream, permit, on_disconnect),
                    None => return Err(permit),
                }
            }
        };
        self.exchange = Some(exchange);
        Ok(self.next == Next::Http1)
    }

    /// The settings, where they ask for TLS to the permit's replica. Another activator is no replica.
    fn secured(&self, permit: &Permit<C::Stream>) -> Option<&'a Limits> {
        (*self.limits.backend_tls && permit.lent().is_none()).then_some(self.limits)
    }

    /// A new connection to the permit's replica, or nothing in time.
    pub fn connect(
        &self,
        permit: &Permit<C::Stream>,
    ) -> impl Future<Output = Option<ToReplica<C::Stream>>> + Send + use<'a, C> {
        let endpoint = &permit.seat.endpoint;
        if let (Next::Http1, Some(limit), None) = (self.next, *self.limits.container_concurrency, permit.lent()) {
            endpoint.make_room(limit);
        }
        let (worker, local, secured) = (self.worker, self.local, self.secured(permit));
        let (to, limit) = ((endpoint.address, self.next), *self.limits.connect_timeout);
        async move {
            match secured {
                None => worker.connect(to.0, limit).await.map(ToReplica::Plain),
                // Boxed, so that others have no room for it.
                Some(limits) => Box::pin(local.handle.backend.connect(&worker.connector, to, limits, limit)).await,
            }
        }
    }

    /// Sends the request. Where the slot has to stay until the replica is done, the exchange goes on without us when the
    /// client leaves.
    async fn send(&mut self, outgoing: &mut Outgoing) -> Option<Sent> {
        let exchange = self.exchange.as_mut()?;
        let finish = *self.limits.on_disconnect == OnDisconnect::Finish;
        if !finish || !exchange.permit().is_some_and(Permit::is_limited) {
            return Some(exchange.send(outgoing, &mut self.answer).await);
        }
        let owner = (self.worker.base.tasks.clone(), Arc::clone(&self.local.counters));
        let (sent, answer, exchange) = Box::pin(to_the_end(self.exchange.take()?, outgoing.take(), owner)).await?;
        (self.answer, self.exchange) = (answer, Some(exchange));
        Some(sent)
    }
}

/// Marks a request for the activator that lends the slot, and no other.
pub fn announce(headers: &mut HeaderMap, lent: Option<&Lent>) {
    match lent {
        Some(lent) => {
            lent.use_up();
            headers.insert(CLAIM, lent.mark.clone());
        }
        // Nothing is there but what an earlier try has put there, and few requests have one.
        None if headers.contains_key(CLAIM) => drop(headers.remove(CLAIM)),
        None => {}
    }
}

async fn to_the_end<S: Socket>(
    mut exchange: Exchange<S>,
    mut outgoing: Outgoing,
    (tasks, counters): (Tasks, Arc<CachePadded<Counters>>),
) -> Option<(Sent, Answer, Exchange<S>)> {
    let (tell, mut told) = oneshot::channel();
    let work = async move {
        let mut answer = None;
        let sent = exchange.send(&mut outgoing, &mut answer).await;
        if let Err((_, _, exchange)) = tell.send((sent, answer, exchange)) {
            exchange.abandon();
        }
    };
    Detached::new(work, tasks, counters).await;
    told.try_recv().ok()
}
