//! A kept-alive connection to another program of ours.
//!
//! Invariant: one exchange at a time on it; whatever fails, the next one starts with a new connection.

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use runtime::net::Connect;
use std::net::SocketAddr;
use std::time::Duration;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TooSlow(Duration),
    /// It could not be reached.
    #[error("cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    /// The exchange broke.
    #[error("the exchange broke: {0}")]
    Http(#[from] hyper::Error),
    /// The other side refused.
    #[error("refused with status {0}: {1}")]
    Refused(u16, String),
    /// The answer is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

/// A line to one address.
#[derive(Debug, Default)]
pub struct Line {
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Line {
    /// Sends `request` and gives the body of its answer, which has at most `bytes_max`, within `limit`.
    ///
    /// # Errors
    /// As they come; an answer that is no success is one.
    pub async fn exchange<C: Connect>(
        &mut self,
        connector: &C,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
        (limit, bytes_max): (Duration, usize),
        tasks: &Tasks,
    ) -> Result<Bytes, LineError> {
        let exchange = self.begin(connector, to, request, bytes_max, tasks);
        let result = tokio::time::timeout(limit, exchange).await.unwrap_or(Err(LineError::TooSlow(limit)));
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn begin<C: Connect>(
        &mut self,
        connector: &C,
        to: SocketAddr,
        mut request: Request<Full<Bytes>>,
        bytes_max: usize,
        tasks: &Tasks,
    ) -> Result<Bytes, LineError> {
        let sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => self.sender.insert(sender),
            None => {
                let (sender, connection) = http1::handshake(TokioIo::new(connector.connect(to).await?)).await?;
                tasks.spawn("connection to a program of ours", async move { drop(connection.await) });
                self.sender.insert(sender)
            }
        };
        sender.ready().await?;
        if let Ok(host) = HeaderValue::from_str(&to.to_string()) {
            request.headers_mut().insert(HOST, host);
        }
        let response = sender.send_request(request).await?;
        let status: StatusCode = response.status();
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| LineError::Answer(error.to_string()))?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(LineError::Refused(status.as_u16(), text));
        }
        Ok(body)
    }
}
