//! Paths of the sample server: health, KServe v1, OpenAI, and GET / for benchmarks.
//!
//! Invariant: every answer says which process gave it (`x-replica`), so that a test can tell replicas apart.

use super::chat;
use super::inference::{Refusal, Service};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;

/// Largest request body, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bodies of this server.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The answer to one request.
pub(super) async fn answer(service: &Arc<Service>, request: Request<Incoming>) -> Response<Body> {
    let mut response = route(service, request).await;
    response.headers_mut().insert("x-replica", HeaderValue::from(std::process::id()));
    response
}

async fn route(service: &Arc<Service>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/healthz") if service.is_loaded() => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::SERVICE_UNAVAILABLE, "loading\n"),
        (&Method::GET, "/stats") => json_answer(StatusCode::OK, &json!(service.stats())),
        (_, _) if !service.is_loaded() => refuse(Refusal::Loading),
        (&Method::GET, "/") => plain(service.settings.body_bytes),
        (&Method::GET, "/v1/models") => json_answer(StatusCode::OK, &models(&service.settings.model_name)),
        (&Method::POST, "/v1/chat/completions") => chat::complete(service, request.into_body()).await,
        (method, path) => match path.strip_prefix("/v1/models/") {
            Some(rest) => match (method, rest.strip_suffix(":predict")) {
                (&Method::POST, Some(_)) => predict(service, request.into_body()).await,
                (&Method::GET, None) => json_answer(StatusCode::OK, &json!({ "name": rest, "ready": true })),
                _ => text(StatusCode::METHOD_NOT_ALLOWED, "POST to predict, GET for the state\n"),
            },
            None => text(StatusCode::NOT_FOUND, "no such path\n"),
        },
    }
}

fn models(name: &str) -> Value {
    json!({ "object": "list", "data": [{ "id": name, "object": "model", "owned_by": "kpa" }], "models": [name] })
}

/// KServe v1: as many predictions as instances.
async fn predict(service: &Service, body: Incoming) -> Response<Body> {
    // The body first: a server cannot work on what it has not read.
    let request = match read_json(body).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let Some(instances) = request.get("instances").and_then(Value::as_array) else {
        return text(StatusCode::BAD_REQUEST, "the body needs \"instances\": [...]\n");
    };
    let _running = match service.admit().await {
        Ok(running) => running,
        Err(refusal) => return refuse(refusal),
    };
    service.work().await;
    let predictions: Vec<f64> = instances.iter().map(sum).collect();
    json_answer(StatusCode::OK, &json!({ "predictions": predictions }))
}

/// The sum of all numbers in `value`: a prediction that a test can compute.
fn sum(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        Value::Array(values) => values.iter().map(sum).sum(),
        Value::Object(fields) => fields.values().map(sum).sum(),
        Value::Null | Value::Bool(_) | Value::String(_) => 0.0,
    }
}

/// A whole JSON body, or the answer that says what is wrong with it.
pub(super) async fn read_json(body: Incoming) -> Result<Value, Response<Body>> {
    let Ok(collected) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body broke off or is over 16 MiB\n"));
    };
    serde_json::from_slice(&collected.to_bytes())
        .map_err(|error| text(StatusCode::BAD_REQUEST, &format!("the body is no JSON: {error}\n")))
}

pub(super) fn refuse(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Loading => text(StatusCode::SERVICE_UNAVAILABLE, "loading\n"),
        Refusal::Full => text(StatusCode::SERVICE_UNAVAILABLE, "the concurrency limit is reached\n"),
        Refusal::Failed => text(StatusCode::INTERNAL_SERVER_ERROR, "failed on purpose\n"),
    }
}

fn plain(bytes: usize) -> Response<Body> {
    text(StatusCode::OK, &"x".repeat(bytes))
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    response(status, "text/plain", Full::from(body.to_owned()).boxed_unsync())
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    response(status, "application/json", Full::from(body.to_string()).boxed_unsync())
}

pub(super) fn response(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_the_sum_of_an_instance() {
        assert_eq!(sum(&json!([1, 2.5, [3]])), 6.5);
        assert_eq!(sum(&json!({ "a": 1, "b": "text" })), 1.0);
    }
}
