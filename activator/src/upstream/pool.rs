//! One worker's HTTP/1.1 connections to one replica.
//!
//! Invariant: what lies in the pool has finished an exchange completely; a connection goes back when the response body
//! has ended, never before.

use super::connection::Connection;
use crate::tls::stream::{ToReplica, suits};
use domain::{Limits, Timestamp};
use parking_lot::Mutex;
use runtime::net::Socket;
use std::time::Duration;

/// Idle connections kept for one replica by one worker.
pub const IDLE_MAX: usize = 256;
/// One that was idle for longer is looked at before it is used, and its request is kept for a replay.
pub const TRUSTED_IDLE: Duration = Duration::from_millis(100);

/// Idle connections, the most recently used on top.
#[derive(Debug)]
pub struct Pool<S: Socket> {
    idle: Mutex<Vec<Box<Connection<ToReplica<S>>>>>,
    /// HTTP/2 connections, which are shared and not taken out.
    pub h2: super::h2::Shared,
}

impl<S: Socket> Default for Pool<S> {
    fn default() -> Self {
        Self { idle: Mutex::default(), h2: super::h2::Shared::default() }
    }
}

impl<S: Socket> Pool<S> {
    /// A connection that can carry a request now, if there is one. `secured` are the settings of a revision that asks for
    /// TLS; connections that do not suit it are closed.
    pub fn take(
        &self,
        now: Timestamp,
        idle_timeout: Duration,
        secured: Option<&Limits>,
    ) -> Option<Box<Connection<ToReplica<S>>>> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            let idle = now.since(connection.idle_since);
            let fresh = idle < connection.idle_max.unwrap_or(idle_timeout);
            let suits = suits(connection.socket().identity(), secured);
            if fresh && suits && (idle < TRUSTED_IDLE || connection.is_open()) {
                return Some(connection);
            }
        }
    }

    /// Takes back a connection whose exchange is complete.
    pub fn put(&self, mut connection: Box<Connection<ToReplica<S>>>, now: Timestamp) {
        if connection.finish() {
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
