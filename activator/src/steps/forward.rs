//! One admitted request to its replica, and the answer back.
//!
//! Invariant: what passes is changed as `headers` says and in no other way; the answer's body carries permit and count, so
//! that both fall when it ends.

use super::trip::Trip;
use super::{Response, Step};
use crate::body::{RequestBody, ResponseBody, Stream};
use crate::error::RequestError;
use crate::headers::{self, Next};
use crate::request::{Admitted, Counted, Request, Routed, Until, Wait};
use crate::upstream::exchange::Exchange;
use crate::upstream::tunnel;
use crate::worker::Worker;
use domain::{Limits, Protocol};
use http::header::{HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use hyper::body::{Body, Incoming};
use runtime::net::Connect;
use std::sync::Arc;

const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-kpa-queue-wait");
const COLD: HeaderName = HeaderName::from_static("x-kpa-cold");

/// Sends the request and gives the answer.
#[derive(Debug)]
pub struct Forward;

impl<C: Connect> Step<C, Admitted<C::Stream>> for Forward {
    async fn run(&self, worker: &Arc<Worker<C>>, admitted: Admitted<C::Stream>) -> Result<Response<C>, RequestError> {
        let Admitted { counted: Counted { routed, in_flight }, permit, wait } = admitted;
        if routed.request.asked.wants_upgrade(&routed.request.head) {
            return Box::pin(tunnel::open(worker, routed, in_flight, permit, wait)).await;
        }
        let Routed { request, local, limits, arrived, .. } = routed;
        let Request { mut head, asked, body, open, until } = *request;
        let next = next_protocol(*limits.protocol, head.version);
        let translated = head.version == Version::HTTP_2 && next == Next::Http1;
        headers::forward_request(&mut head, asked, open.peer(), next, wait.queued);
        let body = RequestBody::from_client(body, *limits.idle_timeout, None);
        if translated && !body.is_none() && body.size_hint().exact().is_none() {
            // hyper sends no body of unknown length with GET, HEAD or CONNECT unless it is told to.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut trip = Trip::new(worker, &local, &limits, &open.peer().watch, next, arrived, wait);
        let mut outgoing = Some(http::Request::from_parts(head, body));
        let response = trip.until_answered(&mut outgoing, permit).await?;

        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(RequestError::Broken);
        }
        let idle_max = headers::forward_response(&mut head);
        head.version = Version::HTTP_11;
        tell_wait(&mut head.headers, trip.wait());
        if trip.wait().cold {
            worker.wakes.first_byte(&local.handle.id, worker.base.clock.now());
        }
        let mut exchange = trip.into_exchange().ok_or(RequestError::Internal)?;
        if let Some(idle_max) = idle_max {
            exchange.set_idle_max(idle_max);
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
    until: Option<Until>,
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
