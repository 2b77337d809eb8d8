//! `/v1/chat/completions`: whole, or token by token as server-sent events.
//!
//! Invariant: a stream that was not cut ends with `data: [DONE]`, and its slot is taken until then.

use super::api::{Body, json_answer, read_json, refuse, response};
use super::inference::{Running, Service};
use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::Instant;

/// The answer to a chat request.
pub(super) async fn complete(service: &Arc<Service>, body: Incoming) -> Response<Body> {
    let request = match read_json(body).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let running = match service.admit().await {
        Ok(running) => running,
        Err(refusal) => return refuse(refusal),
    };
    service.work().await;
    let asked = request.get("max_tokens").and_then(Value::as_u64).and_then(|tokens| u32::try_from(tokens).ok());
    let tokens = asked.unwrap_or(u32::MAX).min(service.settings.tokens);
    let name = request.get("model").and_then(Value::as_str).unwrap_or(&service.settings.model_name).to_owned();
    if request.get("stream").and_then(Value::as_bool).unwrap_or(false) {
        return streamed(Tokens { service: Arc::clone(service), name, tokens, sent: 0, from: Instant::now(), running });
    }
    tokio::time::sleep(service.settings.token_interval.saturating_mul(tokens)).await;
    let content: String = (0..tokens).map(word).collect();
    json_answer(
        StatusCode::OK,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": name,
            "choices": [{
                "index": 0, "message": { "role": "assistant", "content": content }, "finish_reason": "stop"
            }],
            "usage": { "completion_tokens": tokens }
        }),
    )
}

/// The stream's state between two events.
struct Tokens {
    service: Arc<Service>,
    name: String,
    tokens: u32,
    sent: u32,
    from: Instant,
    running: Running,
}

fn streamed(tokens: Tokens) -> Response<Body> {
    let events = stream::unfold(Some(tokens), |tokens| async {
        let (event, rest) = tokens?.next().await;
        Some((Ok::<_, Infallible>(Frame::data(event)), rest))
    });
    response(StatusCode::OK, "text/event-stream", StreamBody::new(events).boxed_unsync())
}

impl Tokens {
    /// The next event, and what is left unless it was the last.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        if self.sent == self.tokens {
            let last = event(&self.name, &json!({}), Some("stop"));
            drop(self.running);
            return (Bytes::from(format!("{last}data: [DONE]\n\n")), None);
        }
        self.sent += 1;
        // Counted from the start: a slow reader does not slow the clock.
        tokio::time::sleep_until(self.from + self.service.settings.token_interval.saturating_mul(self.sent)).await;
        let event = event(&self.name, &json!({ "role": "assistant", "content": word(self.sent - 1) }), None);
        (Bytes::from(event), Some(self))
    }
}

fn event(name: &str, delta: &Value, finish: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": name,
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }]
    });
    format!("data: {chunk}\n\n")
}

/// The words of every answer, one a token.
fn word(n: u32) -> String {
    format!("token{n} ")
}
