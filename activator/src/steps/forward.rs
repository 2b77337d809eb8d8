//! One admitted request to its replica, and again where that is safe (kpa-behaviour 4.4 to 4.6).
//!
//! Invariant: a request is sent again only as [`retry_class`] says; a permit is held by exactly one attempt.

use super::await_capacity::{Held, acquire};
use super::spare::Spare;
use super::{Response, Step};
use crate::body::{BodyError, RequestBody, ResponseBody, Stream};
use crate::error::{RequestError, RetryClass, retry_class};
use crate::headers::{self, Next};
use crate::local::{Endpoint, Local, Permit};
use crate::request::{Admitted, Counted, Routed, Wait};
use crate::upstream::exchange::{Detached, Exchange};
use crate::upstream::pool::{Connection, TRUSTED_IDLE};
use crate::upstream::tunnel;
use crate::worker::Worker;
use domain::{Limits, OnDisconnect, Protocol};
use http::header::{HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Request, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use runtime::net::Connect;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;

/// Replicas tried for one dispatch.
pub const TRIES_MAX: u32 = 3;
/// Pause after a round of tries at replicas that have never answered; doubles up to [`COLD_PAUSE_MAX`].
const COLD_PAUSE: Duration = Duration::from_millis(20);
const COLD_PAUSE_MAX: Duration = Duration::from_secs(1);

const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-kpa-queue-wait");
const COLD: HeaderName = HeaderName::from_static("x-kpa-cold");

/// Sends the request and gives the answer.
#[derive(Debug)]
pub struct Forward;

impl<C: Connect> Step<C, Admitted<C::Stream>> for Forward {
    async fn run(&self, worker: &Arc<Worker<C>>, admitted: Admitted<C::Stream>) -> Result<Response<C>, RequestError> {
        let Admitted { counted: Counted { routed, in_flight }, permit, wait } = admitted;
        if headers::wants_upgrade(&routed.request.head) {
            return Box::pin(tunnel::open(worker, routed, in_flight, permit, wait)).await;
        }
        let Routed { request, local, limits, arrived, until, .. } = routed;
        let (mut head, peer, open) = (*request.head, request.peer, request.open);
        let next = next_protocol(*limits.protocol, head.version);
        let translated = head.version == Version::HTTP_2 && next == Next::Http1;
        headers::forward_request(&mut head, &peer, next, wait.queued);
        let body = RequestBody::from_client(request.body, *limits.idle_timeout, None);
        if translated && !body.is_none() && body.size_hint().exact().is_none() {
            // hyper sends no body of unknown length with GET, HEAD or CONNECT unless it is told to.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut trip = Trip { worker, local: &local, limits: &limits, next, wait };
        let mut outgoing = Some(Request::from_parts(head, body));
        let (response, mut exchange) = trip.until_answered(&mut outgoing, permit, arrived, &peer.watch).await?;

        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(RequestError::Broken);
        }
        if let Some(idle_max) = headers::forward_response(&mut head) {
            exchange.set_idle_max(idle_max);
        }
        head.version = Version::HTTP_11;
        tell_wait(&mut head.headers, trip.wait);
        if trip.wait.cold {
            worker.wakes.first_byte(&local.handle.id, worker.base.clock.now());
        }
        if let Some(in_flight) = in_flight {
            exchange.carry(in_flight);
        }
        Ok(http::Response::from_parts(head, answer(incoming, exchange, &limits, until).with_open(open)))
    }
}

/// The body of a replica's answer; one without content ends the exchange at once.
pub fn answer<S: runtime::net::Socket>(
    incoming: Incoming,
    exchange: Exchange<S>,
    limits: &Limits,
    until: Option<(tokio::time::Instant, Duration)>,
) -> ResponseBody<S> {
    if incoming.is_end_stream() {
        exchange.complete();
        return ResponseBody::empty();
    }
    ResponseBody::upstream(Stream::new(incoming, exchange, *limits.idle_timeout, until))
}

/// Says how a request waited (kpa-behaviour 4.8).
pub fn tell_wait(headers: &mut http::HeaderMap, wait: Wait) {
    if wait.queued.is_zero() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{:.3}s", wait.queued.as_secs_f64())) {
        headers.insert(QUEUE_WAIT, value);
    }
    if wait.cold {
        headers.insert(COLD, HeaderValue::from_static("true"));
    }
}

fn next_protocol(protocol: Protocol, from: Version) -> Next {
    match protocol {
        Protocol::Http1 => Next::Http1,
        Protocol::H2c => Next::Http2,
        Protocol::Auto if from == Version::HTTP_2 => Next::Http2,
        Protocol::Auto => Next::Http1,
    }
}

