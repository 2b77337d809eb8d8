//! The way of one request: faults, identity, the verb, the log, the answer.
//!
//! Invariant: faults strike before and after the verb, never inside of it.

use super::{BODY_BYTES_MAX, Body, Broken, Inner, Server};
use crate::dispatch::{self, Answer};
use crate::faults::{Asked, Logged, Reply, When};
use crate::refusal::Refusal;
use crate::request::{Call, Query, Target};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What the log and faults see of a call.
fn asked(call: &Call, user: &str) -> Asked {
    let mut asked = Asked { user: user.to_owned(), ..Asked::default() };
    match &call.target {
        Target::Path(path) => asked.resource.clone_from(path),
        Target::Resource(place) => {
            asked.verb = call.verb(place);
            asked.group.clone_from(&place.group);
            asked.resource = match &place.subresource {
                Some(subresource) => format!("{}/{subresource}", place.resource),
                None => place.resource.clone(),
            };
            asked.namespace.clone_from(&place.namespace);
            asked.name = place.name.clone().unwrap_or_default();
        }
    }
    asked
}

fn canned(reply: Reply) -> Refusal {
    match reply {
        Reply::Conflict => {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            Refusal::new(StatusCode::CONFLICT, "Conflict", format!("Operation cannot be fulfilled: {why}"))
        }
        Reply::Gone => Refusal::expired("too old resource version"),
        Reply::TooMany { retry_after_seconds } => {
            Refusal::too_many("too many requests, please try again later", retry_after_seconds)
        }
        Reply::Internal => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "Internal error occurred: as the test asked",
        ),
        Reply::Unavailable => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        Reply::Timeout => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        ),
    }
}

impl Inner {
    async fn handle<B>(self: Arc<Self>, request: Request<B>) -> Result<Response<Body>, Broken>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        self.reachable().await?;
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                let message = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
                let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message);
                return Ok(refused(&refusal));
            }
        };
        let header =
            |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let call = Call {
            method: parts.method,
            target: Target::parse(parts.uri.path()),
            query: Query::parse(parts.uri.query()),
            accept: header(header::ACCEPT),
            content_type: header(header::CONTENT_TYPE),
            user_agent: header(header::USER_AGENT),
            body,
        };
        let user = match self.user_of(&parts.headers) {
            Ok(user) => user,
            Err(refusal) => return Ok(self.logged(&call, &asked(&call, ""), Err(refusal))),
        };
        let asked = asked(&call, &user.name);
        if let Some(delay) = self.faults.delay_of(&asked) {
            tokio::time::sleep(delay).await;
            self.reachable().await?;
        }
        let reply = self.faults.reply_to(&asked);
        let answer = match reply {
            Some((reply, When::Before)) => Err(canned(reply)),
            Some((reply, When::After)) => {
                drop(dispatch::answer(&self, &call, &user));
                Err(canned(reply))
            }
            None => dispatch::answer(&self, &call, &user),
        };
        Ok(self.logged(&call, &asked, answer))
    }

    /// Waits while the server is frozen; fails while it refuses connections.
    async fn reachable(&self) -> Result<(), Broken> {
        let mut pulse = self.pulse.subscribe();
        loop {
            pulse.mark_unchanged();
            if self.faults.is_refusing() {
                return Err(Broken);
            }
            if !self.faults.is_frozen() {
                return Ok(());
            }
            pulse.changed().await.map_err(|_| Broken)?;
        }
    }

    fn logged(self: &Arc<Self>, call: &Call, asked: &Asked, answer: Result<Answer, Refusal>) -> Response<Body> {
        let response = match answer {
            Ok(Answer::Json(status, value)) => json(status, &value),
            Ok(Answer::Text(status, text)) => plain(status, text),
            Ok(Answer::Watch(watch)) => {
                let (plan, form) = *watch;
                let number = self.faults.watch_began(asked);
                let events = crate::watch::stream(self, plan, form, number);
                let body = StreamBody::new(events.map_ok(http_body::Frame::data)).boxed_unsync();
                let mut response = Response::new(body);
                let media = http::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, media);
                response
            }
            Err(refusal) => refused(&refusal),
        };
        let body = String::from_utf8_lossy(&call.body).into_owned();
        let status = response.status();
        tracing::debug!(user = asked.user, verb = ?asked.verb, resource = asked.resource, name = asked.name, %status);
        self.faults.record(Logged { asked: asked.clone(), status, manager: call.manager(), body });
        response
    }
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    with_body(status, "application/json", value.to_string())
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    with_body(status, "text/plain; charset=utf-8", text)
}

fn with_body(status: StatusCode, media: &'static str, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = json(refusal.code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

impl<B> tower::Service<Request<B>> for Server
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(token) = &self.token
            && !request.headers().contains_key(header::AUTHORIZATION)
            && let Ok(value) = format!("Bearer {token}").parse()
        {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Box::pin(self.inner.clone().handle(request))
    }
}
