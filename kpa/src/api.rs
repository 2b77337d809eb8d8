//! The client of the API that `kpa run` serves on its admin address.
//!
//! Invariant: every exchange is bounded in time and size, and every failure is one sentence that says what to do.

use anyhow::Context;
use bytes::Bytes;
use domain::RevisionId;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use platform_local::TOKEN_FILE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where `kpa run` serves its API unless it is told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:8081";
/// Where `kpa run` keeps its state unless it is told otherwise.
pub(crate) const DEFAULT_STATE_DIR: &str = ".kpa";
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
    /// The token cannot be read.
    #[error("{}: {error}; name the state folder of the running kpa with --state-dir", path.display())]
    NoToken { path: PathBuf, error: io::Error },
    /// It answers that it cannot.
    #[error("{0}")]
    Refused(String),
}

/// What the API says when it cannot answer.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// One exchange: what is asked, and the body of the answer.
#[derive(Debug, Clone)]
struct Ask<'a> {
    address: &'a str,
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    body: Bytes,
}

/// The body of `GET path`. `address` is `host:port`.
pub(crate) async fn get(address: &str, path: &str) -> Result<Bytes, ApiError> {
    ask(Ask { address, method: Method::GET, path, token: None, body: Bytes::new() }).await
}

async fn ask(ask: Ask<'_>) -> Result<Bytes, ApiError> {
    let address = ask.address.to_owned();
    match timeout(ANSWER_TIMEOUT, exchange(ask)).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::TooSlow(address)),
    }
}

/// Whoever may change something: where `kpa run` is, and the token of its state folder.
#[derive(Debug)]
pub(crate) struct Operator {
    address: String,
    token: String,
}

/// Where the running kpa is that something is asked of.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// Where `kpa run` serves its API.
    #[arg(long, default_value = DEFAULT_ADDRESS, value_name = "ADDRESS:PORT")]
    pub(crate) admin: String,
    /// The state folder of `kpa run`, which holds the token that a change needs.
    #[arg(long, default_value = DEFAULT_STATE_DIR, value_name = "FOLDER")]
    state_dir: PathBuf,
}

impl Where {
    /// Reads the token.
    pub(crate) fn operator(&self) -> Result<Operator, ApiError> {
        let path = self.state_dir.join(TOKEN_FILE);
        let token = std::fs::read_to_string(&path).map_err(|error| ApiError::NoToken { path, error })?;
        Ok(Operator { address: self.admin.clone(), token: token.trim().to_owned() })
    }
}

/// The part of a status that names it.
#[derive(Deserialize)]
struct Named {
    id: RevisionId,
    name: String,
}

/// Every service there is.
pub(crate) async fn services(address: &str) -> anyhow::Result<Vec<RevisionId>> {
    Ok(named(address).await?.into_iter().map(|service| service.id).collect())
}

async fn named(address: &str) -> anyhow::Result<Vec<Named>> {
    let body = get(address, "/v1/revisions").await?;
    serde_json::from_slice(&body).with_context(|| format!("{address} does not answer as this kpa understands it"))
}

/// The one service that goes by `name`: NAME or NAMESPACE/NAME.
pub(crate) async fn service(address: &str, name: &str) -> anyhow::Result<RevisionId> {
    let all = named(address).await?;
    let fits: Vec<&Named> = all.iter().filter(|one| one.name == name || one.id.as_str() == name).collect();
    let list = |services: &mut dyn Iterator<Item = &Named>| {
        services.map(|service| service.id.as_str()).collect::<Vec<_>>().join(", ")
    };
    match fits.as_slice() {
        [one] => Ok(one.id.clone()),
        [] if all.is_empty() => anyhow::bail!("there is no service {name}; there is: none"),
        [] => anyhow::bail!("there is no service {name}; there is: {}", list(&mut all.iter())),
        _ => anyhow::bail!("there are {}; say which", list(&mut fits.into_iter())),
    }
}

impl Operator {
    /// Does something with a service: `what` is the last word of its address.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        service: &RevisionId,
        what: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let path = format!("/v1/local/services/{service}/{what}");
        let asked = Ask { address: &self.address, method, path: &path, token: Some(&self.token), body };
        let answer = ask(asked).await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("{} does not answer as this kpa understands it", self.address))
    }
}

async fn exchange(ask: Ask<'_>) -> Result<Bytes, ApiError> {
    let Ask { address, method, path, token, body } = ask;
    let stream = TcpStream::connect(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            ApiError::NothingListens(address.to_owned())
        } else {
            ApiError::Unreachable { address: address.to_owned(), error }
        }
    })?;
    let not_kpa = |why: String| ApiError::NotKpa { address: address.to_owned(), why };
    let mut request = Request::builder().method(method.clone()).uri(path).header(header::HOST, address);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body)).map_err(|error| not_kpa(error.to_string()))?;
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
            (_, Err(_)) => Err(not_kpa(format!("{method} {path} gives {status}"))),
        }
    };
    // The sender goes with the first of the two, which ends the second.
    tokio::join!(answered, connection).0
}
