//! The two bodies of an exchange, one concrete type each way.
//!
//! Invariants: both forward `is_end_stream` and `size_hint`, without which an answer with no body grows one and gRPC's
//! trailers-only answers break; the permit and the in-flight count fall when the response body ends, fails or is dropped,
//! whichever is first.

mod answer;
mod incoming;
mod upload;

pub use answer::ResponseBody;
pub use incoming::{ClientBody, Incoming, Source, Stream};
pub use upload::{Fault, FromClient, Kept, REPLAY_BYTES_MAX, RequestBody, Upload};

use crate::error::RequestError;
use crate::http1::Unreadable;
use crate::request::Peer;
use std::sync::Arc;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The shared connection to a replica that it came from broke.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The client's connection broke.
    #[error(transparent)]
    Client(std::io::Error),
    /// The client ended its stream, or broke its connection.
    #[error("the stream ended early")]
    Stream(#[source] h2::Error),
    /// The replica's connection broke.
    #[error(transparent)]
    Replica(std::io::Error),
    /// It is not framed as its head says.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A clock ran out.
    #[error(transparent)]
    Clock(RequestError),
}

impl BodyError {
    /// What a client is told whose request body broke off.
    #[must_use]
    pub fn of_client(&self) -> RequestError {
        match self {
            Self::Clock(error) => error.clone(),
            Self::Unreadable(Unreadable(why)) => RequestError::BadRequest(why),
            Self::Connection(_) | Self::Client(_) | Self::Stream(_) | Self::Replica(_) => RequestError::ClientGone,
        }
    }
}

/// Marks a request as open on its client's connection until dropped.
#[derive(Debug)]
pub struct Open(Arc<Peer>);

impl Open {
    /// A request has arrived on the connection.
    #[must_use]
    pub fn new(peer: Arc<Peer>) -> Self {
        peer.watch.begin();
        Self(peer)
    }

    /// Who sent it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0
    }

    /// The same, for whoever outlives the request.
    #[must_use]
    pub fn shared_peer(&self) -> Arc<Peer> {
        Arc::clone(&self.0)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watch.end();
    }
}
