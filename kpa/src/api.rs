//! The client of the API that `kpa run` serves on its admin address.
//!
//! Invariant: every exchange is bounded in time and size, and every failure is one sentence that says what to do.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where `kpa run` serves its API unless it is told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:8081";
/// An answer that takes longer is not waited for. The server itself gives up after 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody is there.
    #[error("nothing listens on {0}: start `kpa run PATH`, or name its address with --admin")]
    NothingListens(String),
    /// The address cannot be reached.
    #[error("cannot reach {address}: {error}")]
    Unreachable { address: String, error: io::Error },
    /// The connection broke, or something else than HTTP came.
    #[error("{address} does not answer as kpa does: {why}")]
    NotKpa { address: String, why: String },
    /// No answer in time.
    #[error("{0} did not answer within {secs} s", secs = ANSWER_TIMEOUT.as_secs())]
    TooSlow(String),
    /// It answers that it cannot.
    #[error("{0}")]
    Refused(String),
}

/// What the API says when it cannot answer.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// The body of `GET path`. `address` is `host:port`.
pub(crate) async fn get(address: &str, path: &str) -> Result<Bytes, ApiError> {
    match timeout(ANSWER_TIMEOUT, exchange(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::TooSlow(address.to_owned())),
    }
}

async fn exchange(address: &str, path: &str) -> Result<Bytes, ApiError> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            ApiError::NothingListens(address.to_owned())
        } else {
            ApiError::Unreachable { address: address.to_owned(), error }
        }
    })?;
    let not_kpa = |why: String| ApiError::NotKpa { address: address.to_owned(), why };
    let request = Request::get(path)
        .header(header::HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| not_kpa(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_kpa(error.to_string()))?;
    let answered = async move {
        let response = sender.send_request(request).await.map_err(|error| not_kpa(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| not_kpa(error.to_string()))?.to_bytes();
        match (status, serde_json::from_slice::<Refusal>(&body)) {
            (StatusCode::OK, _) => Ok(body),
            (_, Ok(refusal)) => Err(ApiError::Refused(refusal.message)),
            (_, Err(_)) => Err(not_kpa(format!("GET {path} gives {status}"))),
        }
    };
    // The sender goes with the first of the two, which ends the second.
    tokio::join!(answered, connection).0
}
