//! A client connection of HTTP/1.1: one request after the other, each answered in the task of the connection.
//!
//! Invariants: a request that is not read to its end is the last; an answer that breaks off, or that its client does not
//! take for too long, ends the connection and never looks whole; a client that hangs up takes its request with it.

use super::answer;
use super::head::Follows;
use super::wire::Wire;
use crate::body::{ClientBody, Incoming, ResponseBody};
use crate::bounds::Limit;
use crate::error::RequestError;
use crate::headers::Tongue;
use crate::http1::framing::Encoder;
use crate::http1::outbox::Outbox;
use crate::request::Peer;
use crate::stack::Stack;
use crate::steps::respond;
use crate::upstream::tunnel::{Client, Upgrade};
use crate::worker::Worker;
use http::StatusCode;
use http_body::Body;
use runtime::net::{Connect, Socket};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Closes the connection's socket, whoever may still hold its body.
struct Closed<'a, S: Socket>(&'a Wire<S>);

impl<S: Socket> Drop for Closed<'_, S> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<C: Connect, S: Socket>(
    wire: Arc<Wire<S>>,
    worker: &Arc<Worker<C>>,
    stack: &Stack,
    peer: &Arc<Peer>,
) {
    let _closed = Closed(&wire);
    let watch = &*peer.watch;
    let mut outbox = Outbox::default();
    loop {
        outbox.rest();
        let (mut parts, mut follows) = match poll_fn(|cx| wire.poll_next(cx, watch)).await {
            Some(Ok(request)) => request,
            Some(Err(error)) => {
                return Box::pin(refuse::<C, S>(&wire, worker, peer, outbox, &error)).await;
            }
            None => return Box::pin(wire.close(watch, true)).await,
        };
        let upgrade = follows.upgrades.then(|| Upgrade::offer(&mut parts.extensions));
        let body = if follows.body.is_done() {
            Incoming::Nothing
        } else {
            Incoming::Http1(ClientBody::new(Arc::clone(&wire) as _, wire.serial()))
        };
        let answered = {
            let mut answering = pin!(answer(worker, stack, peer, parts, body));
            poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(Ok::<_, Infallible>(response)) => Poll::Ready(Some(response)),
                Poll::Pending if wire.has_hung_up(cx, watch) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let Some(response) = answered else { return };
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let mut sending = begin(&wire, peer, &mut follows, &mut outbox, response);
        if !poll_fn(|cx| sending.poll(cx, &wire, worker, peer, &mut outbox)).await {
            if sending.encoder == Encoder::UntilClose {
                wire.abort();
            }
            return;
        }
        // The replica's connection was given back when the answer's last part was read; the client has it now.
        drop(sending);
        let is_read = wire.is_read(watch.is_unread());
        if is_switch {
            if is_read && let (Some(upgrade), Some((ahead, socket))) = (upgrade, wire.take()) {
                let (read, write) = tokio::io::split(socket);
                let read = Box::new(std::io::Cursor::new(ahead).chain(read));
                upgrade.fulfil(Client { read, write: Box::new(write) });
            }
            return;
        }
        if !follows.keeps_alive || !is_read {
            return Box::pin(wire.close(watch, is_read)).await;
        }
    }
}

/// Says what is wrong with a head. Nothing behind it is a request.
async fn refuse<C: Connect, S: Socket>(
    wire: &Wire<S>,
    worker: &Worker<C>,
    peer: &Peer,
    mut outbox: Outbox,
    error: &RequestError,
) {
    if let Some(limit) = error.limit() {
        worker.base.bounds.refuse(limit);
    }
    let response = respond::refuse::<C>(error, Tongue::Text);
    let mut sending = begin(wire, peer, &mut Follows::nothing(), &mut outbox, response);
    if poll_fn(|cx| sending.poll(cx, wire, worker, peer, &mut outbox)).await {
        wire.close(&peer.watch, false).await;
    }
}

/// Writes the head of an answer into the outbox; whether another request may follow is in `follows` then.
fn begin<S: Socket, R: Socket>(
    wire: &Wire<S>,
    peer: &Peer,
    follows: &mut Follows,
    outbox: &mut Outbox,
    response: http::Response<ResponseBody<R>>,
) -> Sending<R> {
    let (head, body) = response.into_parts();
    // Who is told so sends nothing that would be lost. An answer whose length is known may well end before the rest of its
    // request is here, and is the last one then.
    let is_unread = peer.watch.is_unread();
    let is_read = || wire.is_read(is_unread) || !is_unread && body.size_hint().exact().is_none();
    follows.keeps_alive &= !wire.is_closing() && (follows.body.is_done() || is_read());
    let encoder = follows.write_answer(outbox.begin(), &head, body.size_hint().exact());
    Sending { body, encoder, takes_trailers: follows.takes_trailers, filled: Filled::Whole }
}

/// An answer on its way.
struct Sending<S: Socket> {
    body: ResponseBody<S>,
    encoder: Encoder,
    takes_trailers: bool,
    filled: Filled,
}

impl<R: Socket> Sending<R> {
    /// Sends it as fast as the client takes it. Ready with whether it is out whole.
    fn poll<C: Connect, S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        wire: &Wire<S>,
        worker: &Worker<C>,
        peer: &Peer,
        outbox: &mut Outbox,
    ) -> Poll<bool> {
        loop {
            if self.filled != Filled::Broken {
                self.filled = self.fill(cx, outbox);
            }
            match self.poll_out(wire, cx, outbox, peer.settings.keep_alive) {
                Poll::Ready(Ok(())) => match self.filled {
                    Filled::Whole if self.encoder.is_done() => return Poll::Ready(true),
                    Filled::Whole => {}
                    Filled::Waits if wire.has_hung_up(cx, &peer.watch) => return Poll::Ready(false),
                    Filled::Waits => return Poll::Pending,
                    // As much as there was of it is out. Nothing is made up to end it.
                    Filled::Broken => return Poll::Ready(false),
                },
                Poll::Ready(Err(limit)) => {
                    if let Some(limit) = limit {
                        worker.base.bounds.refuse(limit);
                    }
                    return Poll::Ready(false);
                }
                Poll::Pending if wire.has_hung_up(cx, &peer.watch) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Filled {
        while !self.encoder.is_done() && outbox.has_room() {
            let put = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Filled::Waits,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(content) => outbox.put(content, &mut self.encoder, self.body.is_end_stream()),
                    Err(frame) => {
                        let trailers = frame.trailers_ref().filter(|_| self.takes_trailers);
                        outbox.end(trailers, &mut self.encoder)
                    }
                },
                Poll::Ready(None) => outbox.end(None, &mut self.encoder),
                Poll::Ready(Some(Err(_))) => return Filled::Broken,
            };
            if put.is_err() {
                return Filled::Broken;
            }
        }
        Filled::Whole
    }

    /// Writes what waits. A client that takes nothing of it is waited for as long as its answer's clocks say, else for
    /// `patience`; the error is the limit it has reached then.
    fn poll_out<S: Socket>(
        &mut self,
        wire: &Wire<S>,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
        patience: Duration,
    ) -> Poll<Result<(), Option<Limit>>> {
        loop {
            let before = outbox.left();
            let written = wire.poll_write(cx, outbox);
            if outbox.left() < before {
                self.body.taken();
            }
            if let Poll::Ready(written) = written {
                return Poll::Ready(written.map_err(|_| None));
            }
            let limit = ready!(self.body.poll_untaken(cx, patience));
            // The reactor speaks up only when a third of the socket's buffer is free. Who reads slowly is not silent.
            if limit != Some(Limit::SlowBody) || wire.write_now(outbox).is_err() {
                self.body.give_up();
                return Poll::Ready(Err(limit));
            }
            self.body.taken();
        }
    }
}

/// How far an answer was put into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// As far as there is room.
    Whole,
    /// As far as its replica has said it.
    Waits,
    /// As far as it will go.
    Broken,
}
