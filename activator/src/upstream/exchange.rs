//! One request on one connection: sent, answered, and the connection given back or given up.
//!
//! Invariant: whatever happens to the future that drives it, the slot at the replica falls exactly once, and not before
//! the replica is done with it where the revision asks for that (`kpa.dev/on-disconnect`).

use super::pool::Connection;
use crate::body::RequestBody;
use crate::local::{Local, Permit};
use domain::{OnDisconnect, Timestamp};
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use runtime::net::Socket;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
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
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &local.counters;
        counters.requests.fetch_add(1, Relaxed);
        let in_flight = counters.meter.enter(now);
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

/// The connection an exchange runs on.
#[derive(Debug)]
enum Line<S: Socket> {
    /// HTTP/1.1, driven by whoever polls the exchange.
    Own(Box<Connection<S>>),
    /// HTTP/2: a stream of a connection that its own task drives.
    Shared(super::h2::StreamGuard),
    /// HTTP/1.1 on a connection that its own task drives, because it was asked to become a tunnel and did not.
    Refused,
}

/// One request on one connection.
#[derive(Debug)]
pub struct Exchange<S: Socket> {
    line: Option<Line<S>>,
    permit: Option<Permit<S>>,
    in_flight: InFlight<S>,
    on_disconnect: OnDisconnect,
}

impl<S: Socket> Exchange<S> {
    /// On an HTTP/1.1 connection of our own.
    pub const fn http1(connection: Box<Connection<S>>, permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        Self { line: Some(Line::Own(connection)), permit: Some(permit), in_flight: InFlight::none(), on_disconnect }
    }

    /// On a stream of a shared HTTP/2 connection.
    pub const fn http2(stream: super::h2::StreamGuard, permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        Self { line: Some(Line::Shared(stream)), permit: Some(permit), in_flight: InFlight::none(), on_disconnect }
    }

    /// On a connection that was asked to become a tunnel and answered as if it had not been.
    pub const fn refused_tunnel(permit: Permit<S>, on_disconnect: OnDisconnect) -> Self {
        Self { line: Some(Line::Refused), permit: Some(permit), in_flight: InFlight::none(), on_disconnect }
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

    /// Whether the connection carried a request before this one.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        matches!(&self.line, Some(Line::Own(connection)) if connection.used)
    }

    /// Takes the request out of `outgoing`, sends it, waits for the response head and puts the response into `answer`:
    /// both are large, and a result would be moved by everybody who passes it on.
    ///
    /// # Errors
    /// What hyper says, with the request where none of it was sent.
    pub async fn send(
        &mut self,
        outgoing: &mut Option<Request<RequestBody>>,
        answer: &mut Option<Response<Incoming>>,
    ) -> Result<(), Box<TrySendError<Request<RequestBody>>>> {
        let Some(request) = outgoing.take() else { unreachable!("an exchange sends one request") };
        match &mut self.line {
            Some(Line::Own(connection)) => {
                let mut response = pin!(connection.sender.try_send_request(request));
                poll_fn(|cx| {
                    connection.drive(cx);
                    // Only the drive above can complete it, so no waker is left with it: waking ourselves would cost a
                    // poll of the whole connection.
                    match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(Ok(response)) => {
                            *answer = Some(response);
                            Poll::Ready(Ok(()))
                        }
                        Poll::Ready(Err(error)) => Poll::Ready(Err(Box::new(error))),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            }
            Some(Line::Shared(stream)) => {
                *answer = Some(Box::pin(stream.send(request)).await.map_err(Box::new)?);
                Ok(())
            }
            Some(Line::Refused) | None => unreachable!("an exchange sends on a line that has not ended"),
        }
    }

    /// From now on the in-flight count falls with this exchange.
    pub fn carry(&mut self, in_flight: InFlight<S>) {
        self.in_flight = in_flight;
    }

    /// The next part of the response body.
    pub fn poll_body(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<bytes::Bytes>>>> {
        let Some(Line::Own(connection)) = &mut self.line else { return Pin::new(incoming).poll_frame(cx) };
        let mut quiet = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(&mut quiet) {
            return Poll::Ready(frame);
        }
        connection.drive(cx);
        Pin::new(incoming).poll_frame(&mut quiet)
    }

    /// The response body has ended: the connection goes back, slot and count fall.
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
    pub fn abandon(mut self, incoming: Option<Incoming>) {
        self.in_flight = InFlight::none();
        let (Some(line), Some(permit)) = (self.line.take(), self.permit.take()) else { return };
        if !permit.is_limited() {
            return;
        }
        let tasks = permit.base().tasks.clone();
        match (self.on_disconnect, incoming) {
            (OnDisconnect::Finish, Some(mut incoming)) => {
                let mut rest = Self {
                    line: Some(line),
                    permit: Some(permit),
                    in_flight: InFlight::none(),
                    on_disconnect: self.on_disconnect,
                };
                tasks.spawn("finish an abandoned answer", async move {
                    loop {
                        match poll_fn(|cx| rest.poll_body(&mut incoming, cx)).await {
                            Some(Ok(_)) => {}
                            Some(Err(_)) => return drop(rest.failed()),
                            None => return rest.complete(),
                        }
                    }
                });
            }
            (OnDisconnect::Finish | OnDisconnect::Cancel, incoming) => {
                drop(incoming);
                let Line::Own(connection) = line else { return };
                let Some(mut socket) = connection.into_socket() else { return };
                tasks.spawn("close an abandoned exchange", async move {
                    let closed = async {
                        // The replica's close says that it is done; what it still sends is dropped.
                        let mut sink = [0_u8; 1024];
                        if socket.shutdown().await.is_ok() {
                            while matches!(socket.read(&mut sink).await, Ok(1..)) {}
                        }
                    };
                    drop(tokio::time::timeout(ABORT_GRACE, closed).await);
                    drop(permit);
                });
            }
        }
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
            };
            rest.abandon(None);
        }
    }
}

/// A future that goes on in a task of its own when it is dropped before it is ready.
#[derive(Debug)]
pub struct Detached<F: Future<Output = ()> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    tasks: runtime::Tasks,
}

impl<F: Future<Output = ()> + Send + 'static> Detached<F> {
    /// `work` will be finished, whoever waits for it.
    pub fn new(work: F, tasks: runtime::Tasks) -> Self {
        Self { work: Some(Box::pin(work)), tasks }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for Detached<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else { return Poll::Ready(()) };
        std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(())
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.tasks.spawn("finish an abandoned exchange", work);
        }
    }
}
