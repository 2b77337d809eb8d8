//! One request on one connection: sent, answered, and the connection given back or given up.
//!
//! Invariant: whatever happens to the future that drives it, the slot at the replica falls exactly once, and not before
//! the replica is done with it where the revision asks for that (`kpa.dev/on-disconnect`).

use super::connection::{Connection, Failure};
use super::h2::StreamGuard;
use crate::body::{BodyError, RequestBody};
use crate::error::RequestError;
use crate::headers;
use crate::local::watchdog::Present;
use crate::local::{Counters, Local, Permit};
use crate::tls::stream::ToReplica;
use bytes::Bytes;
use crossbeam_utils::CachePadded;
use domain::{OnDisconnect, Timestamp};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use runtime::net::Socket;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a half-closed connection may keep its slot.
pub const ABORT_GRACE: Duration = Duration::from_secs(5);

/// The count of a request in flight, on its worker; falls when the client has its answer or has left.
#[derive(Debug)]
pub struct InFlight<S: Socket> {
    /// `None` for a request that does not count, and once the count has fallen.
    local: Option<Arc<Local<S>>>,
}

impl<S: Socket> InFlight<S> {
    /// Counts a request from now on. Tells the reporter when the worker's concurrency reaches the alarm.
    #[must_use]
    pub fn enter(local: Arc<Local<S>>, now: Timestamp) -> Self {
        use std::sync::atomic::Ordering::{Relaxed, Release};
        let counters = &local.counters;
        let in_flight = counters.meter.enter(now);
        // Afterwards: whoever is counted as arrived is in flight, or was, for everybody who reads in the opposite order.
        counters.requests.fetch_add(1, Release);
        if in_flight >= counters.alarm_at.load(Relaxed) {
            counters.alarm_at.store(u32::MAX, Relaxed);
            local.handle.raise();
        }
        Self { local: Some(local) }
    }

    /// Of a request that does not count.
    #[must_use]
    pub const fn none() -> Self {
        Self { local: None }
    }

    /// Whether it counts.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.local.is_some()
    }

    /// Falls now, for somebody who knows the time.
    pub fn exit(&mut self, now: Timestamp) {
        if let Some(local) = self.local.take() {
            local.counters.meter.exit(now);
        }
    }
}

impl<S: Socket> Drop for InFlight<S> {
    fn drop(&mut self) {
        if let Some(local) = &self.local {
            let now = local.base.clock.now();
            self.exit(now);
        }
    }
}

/// What an exchange runs on.
#[derive(Debug)]
enum Line<S: Socket> {
    /// HTTP/1.1, driven by whoever polls the exchange.
    Own(Box<Connection<ToReplica<S>>>),
    /// A connection that its own task drives: a stream of HTTP/2, or HTTP/1.1 that was asked to become a tunnel and
    /// answered as if it had not been.
    Driven { stream: Option<StreamGuard>, incoming: Option<Incoming> },
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum SendError {
    /// Not a byte of it was written: here it is again.
    NotSent(Box<Request<RequestBody>>),
    /// The peer says that it has not looked at it.
    Refused,
    /// Its client is the reason.
    Client(RequestError),
    /// The replica broke off.
    Broken {
        /// Some of an answer had come.
        answer_begun: bool,
        /// The request, where none had come and it is whole without having been kept.
        request: Option<Box<Request<RequestBody>>>,
    },
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed(Some(request)) => Self::NotSent(request),
            Failure::Closed(None) => Self::Broken { answer_begun: false, request: None },
            Failure::Unanswered(request) => Self::Broken { answer_begun: false, request },
            Failure::Unreadable(_) => Self::Broken { answer_begun: true, request: None },
            Failure::Upload(error) => Self::Client(error.of_client()),
        }
    }
}

/// One request on one connection.
#[derive(Debug)]
pub struct Exchange<S: Socket> {
    line: Option<Line<S>>,
    permit: Option<Permit<S>>,
    in_flight: InFlight<S>,
    on_disconnect: OnDisconnect,
    /// The head of the answer has come.
    answered: bool,
}