/// A request on its way to some replica.
#[derive(Debug)]
pub struct Trip<'a, C: Connect> {
    /// Where it runs.
    pub worker: &'a Arc<Worker<C>>,
    /// Its revision on this worker.
    pub local: &'a Arc<Local<C::Stream>>,
    /// Its revision's settings.
    pub limits: &'a Limits,
    /// What is spoken to the replica.
    pub next: Next,
    /// How it has waited so far.
    pub wait: Wait,
}

/// The tries of one dispatch.
#[derive(Debug)]
pub struct Tries {
    count: u32,
    pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self { count: 0, pause: COLD_PAUSE }
    }
}

type Answered<S> = (http::Response<Incoming>, Exchange<S>);

/// What became of one try.
enum Try<S: runtime::net::Socket> {
    Answered(Answered<S>),
    /// Not sent, or safe to send again: the request is back in its place.
    Again(Option<Permit<S>>),
    Failed(RequestError),
}

impl<C: Connect> Trip<'_, C> {
    async fn until_answered(
        &mut self,
        outgoing: &mut Outgoing,
        mut permit: Permit<C::Stream>,
        arrived: domain::Timestamp,
        watch: &runtime::watched::Watch,
    ) -> Result<Answered<C::Stream>, RequestError> {
        let (mut tries, mut replayed) = (Tries::default(), false);
        loop {
            let endpoint = Arc::clone(&permit.seat.endpoint);
            let failed = match self.once(outgoing, permit, &mut replayed).await {
                Try::Answered(answered) => {
                    if !endpoint.answered.load(Relaxed) {
                        endpoint.answered.store(true, Relaxed);
                    }
                    return Ok(answered);
                }
                Try::Failed(error) => return Err(error),
                Try::Again(permit) => permit,
            };
            permit = Box::pin(self.another(&mut tries, &endpoint, failed, arrived, watch)).await?;
        }
    }

    /// A permit for another try, after `endpoint` did not take the request.
    ///
    /// # Errors
    /// Tried often enough, or refused while waiting again.
    pub async fn another(
        &mut self,
        tries: &mut Tries,
        endpoint: &Endpoint,
        failed: Option<Permit<C::Stream>>,
        arrived: domain::Timestamp,
        watch: &runtime::watched::Watch,
    ) -> Result<Permit<C::Stream>, RequestError> {
        tries.count += 1;
        if tries.count < TRIES_MAX {
            // The place at the head of the queue is taken before the slot is given up.
            let entry = self.local.handle.gate.reenter(self.worker.base.clock.now());
            drop(failed);
            return self.reacquire(arrived, watch, entry).await;
        }
        if endpoint.answered.load(Relaxed) {
            return Err(RequestError::Unreachable);
        }
        // It has never answered: it is still starting, whatever its platform says.
        if self.worker.base.clock.now() - arrived >= *self.limits.start_deadline {
            return Err(RequestError::Unreachable);
        }
        drop(failed);
        let held = Held::new(watch);
        tokio::time::sleep(tries.pause).await;
        drop(held);
        *tries = Tries { count: 0, pause: (tries.pause * 2).min(COLD_PAUSE_MAX) };
        let entry = self.local.handle.gate.reenter(self.worker.base.clock.now());
        self.reacquire(arrived, watch, entry).await
    }

    async fn reacquire(
        &mut self,
        arrived: domain::Timestamp,
        watch: &runtime::watched::Watch,
        entry: crate::gate::Entry,
    ) -> Result<Permit<C::Stream>, RequestError> {
        let (permit, wait) = acquire(self.worker, self.local, arrived, watch, entry).await?;
        self.wait = Wait { queued: self.wait.queued.max(wait.queued), cold: self.wait.cold || wait.cold };
        Ok(permit)
    }

    async fn once(&self, outgoing: &mut Outgoing, permit: Permit<C::Stream>, replayed: &mut bool) -> Try<C::Stream> {
        let (exchange, trusted) = match self.line(permit).await {
            Ok(line) => line,
            Err(permit) => {
                self.worker.suspect(&self.local.handle, &permit.seat.endpoint);
                return Try::Again(Some(permit));
            }
        };
        let reused = exchange.is_reused() || self.next == Next::Http2;
        let spare = outgoing.as_mut().filter(|_| !trusted && !*replayed).map(|request| Box::new(Spare::of(request)));
        let sent = match *self.limits.response_start_timeout {
            None => self.send(exchange, outgoing).await,
            Some(limit) => match Box::pin(tokio::time::timeout(limit, self.send(exchange, outgoing))).await {
                Ok(sent) => sent,
                Err(_) => return Try::Failed(RequestError::ResponseStartTimeout(limit)),
            },
        };
        let (mut error, exchange) = match sent {
            Some((Ok(response), exchange)) => return Try::Answered((response, exchange)),
            Some((Err(error), exchange)) => (error, exchange),
            None => return Try::Failed(RequestError::Internal),
        };
        let returned = error.take_message();
        if let Some(client) = client_fault(error.error()) {
            return Try::Failed(client);
        }
        let permit = exchange.failed();
        let refused = self.next == Next::Http2 && was_refused(error.error());
        let again = spare.and_then(|spare| spare.again(refused));
        match retry_class(returned.is_some() || refused, reused, error.error().is_parse(), again.is_some()) {
            RetryClass::NotSent => *outgoing = returned.or(again),
            RetryClass::Replay if self.local.counters.may_replay() => {
                *replayed = true;
                *outgoing = again;
            }
            RetryClass::Replay | RetryClass::Never => {}
        }
        if outgoing.is_some() { Try::Again(permit) } else { Try::Failed(RequestError::Broken) }
    }

    /// A line to the permit's replica: an idle one or a new one. `trusted` is false when it may have been closed
    /// meanwhile, so that the request has to be kept for a replay.
    ///
    /// What few requests do is boxed here and elsewhere on this path: hyper moves a request's future more than once, so
    /// room for it costs every request.
    async fn line(&self, permit: Permit<C::Stream>) -> Result<(Exchange<C::Stream>, bool), Permit<C::Stream>> {
        let (pool, on_disconnect) = (&permit.seat.pool, *self.limits.on_disconnect);
        match self.next {
            Next::Http1 => {
                let now = self.worker.base.clock.now();
                if let Some(connection) = pool.take(now, *self.limits.upstream_idle_timeout) {
                    let trusted = now.since(connection.idle_since) < TRUSTED_IDLE;
                    return Ok((Exchange::http1(connection, permit, on_disconnect), trusted));
                }
            }
            Next::Http2 => {
                if let Some(stream) = pool.h2.stream() {
                    return Ok((Exchange::http2(stream, permit, on_disconnect), false));
                }
            }
        }
        Box::pin(self.new_line(permit)).await
    }

    async fn new_line(&self, permit: Permit<C::Stream>) -> Result<(Exchange<C::Stream>, bool), Permit<C::Stream>> {
        let on_disconnect = *self.limits.on_disconnect;
        let Some(socket) = self.connect(&permit).await else { return Err(permit) };
        match self.next {
            Next::Http1 => match Connection::open(socket).await {
                Ok(connection) => Ok((Exchange::http1(connection, permit, on_disconnect), true)),
                Err(_) => Err(permit),
            },
            Next::Http2 => match permit.seat.pool.h2.open(socket, &self.worker.base).await {
                Ok(stream) => Ok((Exchange::http2(stream, permit, on_disconnect), false)),
                Err(_) => Err(permit),
            },
        }
    }

    async fn connect(&self, permit: &Permit<C::Stream>) -> Option<C::Stream> {
        self.worker.connect(permit.seat.endpoint.address, *self.limits.connect_timeout).await
    }

    /// Sends the request. Where the slot has to stay until the replica is done, the exchange goes on without us when the
    /// client leaves.
    async fn send(
        &self,
        mut exchange: Exchange<C::Stream>,
        outgoing: &mut Outgoing,
    ) -> Option<(Result<http::Response<Incoming>, SendError>, Exchange<C::Stream>)> {
        let finish = *self.limits.on_disconnect == OnDisconnect::Finish;
        if !finish || !exchange.permit().is_some_and(Permit::is_limited) {
            let result = exchange.send(outgoing).await;
            return Some((result, exchange));
        }
        Box::pin(self.send_to_the_end(exchange, outgoing.take())).await
    }

    async fn send_to_the_end(
        &self,
        mut exchange: Exchange<C::Stream>,
        mut outgoing: Outgoing,
    ) -> Option<(Result<http::Response<Incoming>, SendError>, Exchange<C::Stream>)> {
        let (tell, mut told) = oneshot::channel();
        let work = async move {
            let result = exchange.send(&mut outgoing).await;
            if let Err((Ok(response), exchange)) = tell.send((result, exchange)) {
                let (_, incoming): (http::response::Parts, Incoming) = response.into_parts();
                exchange.abandon(Some(incoming));
            }
        };
        Detached::new(work, self.worker.base.tasks.clone()).await;
        told.try_recv().ok()
    }
}

/// The request of a dispatch while it waits to be sent; one place for all tries, because it is large.
type Outgoing = Option<Request<RequestBody>>;
type SendError = Box<TrySendError<Request<RequestBody>>>;

/// Whether an exchange failed because of its client.
fn client_fault(error: &hyper::Error) -> Option<RequestError> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(body) = inner.downcast_ref::<BodyError>() {
            return Some(match body {
                BodyError::Clock(error) => error.clone(),
                BodyError::Connection(_) => RequestError::ClientGone,
            });
        }
        cause = inner.source();
    }
    None
}

/// Whether the peer says that it has not looked at the request (RFC 9113 sections 6.8 and 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}
