//! Slots that other activators lend us.
//!
//! Invariant: one that carries no request goes back at once.

use super::claims::ClaimId;
use crate::local::Endpoint;
use http::HeaderValue;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::Notify;

/// Room on a replica of another activator, for one request.
#[derive(Debug)]
pub struct Lent {
    /// The other activator.
    pub endpoint: Arc<Endpoint>,
    /// What its request is marked with.
    pub mark: HeaderValue,
    claim: ClaimId,
    used: AtomicBool,
    unused: Unused,
}

impl Lent {
    /// A claim on `endpoint`, which goes to `unused` if no request comes of it.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, mark: HeaderValue, claim: ClaimId, unused: Unused) -> Self {
        Self { endpoint, mark, claim, used: AtomicBool::new(false), unused }
    }

    /// A request goes there now: whatever becomes of it, the owner knows.
    pub fn use_up(&self) {
        self.used.store(true, Relaxed);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.used.load(Relaxed) {
            self.unused.0.claims.lock().push((self.endpoint.address, self.claim));
            self.unused.0.told.notify_one();
        }
    }
}

/// Claims that nobody wanted, until their owners are told. As many at most as were lent.
#[derive(Debug, Clone, Default)]
pub struct Unused(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    claims: Mutex<Vec<(SocketAddr, ClaimId)>>,
    told: Notify,
}

impl Unused {
    /// Waits until there is one.
    pub async fn wait(&self) {
        self.0.told.notified().await;
    }

    /// Takes all of them.
    #[must_use]
    pub fn take(&self) -> Vec<(SocketAddr, ClaimId)> {
        std::mem::take(&mut *self.0.claims.lock())
    }
}