impl<S: Socket> Exchange<S> {
    const fn on(line: Line<S>, permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        Self { line: Some(line), permit: Some(permit), in_flight: InFlight::none(), on_disconnect, answered: false }
    }

    /// On an HTTP/1.1 connection of our own.
    pub const fn http1(
        connection: Box<Connection<ToReplica<S>>>,
        permit: Permit<S>,
        on_disconnect: OnDisconnect,
    ) -> Self {
        Self::on(Line::Own(connection), permit, on_disconnect)
    }

    /// On a stream of a shared HTTP/2 connection.
    pub const fn http2(stream: StreamGuard, permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        Self::on(Line::Driven { stream: Some(stream), incoming: None }, permit, on_disconnect)
    }

    /// On a connection that was asked to become a tunnel and answered with a body instead.
    pub const fn refused_tunnel(incoming: Incoming, permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        let mut exchange = Self::on(Line::Driven { stream: None, incoming: Some(incoming) }, permit, on_disconnect);
        exchange.answered = true;
        exchange
    }

    /// The server said how long it keeps an idle connection.
    pub fn set_idle_max(&mut self, idle_max: Duration) {
        if let Some(Line::Own(connection)) = &mut self.line {
            connection.idle_max = Some(idle_max);
        }
    }

    /// Where it goes.
    #[must_use]
    pub const fn permit(&self) -> Option<&Permit<S>> {
        self.permit.as_ref()
    }

