//! One worker's HTTP/1.1 connections to one replica.
//!
//! Nobody polls a connection but the request that uses it: its future sits beside the sender and is driven inline, which
//! saves two task switches a request. So an idle connection notices its peer's close when it is next taken out, and no
//! task outlives the pool.
//!
//! Invariant: what lies in the pool has finished an exchange completely; a connection goes back when the response body
//! has ended, never before.

use super::turn::{ByTurns, Turn};
use crate::body::RequestBody;
use domain::Timestamp;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use runtime::net::Socket;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

/// Idle connections kept for one replica by one worker.
pub const IDLE_MAX: usize = 256;
/// One that was idle for longer is looked at before it is used, and its request is kept for a replay.
pub const TRUSTED_IDLE: Duration = Duration::from_millis(100);

/// One connection with the future that moves its bytes.
#[derive(Debug)]
pub struct Connection<S: Socket> {
    /// Where requests go in.
    pub sender: http1::SendRequest<RequestBody>,
    /// `None` once it has ended. It has to go then: it holds the other end of the request that was queued last, and only
    /// its drop tells the sender that nobody will take it.
    driver: Option<http1::Connection<ByTurns<S>, RequestBody>>,
    turn: Turn,
    /// It has carried a request before.
    pub used: bool,
    /// When the last exchange ended.
    pub idle_since: Timestamp,
    /// How long it may be idle: the server's own word, where it gave one.
    pub idle_max: Option<Duration>,
}

impl<S: Socket> Connection<S> {
    /// Speaks HTTP/1.1 on `socket`.
    ///
    /// # Errors
    /// What hyper says of the handshake; it sends nothing, so hardly ever.
    pub async fn open(socket: S) -> hyper::Result<Box<Self>> {
        let turn = Turn::default();
        let (sender, driver) = http1::Builder::new()
            // One write of a copied head and chunk is cheaper than gathering them.
            .writev(false)
            .max_headers(crate::HEADERS_MAX)
            .max_buf_size(crate::HEAD_BYTES_MAX)
            .handshake(ByTurns::new(socket, turn.clone()))
            .await?;
        let idle_since = Timestamp::ZERO;
        Ok(Box::new(Self { sender, driver: Some(driver), turn, used: false, idle_since, idle_max: None }))
    }

    /// Moves bytes both ways as far as they go now. False once the connection is finished.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.turn.begin();
        if self.driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
            self.driver = None;
        }
        self.driver.is_some()
    }

    /// Whether another request can be sent on it.
    pub fn is_reusable(&mut self) -> bool {
        self.sender.is_ready() || (self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready())
    }

    /// The socket, when the exchange is given up and the connection has not ended yet.
    pub fn into_socket(self) -> Option<S> {
        Some(self.driver?.into_parts().io.into_socket())
    }
}

/// Idle connections, the most recently used on top.
#[derive(Debug)]
pub struct Pool<S: Socket> {
    idle: Mutex<Vec<Box<Connection<S>>>>,
    /// HTTP/2 connections, which are shared and not taken out.
    pub h2: super::h2::Shared,
}

impl<S: Socket> Default for Pool<S> {
    fn default() -> Self {
        Self { idle: Mutex::default(), h2: super::h2::Shared::default() }
    }
}

impl<S: Socket> Pool<S> {
    /// A connection that can carry a request now, if there is one.
    pub fn take(&self, now: Timestamp, idle_timeout: Duration) -> Option<Box<Connection<S>>> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            let idle = now.since(connection.idle_since);
            let fresh = idle < connection.idle_max.unwrap_or(idle_timeout);
            if fresh && (idle < TRUSTED_IDLE || connection.drive(&mut Context::from_waker(Waker::noop()))) {
                return Some(connection);
            }
        }
    }

    /// Takes back a connection whose exchange is complete.
    pub fn put(&self, mut connection: Box<Connection<S>>, now: Timestamp) {
        if connection.is_reusable() {
            connection.used = true;
            connection.idle_since = now;
            let mut idle = self.idle.lock();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
    }

    /// Closes what has been idle for too long; everything when the replica leaves.
    pub fn tidy(&self, now: Timestamp, idle_timeout: Duration, leaving: bool) {
        let mut idle = self.idle.lock();
        idle.retain(|connection| {
            !leaving && now.since(connection.idle_since) < connection.idle_max.unwrap_or(idle_timeout)
        });
    }

    /// Closes at most `count` of those that were idle the longest; gives how many.
    pub fn close(&self, count: usize) -> usize {
        let mut idle = self.idle.lock();
        let count = count.min(idle.len());
        idle.drain(..count);
        count
    }

    /// Idle connections now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::net::{TcpListener, TcpStream};

    /// The peer closed before hyper looked at the request: it comes back, and nobody waits for ever.
    #[tokio::test]
    async fn a_request_on_a_connection_that_has_ended_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let client = client.unwrap();
        drop(accepted);
        client.readable().await.unwrap();
        let mut connection = Connection::open(client).await.unwrap();
        let request = http::Request::get("/").header("host", "a").body(RequestBody::None).unwrap();
        let mut response = std::pin::pin!(connection.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            connection.drive(cx);
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("it is answered");
        assert!(answer.unwrap_err().take_message().is_some(), "none of it was sent");
        assert!(connection.into_socket().is_none());
    }
}
