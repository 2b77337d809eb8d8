//! One admitted request to its replica, and the answer back.
//!
//! Invariant: what passes is changed as `headers` says and in no other way; the answer's body carries permit and count, so
//! that both fall when it ends.

use super::trip::Trip;
use super::{Response, Step};
use crate::body::{Open, RequestBody, ResponseBody};
use crate::error::RequestError;
use crate::headers::{self, Next, Tongue};
use crate::request::{Admitted, Counted, Door, Request, Routed, Until, Wait};
use crate::upstream::tunnel;
use crate::worker::Worker;
use activator_core::Ask;
use domain::Protocol;
use http::header::{HeaderName, HeaderValue};
use http::{StatusCode, Version};
use runtime::net::Connect;
use std::sync::Arc;
use std::time::Duration;

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
        let Routed { request, local, limits, session, arrived, .. } = routed;
        let next = next_protocol(*limits.protocol, &request);
        let claimed = request.asked.is_claimed();
        let (outgoing, open, until) = translate(*request, next, *limits.idle_timeout, wait.queued);
        let asked = (arrived, Ask { session, since: arrived, ..Ask::default() });
        let mut trip = Trip::new(worker, &local, &limits, &open.peer().watch, next, asked, wait).of_neighbour(claimed);
        let mut outgoing = Some(outgoing);
        trip.until_answered(&mut outgoing, permit).await?;

        let wait = trip.wait();
        let (answer, mut exchange) = trip.into_answer().ok_or(RequestError::Internal)?;
        let (mut head, ()) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(RequestError::Broken);
        }
        let idle_max = headers::forward_response(&mut head);
        head.version = Version::HTTP_11;
        tell_wait(&mut head.headers, wait);
        if wait.cold {
            worker.wakes.first_byte(&local.handle.id, worker.base.clock.now());
        }
        if let Some(idle_max) = idle_max {
            exchange.set_idle_max(idle_max);
        }
        exchange.carry(in_flight);
        let body = ResponseBody::upstream(exchange, *limits.idle_timeout, until)?;
        Ok(http::Response::from_parts(head, body.with_open(open)))
    }
}

/// The request as its replica gets it. A function of its own, because what an async one has borrowed takes up room in its
/// future to the end.
fn translate(
    request: Request,
    next: Next,
    silence: Option<Duration>,
    waited: Duration,
) -> (http::Request<RequestBody>, Open, Option<Until>) {
    let Request { mut head, asked, body, open, until } = request;
    headers::forward_request(&mut head, asked, open.peer(), next, waited);
    let body = RequestBody::from_client(body, silence);
    (http::Request::from_parts(head, body), open, until)
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

/// Who speaks HTTP/2 in clear knew beforehand that it is understood. Behind TLS it was agreed on with us, which says nothing of
/// the replica: every browser does. Only gRPC has no other way.
fn next_protocol(protocol: Protocol, request: &Request) -> Next {
    let knew = request.open.peer().door != Door::Secure || request.asked.tongue == Tongue::Grpc;
    match protocol {
        Protocol::Http1 => Next::Http1,
        Protocol::H2c => Next::Http2,
        Protocol::Auto if request.head.version == Version::HTTP_2 && knew => Next::Http2,
        Protocol::Auto => Next::Http1,
    }
}
