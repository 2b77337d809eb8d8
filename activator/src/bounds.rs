//! What the process may hold in all, whatever the revision, and how often each limit has turned somebody away.
//!
//! Invariant: a warm request writes nothing here; a connection does when it begins and when it ends, a request while it
//! waits, and a refusal.

use crate::tls::fault::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a client's TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A limit that can be reached (kpa-behaviour 4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Limit {
    /// `max-connections` of config-activator.
    Connections,
    /// Descriptors of the process: accepting pauses.
    OpenFiles,
    /// [`crate::HEADERS_MAX`] and [`crate::HEAD_BYTES_MAX`].
    HeadSize,
    /// [`crate::URI_BYTES_MAX`].
    UriLength,
    /// `head-timeout` of config-activator.
    SlowHead,
    /// [`HANDSHAKE_TIMEOUT`].
    SlowHandshake,
    /// `kpa.dev/idle-timeout`, where it is the client who is silent: sends no body, or over HTTP/2 takes no answer. And
    /// `keep-alive-timeout`, where the answer is over for its replica and the client of HTTP/2 does not take the rest.
    SlowBody,
    /// [`crate::connection::H2_PENDING_RESETS_MAX`], [`crate::connection::H2_ERROR_RESETS_MAX`],
    /// [`crate::connection::H2_CANCELS_MAX`], and what the h2 library takes for a flood: empty DATA, heads in endless pieces.
    Resets,
    /// `kpa.dev/queue-depth`.
    QueueDepth,
    /// Half of `max-held-requests`, by one revision.
    HeldShare,
    /// `max-held-requests` of config-activator.
    HeldRequests,
    /// `max-held-bytes` of config-activator.
    HeldBytes,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = 12;

    /// Every limit, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Connections,
        Self::OpenFiles,
        Self::HeadSize,
        Self::UriLength,
        Self::SlowHead,
        Self::SlowHandshake,
        Self::SlowBody,
        Self::Resets,
        Self::QueueDepth,
        Self::HeldShare,
        Self::HeldRequests,
        Self::HeldBytes,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::OpenFiles => "open_files",
            Self::HeadSize => "head_size",
            Self::UriLength => "uri_length",
            Self::SlowHead => "slow_head",
            Self::SlowHandshake => "slow_handshake",
            Self::SlowBody => "slow_body",
            Self::Resets => "resets",
            Self::QueueDepth => "queue_depth",
            Self::HeldShare => "held_share",
            Self::HeldRequests => "held_requests",
            Self::HeldBytes => "held_bytes",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stock {
    /// Clients' connections.
    Connections,
    /// Requests that wait, for a replica or for another try.
    HeldRequests,
    /// Bytes that the bodies of waiting requests may take up over HTTP/2.
    HeldBytes,
}

/// The counts of one process.
#[derive(Debug)]
pub struct Bounds {
    /// What the descriptors of the process leave to clients' connections.
    connections_room: AtomicU64,
    stocks: [AtomicU64; 3],
    refused: [AtomicU64; Limit::COUNT],
    unwatched: AtomicU64,
    /// What became of TLS.
    pub tls: Counts,
}

/// A part of a stock, given back on drop.
#[derive(Debug)]
pub struct Taken {
    bounds: Arc<Bounds>,
    stock: Stock,
    count: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.bounds.stocks[self.stock as usize].fetch_sub(self.count, Relaxed);
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_room: AtomicU64::new(u64::MAX),
            stocks: Default::default(),
            refused: Default::default(),
            unwatched: AtomicU64::new(0),
            tls: Counts::default(),
        }
    }
}

impl Bounds {
    /// The process may have `open_files` descriptors. A quarter is kept from clients: a client that is let in is of no use
    /// when no replica can be reached for it.
    pub fn share_descriptors(&self, open_files: u64) {
        self.connections_room.store(open_files - open_files / 4, Relaxed);
    }

    /// How many connections clients may have where the setting is `max`.
    #[must_use]
    pub fn connections_max(&self, max: u32) -> u64 {
        u64::from(max).min(self.connections_room.load(Relaxed))
    }

    /// Takes `count` of `stock`, of which there may be `max` in all; nothing when that would be more.
    #[must_use]
    pub fn take(self: &Arc<Self>, stock: Stock, count: u64, max: u64) -> Option<Taken> {
        let before = self.stocks[stock as usize].fetch_add(count, Relaxed);
        // Dropped when it is too much, which gives it back.
        let taken = Taken { bounds: Arc::clone(self), stock, count };
        (before.saturating_add(count) <= max).then_some(taken)
    }

    /// Takes `count` of `stock`, whatever there is.
    #[must_use]
    pub fn take_anyway(self: &Arc<Self>, stock: Stock, count: u64) -> Taken {
        self.stocks[stock as usize].fetch_add(count, Relaxed);
        Taken { bounds: Arc::clone(self), stock, count }
    }

    /// How much of `stock` there is now.
    #[must_use]
    pub fn stock(&self, stock: Stock) -> u64 {
        self.stocks[stock as usize].load(Relaxed)
    }

    /// Somebody was turned away.
    pub fn refuse(&self, limit: Limit) {
        self.refused[limit as usize].fetch_add(1, Relaxed);
    }

    /// A replica that refused a connection is not looked after, because as many are as may be
    /// ([`crate::prober::SUSPECTS_MAX`]): it is used like any other.
    pub fn leave_unwatched(&self) {
        self.unwatched.fetch_add(1, Relaxed);
    }

    /// How often that was so.
    #[must_use]
    pub fn unwatched(&self) -> u64 {
        self.unwatched.load(Relaxed)
    }

    /// How often somebody was turned away.
    #[must_use]
    pub fn refused(&self, limit: Limit) -> u64 {
        self.refused[limit as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_stand_where_their_index_says() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
    }

    #[test]
    fn a_stock_is_taken_up_to_its_bound_and_given_back() {
        let bounds = Arc::<Bounds>::default();
        let first = bounds.take(Stock::HeldBytes, 60, 100);
        assert!(first.is_some());
        assert!(bounds.take(Stock::HeldBytes, 41, 100).is_none());
        assert_eq!(bounds.stock(Stock::HeldBytes), 60, "what was refused is not kept");
        let second = bounds.take(Stock::HeldBytes, 40, 100);
        assert!(second.is_some());
        drop((first, second));
        assert_eq!((bounds.stock(Stock::HeldBytes), bounds.stock(Stock::Connections)), (0, 0));
    }

    #[test]
    fn many_threads_never_hold_more_than_the_bound() {
        const MAX: u64 = 3;
        let bounds = Arc::<Bounds>::default();
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(_taken) = bounds.take(Stock::HeldRequests, 1, MAX) {
                            most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                            inside.fetch_sub(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=MAX).contains(&most.load(Relaxed)));
        assert_eq!(bounds.stock(Stock::HeldRequests), 0);
    }
}
