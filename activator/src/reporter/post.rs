//! Frames to one autoscaler over a kept-alive connection of our own connector.
//!
//! Invariant: one exchange at a time on it, bounded in time; whatever fails, the next one starts with a new connection.

use bytes::Bytes;
use domain::report::{FRAME_BYTES_MAX, FRAME_MEDIA_TYPE};
use domain::{Ack, Frame};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime::Tasks;
use runtime::net::Connect;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one frame may take, answer included.
pub const POST_LIMIT: Duration = Duration::from_millis(800);

/// Why a frame was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No answer within [`POST_LIMIT`].
    #[error("no answer within 800 ms")]
    TooSlow,
    /// It could not be reached.
    #[error("cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    /// The exchange broke.
    #[error("the exchange broke: {0}")]
    Http(#[from] hyper::Error),
    /// The autoscaler refused it.
    #[error("refused with status {0}: {1}")]
    Refused(u16, String),
    /// The answer is not an acknowledgement.
    #[error("the answer is no acknowledgement: {0}")]
    Answer(String),
}

/// A kept-alive line to one autoscaler.
#[derive(Debug, Default)]
pub struct Line {
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Line {
    /// Sends `frame` and gives the answer, and the line for the next frame.
    pub async fn post<C: Connect>(
        mut self,
        connector: &C,
        to: SocketAddr,
        authorization: Option<HeaderValue>,
        frame: &Frame,
        tasks: &Tasks,
    ) -> (Self, Result<Ack, PostError>) {
        let exchange = self.exchange(connector, to, authorization, frame, tasks);
        let result = tokio::time::timeout(POST_LIMIT, exchange).await.unwrap_or(Err(PostError::TooSlow));
        if result.is_err() {
            self.sender = None;
        }
        (self, result)
    }

    async fn exchange<C: Connect>(
        &mut self,
        connector: &C,
        to: SocketAddr,
        authorization: Option<HeaderValue>,
        frame: &Frame,
        tasks: &Tasks,
    ) -> Result<Ack, PostError> {
        let body = serde_json::to_vec(frame).map_err(|error| PostError::Answer(error.to_string()))?;
        let sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => self.sender.insert(sender),
            None => {
                let (sender, connection) = http1::handshake(TokioIo::new(connector.connect(to).await?)).await?;
                tasks.spawn("connection to an autoscaler", async move { drop(connection.await) });
                self.sender.insert(sender)
            }
        };
        sender.ready().await?;
        let mut request = Request::post(Uri::from_static("/v1/frames")).body(Full::new(Bytes::from(body)));
        if let Ok(request) = &mut request {
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_MEDIA_TYPE));
            if let Ok(host) = HeaderValue::from_str(&to.to_string()) {
                headers.insert(HOST, host);
            }
            if let Some(authorization) = authorization {
                headers.insert(AUTHORIZATION, authorization);
            }
        }
        let request = request.map_err(|error| PostError::Answer(error.to_string()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), FRAME_BYTES_MAX).collect().await;
        let body = body.map_err(|error| PostError::Answer(error.to_string()))?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(PostError::Refused(status.as_u16(), text));
        }
        serde_json::from_slice(&body).map_err(|error| PostError::Answer(error.to_string()))
    }
}