    /// The replica has begun its answer.
    pub fn answered(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.answered();
        }
    }

    /// Whether the connection carried a request before this one.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        matches!(&self.line, Some(Line::Own(connection)) if connection.used)
    }

    /// Takes the request out of `outgoing`, sends it, waits for the head of the answer and puts it into `answer`: both are
    /// large, and a result would be moved by everybody who passes it on.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(
        &mut self,
        outgoing: &mut Option<Request<RequestBody>>,
        answer: &mut Option<Response<()>>,
    ) -> Result<(), SendError> {
        let Some(request) = outgoing.take() else { unreachable!("an exchange sends one request") };
        match &mut self.line {
            Some(Line::Own(connection)) => {
                connection.start(request);
                *answer = Some(poll_fn(|cx| connection.poll_answer(cx)).await?);
            }
            Some(Line::Driven { stream: Some(stream), incoming }) => {
                let (head, body) = Box::pin(stream.send(request)).await?.into_parts();
                *answer = Some(Response::from_parts(head, ()));
                *incoming = Some(body);
            }
            Some(Line::Driven { stream: None, .. }) | None => {
                unreachable!("an exchange sends on a line that has not ended")
            }
        }
        self.answered = true;
        Ok(())
    }

    /// From now on the in-flight count falls with this exchange.
    pub fn carry(&mut self, in_flight: InFlight<S>) {
        self.in_flight = in_flight;
    }

    /// The next part of the answer's body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.line {
            Some(Line::Own(connection)) => connection.poll_body(cx),
            Some(Line::Driven { incoming: Some(incoming), .. }) => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map(strip).map_err(BodyError::Connection)))
            }
            Some(Line::Driven { incoming: None, .. }) | None => Poll::Ready(None),
        }
    }

    /// The next part of the answer's body if it is here already. No waker is left: whoever sends the answer asks again,
    /// with its own.
    pub fn body_at_hand(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        match &mut self.line {
            Some(Line::Own(connection)) => connection.body_at_hand(),
            Some(Line::Driven { .. }) | None => None,
        }
    }

    /// Whether the answer's body is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.line {
            Some(Line::Own(connection)) => connection.is_answered(),
            Some(Line::Driven { incoming: Some(incoming), .. }) => incoming.is_end_stream(),
            Some(Line::Driven { incoming: None, .. }) | None => true,
        }
    }

    /// What is known of the rest of the answer's body.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match &self.line {
            Some(Line::Own(connection)) => connection.size_hint(),
            Some(Line::Driven { incoming: Some(incoming), .. }) => incoming.size_hint(),
            Some(Line::Driven { incoming: None, .. }) | None => SizeHint::with_exact(0),
        }
    }

    /// The answer's body has ended: the connection goes back, slot and count fall.
    pub fn complete(mut self) {
        let Some(permit) = self.permit.take() else { return };
        let now = permit.base().clock.now();
        self.in_flight.exit(now);
        if let Some(Line::Own(connection)) = self.line.take()
            && !permit.seat.endpoint.leaving.load(std::sync::atomic::Ordering::Relaxed)
        {
            permit.seat.pool.put(connection, now);
        }
    }

    /// The exchange failed before an answer: permit and count come back for another try; the connection is closed.
    #[must_use]
    pub fn failed(mut self) -> Option<Permit<S>> {
        self.line = None;
        self.permit.take()
    }

    /// The client has left. Its load falls now; the slot when the replica is done, if concurrency is limited.
    pub fn abandon(mut self) {
        self.in_flight = InFlight::none();
        let Some(permit) = &self.permit else { return };
        if !permit.is_limited() {
            self.line = None;
            return;
        }
        let (tasks, present) = (permit.base().tasks.clone(), Present::new(Arc::clone(&permit.seat.counters), false));
        let at_most = match self.on_disconnect {
            OnDisconnect::Cancel => ABORT_GRACE,
            // An upload that was cut off has no answer to be read to its end, and the replica works on it all the same.
            OnDisconnect::Finish => Duration::MAX,
        };
        if self.on_disconnect == OnDisconnect::Finish && self.answered {
            tasks.spawn("finish an abandoned answer", async move {
                let _present = present;
                loop {
                    match poll_fn(|cx| self.poll_body(cx)).await {
                        Some(Ok(_)) => {}
                        // Our side may be the one that broke off: the replica has to close before the slot falls.
                        Some(Err(_)) => return drop(self),
                        None => return self.complete(),
                    }
                }
            });
            return;
        }
        let (line, permit) = (self.line.take(), self.permit.take());
        let Some(Line::Own(connection)) = line else { return };
        let mut socket = connection.into_socket();
        tasks.spawn("close an abandoned exchange", async move {
            let closed = async {
                // The replica's close says that it is done; what it still sends is dropped.
                let mut sink = [0_u8; 1024];
                if socket.shutdown().await.is_ok() {
                    while matches!(socket.read(&mut sink).await, Ok(1..)) {}
                }
            };
            drop(tokio::time::timeout(at_most, closed).await);
            drop((permit, present));
        });
    }
}

impl<S: Socket> Drop for Exchange<S> {
    fn drop(&mut self) {
        if self.line.is_some() && self.permit.as_ref().is_some_and(Permit::is_limited) {
            let rest = Self {
                line: self.line.take(),
                permit: self.permit.take(),
                in_flight: std::mem::replace(&mut self.in_flight, InFlight::none()),
                on_disconnect: self.on_disconnect,
                // Nobody has begun to read it: it is given up.
                answered: false,
            };
            rest.abandon();
        }
    }
}

fn strip(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::strip_trailers(trailers);
    }
    frame
}

/// A future that goes on in a task of its own when it is dropped before it is ready.
#[derive(Debug)]
pub struct Detached<F: Future<Output = ()> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    tasks: runtime::Tasks,
    counters: Arc<CachePadded<Counters>>,
}

impl<F: Future<Output = ()> + Send + 'static> Detached<F> {
    /// `work` will be finished, whoever waits for it; `counters` are those of the exchange that it has.
    pub fn new(work: F, tasks: runtime::Tasks, counters: Arc<CachePadded<Counters>>) -> Self {
        Self { work: Some(Box::pin(work)), tasks, counters }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for Detached<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else { return Poll::Ready(()) };
        ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(())
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let present = Present::new(Arc::clone(&self.counters), false);
            self.tasks.spawn("finish an abandoned exchange", async move {
                work.await;
                drop(present);
            });
        }
    }
}
