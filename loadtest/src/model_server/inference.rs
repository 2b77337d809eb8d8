//! What stands for inference: loading, a concurrency limit, time that passes, failures drawn from a seed.
//!
//! Invariant: never more than `concurrency` requests run at once, and the same seed fails the same requests.

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How the server behaves. See the flags of `loadtest model-server`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long loading takes.
    pub load_time: Duration,
    /// How long one prediction takes.
    pub service_time: Duration,
    /// Requests at once; 0 is no limit.
    pub concurrency: usize,
    /// What happens beyond it.
    pub when_full: WhenFull,
    /// Tokens of a chat answer.
    pub tokens: u32,
    /// Time between two tokens.
    pub token_interval: Duration,
    /// Size of the answer to GET /.
    pub body_bytes: usize,
    /// Part that fails, from 0 to 1.
    pub fail_rate: f64,
    /// Which ones fail.
    pub fail_seed: u64,
    /// The name that is listed.
    pub model_name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            load_time: Duration::ZERO,
            service_time: Duration::ZERO,
            concurrency: 0,
            when_full: WhenFull::Queue,
            tokens: 16,
            token_interval: Duration::from_millis(20),
            body_bytes: 2,
            fail_rate: 0.0,
            fail_seed: 1,
            model_name: "custom-model".to_owned(),
        }
    }
}

/// What happens to a request beyond the concurrency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// It waits.
    Queue,
    /// It is answered 503.
    Reject,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Still loading.
    Loading,
    /// The concurrency limit is reached.
    Full,
    /// It was its turn to fail.
    Failed,
}

/// The state that all connections share.
#[derive(Debug)]
pub struct Service {
    pub(crate) settings: Settings,
    started: Instant,
    slots: Arc<Semaphore>,
    dice: Mutex<SmallRng>,
    requests: AtomicU64,
    running: Arc<AtomicU64>,
    most_running: AtomicU64,
}

/// What GET /stats answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Predictions and chats that were admitted.
    pub requests: u64,
    /// Of these, running now.
    pub running: u64,
    /// The most that ever ran at once.
    pub most_running: u64,
    /// The process.
    pub pid: u32,
}

impl Service {
    /// Begins to load now.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let slots = if settings.concurrency == 0 { Semaphore::MAX_PERMITS } else { settings.concurrency };
        Self {
            started: Instant::now(),
            slots: Arc::new(Semaphore::new(slots)),
            dice: Mutex::new(SmallRng::seed_from_u64(settings.fail_seed)),
            requests: AtomicU64::new(0),
            running: Arc::new(AtomicU64::new(0)),
            most_running: AtomicU64::new(0),
            settings,
        }
    }

    /// Whether loading is over.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.started.elapsed() >= self.settings.load_time
    }

    /// Waits until it is.
    pub async fn loaded(&self) {
        tokio::time::sleep_until(self.started + self.settings.load_time).await;
    }

    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            most_running: self.most_running.load(Ordering::Relaxed),
            pid: std::process::id(),
        }
    }

    /// Room for one request, held until the value is dropped.
    pub(crate) async fn admit(&self) -> Result<Running, Refusal> {
        if !self.is_loaded() {
            return Err(Refusal::Loading);
        }
        let slots = Arc::clone(&self.slots);
        let permit = match self.settings.when_full {
            WhenFull::Queue => slots.acquire_owned().await.map_err(|_| Refusal::Full)?,
            WhenFull::Reject => slots.try_acquire_owned().map_err(|_| Refusal::Full)?,
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        let running = Running { count: Arc::clone(&self.running), _permit: permit };
        if self.settings.fail_rate > 0.0 && self.dice.lock().random_bool(self.settings.fail_rate) {
            return Err(Refusal::Failed);
        }
        Ok(running)
    }

    /// Lets the time of one prediction pass.
    pub(crate) async fn work(&self) {
        if !self.settings.service_time.is_zero() {
            tokio::time::sleep(self.settings.service_time).await;
        }
    }
}

/// A request that runs.
#[derive(Debug)]
pub(crate) struct Running {
    count: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_served_before_it_is_loaded() {
        let service = Service::new(Settings { load_time: Duration::from_secs(5), ..Settings::default() });
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert_eq!(service.admit().await.unwrap_err(), Refusal::Loading);
        service.loaded().await;
        assert!(service.admit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_queues_or_rejects() {
        let reject = Settings { concurrency: 1, when_full: WhenFull::Reject, ..Settings::default() };
        let service = Service::new(reject);
        let first = service.admit().await.unwrap();
        assert_eq!(service.admit().await.unwrap_err(), Refusal::Full);
        drop(first);
        assert!(service.admit().await.is_ok());

        let service = Service::new(Settings { concurrency: 1, ..Settings::default() });
        let first = service.admit().await.unwrap();
        let second = tokio::time::timeout(Duration::from_secs(1), service.admit()).await;
        assert!(second.is_err(), "it waits");
        drop(first);
        assert!(service.admit().await.is_ok());
        assert_eq!(service.stats().most_running, 1);
        assert_eq!(service.stats().running, 0);
    }

    #[tokio::test]
    async fn the_seed_decides_who_fails() {
        let failures = async |seed| {
            let settings = Settings { fail_rate: 0.3, fail_seed: seed, ..Settings::default() };
            let service = Service::new(settings);
            let mut failed = Vec::new();
            for request in 0..1000 {
                if service.admit().await.is_err() {
                    failed.push(request);
                }
            }
            failed
        };
        let once = failures(7).await;
        assert_eq!(once, failures(7).await);
        assert_ne!(once, failures(8).await);
        assert!((200..400).contains(&once.len()), "{}", once.len());
    }
}
