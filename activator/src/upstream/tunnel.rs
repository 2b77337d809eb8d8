//! Upgraded connections: WebSocket and whatever else asks for 101 (RFC 9110 section 7.8).
//!
//! Invariant: permit and count move into the tunnel's task and fall when it closes; the task is among the worker's, so
//! draining waits for it. It closes when the replica has said all it will say, whatever the client does then: no client
//! keeps a slot at a replica that is done with it.

use super::exchange::{Exchange, InFlight};
use crate::body::{RequestBody, ResponseBody};
use crate::error::RequestError;
use crate::headers::{self, Next};
use crate::local::Permit;
use crate::local::watchdog::Present;
use crate::request::{Request, Routed, Wait};
use crate::steps::Response;
use crate::steps::forward::tell_wait;
use crate::steps::trip::{Tries, Trip, announce};
use crate::worker::Worker;
use activator_core::Ask;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Extensions, StatusCode, Version};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use runtime::net::{Connect, Socket};
use runtime::watched::{LINGER, LINGER_BYTES_MAX};
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// A client's connection that speaks another protocol now.
pub struct Client {
    /// What it sends.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is sent.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A client's connection that will become a tunnel if it is answered with 101.
#[derive(Debug)]
pub struct Upgrade(oneshot::Sender<Client>);

/// The same, as the request carries it.
#[derive(Debug, Clone)]
struct Offer(Arc<Mutex<Option<oneshot::Receiver<Client>>>>);

impl Upgrade {
    /// Offered with the request that has these `extensions`.
    #[must_use]
    pub fn offer(extensions: &mut Extensions) -> Self {
        let (sender, receiver) = oneshot::channel();
        extensions.insert(Offer(Arc::new(Mutex::new(Some(receiver)))));
        Self(sender)
    }

    /// The 101 is out.
    pub fn fulfil(self, client: Client) {
        // Nobody waits where the answer was not the tunnel's.
        drop(self.0.send(client));
    }
}

/// Sends an upgrade request on a connection of its own; on 101 the two connections become one tunnel.
///
/// # Errors
/// The replica cannot be reached, or agrees to another protocol than was asked for.
pub async fn open<C: Connect>(
    worker: &Arc<Worker<C>>,
    routed: Routed<C::Stream>,
    in_flight: InFlight<C::Stream>,
    mut permit: Permit<C::Stream>,
    wait: Wait,
) -> Result<Response<C>, RequestError> {
    let Routed { request, limits, local, session, arrived, .. } = routed;
    let Request { mut head, asked: fields, body, open, until } = *request;
    let client_side = head.extensions.remove::<Offer>().and_then(|offer| offer.0.lock().take());
    let client_side = client_side.ok_or(RequestError::Internal)?;
    let asked = head.headers.get(UPGRADE).cloned().ok_or(RequestError::Internal)?;
    let claimed = fields.is_claimed();
    headers::forward_request(&mut head, fields, open.peer(), Next::Http1, wait.queued);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, asked.clone());
    let mut body = RequestBody::from_client(body, *limits.idle_timeout);

    let ask = (arrived, Ask { session, since: arrived, ..Ask::default() });
    let mut trip = Trip::new(worker, &local, &limits, &open.peer().watch, Next::Http1, ask, wait).of_neighbour(claimed);
    let mut tries = Tries::default();
    let socket = loop {
        let endpoint = Arc::clone(&permit.seat.endpoint);
        if let Some(socket) = trip.connect(&permit).await {
            break socket;
        }
        if permit.lent().is_none() {
            worker.suspect(&local.handle, &endpoint);
        }
        permit = trip.another(&mut tries, permit, Some(&mut body)).await?;
    };
    let wait = trip.wait();
    announce(&mut head.headers, permit.lent());
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|_| RequestError::Unreachable)?;
    worker.base.tasks.spawn("upgraded connection to a replica", async move {
        drop(connection.with_upgrades().await);
    });
    let fault = body.fault();
    let of_client = |_| fault.and_then(|fault| fault.of_client()).unwrap_or(RequestError::Broken);
    let mut response = sender.send_request(http::Request::from_parts(head, body)).await.map_err(of_client)?;

    permit.answered();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, incoming) = response.into_parts();
        headers::forward_response(&mut head);
        head.version = Version::HTTP_11;
        let mut exchange = Exchange::refused_tunnel(incoming, permit, *limits.on_disconnect);
        exchange.carry(in_flight);
        let body = ResponseBody::upstream(exchange, *limits.idle_timeout, until)?;
        return Ok(http::Response::from_parts(head, body.with_open(open)));
    }
    let agreed = response.headers().get(UPGRADE).cloned();
    if agreed.as_ref().is_none_or(|agreed| !agreed.as_bytes().eq_ignore_ascii_case(asked.as_bytes())) {
        return Err(RequestError::Broken);
    }
    let replica_side = hyper::upgrade::on(&mut response);
    let present = Present::new(Arc::clone(&local.counters), in_flight.counts());
    worker.base.tasks.spawn("tunnel", join((client_side, replica_side), permit, in_flight, open, present));

    let (mut head, _) = response.into_parts();
    headers::forward_response(&mut head);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(agreed) = agreed {
        head.headers.insert(UPGRADE, agreed);
    }
    head.version = Version::HTTP_11;
    tell_wait(&mut head.headers, wait);
    Ok(http::Response::from_parts(head, ResponseBody::empty()))
}

async fn join<S: Socket>(
    (client, replica): (oneshot::Receiver<Client>, OnUpgrade),
    permit: Permit<S>,
    in_flight: InFlight<S>,
    open: crate::body::Open,
    present: Present,
) {
    if let (Ok(Client { read: mut from_client, write: to_client }), Ok(replica)) = (client.await, replica.await) {
        pass_on(&mut from_client, to_client, TokioIo::new(replica)).await;
        drop((permit, in_flight, present));
        // With something unread, a close would take back what the client was sent last.
        let mut rest = from_client.take(LINGER_BYTES_MAX as u64);
        drop(tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await);
    }
    drop(open);
}

/// A client that has said all may still listen; when the replica has, it is over.
async fn pass_on(
    mut from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    replica: impl AsyncRead + AsyncWrite,
) {
    let (mut from_replica, mut to_replica) = tokio::io::split(replica);
    let asks = async {
        tokio::io::copy(&mut from_client, &mut to_replica).await?;
        to_replica.shutdown().await
    };
    let answers = async {
        tokio::io::copy(&mut from_replica, &mut to_client).await?;
        to_client.shutdown().await
    };
    let (mut asks, mut answers) = (pin!(asks), pin!(answers));
    // Either side breaking off is how tunnels end.
    tokio::select! {
        _ = &mut answers => {}
        asked = &mut asks => {
            if asked.is_ok() {
                drop(answers.await);
            }
        }
    }
}
